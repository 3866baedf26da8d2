//! Bodies in chunks (RFC 9112, section 7.1): where they end, and what they are without their lengths.

use httparse::Status::{Complete, Partial};

use super::head::Fault;

/// The longest line with a chunk's length, and whatever else a peer writes there.
const LONGEST_LINE: usize = 1_024;
/// The longest trailer, and the most fields in it. Nobody reads them.
const LONGEST_TRAILER: usize = 4_096;
const MOST_TRAILERS: usize = 16;

/// How far a body in chunks has been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Chunks {
    /// The next chunk begins so many bytes after the body's beginning.
    at: usize,
}

/// What came of reading on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scanned {
    Whole,
    Unfinished,
}

impl Chunks {
    /// How many bytes have been read, lengths and all.
    pub(crate) fn at(self) -> usize {
        self.at
    }

    /// Reads on in `body`, as far as it goes and up to `most` bytes.
    pub(crate) fn scan(&mut self, body: &[u8], most: usize) -> Result<Scanned, Fault> {
        loop {
            if self.at >= most {
                return Err(Fault::BodyTooLong);
            }
            match chunk(body, self.at)? {
                None => return Ok(Scanned::Unfinished),
                Some((start, 0)) => {
                    return Ok(match trailer(body, start, most)? {
                        Some(end) => {
                            self.at = end;
                            Scanned::Whole
                        }
                        None => Scanned::Unfinished,
                    });
                }
                Some((start, length)) => {
                    let end = start.checked_add(length).ok_or(Fault::BodyTooLong)?;
                    if end.saturating_add(2) > most {
                        return Err(Fault::BodyTooLong);
                    }
                    match body.get(end..end + 2) {
                        Some(b"\r\n") => self.at = end + 2,
                        Some(_) => return Err(Fault::Malformed),
                        None => return Ok(Scanned::Unfinished),
                    }
                }
            }
        }
    }
}

/// Puts a whole body together.
pub(crate) fn unchunk(body: &[u8], into: &mut Vec<u8>) {
    into.clear();
    let mut at = 0;
    while let Ok(Some((start, length))) = chunk(body, at) {
        let Some(content) = body.get(start..start + length).filter(|content| !content.is_empty()) else { break };
        into.extend_from_slice(content);
        at = start + length + 2;
    }
}

/// Where the content of the chunk at `at` begins, and how long it is; `None` if that is not yet known.
fn chunk(body: &[u8], at: usize) -> Result<Option<(usize, usize)>, Fault> {
    let line = &body[at..body.len().min(at + LONGEST_LINE)];
    // The parser takes no digit at all for a 0.
    if line.first().is_some_and(|digit| !digit.is_ascii_hexdigit()) {
        return Err(Fault::Malformed);
    }
    match httparse::parse_chunk_size(line) {
        Ok(Complete((start, length))) => {
            let length = usize::try_from(length).map_err(|_| Fault::BodyTooLong)?;
            Ok(Some((at + start, length)))
        }
        Ok(Partial) if line.len() < LONGEST_LINE => Ok(None),
        Ok(Partial) | Err(_) => Err(Fault::Malformed),
    }
}

/// Where the trailer ends, if it does.
fn trailer(body: &[u8], at: usize, most: usize) -> Result<Option<usize>, Fault> {
    let fields = &body[at..body.len().min(at + LONGEST_TRAILER)];
    match httparse::parse_headers(fields, &mut [httparse::EMPTY_HEADER; MOST_TRAILERS]) {
        Ok(Complete((length, _))) if at + length <= most => Ok(Some(at + length)),
        Ok(Complete(_)) => Err(Fault::BodyTooLong),
        Ok(Partial) if fields.len() < LONGEST_TRAILER => Ok(None),
        Ok(Partial) | Err(httparse::Error::TooManyHeaders) => Err(Fault::HeadTooLong),
        Err(_) => Err(Fault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 5_000;

    /// Where the body ends, if it does.
    fn scan(body: &[u8]) -> Result<Option<usize>, Fault> {
        let scan = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut chunks = Chunks::default();
            for so_far in pieces {
                if let Scanned::Whole = chunks.scan(so_far, MOST)? {
                    return Ok(Some(chunks.at()));
                }
            }
            Ok(None)
        };
        let whole = scan(&mut [body].into_iter());
        assert_eq!(scan(&mut (0..=body.len()).map(|end| &body[..end])), whole, "{}", body.escape_ascii());
        whole
    }

    #[test]
    fn a_body_ends_with_its_last_chunk_and_its_trailer() {
        let body = b"5\r\nhello\r\n1;ext=\"x\"\r\n,\r\n0\r\n\r\nnext";
        assert_eq!(scan(body), Ok(Some(body.len() - 4)));
        let mut whole = Vec::new();
        unchunk(body, &mut whole);
        assert_eq!(whole, b"hello,");
        let body = b"A\r\n0123456789\r\n0\r\nFoo: bar\r\nBaz: x\r\n\r\n";
        assert_eq!(scan(body), Ok(Some(body.len())));
    }

    #[test]
    fn what_is_no_chunk_or_too_much_is_refused() {
        for body in [&b"x\r\n"[..], b"-1\r\n", b"1\r\nab\r\n", b"1\r\na\n0", b"\r\n", b"0\r\nno field\r\n\r\n"] {
            assert_eq!(scan(body), Err(Fault::Malformed), "{}", body.escape_ascii());
        }
        assert_eq!(scan(&[b"1;", &[b'x'; 2_000][..]].concat()), Err(Fault::Malformed));
        assert_eq!(scan(b"ffffffffffffffff\r\n"), Err(Fault::BodyTooLong));
        assert_eq!(scan(b"2000\r\n"), Err(Fault::BodyTooLong));
        assert_eq!(scan(&b"1\r\na\r\n".repeat(1_000)), Err(Fault::BodyTooLong));
        assert_eq!(scan(&[b"0\r\n", &b"a: b\r\n".repeat(17)[..]].concat()), Err(Fault::HeadTooLong));
        assert_eq!(scan(&[b"0\r\na: ", &[b'x'; 4_096][..]].concat()), Err(Fault::HeadTooLong));
    }
}
