//! Framed answers: each after its length, as [`protocol::frame`](crate::protocol::frame) has them.

use super::{Exchange, Malformed};
use crate::protocol::frame::{PREFIX, TooLong, split};

/// The client's side of [`Frame`](crate::protocol::Frame): a frame is answered by a frame.
///
/// ```
/// use pollmark::client::{Exchange, Frames};
///
/// let mut request = Vec::new();
/// Frames::write(b"hello", &mut request);
/// assert_eq!(request, b"\0\0\0\x05hello");
/// assert_eq!(Frames::default().end(&request, b"\0\0\0\x02hi", &mut ()), Ok(Some(6)));
/// assert_eq!(Frames::body(b"\0\0\0\x02hi"), b"hi");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    most: usize,
}

impl Frames {
    /// Takes answers of up to `most` bytes, the length not counted.
    pub const fn with_most(most: usize) -> Frames {
        Frames { most }
    }

    /// Writes the frame of `body` behind what `request` has.
    ///
    /// # Panics
    /// If the body is longer than four bytes can tell, 4 GiB.
    pub fn write(body: &[u8], request: &mut Vec<u8>) {
        let length = u32::try_from(body.len()).expect("a body of less than 4 GiB");
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(body);
    }

    /// What is in a frame.
    pub fn body(frame: &[u8]) -> &[u8] {
        frame.get(PREFIX..).unwrap_or_default()
    }
}

impl Default for Frames {
    /// Answers of up to 512 KiB, as the server's frames.
    fn default() -> Frames {
        Frames::with_most(512 * 1024)
    }
}

impl Exchange for Frames {
    type Progress = ();

    #[inline]
    fn end(&self, _request: &[u8], received: &[u8], _: &mut ()) -> Result<Option<usize>, Malformed> {
        match split(received, self.most) {
            Ok(body) => Ok(body.map(|body| PREFIX + body.len())),
            Err(TooLong { bytes }) => {
                Err(Malformed::because(format!("a frame of {bytes} bytes, and {} are allowed", self.most)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_ends_where_its_length_says_and_not_before_it_is_there() {
        let frames = Frames::with_most(4);
        let answer = b"\0\0\0\x04four, and more";
        for bytes in 0..answer.len() {
            let expected = (bytes >= 8).then_some(8);
            assert_eq!(frames.end(b"", &answer[..bytes], &mut ()), Ok(expected), "{bytes} bytes");
        }
        let error = frames.end(b"", b"\0\0\0\x05", &mut ()).expect_err("too long").to_string();
        assert!(error.contains("5 bytes") && error.contains("4 are allowed"), "{error}");
    }
}
