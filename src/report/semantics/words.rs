//! What the kernel's words mean, for those that a record contains.

use super::Record;

/// Each word of the kernel's that occurs, spelled as it occurs, and its meaning.
pub(super) fn occurring(record: &Record) -> Vec<(Vec<String>, &'static str)> {
    let raws = record.cells().map(|(_, _, cell)| cell.raw.as_str()).collect::<Vec<_>>();
    let occurs = |word: &str| raws.iter().any(|raw| *raw == word || raw.split(['|', ' ']).any(|part| part == word));
    let meanings = WORDS.iter().map(|(spellings, meaning)| {
        let occurring = spellings.iter().filter(|word| occurs(word)).map(|word| (*word).to_owned());
        (occurring.collect::<Vec<_>>(), *meaning)
    });
    meanings.filter(|(spellings, _)| !spellings.is_empty()).collect()
}

/// What a program is told, in the terms all mechanisms share.
pub(super) const FACTS: &[(&str, &str)] = &[
    ("readable", "a read, or an accept, will not block: there are bytes, or the end, or an error to be reported"),
    ("writable", "a write will not block: there is room, or an error to be reported"),
    ("read_closed", "the peer will send no more; what it sent before may still be unread"),
    ("write_closed", "nothing more can be sent"),
    ("error", "an error is pending, and the next call reports it; or the source is not open"),
    ("priority", "urgent data is waiting"),
];

const WORDS: &[(&[&str], &str)] = &[
    (&["EPOLLIN", "POLLIN", "POLLRDNORM"], "a read will not block"),
    (&["EPOLLOUT", "POLLOUT", "POLLWRNORM"], "a write will not block"),
    (&["EPOLLPRI", "POLLPRI", "POLLRDBAND"], "something out of the ordinary; of TCP, the urgent byte"),
    (
        &["EPOLLRDHUP", "POLLRDHUP"],
        "the peer has closed, or shut down its sending half. Told only if asked for; bytes may still be unread",
    ),
    (
        &["EPOLLHUP", "POLLHUP"],
        "both halves have ended, or the only one of a pipe. Told whether asked for or not; bytes may still be unread",
    ),
    (
        &["EPOLLERR", "POLLERR"],
        "an error is pending, which SO_ERROR or the next call gives. Told whether asked for or not",
    ),
    (&["POLLNVAL"], "the number names no open file. Told whether asked for or not"),
    (&["read"], "select(2)'s first set: a read will not block"),
    (&["write"], "its second set: a write will not block"),
    (&["except"], "its third set: urgent data; on Windows also a connect(2) that failed"),
    (&["EVFILT_READ"], "a read will not block; `data` is how many bytes, or pending connections, there are"),
    (&["EVFILT_WRITE"], "a write will not block"),
    (&["EV_EOF"], "the filter's direction has ended; `fflags` is the errno, if an error was the reason"),
    (&["EV_ERROR"], "the change was refused; `data` is the errno"),
    (&["EBADF", "WSAENOTSOCK"], "the number names no open file: select(2) fails as a whole, epoll_ctl(2) for this one"),
    (&["EPERM"], "epoll_ctl(2) refuses a file that is always ready"),
    (&["EEXIST"], "epoll_ctl(2) knows this number, of this open file, already"),
    (&["not shown"], "the library beneath keeps the kernel's answer to itself"),
];
