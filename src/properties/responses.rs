//! Any split of what a server says: a response ends at the same place, or is refused for the same reason.

use super::protocol::Said;
use crate::client::{Exchange, Malformed, Response, Responses};

/// What came of what a server said, whole: where the answer ends, with whether the connection is kept; or why there is
/// none.
type Verdict = Result<Option<(usize, bool)>, Malformed>;

/// Says responses of HTTP, and what is none, to whoever has asked by GET, or by HEAD.
///
/// # Panics
/// If the way it is cut makes a difference, or an answer that has an end cannot be taken apart.
pub fn responses_end_alike(said: &Said) {
    let input = said.iter().flat_map(|(kind, bytes)| words(*kind, bytes)).collect::<Vec<_>>();
    for request in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let whole = told(request, &input, std::iter::empty());
        let cut = told(request, &input, said.iter().map(|(kind, bytes)| 1 + bytes.len() * usize::from(*kind) % 37));
        assert_eq!(cut, whole, "{}", input.escape_ascii());
        assert_eq!(told(request, &input, std::iter::repeat(1)), whole, "{}", input.escape_ascii());
        if let Ok(Some((end, _))) = whole {
            assert!(end <= input.len());
            let response = Response::read(&input[..end]).expect("it has an end");
            assert!(response.body().len() <= end && (200..1_000).contains(&response.status()));
        }
    }
}

/// Tells it in pieces of these sizes, and the rest at once; then the server closes.
fn told(request: &[u8], input: &[u8], sizes: impl Iterator<Item = usize>) -> Verdict {
    let responses = Responses::with_most(300, 200);
    let (mut progress, mut bytes) = (Default::default(), 0_usize);
    for size in sizes.chain(std::iter::once(usize::MAX)) {
        bytes = input.len().min(bytes.saturating_add(size));
        if let Some(end) = responses.end(request, &input[..bytes], &mut progress)? {
            return Ok(Some((end, responses.keeps(&progress))));
        }
        if bytes == input.len() {
            break;
        }
    }
    Ok(responses.ended(input, &mut progress).map(|end| (end, responses.keeps(&progress))))
}

/// One of the words a response is made of, or any bytes.
fn words(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let word: &[u8] = match kind % 16 {
        0 | 1 => b"HTTP/1.1 200 OK\r\n",
        2 => b"HTTP/1.0 404 Not Found\r\n",
        3 => b"HTTP/1.1 100 Continue\r\n\r\n",
        4 => b"HTTP/1.1 204 No Content\r\n",
        5 | 6 => return format!("Content-Length: {}\r\n", bytes.len()).into_bytes(),
        7 | 8 => b"Transfer-Encoding: chunked\r\n",
        9 => b"Connection: close\r\n",
        10 | 11 => b"\r\n",
        12 => return [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
        13 => b"0\r\n\r\n",
        _ => bytes,
    };
    word.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn responses_end_alike_however_they_are_cut(
            first in 0_u8..9,
            said in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..50)), 0..12),
        ) {
            responses_end_alike(&[vec![(first, Vec::new())], said].concat());
        }
    }

    #[test]
    fn what_is_said_are_responses_now_and_then() {
        let said = vec![(0, vec![]), (7, vec![]), (10, vec![]), (12, b"hello".to_vec()), (13, vec![])];
        let input = said.iter().flat_map(|(kind, bytes)| words(*kind, bytes)).collect::<Vec<_>>();
        assert_eq!(told(b"GET / HTTP/1.1\r\n\r\n", &input, std::iter::empty()), Ok(Some((input.len(), true))));
        responses_end_alike(&said);
    }
}
