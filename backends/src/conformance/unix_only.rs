//! What only a Unix system can be asked: pipes, files, numbers, signals, and poll(2) itself.

use super::cases;

/// As `cases!`; on other systems each of them is skipped, with the reason.
macro_rules! unix_cases {
    ($($line:literal: $($case:ident),+;)+) => {
        cases! { $($line: $($case),+;)+ }

        #[cfg(unix)]
        use bodies::{$($($case),+),+};

        $($(
            #[cfg(not(unix))]
            fn $case<P: crate::poller::Poller>(_: &mut super::subject::Subject<P>) -> super::Verdict {
                super::skip("asks for pipes, files, numbers or signals of Unix")
            }
        )+)+
    };
}

unix_cases! {
    1: a_pipe_is_watched_like_a_socket;
    4: a_regular_file_is_watched_or_unsupported, a_number_that_is_not_open_is_an_error;
    5: a_pipe_without_reader_wakes_its_writer;
    9: a_number_above_fd_setsize_works_or_is_refused;
    10: a_signal_ends_or_resumes_the_wait_and_loses_nothing;
    12: two_thousand_cycles_leak_no_descriptor, random_operations_agree_with_poll;
}

#[cfg(unix)]
mod bodies {
    use std::io::{ErrorKind, Read, Write};
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::super::differential::{self, Script};
    use super::super::subject::{Fact::*, PATIENCE, Subject, pair, swallow};
    use super::super::{Verdict, skip, system};
    use crate::event::{Interest, Token, Trigger};
    use crate::poller::Poller;
    use crate::source::{AsSource, OwnedSource};

    const A: Token = Token::new(1, 1);

    pub(super) fn a_pipe_is_watched_like_a_socket<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe can be made");
        subject.add(&reader, A, Interest::READABLE);
        subject.expect_silence();
        writer.write_all(b"x").expect("an empty pipe has room");
        subject.expect(&[(A, Readable)]);
        reader.read_exact(&mut [0; 1]).expect("as reported, without blocking");
        subject.expect_silence();
        drop(writer);
        subject.expect(&[(A, Readable)]);
        Ok(())
    }

    pub(super) fn a_regular_file_is_watched_or_unsupported<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        let program = std::env::current_exe().expect("this program has a path");
        let file = std::fs::File::open(program).expect("this program can be read");
        let added = subject.poller.add(file.as_source(), A, Interest::READABLE, Trigger::Level);
        if subject.capabilities.regular_files {
            added.expect("the capabilities promise regular files");
            subject.expect(&[(A, Readable)]);
        } else {
            let error = added.expect_err("the capabilities deny regular files");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let error = subject.poller.add(file.as_source(), A, Interest::EMPTY, Trigger::Level);
            assert_eq!(error.expect_err("nor for later").kind(), ErrorKind::Unsupported);
            assert_eq!(subject.poller.remove(file.as_source()).expect_err("refused").kind(), ErrorKind::NotFound);
        }
        Ok(())
    }

    pub(super) fn a_number_that_is_not_open_is_an_error<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        let Some(number) = system::high_number() else { return skip("the limit of open files is below 1500") };
        // Once it was: a number beyond the kernel's table of this process is none that Linux's select(2) looks at.
        drop(system::move_to(number, pair().0));
        match subject.poller.add(system::not_open(number), A, Interest::READABLE, Trigger::Level) {
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EBADF), "the kernel's error, untouched: {error}"),
            Ok(()) => drop(subject.expect(&[(A, Error)])),
        }
        Ok(())
    }

    pub(super) fn a_pipe_without_reader_wakes_its_writer<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
        system::set_nonblocking(&writer);
        while writer.write(&[7; 4096]).is_ok() {}
        subject.add(&writer, A, Interest::WRITABLE);
        subject.expect_silence();
        drop(reader);
        subject.expect(&[(A, Writable)]);
        Ok(())
    }

    pub(super) fn a_number_above_fd_setsize_works_or_is_refused<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        let Some(number) = system::high_number() else { return skip("the limit of open files is below 1500") };
        let (near, mut far) = pair();
        let near = system::move_to(number, near);
        let token = Token::new(1, 1);
        match subject.capabilities.numbers_below {
            Some(limit) if limit <= number as u64 => {
                let error = subject.poller.add(near.as_source(), token, Interest::READABLE, Trigger::Level);
                let error = error.expect_err("the capabilities deny this number");
                assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
                let (named, limit) = (error.to_string(), limit.to_string());
                assert!(named.contains(&limit), "a refusal must name the limit, {limit}: {named}");
            }
            _ => {
                subject.add(&near, token, Interest::READABLE | Interest::WRITABLE);
                subject.expect(&[(token, Writable)]);
                far.write_all(b"x").expect("there is room");
                subject.expect(&[(token, Readable)]);
                swallow(&near, 1);
                subject.modify(&near, token, Interest::READABLE, Trigger::Level);
                subject.expect_silence();
                subject.poller.close(OwnedSource::from(near)).expect("the source is known");
                subject.expect_silence();
            }
        }
        Ok(())
    }

    pub(super) fn a_signal_ends_or_resumes_the_wait_and_loses_nothing<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        let (near, mut far) = pair();
        subject.add(&near, A, Interest::READABLE);
        let timeout = if subject.capabilities.retries_interrupt { Duration::from_millis(100) } else { PATIENCE };
        let (waited, took) = system::with_signals(|| {
            let start = Instant::now();
            (subject.poller.wait(&mut subject.events, Some(timeout)), start.elapsed())
        });
        assert!(subject.events.is_empty(), "nothing was ready");
        if subject.capabilities.retries_interrupt {
            waited.expect("the capabilities promise that a wait is resumed");
            assert!(took >= timeout, "resumed, but ended after {took:?} of {timeout:?}");
            assert!(took < timeout + PATIENCE, "the deadline of {timeout:?} was put off to {took:?}");
        } else {
            let error = waited.expect_err("a signal came long before the timeout");
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
        far.write_all(b"x").expect("there is room");
        subject.expect(&[(A, Readable)]);
        if subject.capabilities.oneshot {
            subject.modify(&near, A, Interest::READABLE, Trigger::Oneshot);
            subject.expect(&[(A, Readable)]);
        }
        Ok(())
    }

    pub(super) fn two_thousand_cycles_leak_no_descriptor<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        const CYCLES: usize = 2_000;
        let before = system::open_descriptors();
        for _ in 0..CYCLES {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback can be bound");
            let mut poller = subject.another();
            let token = Token::new(1, 1);
            poller
                .add(socket.as_source(), token, Interest::WRITABLE, Trigger::Level)
                .expect("a new source can be added");
            poller.wait(&mut subject.events, Some(Duration::ZERO)).expect("no signal comes");
            poller.close(OwnedSource::from(socket)).expect("the source is known");
        }
        let leaked = system::open_descriptors().saturating_sub(before);
        // Other threads of this process may open some meanwhile; a leak would be one in each cycle.
        assert!(leaked < CYCLES / 4, "{leaked} more descriptors are open after {CYCLES} cycles");
        Ok(())
    }

    pub(super) fn random_operations_agree_with_poll<P: Poller>(subject: &mut Subject<P>) -> Verdict {
        // Always the same, so that a failure can be repeated. Many pollers of short lives, whose failures can be cut
        // down to a few lines, and one of a long life.
        let run = |script: &Script| differential::run(subject.name, script, || Ok(subject.another()));
        for seed in 0..100 {
            if let Err(disagreement) = run(&Script::random(seed, 36)) {
                panic!("{}", disagreement.shortened(run));
            }
        }
        if let Err(disagreement) = run(&Script::random(100, 10_000)) {
            panic!("{disagreement}");
        }
        Ok(())
    }
}
