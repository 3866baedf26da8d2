//! What must hold of every translation into an [`Event`], whatever the kernel says: each property written once, for
//! cargo-fuzz and, through proptest, for `cargo test`. Compiled for these two only. Those of kqueue(2), whose records
//! are merged, and of io_uring(7), whose completions may be nobody's, are beside them.

use crate::event::{Event, Raw, Readiness, Token};
use crate::events::Events;

/// An answer of poll(2), and on Linux a record of epoll_wait(2), means what each of its bits means and nothing else;
/// the bits come back untouched as [`Raw`], and the token as it went in.
///
/// # Panics
/// If not.
pub fn an_answer_means_what_its_bits_mean(token: u64, bits: u16, more: u16) {
    let (token, bits, more) = (Token(token), u32::from(bits), u32::from(more));
    let event = polled(token, bits);
    assert_eq!((event.token(), event.raw()), (token, Raw::Poll(bits)));
    implications(event);

    let facts = facts();
    for (bit, fact) in &facts {
        assert_eq!(event.readiness().intersects(*fact), bits & bit != 0, "{fact:?} of {bits:#x}");
    }
    let together = polled(token, bits | more).readiness();
    assert_eq!(together, event.readiness() | polled(token, more).readiness(), "{bits:#x} and {more:#x}");
    let known = facts.iter().fold(0, |all, (bit, _)| all | bit);
    assert_eq!(polled(token, bits & !known).readiness(), Readiness::EMPTY, "no other bit means anything");

    #[cfg(linux_like)]
    {
        let queued = queued(token, bits);
        assert_eq!((queued.token(), queued.raw()), (token, Raw::Epoll(bits)));
        assert_eq!(queued.readiness(), event.readiness(), "epoll(7) and poll(2) have the same bits");
    }
}

/// What follows from what, for an event of any mechanism: an error or a hang-up makes a source readable and writable,
/// the end of a direction leaves nothing there to wait for, and a reader is warned of all that is not plain bytes.
///
/// # Panics
/// If it does not.
pub fn implications(event: Event) {
    let is = |fact: Readiness| event.readiness().intersects(fact);
    let over = is(Readiness::ERROR) || is(Readiness::INVALID) || is(Readiness::HANG_UP);
    assert!(!over || event.readable() && event.writable(), "the next call tells the cause: {event:?}");
    assert_eq!(event.readable(), over || is(Readiness::READABLE) || is(Readiness::READ_CLOSED), "{event:?}");
    assert_eq!(event.writable(), over || is(Readiness::WRITABLE) || is(Readiness::WRITE_CLOSED), "{event:?}");
    assert_eq!(event.error(), is(Readiness::ERROR) || is(Readiness::INVALID), "{event:?}");
    assert_eq!(event.read_closed(), is(Readiness::READ_CLOSED) || is(Readiness::HANG_UP), "{event:?}");
    assert_eq!(event.write_closed(), is(Readiness::WRITE_CLOSED) || is(Readiness::HANG_UP), "{event:?}");
    assert_eq!(event.priority(), is(Readiness::PRIORITY), "{event:?}");
    assert_eq!(event.more_than_bytes(), event.read_closed() || event.error() || event.priority(), "{event:?}");
}

/// Each bit of poll(2) that means something, and what: the manual's table.
fn facts() -> Vec<(u32, Readiness)> {
    let named = [
        (libc::POLLIN, Readiness::READABLE),
        (libc::POLLPRI, Readiness::PRIORITY),
        (libc::POLLOUT, Readiness::WRITABLE),
        (libc::POLLERR, Readiness::ERROR),
        (libc::POLLHUP, Readiness::HANG_UP),
        (libc::POLLNVAL, Readiness::INVALID),
        #[cfg(linux_like)]
        (libc::POLLRDHUP, Readiness::READ_CLOSED),
        #[cfg(target_os = "freebsd")]
        (0x4000, Readiness::READ_CLOSED),
    ];
    named.map(|(bit, fact)| (u32::from(bit as u16), fact)).to_vec()
}

pub(crate) fn polled(token: Token, bits: u32) -> Event {
    let mut events = Events::with_capacity(1);
    assert_eq!(events.polled_records().fill(2, || Some((token, bits))), 1, "no more than there is room");
    only(&events)
}

#[cfg(linux_like)]
fn queued(token: Token, bits: u32) -> Event {
    use rustix::event::epoll::{EventData, EventFlags};
    let mut events = Events::with_capacity(1);
    let (flags, data) = (EventFlags::from_bits_retain(bits), EventData::new_u64(token.0));
    events.kernel_records().push(crate::events::KernelRecord { flags, data });
    only(&events)
}

fn only(events: &Events) -> Event {
    assert_eq!((events.len(), events.room()), (1, 0));
    events.iter().next().expect("counted")
}

#[cfg(test)]
proptest::proptest! {
    #[test]
    fn an_answer_means_what_each_of_its_bits_means_and_nothing_else(token: u64, bits: u16, more: u16) {
        an_answer_means_what_its_bits_mean(token, bits, more);
    }
}
