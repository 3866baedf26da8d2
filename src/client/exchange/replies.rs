//! Replies of RESP, the protocol of Redis, versions 2 and 3: where one ends, however deep it is.

use super::{Exchange, Malformed};

/// The longest number there is has 20 characters.
const LONGEST_NUMBER: usize = 32;
/// The longest line of text, as of a command.
const LONGEST_LINE: usize = 64 * 1024;

/// The client's side of [`Resp`](crate::protocol::Resp): a command is answered by one reply.
///
/// Subscriptions are no such thing: what a server says unasked is refused.
///
/// ```
/// use pollmark::client::{Exchange, Replies};
///
/// let mut request = Vec::new();
/// Replies::write(&[b"GET", b"key"], &mut request);
/// assert_eq!(request, b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
/// assert_eq!(Replies.end(&request, b"$5\r\nvalue\r\n", &mut Default::default()), Ok(Some(11)));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Replies;

/// How far a reply was understood.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Where the next value begins.
    at: usize,
    /// How many values there are still to come.
    left: u64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { at: 0, left: 1 }
    }
}

impl Replies {
    /// Writes a command of these words behind what `request` has.
    pub fn write(words: &[&[u8]], request: &mut Vec<u8>) {
        request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
    }
}

impl Exchange for Replies {
    type Progress = Progress;

    fn end(&self, _request: &[u8], received: &[u8], progress: &mut Progress) -> Result<Option<usize>, Malformed> {
        // Aggregates are not nested here but counted: an array of three owes three values, whatever is in them.
        while progress.left > 0 {
            let Some(Line { kind, text, next }) = Line::at(progress.at, received)? else { return Ok(None) };
            let (end, owed) = match kind {
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => (next, 0),
                b'$' | b'=' | b'!' => match length(text)? {
                    None => (next, 0),
                    Some(length) => match string(received, next, length)? {
                        None => return Ok(None),
                        Some(end) => (end, 0),
                    },
                },
                b'*' | b'~' => (next, length(text)?.unwrap_or(0)),
                b'%' => (next, length(text)?.unwrap_or(0).saturating_mul(2)),
                // Attributes stand before the value they are about.
                b'|' => (next, length(text)?.unwrap_or(0).saturating_mul(2).saturating_add(1)),
                b'>' => return Err(Malformed::because("a push message, which no command asked for")),
                other => {
                    return Err(Malformed::because(format!("no reply begins with '{}'", other.escape_ascii())));
                }
            };
            progress.at = end;
            progress.left = (progress.left - 1).saturating_add(owed as u64);
        }
        Ok(Some(progress.at))
    }
}

/// A line that begins a value, or is one.
struct Line<'a> {
    kind: u8,
    text: &'a [u8],
    /// Where the next begins.
    next: usize,
}

impl Line<'_> {
    /// The line that begins at `at`; `None` if it is unfinished.
    fn at(at: usize, received: &[u8]) -> Result<Option<Line<'_>>, Malformed> {
        let Some((kind, rest)) = received.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
        // A line of text may be long; all others are a number, or less.
        let most = if matches!(kind, b'+' | b'-' | b'(' | b',') { LONGEST_LINE } else { LONGEST_NUMBER };
        match rest.iter().take(most).position(|byte| *byte == b'\n') {
            Some(end) => match rest[..end].strip_suffix(b"\r") {
                Some(text) => Ok(Some(Line { kind: *kind, text, next: at + 1 + end + 1 })),
                None => Err(Malformed::because("a line that does not end in \\r\\n")),
            },
            None if rest.len() >= most => Err(Malformed::because(format!("a line of more than {most} bytes"))),
            None => Ok(None),
        }
    }
}

/// The length in a line; `None` for that of nothing, -1.
fn length(text: &[u8]) -> Result<Option<usize>, Malformed> {
    if text == b"-1" {
        return Ok(None);
    }
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(length) => Ok(Some(length as usize)),
        None => Err(Malformed::because(format!("'{}' is no length", text.escape_ascii()))),
    }
}

/// Where the string ends that begins at `start`; `None` if it is unfinished.
fn string(received: &[u8], start: usize, length: usize) -> Result<Option<usize>, Malformed> {
    let end = start + length + 2;
    match received.get(end - 2..end) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some(end)),
        Some(_) => Err(Malformed::because("a string is longer than its length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the reply ends, told in pieces of every size; all must agree.
    fn end(input: &[u8]) -> Result<Option<usize>, Malformed> {
        let whole = Replies.end(b"", input, &mut Progress::default());
        for size in 1..=input.len() {
            let mut progress = Progress::default();
            let ends = (1..=input.len().div_ceil(size)).map(|pieces| (pieces * size).min(input.len()));
            let found = ends
                .map(|bytes| Replies.end(b"", &input[..bytes], &mut progress))
                .find(|found| !matches!(found, Ok(None)))
                .unwrap_or(Ok(None));
            assert_eq!(found, whole, "{:?} in pieces of {size}", input.escape_ascii().to_string());
        }
        whole
    }

    #[test]
    fn a_reply_ends_where_its_last_value_does() {
        for reply in [
            "+OK\r\n",
            "-ERR no such thing\r\n",
            ":42\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "$4\r\na\r\nb\r\n",
            "*0\r\n",
            "*-1\r\n",
            "*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n+b\r\n",
            "%1\r\n+key\r\n*1\r\n_\r\n",
            "~2\r\n#t\r\n,3.14\r\n",
            "|1\r\n+ttl\r\n:9\r\n$2\r\nhi\r\n",
            "=5\r\ntxt:a\r\n",
            "(3492890328409238509324850943850943825024385\r\n",
        ] {
            assert_eq!(end(reply.as_bytes()), Ok(Some(reply.len())), "{reply:?}");
            assert_eq!(end(&reply.as_bytes()[..reply.len() - 1]), Ok(None), "all but a byte of {reply:?}");
            assert_eq!(end(format!("{reply}+next\r\n").as_bytes()), Ok(Some(reply.len())), "{reply:?} and more");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_with_the_reason() {
        for (input, why) in [
            ("PONG\r\n", "no reply begins with 'P'"),
            ("$2\r\nabcd", "longer than its length"),
            ("$x\r\n", "no length"),
            ("*-2\r\n", "no length"),
            ("$99999999999\r\n", "no length"),
            (":1\n", "does not end in"),
            (">1\r\n+message\r\n", "no command asked for"),
            (":1111111111111111111111111111111111111", "more than 32 bytes"),
        ] {
            let error = end(input.as_bytes()).expect_err(input).to_string();
            assert!(error.contains(why), "{input:?}: {error}");
        }
    }

    #[test]
    fn a_tower_of_arrays_takes_no_stack() {
        let tower = [b"*1\r\n".repeat(100_000), b":1\r\n".to_vec()].concat();
        assert_eq!(Replies.end(b"", &tower, &mut Progress::default()), Ok(Some(tower.len())));
    }
}
