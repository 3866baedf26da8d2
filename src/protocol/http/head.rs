//! What a request's head says of its body and of the connection, and what is wrong with it.

use std::mem::MaybeUninit;

use httparse::Header;

use super::{Limits, MOST_FIELDS, Status};

/// Why a request is not answered as it was meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Malformed,
    TargetTooLong,
    HeadTooLong,
    BodyTooLong,
    /// Another coding than chunks.
    Coding,
    /// Something is expected that nobody here does.
    Expectation,
    Version,
}

impl Fault {
    /// How it is answered.
    pub(in crate::protocol) const fn status(self) -> Status {
        match self {
            Fault::Malformed => Status::BAD_REQUEST,
            Fault::TargetTooLong => Status::URI_TOO_LONG,
            Fault::HeadTooLong => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Fault::BodyTooLong => Status::CONTENT_TOO_LARGE,
            Fault::Coding => Status::NOT_IMPLEMENTED,
            Fault::Expectation => Status::EXPECTATION_FAILED,
            Fault::Version => Status::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

/// How the body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::protocol) enum Body {
    Length(usize),
    Chunked,
}

/// What a head says that concerns the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::protocol) struct Facts {
    pub(in crate::protocol) body: Body,
    pub(super) keep_alive: bool,
    /// The peer wants to hear that its body is welcome.
    pub(super) expects: bool,
}

/// Room for the fields of one head.
pub(in crate::protocol) type Room<'b> = [MaybeUninit<Header<'b>>; MOST_FIELDS];

/// The head `input` begins with, and how long it is, if it is all there.
///
/// What is found depends on the first [`Limits::most_head`] bytes only, so that the way they are cut makes no
/// difference.
#[inline]
pub(in crate::protocol) fn find_head<'h, 'b>(
    input: &'b [u8],
    room: &'h mut Room<'b>,
    limits: &Limits,
) -> Result<Option<(httparse::Request<'h, 'b>, usize)>, Fault> {
    let head = &input[..input.len().min(limits.most_head)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, room) {
        Ok(httparse::Status::Complete(length)) => {
            if request.path.is_none_or(|target| target.len() > limits.most_target) {
                return Err(Fault::TargetTooLong);
            }
            Ok(Some((request, length)))
        }
        Ok(httparse::Status::Partial) if head.len() < limits.most_head => Ok(None),
        Ok(httparse::Status::Partial) if head.contains(&b'\n') => Err(Fault::HeadTooLong),
        Ok(httparse::Status::Partial) => Err(Fault::TargetTooLong),
        Err(httparse::Error::TooManyHeaders) => Err(Fault::HeadTooLong),
        Err(httparse::Error::Version) => Err(Fault::Version),
        Err(_) => Err(Fault::Malformed),
    }
}

impl Facts {
    /// What `request` says.
    #[inline]
    pub(in crate::protocol) fn of(request: &httparse::Request<'_, '_>, limits: &Limits) -> Result<Facts, Fault> {
        let is_1_1 = request.version == Some(1);
        let (mut length, mut chunked, mut hosts) = (None, false, 0);
        let (mut keeps, mut closes, mut expects) = (is_1_1, false, false);
        for Header { name, value } in request.headers.iter() {
            // By their lengths first: most fields are none of these.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => hosts += 1,
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let this = content_length(value)?;
                    // Two that differ are how one request is smuggled in another.
                    if length.replace(this).is_some_and(|other| other != this) {
                        return Err(Fault::Malformed);
                    }
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Fault::Coding);
                    }
                    chunked = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    keeps |= has_token(value, b"keep-alive");
                    closes |= has_token(value, b"close");
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Fault::Expectation);
                    }
                    expects = is_1_1;
                }
                _ => {}
            }
        }
        if hosts > 1 || (is_1_1 && hosts == 0) || (chunked && (length.is_some() || !is_1_1)) {
            return Err(Fault::Malformed);
        }
        let length = length.unwrap_or(0);
        if length > limits.most_body as u64 {
            return Err(Fault::BodyTooLong);
        }
        let body = if chunked { Body::Chunked } else { Body::Length(length as usize) };
        Ok(Facts { body, keep_alive: keeps && !closes, expects: expects && body != Body::Length(0) })
    }
}

/// A number in decimal, and nothing else. One that does not fit is as good as the largest.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Malformed);
    }
    Ok(value.iter().fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// Whether a list of words, divided by commas, has this one.
pub(crate) fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fields: &str) -> Result<Facts, Fault> {
        let text = format!("GET / {}\r\n\r\n", fields.trim_end());
        let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let limits = Limits { most_body: 100, ..Limits::default() };
        let (request, _) = find_head(text.as_bytes(), &mut room, &limits)?.expect("a whole head");
        Facts::of(&request, &limits)
    }

    #[test]
    fn a_head_tells_how_long_the_body_is_and_whether_the_connection_is_kept() {
        let plain = Facts { body: Body::Length(0), keep_alive: true, expects: false };
        assert_eq!(facts("HTTP/1.1\r\nHost: x"), Ok(plain));
        let closes = Facts { keep_alive: false, ..plain };
        assert_eq!(facts("HTTP/1.1\r\nHost: x\r\nConnection: upgrade, Close"), Ok(closes));
        assert_eq!(facts("HTTP/1.0"), Ok(closes));
        assert_eq!(facts("HTTP/1.0\r\nConnection: Keep-Alive"), Ok(plain));
        let with_body = "HTTP/1.1\r\nHOST: x\r\ncontent-length: 100\r\nContent-Length: 100\r\nExpect: 100-Continue";
        assert_eq!(facts(with_body), Ok(Facts { body: Body::Length(100), expects: true, ..plain }));
        let chunked = "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked";
        assert_eq!(facts(chunked), Ok(Facts { body: Body::Chunked, ..plain }));
        assert_eq!(facts("HTTP/1.1\r\nHost: x\r\nExpect: 100-continue"), Ok(plain), "there is no body to wait for");
    }

    #[test]
    fn what_contradicts_itself_or_goes_too_far_is_refused() {
        for (fields, fault) in [
            ("HTTP/1.1", Fault::Malformed),
            ("HTTP/1.1\r\nHost: x\r\nHost: x", Fault::Malformed),
            ("HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2", Fault::Malformed),
            ("HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", Fault::Malformed),
            ("HTTP/1.1\r\nHost: x\r\nContent-Length: +1", Fault::Malformed),
            ("HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1", Fault::Malformed),
            ("HTTP/1.1\r\nHost: x\r\nContent-Length:", Fault::Malformed),
            ("HTTP/1.1\r\nHost: x\r\nContent-Length: 101", Fault::BodyTooLong),
            ("HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999", Fault::BodyTooLong),
            ("HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", Fault::Coding),
            ("HTTP/1.1\r\nHost: x\r\nExpect: miracles", Fault::Expectation),
            ("HTTP/1.0\r\nTransfer-Encoding: chunked", Fault::Malformed),
            ("HTTP/2.0\r\nHost: x", Fault::Version),
            ("HTTP/1.1\r\nHost x", Fault::Malformed),
        ] {
            assert_eq!(facts(fields), Err(fault), "{fields}");
        }
    }

    #[test]
    fn a_head_has_its_limits_wherever_it_is_cut() {
        let limits = Limits { most_target: 10, most_head: 100, ..Limits::default() };
        let find = |text: &[u8]| {
            let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
            find_head(text, &mut room, &limits).map(|found| found.map(|(_, length)| length))
        };
        let is = |text: &str, verdict: Result<usize, Fault>| {
            let cuts = (0..=text.len()).map(|end| find(&text.as_bytes()[..end]));
            let first = cuts.into_iter().find(|found| *found != Ok(None));
            assert_eq!(first, Some(verdict.map(Some)), "{text}");
            assert_eq!(find(text.as_bytes()), verdict.map(Some), "{text}, whole");
        };
        is("GET /012345678 HTTP/1.1\r\n\r\nmore", Ok(27));
        is("GET /0123456789 HTTP/1.1\r\n\r\n", Err(Fault::TargetTooLong));
        is(&format!("GET /{}", "x".repeat(200)), Err(Fault::TargetTooLong));
        is(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200)), Err(Fault::HeadTooLong));
        is("GET\0/ HTTP/1.1\r\n\r\n", Err(Fault::Malformed));
    }
}
