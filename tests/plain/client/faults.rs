//! The client on every real poller, put through what a kernel may do to it.

use std::io::{self, ErrorKind};

use pollmark::backends::conformance::Faulty;
use pollmark::backends::conformance::fault::{Faults, Kind, Plan};
use pollmark::backends::{OwnedSource, Source};
use pollmark::client::{Client, Frames, Kernel, Net, Target};

use super::{frame, mirror, on_every_poller, patient, settings};

/// The kernel's sockets, whose calls fall short, and are interrupted or put off.
struct Strained(Faults);

impl Strained {
    fn refuses(&self) -> io::Result<()> {
        for (kind, error) in
            [(Kind::InterruptedCall, ErrorKind::Interrupted), (Kind::WouldBlock, ErrorKind::WouldBlock)]
        {
            if self.0.strikes(kind) {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// How many of `bytes`, at least one.
    fn some(&self, kind: Kind, bytes: usize) -> usize {
        if bytes > 1 && self.0.strikes(kind) { 1 + self.0.below(bytes - 1) } else { bytes }
    }
}

impl Net for Strained {
    fn connect(&self, target: &Target) -> io::Result<OwnedSource> {
        Kernel.connect(target)
    }

    fn connected(&self, source: Source<'_>) -> io::Result<bool> {
        Kernel.connected(source)
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        self.refuses()?;
        let room = self.some(Kind::ShortRead, buffer.len());
        Kernel.recv(source, &mut buffer[..room])
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        self.refuses()?;
        Kernel.send(source, &bytes[..self.some(Kind::ShortWrite, bytes.len())])
    }
}

#[test]
fn what_no_connection_may_end_by_no_request_fails_by() {
    on_every_poller(|open| {
        let server = mirror();
        // A wait that fails is the end of a batch, and says so.
        let faults = Faults::new(Plan::harmless().with(Kind::FailedWait, 0), 11);
        let mut client = Client::over(Faulty::new(open(), &faults), server.tcp().into(), Frames::default())
            .with_settings(settings(4, patient()))
            .with_net(Strained(faults.clone()));
        let requests: Vec<_> = (0..120_u32).map(|id| frame(&id.to_be_bytes().repeat(1 + id as usize * 7))).collect();
        for _ in 0..3 {
            let mut answered = 0;
            client
                .request_all(&requests, |at, answer| {
                    assert!(answer.expect("answered") == requests[at], "another's answer");
                    answered += 1;
                })
                .expect("waits");
            assert_eq!(answered, requests.len());
        }
        let stats = client.stats();
        assert_eq!((stats.answered, stats.retried, stats.out_of_step), (360, 0, 0), "{stats:?}");
        assert!(faults.tally().total() > 100, "little went wrong: {:?}", faults.tally());
    });
}
