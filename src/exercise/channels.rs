//! Pipes and socket pairs, and messages that cannot be mistaken for one another.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::Channel;

/// Bytes of a message.
pub(crate) const MESSAGE: usize = 8;

/// A channel's place and the message's number in it: what comes out of a channel is known beforehand.
pub(crate) type Message = [u8; MESSAGE];

/// All channels, by place; each the reading end first.
pub(super) struct Channels {
    all: Vec<Ends>,
    kind: Channel,
    pub(super) reads: u64,
    pub(super) writes: u64,
    /// Reads that found nothing.
    pub(super) would_block: u64,
}

struct Ends {
    reading: OwnedFd,
    writing: OwnedFd,
    read: u32,
    written: u32,
}

impl Channels {
    /// Makes `count` of them, none of which blocks; the reading ends with numbers from `numbers_from` on.
    pub(super) fn open(kind: Channel, count: usize, numbers_from: u32) -> io::Result<Channels> {
        let open = |_| {
            let (reading, writing): (OwnedFd, OwnedFd) = match kind {
                Channel::Pipe => io::pipe().map(|(reading, writing)| (reading.into(), writing.into()))?,
                Channel::SocketPair => UnixStream::pair().map(|(one, other)| (one.into(), other.into()))?,
            };
            let reading = match numbers_from {
                0 => reading,
                // Past any number a descriptor can have, which the system then says.
                from => rustix::io::fcntl_dupfd_cloexec(reading, i32::try_from(from).unwrap_or(i32::MAX))?,
            };
            for end in [&reading, &writing] {
                rustix::io::ioctl_fionbio(end, true)?;
            }
            Ok(Ends { reading, writing, read: 0, written: 0 })
        };
        let all = (0..count).map(open).collect::<io::Result<_>>()?;
        Ok(Channels { all, kind, reads: 0, writes: 0, would_block: 0 })
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// What is watched of the channel.
    pub(super) fn watched(&self, place: usize) -> BorrowedFd<'_> {
        self.all[place].reading.as_fd()
    }

    /// What is written to.
    pub(super) fn writing(&self, place: usize) -> BorrowedFd<'_> {
        self.all[place].writing.as_fd()
    }

    /// Whether a message is in the channel.
    pub(super) fn is_ready(&self, place: usize) -> bool {
        self.all[place].read != self.all[place].written
    }

    /// Writes the next message into the channel; or, if it is to come `by` somebody else, to him.
    pub(super) fn write(&mut self, place: usize, by: Option<&OwnedFd>) -> Result<(), Fault> {
        let ends = &mut self.all[place];
        let message = message(place, ends.written);
        ends.written = ends.written.wrapping_add(1);
        self.writes += 1;
        match rustix::io::write(by.unwrap_or(&ends.writing), &message) {
            Ok(MESSAGE) => Ok(()),
            Ok(short) => Err(Fault(format!("{short} of {MESSAGE} bytes were written to {}", self.name(place)))),
            Err(error) => Err(Fault(format!("cannot write to {}: {error}", self.name(place)))),
        }
    }

    /// Reads one message, which must be the next that was written there. False: there is none.
    pub(super) fn read(&mut self, place: usize) -> Result<bool, Fault> {
        let ends = &mut self.all[place];
        let mut found = [0; MESSAGE];
        self.reads += 1;
        match rustix::io::read(&ends.reading, &mut found) {
            Ok(MESSAGE) if found == message(place, ends.read) => {
                ends.read = ends.read.wrapping_add(1);
                Ok(true)
            }
            Ok(bytes) => {
                let wanted = message(place, ends.read);
                let found = &found[..bytes];
                Err(Fault(format!("a wrong message from {}: {found:?} instead of {wanted:?}", self.name(place))))
            }
            Err(rustix::io::Errno::AGAIN) => {
                self.would_block += 1;
                Ok(false)
            }
            Err(error) => Err(Fault(format!("cannot read from {}: {error}", self.name(place)))),
        }
    }

    fn name(&self, place: usize) -> String {
        format!("number {place} of the {}", self.kind)
    }
}

fn message(place: usize, number: u32) -> Message {
    ((place as u64) << 32 | u64::from(number)).to_le_bytes()
}

/// Why a figure does not count: a wrong message, a false report, or a call that failed.
#[derive(Debug)]
pub(crate) struct Fault(pub(super) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn messages_come_out_as_they_went_in_and_nothing_else_is_accepted() {
        for kind in [Channel::Pipe, Channel::SocketPair] {
            let mut channels = Channels::open(kind, 2, 0).expect("four descriptors");
            assert!(!channels.read(1).expect("empty"), "{kind}");
            channels.write(1, None).expect("room");
            channels.write(1, None).expect("room");
            assert!(channels.read(1).expect("the first") && channels.read(1).expect("the second"));
            assert!(!channels.read(1).expect("empty again"));
            assert_eq!((channels.reads, channels.writes, channels.would_block), (4, 2, 2));
            rustix::io::write(channels.writing(0), &message(1, 2)).expect("room");
            let said = channels.read(0).expect_err("it belongs into the other").to_string();
            assert!(said.starts_with("a wrong message from number 0") && said.contains("[0, 0, 0, 0, 0, 0, 0, 0]"));
        }
    }

    #[test]
    fn numbers_are_as_high_as_was_asked_for() {
        let channels = Channels::open(Channel::Pipe, 3, 200).expect("six descriptors, some of them high");
        assert!((0..3).all(|place| channels.watched(place).as_raw_fd() >= 200));
        assert!((0..2).all(|at| channels.watched(at).as_raw_fd() < channels.watched(at + 1).as_raw_fd()));
    }
}
