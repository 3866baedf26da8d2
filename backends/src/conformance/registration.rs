//! Adding, modifying, removing, closing: what each means, what it refuses, and numbers that are used again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::subject::{Fact::*, PATIENCE, Subject, fill, pair, swallow};
use super::{Verdict, cases, skip};
use crate::event::{Interest, Token, Trigger};
use crate::poller::Poller;
use crate::source::{AsSource, OwnedSource};

cases! {
    3:
        modify_replaces_interest,
        modify_replaces_token,
        modify_replaces_trigger,
        modify_to_the_same_changes_nothing,
        every_token_comes_back_as_it_was_given,
        remove_silences_pending_readability,
        remove_silences_changes_not_yet_waited_for,
        empty_interest_is_silent_even_at_a_hang_up,
        empty_interest_from_the_start_can_be_filled_later;
    4:
        adding_twice_already_exists,
        modifying_the_unknown_is_not_found,
        removing_the_unknown_is_not_found,
        a_missing_trigger_is_unsupported;
    8:
        close_closes_and_forgets,
        a_number_used_again_never_brings_back_the_old_token,
        closing_behind_its_back_harms_nobody;
}

const A: Token = Token::new(1, 1);
const B: Token = Token::new(2, 1);
const BOTH: [Interest; 2] = [Interest::READABLE, Interest::WRITABLE];

fn modify_replaces_interest<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    subject.add(&near, A, Interest::READABLE);
    subject.expect_silence();
    subject.modify(&near, A, Interest::WRITABLE, Trigger::Level);
    subject.expect(&[(A, Writable)]);
    far.write_all(b"x").expect("there is room");
    subject.modify(&near, A, Interest::READABLE, Trigger::Level);
    let events = subject.expect(&[(A, Readable)]);
    assert!(events.iter().all(|event| !event.writable()), "room is no longer asked for: {events:?}");
    subject.modify(&near, A, Interest::READABLE | Interest::WRITABLE, Trigger::Level);
    subject.expect(&[(A, Readable), (A, Writable)]);
    Ok(())
}

fn modify_replaces_token<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    subject.add(&near, A, Interest::WRITABLE);
    subject.expect(&[(A, Writable)]);
    subject.modify(&near, B, Interest::WRITABLE, Trigger::Level);
    subject.expect(&[(B, Writable)]);
    Ok(())
}

fn modify_replaces_trigger<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let others = [Trigger::Edge, Trigger::Oneshot];
    let offered: Vec<_> = others.into_iter().filter(|trigger| subject.capabilities.supports(*trigger)).collect();
    if offered.is_empty() {
        return skip("level is the only trigger");
    }
    let (near, _far) = pair();
    subject.add(&near, A, Interest::WRITABLE);
    for trigger in offered {
        subject.expect(&[(A, Writable)]);
        subject.modify(&near, A, Interest::WRITABLE, trigger);
        subject.expect(&[(A, Writable)]);
        subject.expect_silence();
        subject.modify(&near, A, Interest::WRITABLE, Trigger::Level);
        subject.expect(&[(A, Writable)]);
        subject.expect(&[(A, Writable)]);
    }
    Ok(())
}

fn modify_to_the_same_changes_nothing<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    subject.add(&near, A, Interest::READABLE);
    subject.modify(&near, A, Interest::READABLE, Trigger::Level);
    subject.expect_silence();
    far.write_all(b"x").expect("there is room");
    subject.modify(&near, A, Interest::READABLE, Trigger::Level);
    subject.expect(&[(A, Readable)]);
    Ok(())
}

fn every_token_comes_back_as_it_was_given<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    for token in [0, 1, u64::from(u32::MAX), 1 << 63, u64::MAX - 1, u64::MAX].map(Token) {
        subject.add(&near, token, Interest::WRITABLE);
        subject.expect(&[(token, Writable)]);
        subject.remove(&near);
    }
    Ok(())
}

fn remove_silences_pending_readability<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    subject.add(&near, A, Interest::READABLE | Interest::WRITABLE);
    far.write_all(b"x").expect("there is room");
    subject.expect(&[(A, Readable)]);
    subject.remove(&near);
    subject.expect_silence();
    Ok(())
}

fn remove_silences_changes_not_yet_waited_for<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    far.write_all(b"x").expect("there is room");
    subject.add(&near, A, Interest::READABLE);
    subject.remove(&near);
    subject.expect_silence();
    subject.add(&near, A, Interest::READABLE);
    subject.expect(&[(A, Readable)]);
    subject.modify(&near, B, Interest::READABLE | Interest::WRITABLE, Trigger::Level);
    subject.remove(&near);
    subject.expect_silence();
    Ok(())
}

fn empty_interest_is_silent_even_at_a_hang_up<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    subject.add(&near, A, Interest::READABLE);
    far.write_all(b"x").expect("there is room");
    subject.expect(&[(A, Readable)]);
    subject.modify(&near, A, Interest::EMPTY, Trigger::Level);
    subject.expect_silence();
    // Both directions closed, and by a reset: the most a kernel can have to say.
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
    drop(far);
    subject.expect_silence();
    subject.modify(&near, B, Interest::READABLE, Trigger::Level);
    subject.expect(&[(B, Readable)]);
    subject.modify(&near, B, Interest::EMPTY, Trigger::Level);
    subject.remove(&near);
    subject.expect_silence();
    Ok(())
}

fn empty_interest_from_the_start_can_be_filled_later<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    subject.add(&near, A, Interest::EMPTY);
    subject.expect_silence();
    subject.modify(&near, A, Interest::EMPTY, Trigger::Level);
    subject.expect_silence();
    subject.modify(&near, B, Interest::WRITABLE, Trigger::Level);
    subject.expect(&[(B, Writable)]);
    Ok(())
}

fn adding_twice_already_exists<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    for interest in [Interest::WRITABLE, Interest::EMPTY] {
        subject.add(&near, A, interest);
        for again in [Interest::READABLE, Interest::EMPTY] {
            let error = subject.poller.add(near.as_source(), B, again, Trigger::Level);
            let error = error.expect_err("the source is already known");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "added for {interest:?}, again for {again:?}: {error}");
        }
        if !interest.is_empty() {
            subject.expect(&[(A, Writable)]);
        }
        subject.remove(&near);
    }
    Ok(())
}

fn modifying_the_unknown_is_not_found<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    let refused = |subject: &mut Subject<P>| {
        for interest in BOTH.into_iter().chain([Interest::EMPTY]) {
            let error = subject.poller.modify(near.as_source(), A, interest, Trigger::Level);
            let error = error.expect_err("the source is not known");
            assert_eq!(error.kind(), ErrorKind::NotFound, "modified to {interest:?}: {error}");
        }
    };
    refused(subject);
    subject.add(&near, A, Interest::WRITABLE);
    subject.remove(&near);
    refused(subject);
    subject.expect_silence();
    Ok(())
}

fn removing_the_unknown_is_not_found<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    for _ in 0..2 {
        let error = subject.poller.remove(near.as_source()).expect_err("the source is not known");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        subject.add(&near, A, Interest::WRITABLE);
        subject.remove(&near);
    }
    Ok(())
}

fn a_missing_trigger_is_unsupported<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let missing: Vec<_> = Trigger::ALL.into_iter().filter(|trigger| !subject.capabilities.supports(*trigger)).collect();
    if missing.is_empty() {
        return skip("every trigger is offered");
    }
    let (near, _far) = pair();
    for trigger in missing {
        let error = subject.poller.add(near.as_source(), A, Interest::WRITABLE, trigger);
        assert_eq!(error.expect_err("the trigger is missing").kind(), ErrorKind::Unsupported);
        subject.expect_silence();
        subject.add(&near, A, Interest::WRITABLE);
        let error = subject.poller.modify(near.as_source(), B, Interest::READABLE, trigger);
        assert_eq!(error.expect_err("the trigger is missing").kind(), ErrorKind::Unsupported);
        // A refused change changes nothing.
        subject.expect(&[(A, Writable)]);
        subject.remove(&near);
    }
    Ok(())
}

fn close_closes_and_forgets<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let triggers: Vec<_> = Trigger::ALL.into_iter().filter(|trigger| subject.capabilities.supports(*trigger)).collect();
    for interest in [Interest::READABLE | Interest::WRITABLE, Interest::READABLE, Interest::EMPTY] {
        for (trigger, just_woken) in triggers.iter().flat_map(|trigger| [(*trigger, false), (*trigger, true)]) {
            let (near, mut far) = pair();
            subject.add_as(&near, A, interest, trigger);
            subject.wait(Duration::ZERO);
            if just_woken {
                far.shutdown(Shutdown::Write).expect("it is connected");
            }
            subject.poller.close(OwnedSource::from(near)).expect("the source is known");
            far.set_nonblocking(false).expect("a socket can block");
            far.set_read_timeout(Some(PATIENCE)).expect("a socket can have a timeout");
            // Closed by now, and not only when the poller waits again.
            let end = read_once(&mut far).expect("the peer was closed at once");
            assert_eq!(end, 0, "{interest:?}, {trigger}, just woken: {just_woken}");
            subject.expect_silence();
        }
    }
    Ok(())
}

/// A poller that was dropped a moment ago may still have the kernel interrupt this thread.
fn read_once(stream: &mut TcpStream) -> std::io::Result<usize> {
    loop {
        match stream.read(&mut [0; 8]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn a_number_used_again_never_brings_back_the_old_token<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    #[cfg(unix)]
    let number = super::system::high_number();
    for generation in 0..50 {
        let (near, mut far) = pair();
        // The very same number every time, where that can be arranged; else likely the same, as the lowest free one.
        #[cfg(unix)]
        let near = match number {
            Some(number) => super::system::move_to(number, near),
            None => near,
        };
        let token = Token::new(1, generation);
        far.write_all(b"x").expect("there is room");
        subject.add(&near, token, Interest::READABLE | Interest::WRITABLE);
        // Reported or not yet, modified or not: each leaves other traces behind. Nobody else may be reported.
        if generation % 3 == 0 {
            subject.expect(&[(token, Readable), (token, Writable)]);
        }
        if generation % 5 == 0 {
            subject.modify(&near, token, Interest::READABLE, Trigger::Level);
            subject.expect(&[(token, Readable)]);
        }
        if generation % 2 == 0 {
            subject.poller.close(OwnedSource::from(near)).expect("the source is known");
        } else {
            subject.remove(&near);
        }
        if generation % 7 == 0 {
            subject.expect_silence();
        }
    }
    subject.expect_silence();
    Ok(())
}

fn closing_behind_its_back_harms_nobody<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (lost, _far) = pair();
    #[cfg(unix)]
    let lost = match super::system::high_number() {
        // Else another thread may be given the number while we look, and its readiness would be taken for ours.
        Some(number) => super::system::move_to(number, lost),
        None => return skip("the limit of open files is below 1500"),
    };
    let (near, mut far) = pair();
    subject.add(&lost, A, Interest::READABLE | Interest::WRITABLE);
    subject.add(&near, B, Interest::READABLE);
    drop(lost);

    // What is said of the lost one differs by mechanism; that it is not said for ever does not.
    let mut waits = 0;
    while !subject.wait(Duration::from_millis(20)).is_empty() {
        waits += 1;
        assert!(waits < 10, "the lost source is reported without end");
    }
    for _ in 0..3 {
        far.write_all(b"x").expect("there is room");
        subject.expect(&[(B, Readable)]);
        swallow(&near, 1);
        subject.expect_silence();
    }
    subject.modify(&near, B, Interest::WRITABLE, Trigger::Level);
    subject.expect(&[(B, Writable)]);
    fill(&near);
    subject.expect_silence();
    Ok(())
}
