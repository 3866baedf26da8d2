//! Scenarios of pipes and of files, which only Unix puts beside sockets.

use super::outcome::{Expected, Facts};
use super::{Moment, Scenario};
use crate::event::Interest;

use plays::{
    character_device, directory, pipe_reader_gone, pipe_writer_gone, pipe_writer_gone_with_data, regular_file,
};

const BOTH: Interest = Interest::READABLE.union(Interest::WRITABLE);

const BOTH_WAYS: Facts = Facts::READABLE.and(Facts::WRITABLE);
const HANG_UP: Facts = BOTH_WAYS.and(Facts::READ_CLOSED).and(Facts::WRITE_CLOSED);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pipe-writer-gone",
        shows: "The last writer of a pipe has closed. A pipe has one direction, so its end is a hang-up, alone.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "the writer has closed", expected: Expected::Event(HANG_UP) }],
        play: pipe_writer_gone,
    },
    Scenario {
        name: "pipe-writer-gone-with-data",
        shows: "The same, with bytes unread. They are told beside the hang-up, so they are read before it is believed.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "bytes and the end are waiting", expected: Expected::Event(HANG_UP) },
            Moment { when: "the bytes were read", expected: Expected::Event(HANG_UP) },
        ],
        play: pipe_writer_gone_with_data,
    },
    Scenario {
        name: "pipe-reader-gone",
        shows: "The last reader of a pipe has closed, and a write fails with EPIPE. That is an error to poll(2), and the \
                pipe counts as writable even if it was full.",
        asked: Interest::WRITABLE,
        trigger: None,
        moments: &[
            Moment { when: "the pipe is full", expected: Expected::Silence },
            Moment { when: "and its reader has closed", expected: Expected::Event(BOTH_WAYS.and(Facts::ERROR)) },
        ],
        play: pipe_reader_gone,
    },
    Scenario {
        name: "regular-file",
        shows: "A regular file: to poll(2) and select(2) always ready, though a read may wait for the disk.",
        asked: BOTH,
        trigger: None,
        moments: &[Moment { when: "it was opened", expected: Expected::Event(BOTH_WAYS) }],
        play: regular_file,
    },
    Scenario {
        name: "dev-null",
        shows: "A device that never blocks, /dev/null.",
        asked: BOTH,
        trigger: None,
        moments: &[Moment { when: "it was opened", expected: Expected::Event(BOTH_WAYS) }],
        play: character_device,
    },
    Scenario {
        name: "directory",
        shows: "A directory, opened as a file.",
        asked: BOTH,
        trigger: None,
        moments: &[Moment { when: "it was opened", expected: Expected::Event(BOTH_WAYS) }],
        play: directory,
    },
];

#[cfg(unix)]
mod plays {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};

    use super::super::Play;
    use super::super::scene::Scene;
    use super::HANG_UP;
    use crate::conformance::system;
    use crate::semantics::Facts;

    pub(super) fn pipe_writer_gone(scene: &mut Scene<'_>) -> Play {
        let (reader, writer) = std::io::pipe()?;
        scene.watch(&reader)?;
        drop(writer);
        scene.settle(&reader, HANG_UP)?;
        scene.look()
    }

    pub(super) fn pipe_writer_gone_with_data(scene: &mut Scene<'_>) -> Play {
        let (mut reader, mut writer) = std::io::pipe()?;
        scene.watch(&reader)?;
        writer.write_all(b"last words")?;
        drop(writer);
        scene.settle(&reader, HANG_UP)?;
        scene.look()?;
        reader.read_exact(&mut [0; 10])?;
        scene.look()
    }

    pub(super) fn pipe_reader_gone(scene: &mut Scene<'_>) -> Play {
        let (reader, mut writer) = std::io::pipe()?;
        system::set_nonblocking(&writer);
        // A pipe takes what fits at once, and nobody empties it: full is full.
        loop {
            match writer.write(&[7; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        scene.watch(&writer)?;
        scene.look()?;
        drop(reader);
        scene.settle(&writer, Facts::WRITABLE.and(Facts::ERROR))?;
        scene.look()
    }

    pub(super) fn regular_file(scene: &mut Scene<'_>) -> Play {
        // One that is there and that nobody changes.
        let file = File::open(std::env::current_exe()?)?;
        scene.watch(&file)?;
        scene.look()
    }

    pub(super) fn character_device(scene: &mut Scene<'_>) -> Play {
        let device = File::options().read(true).write(true).open("/dev/null")?;
        scene.watch(&device)?;
        scene.look()
    }

    pub(super) fn directory(scene: &mut Scene<'_>) -> Play {
        let directory = File::open("/")?;
        scene.watch(&directory)?;
        scene.look()
    }
}

#[cfg(not(unix))]
mod plays {
    use super::super::Play;
    use super::super::scene::{Ended, Scene};

    macro_rules! elsewhere {
        ($($name:ident)+) => {
            $(pub(super) fn $name(_: &mut Scene<'_>) -> Play {
                Err(Ended::NotHere("not on this system: only sockets can be watched".to_owned()))
            })+
        };
    }

    elsewhere! {
        pipe_writer_gone pipe_writer_gone_with_data pipe_reader_gone regular_file character_device directory
    }
}
