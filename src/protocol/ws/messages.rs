//! Frames, and the messages they make: each is answered in place, where the loop gathers what is to be sent.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::Limits;
use crate::protocol::Context;

/// The longest payload of a ping, a pong or a close.
const LONGEST_CONTROL: u64 = 125;

/// What is known of messages that are coming in.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// The message whose first frames are here, and the last is not.
    begun: Option<Box<Begun>>,
}

#[derive(Debug)]
struct Begun {
    kind: Data,
    payload: Vec<u8>,
}

/// What a frame was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Not all of it is there.
    Unfinished,
    /// Nothing that matters to others: answered, if it was to be.
    Nothing,
    /// The end of a message, which has been gathered for whoever sent it, from there on.
    Message { start: usize },
    /// An answer, with the number in it, if it is one of the length of ours.
    Pong(Option<u64>),
    /// The peer closes, and has been answered.
    Close,
}

/// What is sent beside messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Message(Data),
    Ping,
    Pong,
    Close,
}

impl Inbound {
    /// Hears the frame `input` begins with, and answers it. Also tells how many bytes it has; for what is wrong, the
    /// code that says so.
    pub(super) fn next(
        &mut self,
        input: &[u8],
        limits: &Limits,
        cx: &mut Context<'_>,
    ) -> (usize, Result<Heard, CloseCode>) {
        let mut cursor = Cursor::new(input);
        // All that goes wrong is a number that is no opcode.
        let Ok(header) = FrameHeader::parse(&mut cursor) else { return (0, Err(CloseCode::Protocol)) };
        let Some((header, length)) = header else { return (0, Ok(Heard::Unfinished)) };
        let (start, known) = (cursor.position() as usize, self.begun.as_ref().map_or(0, |begun| begun.payload.len()));
        let most = limits.most_message.saturating_sub(known);
        let mask = match check(&header, length, self.begun.is_some(), most) {
            Ok(mask) => mask,
            Err(code) => return (0, Err(code)),
        };
        // No longer than a message may be, by the check.
        let end = start + length as usize;
        let Some(payload) = input.get(start..end) else { return (0, Ok(Heard::Unfinished)) };
        let heard = match header.opcode {
            OpCode::Control(kind) => control(kind, payload, mask, cx),
            OpCode::Data(kind) => self.data(kind, header.is_final, payload, mask, cx),
        };
        (end, heard)
    }

    fn data(
        &mut self,
        kind: Data,
        is_final: bool,
        payload: &[u8],
        mask: [u8; 4],
        cx: &mut Context<'_>,
    ) -> Result<Heard, CloseCode> {
        let output = &mut cx.turn.output;
        let start = output.len();
        if kind != Data::Continue && is_final {
            // Nearly every message is one frame: it is unmasked where it goes out from.
            let body = frame(Kind::Message(kind), payload, output);
            unmask(&mut output[body..], mask);
            return check_text(kind, output, start, body);
        }
        let begun = self.begun.get_or_insert_with(|| Box::new(Begun { kind, payload: Vec::new() }));
        let known = begun.payload.len();
        begun.payload.extend_from_slice(payload);
        unmask(&mut begun.payload[known..], mask);
        if !is_final {
            return Ok(Heard::Nothing);
        }
        let Some(whole) = self.begun.take() else { return Ok(Heard::Nothing) };
        let body = frame(Kind::Message(whole.kind), &whole.payload, output);
        check_text(whole.kind, output, start, body)
    }
}

fn control(kind: Control, payload: &[u8], mask: [u8; 4], cx: &mut Context<'_>) -> Result<Heard, CloseCode> {
    let mut plain = [0; LONGEST_CONTROL as usize];
    let plain = &mut plain[..payload.len()];
    plain.copy_from_slice(payload);
    unmask(plain, mask);
    match kind {
        Control::Ping => {
            frame(Kind::Pong, plain, &mut cx.turn.output);
            Ok(Heard::Nothing)
        }
        Control::Pong => Ok(Heard::Pong(<[u8; 8]>::try_from(&*plain).ok().map(u64::from_be_bytes))),
        Control::Close => {
            match plain {
                [] => {}
                [high, low, reason @ ..] => {
                    let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
                    if !code.is_allowed() {
                        return Err(CloseCode::Protocol);
                    }
                    std::str::from_utf8(reason).map_err(|_| CloseCode::Invalid)?;
                }
                [_] => return Err(CloseCode::Protocol),
            }
            // The same code goes back.
            frame(Kind::Close, &plain[..plain.len().min(2)], &mut cx.turn.output);
            Ok(Heard::Close)
        }
        Control::Reserved(_) => Err(CloseCode::Protocol),
    }
}

/// The mask of a frame that may be sent to a server.
fn check(header: &FrameHeader, length: u64, has_begun: bool, most: usize) -> Result<[u8; 4], CloseCode> {
    let mask = header.mask.ok_or(CloseCode::Protocol)?;
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(CloseCode::Protocol);
    }
    match header.opcode {
        OpCode::Control(_) if !header.is_final || length > LONGEST_CONTROL => Err(CloseCode::Protocol),
        OpCode::Control(_) => Ok(mask),
        OpCode::Data(kind) if (kind == Data::Continue) != has_begun => Err(CloseCode::Protocol),
        OpCode::Data(_) if length > most as u64 => Err(CloseCode::Size),
        OpCode::Data(_) => Ok(mask),
    }
}

/// Takes a text that is none back from what is gathered.
fn check_text(kind: Data, output: &mut Vec<u8>, start: usize, body: usize) -> Result<Heard, CloseCode> {
    if kind == Data::Text && std::str::from_utf8(&output[body..]).is_err() {
        output.truncate(start);
        return Err(CloseCode::Invalid);
    }
    Ok(Heard::Message { start })
}

/// Appends a frame, as a server sends it. Where its payload begins.
pub(super) fn frame(kind: Kind, payload: &[u8], output: &mut Vec<u8>) -> usize {
    let opcode = match kind {
        Kind::Message(data) => OpCode::Data(data),
        Kind::Ping => OpCode::Control(Control::Ping),
        Kind::Pong => OpCode::Control(Control::Pong),
        Kind::Close => OpCode::Control(Control::Close),
    };
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(payload.len() as u64, output).expect("a vector takes all");
    let start = output.len();
    output.extend_from_slice(payload);
    start
}

/// Says goodbye, with the reason.
pub(super) fn close(code: CloseCode, cx: &mut Context<'_>) {
    frame(Kind::Close, &u16::from(code).to_be_bytes(), &mut cx.turn.output);
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    // Eight at a time, which compilers make vectors of.
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Turn;
    use pollmark_backends::Token;

    const MASK: [u8; 4] = [1, 2, 3, 4];
    const LIMITS: Limits = Limits { most_message: 10, most_unread: 0, patience: std::time::Duration::ZERO };

    /// A frame as a client sends it: first byte, payload.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        assert!(length < 126);
        let mut body = payload.to_vec();
        unmask(&mut body, MASK);
        [&[first, 0x80 | length], &MASK[..], &body].concat()
    }

    /// What the frames are heard as, up to the first that is wrong, and what is sent.
    fn hear(frames: &[Vec<u8>]) -> (Vec<Result<Heard, CloseCode>>, Vec<u8>) {
        let (mut inbound, mut turn, input) = (Inbound::default(), Turn::default(), frames.concat());
        let (mut consumed, mut heard) = (0, Vec::new());
        while consumed < input.len() && heard.iter().all(Result::is_ok) {
            let rest = &input[consumed..];
            let (bytes, one) = inbound.next(rest, &LIMITS, &mut Context::new(&mut turn, Token(0), rest));
            consumed += bytes;
            heard.push(one);
            if one == Ok(Heard::Unfinished) {
                break;
            }
        }
        (heard, turn.output)
    }

    #[test]
    fn a_message_is_one_frame_or_several_with_pings_between() {
        let (heard, said) = hear(&[
            masked(0x81, "höchst".as_bytes()),
            masked(0x02, b"abc"),
            masked(0x89, b"?"),
            masked(0x00, b""),
            masked(0x80, b"def"),
            masked(0x8a, &7_u64.to_be_bytes()),
        ]);
        let starts = [0, 9, 12].map(|start| Ok(Heard::Message { start }));
        let nothing = Ok(Heard::Nothing);
        assert_eq!(heard, [starts[0], nothing, nothing, nothing, starts[2], Ok(Heard::Pong(Some(7)))]);
        assert_eq!(said, [b"\x81\x07h\xc3\xb6chst", &b"\x8a\x01?"[..], b"\x82\x06abcdef"].concat());
    }

    #[test]
    fn a_close_is_answered_with_its_code() {
        let code = |code: u16, reason: &[u8]| masked(0x88, &[&code.to_be_bytes(), reason].concat());
        assert_eq!(hear(&[masked(0x88, b"")]), (vec![Ok(Heard::Close)], b"\x88\x00".to_vec()));
        assert_eq!(hear(&[code(1000, b"bye")]), (vec![Ok(Heard::Close)], b"\x88\x02\x03\xe8".to_vec()));
        assert_eq!(hear(&[code(1000, b"\xff")]).0, [Err(CloseCode::Invalid)]);
        for code in [code(1005, b""), code(999, b""), code(2999, b""), code(5000, b""), masked(0x88, b"x")] {
            assert_eq!(hear(&[code]).0, [Err(CloseCode::Protocol)]);
        }
    }

    #[test]
    fn what_breaks_the_rules_ends_it_with_the_code_that_says_so() {
        let protocol = [
            masked(0x80, b"continues nothing")[..10].to_vec(),
            masked(0x09, b"a ping in parts"),
            masked(0xc1, b"reserved"),
            masked(0x83, b"no opcode"),
            b"\x81\x01a".to_vec(), // not masked
            [&[0x89, 0xfe, 0, 126][..], &MASK].concat(),
        ];
        for frame in protocol {
            assert_eq!(
                hear(std::slice::from_ref(&frame)),
                (vec![Err(CloseCode::Protocol)], vec![]),
                "{}",
                frame.escape_ascii()
            );
        }
        let (heard, said) = hear(&[masked(0x01, b"a"), masked(0x81, b"b")]);
        assert_eq!((heard, said), (vec![Ok(Heard::Nothing), Err(CloseCode::Protocol)], vec![]));
        assert_eq!(hear(&[masked(0x81, b"\xc3")]), (vec![Err(CloseCode::Invalid)], vec![]));
        let parts = [masked(0x01, b"\xc3"), masked(0x80, b"\x28")];
        assert_eq!(hear(&parts).0, [Ok(Heard::Nothing), Err(CloseCode::Invalid)]);
        assert_eq!(hear(&[masked(0x82, b"ten bytes?")]).0, [Ok(Heard::Message { start: 0 })]);
        assert_eq!(hear(&[masked(0x82, b"more than 10")]).0, [Err(CloseCode::Size)]);
        assert_eq!(hear(&[masked(0x02, b"seven b"), masked(0x80, b"four")]).0[1], Err(CloseCode::Size));
        // Known to be too long before any of it is there.
        assert_eq!(hear(&[[&[0x82, 0xff][..], &[0xff; 8], &MASK].concat()]).0, [Err(CloseCode::Size)]);
    }

    #[test]
    fn a_mask_taken_off_twice_changes_nothing() {
        let plain = (0..100).collect::<Vec<u8>>();
        for length in 0..plain.len() {
            let mut bytes = plain[..length].to_vec();
            unmask(&mut bytes, MASK);
            let single = plain[..length].iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]);
            assert!(bytes.iter().copied().eq(single), "{length}");
        }
    }
}
