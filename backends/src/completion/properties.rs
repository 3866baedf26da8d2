//! What must hold of completions whatever they say, but for what only the kernel can know: which of its own buffers and
//! descriptors there are. For cargo-fuzz, and for `cargo test` through proptest.

use std::collections::BTreeMap;
use std::io;

use super::bundles::{self, Part};
use super::lent::{Lent, Loans};
use super::outcome::{Said, received};
use super::queue::Done;
use super::silent::Silent;
use super::tags;
use crate::event::Token;

/// A completion says what its tag, its result and its flags say, and nothing else; the token is the one it was armed
/// with; and the one that is looked at first, for it is the common one, is no other by that.
///
/// # Panics
/// If not.
pub fn a_completion_says_what_its_bits_say(user_data: u64, result: i32, flags: u32) {
    let result = possible(result);
    let (kind, token) = (user_data >> 28 & 0xF, Token(user_data & !(0xF << 28)));
    assert_eq!((tags::tagged(kind << 28, token), tags::token(user_data)), (user_data, token));

    // io_uring_enter(2): IORING_CQE_F_BUFFER, and the number of the buffer above it; IORING_CQE_F_MORE.
    let (buffer, more) = ((flags & 1 != 0).then_some((flags >> 16) as u16), flags & 2 != 0);
    let (at, number) = (token.0 as u32, if result < 0 { Err(-result) } else { Ok(result) });
    let said = match kind {
        0 if result > 0 => Said::Received { token, buffer, bytes: result as u32 },
        0 => Said::Ended { token, buffer, result: number.map(drop) },
        2 if more => Said::Taken { at, result },
        2 => Said::Sent { at, result },
        3 => Said::Accepted { token, number, more },
        4 => Said::Readable { token },
        _ => Said::Nothing,
    };
    assert_eq!(Said::by(Done::made_up(user_data, result, flags)), said);
    let common = (kind == 0 && result > 0 && more).then_some(buffer).flatten();
    assert_eq!(received(user_data, result, flags), common);
}

/// One step in numbers, of which any do: what, where, and two whose meaning depends.
pub type Step = (u8, u8, i32, bool);

/// Memory that is lent comes back once, as it was, at the last completion of its send and at no other's; and of two
/// completions the first says what was taken.
///
/// # Panics
/// If not.
pub fn what_is_lent_comes_back_once(steps: &[Step]) {
    let (mut loans, mut lent) = (Loans::default(), BTreeMap::new());
    for (number, &(what, at, result, has_more)) in (0..).zip(steps) {
        let result = possible(result);
        if what % 2 == 0 {
            let bytes = vec![what; at.into()];
            let (token, from) = (Token(number), usize::from(at / 2));
            let place = loans.lend(Lent { token, bytes: bytes.clone(), from, taken: None });
            assert!(lent.insert(place, (token, bytes, from, None)).is_none(), "that place is taken");
        } else if has_more {
            loans.note(at.into(), result);
            lent.entry(at.into()).and_modify(|one| one.3 = Some(result));
        } else {
            let back = loans.take(at.into()).map(|back| (back.outcome(result), back.token, back.bytes, back.from));
            let expected = lent.remove(&at.into()).map(|(token, bytes, from, taken)| {
                let taken = taken.unwrap_or(result);
                (usize::try_from(taken).map_err(|_| -taken), token, bytes, from)
            });
            assert_eq!(back, expected);
        }
        assert_eq!(loans.taken(), lent.values().filter(|one| one.3.is_some()).count());
    }
}

/// Of a silent send that fell short, and of a bundle of several parts, what is left is what was not taken, whatever the
/// kernel says of how much that was; and no room is told from a failure.
///
/// # Panics
/// If not.
pub fn what_fell_short_is_what_was_not_taken(bytes: &[u8], cuts: &[u8], result: i32) {
    let (token, offered, result) = (Token(7), bytes.len() as u32, possible(result));
    let short = Silent { token, bytes: bytes.as_ptr(), offered, taken: offered }.fell_short(result);
    let taken = usize::try_from(result).unwrap_or(0).min(bytes.len());
    assert_eq!((short.token, &short.rest[..]), (token, &bytes[taken..]));
    match result {
        0.. => assert_eq!(short.error.kind(), io::ErrorKind::WouldBlock),
        errno => assert_eq!(short.error.raw_os_error(), Some(-errno)),
    }

    let (mut parts, mut left) = (Vec::new(), bytes);
    for cut in cuts {
        let (part, others) = left.split_at(left.len().min(usize::from(*cut)));
        parts.push(Part { start: part.as_ptr(), length: part.len() as u32 });
        left = others;
    }
    parts.push(Part { start: left.as_ptr(), length: left.len() as u32 });
    // SAFETY: the parts are slices of `bytes`.
    assert_eq!(unsafe { bundles::rest(&parts, taken) }, &bytes[taken..]);
}

/// What a kernel may say: an errno is at most 4,095.
fn possible(result: i32) -> i32 {
    result.max(-4_095)
}

#[cfg(test)]
proptest::proptest! {
    #[test]
    fn a_completion_says_what_its_tag_its_result_and_its_flags_say(tag in 0..16_u64, token: u64, result: i32, flags: u32) {
        a_completion_says_what_its_bits_say(token & !tags::TAGS | tag << 28, result, flags);
        a_completion_says_what_its_bits_say(token, result.signum(), flags & 3);
    }

    #[test]
    fn what_is_lent_comes_back_once_and_as_it_was(mut steps: Vec<Step>) {
        steps.iter_mut().filter(|step| step.0 % 2 != 0).for_each(|step| step.1 %= 8); // places that are taken
        what_is_lent_comes_back_once(&steps);
    }

    #[test]
    fn what_is_left_of_what_fell_short_is_what_was_not_taken(bytes: Vec<u8>, cuts: Vec<u8>, taken in -200..200) {
        what_fell_short_is_what_was_not_taken(&bytes, &cuts, taken);
    }
}
