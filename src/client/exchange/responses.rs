//! Responses of HTTP/1.1 (RFC 9112): where one ends, be it by its length, by its last chunk, or with its connection.

use std::borrow::Cow;
use std::io;

use httparse::Status::{Complete, Partial};

use super::{Exchange, Malformed};
use crate::protocol::http::{Chunks, Fault, MOST_FIELDS, Scanned, content_length, has_token, unchunk};

/// How many a server may say of a request before it answers it (1xx).
const MOST_INTERIM: u32 = 16;

/// The client's side of [`Http`](crate::protocol::Http): a request is answered by one response.
///
/// It asks by GET and by HEAD. What a server says on the way (`100 Continue`, `103 Early Hints`) belongs to the answer,
/// and [`Response::read`] passes it over. A connection is used again unless one of the two says otherwise; one whose
/// end is that of the response is not. Codings of transfer other than chunks are refused, and so is a response that
/// tells its length twice, and differently.
///
/// ```
/// use pollmark::client::{Client, Response, Responses};
/// # use pollmark::{backends, mechanism::Mechanism, protocol::Http, server::Config};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let registry = backends::Registry::builtin();
/// # let server = Mechanism::choose(&registry)?.bind(&registry, Config::listen("127.0.0.1:0".parse()?), Http::default())?;
/// # let (control, address) = (server.control(), server.addresses()[0].tcp().expect("TCP"));
/// # let running = std::thread::spawn(move || server.run());
/// let mut client = Client::open(address.into(), Responses::default())?; // or "localhost:8080".parse()?
/// let mut request = Vec::new();
/// Responses::get("localhost", "/json", &[("Accept", "application/json")], &mut request)?;
///
/// let response = Response::read(client.request(&request)?)?;
/// assert_eq!((response.status(), response.body()), (200, &br#"{"message":"Hello, World!"}"#[..]));
/// assert_eq!(response.field("content-type"), Some(&b"application/json"[..]));
/// # control.stop();
/// # running.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Responses {
    most_head: usize,
    most_body: usize,
}

/// How far a response was understood.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The head, or the body, begins here.
    at: usize,
    /// Heads before the one that counts.
    interim: u32,
    stage: Stage,
    keeps: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Head,
    Body(Body),
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug)]
enum Body {
    Length(usize),
    Chunked(Chunks),
    /// By the end of the connection.
    ToTheEnd,
}

impl Responses {
    /// Takes responses with heads of up to `head` bytes, and bodies of up to `body` bytes as they are sent, with the
    /// lengths of their chunks.
    pub const fn with_most(head: usize, body: usize) -> Responses {
        Responses { most_head: head, most_body: body }
    }

    /// Writes a GET of `target`, as `/a%20file?full=yes`, from `host` behind what `request` has, with these fields.
    ///
    /// # Errors
    /// `InvalidInput`, with nothing written, for a host, a target or a field that would not be read as one.
    pub fn get(host: &str, target: &str, fields: &[(&str, &str)], request: &mut Vec<u8>) -> io::Result<()> {
        write("GET", host, target, fields, request)
    }

    /// Writes a HEAD: as [`get`](Responses::get), and what comes back has no body.
    ///
    /// # Errors
    /// As of [`get`](Responses::get).
    pub fn head(host: &str, target: &str, fields: &[(&str, &str)], request: &mut Vec<u8>) -> io::Result<()> {
        write("HEAD", host, target, fields, request)
    }
}

impl Default for Responses {
    /// Heads of up to 16 KiB, bodies of up to 16 MiB.
    fn default() -> Responses {
        Responses::with_most(16 * 1024, 16 * 1024 * 1024)
    }
}

impl Exchange for Responses {
    type Progress = Progress;

    fn end(&self, request: &[u8], received: &[u8], progress: &mut Progress) -> Result<Option<usize>, Malformed> {
        loop {
            let rest = &received[progress.at..];
            match &mut progress.stage {
                Stage::Head => {
                    let Some((head, length)) = self.find_head(rest)? else { return Ok(None) };
                    progress.at += length;
                    match head.status {
                        101 => return Err(Malformed::because("a change of protocol that nobody asked for")),
                        100..=199 if progress.interim < MOST_INTERIM => progress.interim += 1,
                        100..=199 => return Err(Malformed::because("it goes on saying that it will answer")),
                        _ => {
                            let keeps = head.keeps && asks_to_keep(request);
                            let body = self.body(&head, is_head(request))?;
                            progress.keeps = keeps && !matches!(body, Body::ToTheEnd);
                            progress.stage = Stage::Body(body);
                        }
                    }
                }
                Stage::Body(Body::Length(length)) => return Ok((rest.len() >= *length).then(|| progress.at + *length)),
                Stage::Body(Body::Chunked(chunks)) => {
                    let scanned = chunks.scan(rest, self.most_body).map_err(|fault| self.refuse(fault))?;
                    return Ok((scanned == Scanned::Whole).then(|| progress.at + chunks.at()));
                }
                Stage::Body(Body::ToTheEnd) if rest.len() > self.most_body => {
                    return Err(self.refuse(Fault::BodyTooLong));
                }
                Stage::Body(Body::ToTheEnd) => return Ok(None),
            }
        }
    }

    fn ended(&self, received: &[u8], progress: &mut Progress) -> Option<usize> {
        matches!(progress.stage, Stage::Body(Body::ToTheEnd)).then_some(received.len())
    }

    fn keeps(&self, progress: &Progress) -> bool {
        progress.keeps
    }
}

impl Responses {
    /// The head `input` begins with, and how long it is, if it is all there. Only the bytes a head may have are looked
    /// at, so that the way they are cut makes no difference.
    fn find_head(&self, input: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
        let input = &input[..input.len().min(self.most_head)];
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(input) {
            Ok(Complete(length)) => Ok(Some((Head::of(&response)?, length))),
            Ok(Partial) if input.len() < self.most_head => Ok(None),
            Ok(Partial) => Err(self.refuse(Fault::HeadTooLong)),
            Err(why) => Err(Malformed::because(format!("its head cannot be read: {why}"))),
        }
    }

    fn body(&self, head: &Head, is_head: bool) -> Result<Body, Malformed> {
        match head.length {
            _ if is_head || matches!(head.status, 204 | 304) => Ok(Body::Length(0)),
            _ if head.is_chunked => Ok(Body::Chunked(Chunks::default())),
            Some(length) if length <= self.most_body as u64 => Ok(Body::Length(length as usize)),
            Some(_) => Err(self.refuse(Fault::BodyTooLong)),
            None => Ok(Body::ToTheEnd),
        }
    }

    fn refuse(&self, fault: Fault) -> Malformed {
        match fault {
            Fault::HeadTooLong => {
                Malformed::because(format!("its head, or its trailer, is longer than {} bytes", self.most_head))
            }
            Fault::BodyTooLong => Malformed::because(format!("its body is longer than {} bytes", self.most_body)),
            _ => Malformed::because("a body in chunks that are none"),
        }
    }
}

/// What a head says that concerns the connection.
#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    length: Option<u64>,
    is_chunked: bool,
    keeps: bool,
}

impl Head {
    fn of(response: &httparse::Response<'_, '_>) -> Result<Head, Malformed> {
        let is_1_1 = response.version == Some(1);
        let (mut length, mut is_chunked) = (None, false);
        let (mut keeps, mut closes) = (is_1_1, false);
        for httparse::Header { name, value } in response.headers.iter() {
            if name.eq_ignore_ascii_case("content-length") {
                let this = content_length(value).map_err(|_| Malformed::because("its length is no number"))?;
                if length.replace(this).is_some_and(|other| other != this) {
                    return Err(Malformed::because("it tells its length twice, and differently"));
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::because("a coding of transfer other than chunks"));
                }
                is_chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                keeps |= has_token(value, b"keep-alive");
                closes |= has_token(value, b"close");
            }
        }
        if is_chunked && (length.is_some() || !is_1_1) {
            return Err(Malformed::because("it comes in chunks, and says something else, too"));
        }
        let status = response.code.filter(|status| *status >= 100);
        let status = status.ok_or_else(|| Malformed::because("its status is no status"))?;
        Ok(Head { status, length, is_chunked, keeps: keeps && !closes })
    }
}

/// A response, taken apart.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    status: u16,
    fields: Vec<httparse::Header<'a>>,
    body: Cow<'a, [u8]>,
}

impl<'a> Response<'a> {
    /// Takes apart what a client was answered.
    ///
    /// # Errors
    /// [`Malformed`] for what is no whole answer. What [`Responses`] has found the end of is one.
    pub fn read(mut answer: &'a [u8]) -> Result<Response<'a>, Malformed> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
            let mut response = httparse::Response::new(&mut fields);
            let Ok(Complete(length)) = response.parse(answer) else {
                return Err(Malformed::because("it does not begin with a head"));
            };
            answer = &answer[length..];
            let head = Head::of(&response)?;
            if !matches!(head.status, 100..=199) {
                let body = match head.is_chunked {
                    true => Cow::Owned(unchunked(answer)),
                    false => Cow::Borrowed(answer),
                };
                return Ok(Response { status: head.status, fields: response.headers.to_vec(), body });
            }
        }
    }

    /// What became of the request: 200, 404, …
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The body, whole, and without the lengths of its chunks.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

fn unchunked(body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    unchunk(body, &mut whole);
    whole
}

/// Whether what comes back has no body.
fn is_head(request: &[u8]) -> bool {
    request.starts_with(b"HEAD ")
}

/// Whether the request does not say that it is the last. Who sends what cannot be read wants no more of it.
fn asks_to_keep(request: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let is_read = head.parse(request).is_ok_and(|parsed| parsed.is_complete());
    let says = |word: &[u8]| {
        let mut fields = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
        fields.any(|field| has_token(field.value, word))
    };
    is_read && !says(b"close") && (head.version == Some(1) || says(b"keep-alive"))
}

fn write(method: &str, host: &str, target: &str, fields: &[(&str, &str)], request: &mut Vec<u8>) -> io::Result<()> {
    let refuse = |what: &str, of: &str| {
        let why = format!("cannot ask by HTTP: {of:?} is no {what}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_word(host) {
        return refuse("host", host);
    }
    if !is_word(target) {
        return refuse("target: no spaces, and %20 and the like for whatever is not ASCII", target);
    }
    for (name, value) in fields {
        if !is_word(name)
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        {
            return refuse("name of a field", name);
        }
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return refuse("value of a field: it has control characters", value);
        }
    }
    for part in [method, " ", target, " HTTP/1.1\r\nHost: ", host, "\r\n"] {
        request.extend_from_slice(part.as_bytes());
    }
    for (name, value) in fields {
        for part in [name, ": ", value, "\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
    }
    request.extend_from_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    const RESPONSES: Responses = Responses::with_most(200, 100);

    /// Where the response ends, and whether its connection is kept, told in pieces of every size; all must agree.
    fn end(request: &[u8], input: &str) -> Result<Option<(usize, bool)>, Malformed> {
        let input = input.as_bytes();
        let told = |size: usize| {
            let mut progress = Progress::default();
            let ends = (1..=input.len().div_ceil(size)).map(|pieces| (pieces * size).min(input.len()));
            let mut found = ends.map(|bytes| RESPONSES.end(request, &input[..bytes], &mut progress));
            let found = found.find(|found| !matches!(found, Ok(None))).unwrap_or(Ok(None))?;
            Ok(found.map(|end| (end, RESPONSES.keeps(&progress))))
        };
        let whole = told(input.len());
        (1..input.len()).for_each(|size| assert_eq!(told(size), whole, "{input:?} in pieces of {size}"));
        whole
    }

    #[test]
    fn a_response_ends_with_its_body_and_says_whether_another_may_follow() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (text, keeps) in [
            (format!("{ok}Content-Length: 5\r\n\r\nhello"), true),
            (format!("{ok}content-length: 0\r\n\r\n"), true),
            (format!("{ok}Content-Length: 5\r\nConnection: x, Close\r\n\r\nhello"), false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned(), false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nhi".to_owned(), true),
            (
                format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nTrailer: x\r\n\r\n"),
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99999\r\n\r\n".to_owned(), true),
            (
                format!(
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n{ok}Content-Length: 0\r\n\r\n"
                ),
                true,
            ),
        ] {
            assert_eq!(end(GET, &text), Ok(Some((text.len(), keeps))), "{text:?}");
            assert_eq!(end(GET, &text[..text.len() - 1]), Ok(None), "all but a byte of {text:?}");
            assert_eq!(end(GET, &format!("{text}HTTP/1.1")), Ok(Some((text.len(), keeps))), "{text:?} and more");
        }
        for length in ["Content-Length: 99999", "Transfer-Encoding: chunked", "X: no length"] {
            let text = format!("{ok}{length}\r\n\r\n");
            assert_eq!(end(HEAD, &text), Ok(Some((text.len(), true))), "{text:?}");
        }
        let last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert_eq!(end(last, &format!("{ok}Content-Length: 0\r\n\r\n")), Ok(Some((38, false))));
    }

    #[test]
    fn without_a_length_it_ends_with_the_connection_and_never_otherwise() {
        let ended = |text: &str| {
            let mut progress = Progress::default();
            assert_eq!(RESPONSES.end(GET, text.as_bytes(), &mut progress), Ok(None), "{text:?}");
            let ended = RESPONSES.ended(text.as_bytes(), &mut progress);
            assert!(ended.is_none() || !RESPONSES.keeps(&progress), "{text:?}: nothing can follow");
            ended
        };
        assert_eq!(ended("HTTP/1.1 200 OK\r\n\r\nhello"), Some(24));
        assert_eq!(ended("HTTP/1.0 200 OK\r\n\r\n"), Some(19));
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ] {
            assert_eq!(ended(text), None, "{text:?} is cut off");
        }
    }

    #[test]
    fn what_is_no_response_or_too_long_a_one_is_refused_with_the_reason() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (text, why) in [
            ("SSH-2.0-OpenSSH\r\n".to_owned(), "cannot be read"),
            (format!("{ok}Content-Length: 101\r\n\r\n"), "its body is longer than 100 bytes"),
            (format!("{ok}Content-Length: -1\r\n\r\n"), "no number"),
            (format!("{ok}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), "twice, and differently"),
            (format!("{ok}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), "something else, too"),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "something else, too"),
            (format!("{ok}Transfer-Encoding: gzip\r\n\r\n"), "other than chunks"),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\nx\r\n"), "chunks that are none"),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\nff\r\n"), "its body is longer"),
            (format!("{ok}X: {}", "x".repeat(200)), "longer than 200 bytes"),
            (format!("{ok}\r\n{}", "x".repeat(101)), "its body is longer"),
            ("HTTP/1.1 099 What\r\n\r\n".to_owned(), "no status"),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(), "nobody asked for"),
            ("HTTP/1.1 100 Continue\r\n\r\n".repeat(17), "goes on saying"),
        ] {
            let error = end(GET, &text).expect_err(&text).to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_answer_is_taken_apart_into_what_was_said() {
        let chunked = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nX-Is: a\r\nx-is: b\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        let response = Response::read(chunked).expect("an answer");
        assert_eq!((response.status(), response.body()), (404, &b"hello"[..]));
        assert_eq!((response.field("X-IS"), response.field("Server")), (Some(&b"a"[..]), None));
        let headed = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(Response::read(headed).expect("of a HEAD").body(), b"");
        Response::read(b"HTTP/1.1 200 OK\r\n").expect_err("half a head");
    }

    #[test]
    fn nothing_is_smuggled_into_a_request() {
        let mut request = b"before;".to_vec();
        for (host, target, name, value) in [
            ("", "/", "A", "b"),
            ("x\r\ny", "/", "A", "b"),
            ("x", "", "A", "b"),
            ("x", "/ HTTP/1.1\r\n\r\nGET", "A", "b"),
            ("x", "/ä", "A", "b"),
            ("x", "/", "A:", "b"),
            ("x", "/", "", "b"),
            ("x", "/", "A", "b\r\nC: d"),
            ("x", "/", "A", "b\0"),
        ] {
            let error = Responses::get(host, target, &[(name, value)], &mut request).expect_err("not a request");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(request, b"before;", "{error}");
        }
        Responses::head("x:80", "/a?b", &[("Accept", "text/html, */*")], &mut request).expect("one");
        assert_eq!(request, b"before;HEAD /a?b HTTP/1.1\r\nHost: x:80\r\nAccept: text/html, */*\r\n\r\n");
    }
}
