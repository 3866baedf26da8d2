//! Why a mechanism differs from what is expected, and where that is written.
//!
//! A note says of whom it speaks and which difference it accounts for. A difference that no note accounts for is shown
//! as unexplained, and on Linux fails a test; so does a note that accounts for nothing.

use super::outcome::{Difference, Facts, Outcome};
use super::{Column, Moment, Notes, Scenario};
use crate::event::{Interest, Trigger};
use crate::poller::Capabilities;
use crate::registry::System;

/// A footnote.
pub struct Note {
    /// The explanation.
    pub text: &'static str,
    /// Where it is written: a manual page and its section.
    pub reference: &'static str,
    /// A link to that.
    pub link: &'static str,
    /// The systems where it happens.
    pub systems: &'static [System],
    who: fn(&Column, &Capabilities) -> bool,
    /// Empty: in any scenario.
    scenarios: &'static [&'static str],
    accounts_for: AccountsFor,
}

/// Which differences a note explains.
enum AccountsFor {
    /// These facts are missing; a direction only if it was not asked for.
    Missing(Facts),
    /// These are there besides.
    Added(Facts),
    /// An event did not come.
    Silence,
    /// An event came.
    Event,
    /// The change was refused.
    Refusal,
}

impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Note({})", self.text)
    }
}

impl PartialEq for Note {
    fn eq(&self, other: &Note) -> bool {
        self.text == other.text
    }
}

impl Eq for Note {}

/// What there is to say of an outcome.
pub(super) fn on(
    scenario: &Scenario,
    moment: &Moment,
    column: &Column,
    capabilities: &Capabilities,
    outcome: &Outcome,
) -> Notes {
    let Some(difference) = moment.expected.difference(outcome) else { return Notes::AsExpected };
    let applying = NOTES.iter().filter(|note| {
        (note.scenarios.is_empty() || note.scenarios.contains(&scenario.name)) && (note.who)(column, capabilities)
    });
    let mut found = Vec::new();
    let mut left = Some(difference);
    for note in applying {
        let Some(before) = left else { break };
        left = note.accounts_for.rest(before, scenario.asked);
        if left != Some(before) {
            found.push(note);
        }
    }
    if left.is_none() { Notes::Explained(found) } else { Notes::Unexplained }
}

impl AccountsFor {
    /// What is left of a difference in what was said of a source that was watched for `asked`.
    fn rest(&self, difference: Difference, asked: Interest) -> Option<Difference> {
        let (missing, added) = match (self, difference) {
            (AccountsFor::Silence, Difference::Silence)
            | (AccountsFor::Event, Difference::Event)
            | (AccountsFor::Refusal, Difference::Refusal) => return None,
            (AccountsFor::Missing(facts), Difference::Facts { missing, added }) => {
                let owed = [(Interest::READABLE, Facts::READABLE), (Interest::WRITABLE, Facts::WRITABLE)];
                let owed = owed.into_iter().filter(|(direction, _)| asked.contains(*direction));
                (missing.without(owed.fold(*facts, |left, (_, fact)| left.without(fact))), added)
            }
            (AccountsFor::Added(facts), Difference::Facts { missing, added }) => (missing, added.without(*facts)),
            (_, difference) => return Some(difference),
        };
        (!missing.is_empty() || !added.is_empty()).then_some(Difference::Facts { missing, added })
    }
}

/// Whether the mechanism is epoll(7), under its own name or `polling`'s.
fn by_epoll(column: &Column, _: &Capabilities) -> bool {
    column.family() == "epoll" || cfg!(linux_like) && column.backend == "polling"
}

fn select(column: &Column, _: &Capabilities) -> bool {
    column.backend == "select"
}

/// Whether the mechanism is poll(2), under its own name or as that with which `adaptive` begins.
fn poll(column: &Column, _: &Capabilities) -> bool {
    ["poll", "adaptive"].contains(&column.backend.as_str())
}

fn kqueue(column: &Column, _: &Capabilities) -> bool {
    column.backend == "kqueue"
}

const ENDS: Facts = Facts::READ_CLOSED.and(Facts::WRITE_CLOSED);
const BOTH_WAYS: Facts = Facts::READABLE.and(Facts::WRITABLE);

const WSAPOLL: &str = "https://learn.microsoft.com/en-us/windows/win32/api/winsock2/nf-winsock2-wsapoll";

const EVERYWHERE: &[System] = &System::ALL;

/// Every note, in the order they are tried.
pub const NOTES: &[Note] = &[
    Note {
        text: "select(2) has three sets and no word for an end or an error. The source is in the sets it is watched for, \
               since a call would not block, and that call tells why.",
        reference: "select(2), correspondence between select() and poll() notifications",
        link: "https://man7.org/linux/man-pages/man2/select.2.html",
        systems: EVERYWHERE,
        who: select,
        scenarios: &[],
        accounts_for: AccountsFor::Missing(ENDS.and(Facts::ERROR).and(BOTH_WAYS)),
    },
    Note {
        text: "`polling` does not ask for EPOLLRDHUP, so the peer's half-close is merely readable; the read that \
               returns 0 tells. Edge-triggered, a reader must therefore go on to that 0, or to EAGAIN.",
        reference: "epoll_ctl(2), EPOLLRDHUP; the `polling` crate, Event",
        link: "https://docs.rs/polling/3/polling/struct.Event.html",
        systems: EVERYWHERE,
        who: |column, _| column.backend == "polling",
        scenarios: &["half-close", "half-close-with-data", "peer-closed", "own-shutdown-read", "edge-half-close"],
        accounts_for: AccountsFor::Missing(Facts::READ_CLOSED),
    },
    Note {
        text: "Only Linux and FreeBSD have POLLRDHUP; elsewhere the peer's half-close is merely readable.",
        reference: "poll(2), POLLRDHUP",
        link: "https://man7.org/linux/man-pages/man2/poll.2.html",
        systems: &[System::Bsd, System::Windows],
        who: |column, abilities| column.backend == "poll" && !abilities.half_close,
        scenarios: &["half-close", "half-close-with-data", "peer-closed", "own-shutdown-read"],
        accounts_for: AccountsFor::Missing(Facts::READ_CLOSED),
    },
    Note {
        text: "`polling` hands on readable and writable. What else is told depends on the system; here, neither errors nor \
               ends, and the call that follows tells.",
        reference: "the `polling` crate, Event",
        link: "https://docs.rs/polling/3/polling/struct.Event.html",
        systems: &[System::Bsd, System::Windows],
        who: |column, abilities| column.backend == "polling" && !abilities.errors,
        scenarios: &[],
        accounts_for: AccountsFor::Missing(ENDS.and(Facts::ERROR).and(BOTH_WAYS)),
    },
    Note {
        text: "WSAPoll says POLLHUP when the peer has ended its half, and cannot say that ours still goes on.",
        reference: "WSAPoll, POLLHUP",
        link: WSAPOLL,
        systems: &[System::Windows],
        who: |column, _| cfg!(windows) && column.backend == "poll",
        scenarios: &["half-close", "half-close-with-data", "peer-closed"],
        accounts_for: AccountsFor::Added(ENDS.and(BOTH_WAYS)),
    },
    Note {
        text: "To Linux a stream socket that has no connection has hung up. Elsewhere it is merely not ready.",
        reference: "Linux, tcp_poll() in net/ipv4/tcp.c",
        link: "https://github.com/torvalds/linux/blob/master/net/ipv4/tcp.c",
        systems: &[System::Bsd, System::Windows],
        who: |_, _| cfg!(not(linux_like)),
        scenarios: &["unconnected"],
        accounts_for: AccountsFor::Silence,
    },
    Note {
        text: "Winsock tells a connect that failed as an error alone, by select's except set, and goes on to tell it.",
        reference: "select (winsock2.h), exceptfds",
        link: "https://learn.microsoft.com/en-us/windows/win32/api/winsock2/nf-winsock2-select",
        systems: &[System::Windows],
        who: |_, _| cfg!(windows),
        scenarios: &["refused"],
        accounts_for: AccountsFor::Missing(ENDS),
    },
    Note {
        text: "The error of a connection that failed or was reset stays, to Winsock, after it was taken by SO_ERROR or \
               by a read.",
        reference: "WSAPoll, POLLERR",
        link: WSAPOLL,
        systems: &[System::Windows],
        who: |_, _| cfg!(windows),
        scenarios: &["refused", "reset", "reset-with-data"],
        accounts_for: AccountsFor::Added(Facts::ERROR.and(BOTH_WAYS)),
    },
    Note {
        text: "Winsock does not count one's own SD_RECEIVE as an end: a receive fails, and that is not waited for.",
        reference: "shutdown (winsock.h), SD_RECEIVE",
        link: "https://learn.microsoft.com/en-us/windows/win32/api/winsock/nf-winsock-shutdown",
        systems: &[System::Windows],
        who: |_, _| cfg!(windows),
        scenarios: &["own-shutdown-read"],
        accounts_for: AccountsFor::Silence,
    },
    Note {
        text: "`polling` counts urgent data as readable, whatever was asked for; the read that follows would block.",
        reference: "the `polling` crate, Event::set_priority",
        link: "https://docs.rs/polling/3/polling/struct.Event.html#method.set_priority",
        systems: &[System::Linux, System::Windows],
        who: |column, _| column.backend == "polling",
        scenarios: &["urgent"],
        accounts_for: AccountsFor::Added(Facts::READABLE),
    },
    Note {
        text: "epoll(7) takes only files that can call back when they become ready. One that is always ready cannot, and \
               is refused with EPERM; a program treats that as \"ready\".",
        reference: "epoll_ctl(2), EPERM",
        link: "https://man7.org/linux/man-pages/man2/epoll_ctl.2.html#ERRORS",
        systems: &[System::Linux],
        who: by_epoll,
        scenarios: &["regular-file", "dev-null", "directory"],
        accounts_for: AccountsFor::Refusal,
    },
    Note {
        text: "epoll(7) looks up the open file when it is added, and finds at once that there is none. poll(2) and \
               select(2) keep nothing, and find out in the wait.",
        reference: "epoll_ctl(2), EBADF",
        link: "https://man7.org/linux/man-pages/man2/epoll_ctl.2.html#ERRORS",
        systems: &[System::Linux],
        who: by_epoll,
        scenarios: &["not-open", "never-open"],
        accounts_for: AccountsFor::Refusal,
    },
    Note {
        text: "Linux ignores numbers in the sets beyond its table of the process's open files, where POSIX asks for EBADF.",
        reference: "select(2), BUGS",
        link: "https://man7.org/linux/man-pages/man2/select.2.html#BUGS",
        systems: &[System::Linux],
        who: select,
        scenarios: &["never-open"],
        accounts_for: AccountsFor::Silence,
    },
    Note {
        text: "poll(2) is given the number each time, and answers POLLNVAL for one that is not open, in every call. \
               pollmark reports that once and stops asking, or a loop that does not care would spin.",
        reference: "poll(2), POLLNVAL",
        link: "https://man7.org/linux/man-pages/man2/poll.2.html",
        systems: EVERYWHERE,
        who: poll,
        scenarios: &["closed", "closed-with-duplicate"],
        accounts_for: AccountsFor::Event,
    },
    Note {
        text: "One number that is not open fails select(2) as a whole, with EBADF, which does not say what number it is. \
               pollmark looks for it, reports it once, and stops asking.",
        reference: "select(2), EBADF",
        link: "https://man7.org/linux/man-pages/man2/select.2.html#ERRORS",
        systems: EVERYWHERE,
        who: select,
        scenarios: &["closed", "closed-with-duplicate"],
        accounts_for: AccountsFor::Event,
    },
    Note {
        text: "epoll(7) watches the open file, not the number. A duplicate keeps it open, so it stays in the list and is \
               reported under a number that is closed, by which it cannot be taken out. Remove before closing.",
        reference: "epoll(7), Questions and answers: will closing a file descriptor cause it to be removed from all epoll interest lists?",
        link: "https://man7.org/linux/man-pages/man7/epoll.7.html",
        systems: &[System::Linux],
        who: by_epoll,
        scenarios: &["closed-with-duplicate"],
        accounts_for: AccountsFor::Event,
    },
    Note {
        text: "On Windows `polling` watches what is beneath a socket's handle. A duplicate keeps that open, so it is reported \
               under a handle that is closed. Remove before closing.",
        reference: "the `polling` crate, Poller::add: sources are deleted before they are dropped",
        link: "https://docs.rs/polling/3/polling/struct.Poller.html#method.add",
        systems: &[System::Windows],
        who: |column, _| cfg!(windows) && column.backend == "polling",
        scenarios: &["closed-with-duplicate"],
        accounts_for: AccountsFor::Event,
    },
    Note {
        text: "poll(2) and select(2) know numbers only. To them it is the same source, and what is said of the new one \
               comes with the old one's token.",
        reference: "poll(2), DESCRIPTION",
        link: "https://man7.org/linux/man-pages/man2/poll.2.html",
        systems: &[System::Linux, System::Bsd],
        who: |column, abilities| poll(column, abilities) || select(column, abilities),
        scenarios: &["number-reused"],
        accounts_for: AccountsFor::Event,
    },
    Note {
        text: "A poll of io_uring(7) is begun by number, and then holds the open file. The next one finds that the number is \
               not open, which pollmark reports once, or that it is somebody else's, and speaks of that one.",
        reference: "io_uring_enter(2), IORING_OP_POLL_ADD; EBADF",
        link: "https://man7.org/linux/man-pages/man2/io_uring_enter.2.html",
        systems: &[System::Linux],
        who: |column, _| column.family() == "uring",
        scenarios: &["closed", "closed-with-duplicate", "number-reused"],
        accounts_for: AccountsFor::Event,
    },
    Note {
        text: "kqueue(2) gives each direction its own end: EV_EOF on EVFILT_WRITE says that nothing more can be sent, \
               and comes for one's own shutdown(2) too.",
        reference: "kqueue(2), EVFILT_WRITE",
        link: "https://man.freebsd.org/cgi/man.cgi?query=kqueue&sektion=2",
        systems: &[System::Bsd],
        who: kqueue,
        scenarios: &["own-shutdown-write", "pipe-reader-gone"],
        accounts_for: AccountsFor::Added(ENDS),
    },
    Note {
        text: "kqueue(2) has no error beside the end: where EV_EOF is set, its `fflags` are the errno, if there is one.",
        reference: "kqueue(2), EV_EOF",
        link: "https://man.freebsd.org/cgi/man.cgi?query=kqueue&sektion=2",
        systems: &[System::Bsd],
        who: kqueue,
        scenarios: &[],
        accounts_for: AccountsFor::Missing(Facts::ERROR.and(ENDS).and(BOTH_WAYS)),
    },
    Note {
        text: "Edge-triggered: it has been said, and nothing new has come.",
        reference: "epoll(7), level-triggered and edge-triggered",
        link: "https://man7.org/linux/man-pages/man7/epoll.7.html",
        systems: &[System::Linux, System::Bsd],
        who: |column, _| column.trigger == Trigger::Edge,
        scenarios: &[
            "half-close-with-data",
            "reset",
            "reset-with-data",
            "refused",
            "listener",
            "datagram-refused",
            "pipe-writer-gone-with-data",
        ],
        accounts_for: AccountsFor::Silence,
    },
    Note {
        text: "Oneshot: it has been reported, and is disarmed until it is modified.",
        reference: "epoll_ctl(2), EPOLLONESHOT",
        link: "https://man7.org/linux/man-pages/man2/epoll_ctl.2.html",
        systems: EVERYWHERE,
        who: |column, _| column.trigger == Trigger::Oneshot,
        scenarios: &[
            "half-close-with-data",
            "peer-closed",
            "reset",
            "reset-with-data",
            "own-shutdown-write",
            "refused",
            "listener",
            "datagram-refused",
            "pipe-writer-gone-with-data",
            "waker",
        ],
        accounts_for: AccountsFor::Silence,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_speaks_of_scenarios_there_are() {
        let names = super::super::CHAPTERS.iter().flat_map(|chapter| chapter.scenarios).map(|s| s.name);
        let names = names.collect::<Vec<_>>();
        for name in NOTES.iter().flat_map(|note| note.scenarios) {
            assert!(names.contains(name), "there is no scenario {name}");
        }
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len(), "two scenarios have one name");
    }

    #[test]
    fn a_direction_that_was_asked_for_is_never_excused() {
        let missing = Difference::Facts { missing: BOTH_WAYS | Facts::ERROR, added: Facts::NONE };
        let silent = AccountsFor::Missing(BOTH_WAYS.and(Facts::ERROR));
        let left = Difference::Facts { missing: Facts::WRITABLE, added: Facts::NONE };
        assert_eq!(silent.rest(missing, Interest::WRITABLE), Some(left));
        assert_eq!(silent.rest(missing, Interest::EMPTY), None);
        assert_eq!(AccountsFor::Silence.rest(Difference::Event, Interest::EMPTY), Some(Difference::Event));
    }
}
