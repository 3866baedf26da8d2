//! The completion server where its queues and buffers are far too small, and where it ends in the middle of everything.

use std::io;

use pollmark::backends::Registry;
use pollmark::backends::completion::Setup;
use pollmark::backends::conformance::fault::Faults;
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Echo, Protocol};
use pollmark::server::{Abilities, CompletionServer, Config, Server};

use crate::suite::cases::{self, Mirror, config, pattern};
use crate::suite::{Lost, Subject, Verdict};

/// A server with a ring of its own making.
struct Made {
    name: &'static str,
    setup: Setup,
}

impl Subject for Made {
    fn name(&self) -> &str {
        self.name
    }

    fn abilities(&self) -> Abilities {
        Mechanism::parse(&Registry::builtin(), "completion").expect("built in").abilities()
    }

    fn bind<P: Protocol>(&self, config: Config, protocol: P) -> io::Result<Box<dyn Server>> {
        Ok(Box::new(CompletionServer::bind(config, protocol)?.with_setup(self.setup.clone())))
    }

    fn faults(&self) -> Option<&Faults> {
        None
    }
}

fn made(name: &'static str, change: impl FnOnce(&mut Setup)) -> Made {
    let mut setup = Setup::default();
    change(&mut setup);
    Made { name, setup }
}

/// Whether there is a ring to be had. In CI there is one.
fn is_here() -> bool {
    let registry = Registry::builtin();
    match Mechanism::parse(&registry, "completion").expect("built in").probe(&registry) {
        Ok(_) => true,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "there is no io_uring here: {why}");
            println!("SKIPPED, NOT CHECKED: {why}");
            false
        }
    }
}

/// Runs `case` where submissions, completions and buffers run out all the time, and on an older kernel's ring.
fn cramped(case: impl Fn(&Made) -> Verdict) {
    if is_here() {
        let ways = [
            made("a ring for one", |setup| (setup.submissions, setup.completions) = (1, 2)),
            made("two buffers", |setup| (setup.buffers, setup.buffer_size) = (2, 512)),
            made("no outbox to speak of", |setup| setup.outbox = 0),
            made("completions at any time", |setup| setup.deferred = false),
        ];
        for way in ways {
            println!("{}", way.name);
            case(&way).expect("nothing kills here");
        }
    }
}

macro_rules! cramped {
    ($($case:ident,)+) => { $(
        #[test]
        fn $case() {
            cramped(cases::$case);
        }
    )+ };
}
suite!(cramped);

#[test]
fn a_server_ends_while_it_owes_everybody_something() {
    cramped(|way| {
        let mut small = config();
        small.send_buffer = Some(4 * 1024);
        let server = way.serve(small, Echo);
        let clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
        let text = pattern(256 * 1024);
        let mut written = 0;
        for client in &clients {
            let mut client = client.handle();
            client.stream().set_nonblocking(true).expect("a socket");
            while let Ok(bytes) = io::Write::write(client.stream(), text) {
                written += bytes;
            }
        }
        let stats = server.until("it owes what was not taken", |stats| stats.open == 30 && stats.bytes_in > 0)?;
        assert!(stats.bytes_out < written as u64, "nobody reads, and all was sent: {stats:?}");
        let stats = server.stop();
        assert_eq!((stats.accepted, stats.closed), (30, 30));
        Ok(())
    });
}

#[test]
fn whoever_goes_while_it_is_sent_to_leaves_nothing_behind() {
    cramped(|way| {
        let server = way.serve(config(), Echo);
        for round in 0..200 {
            let mut client = server.connect();
            client.write(pattern(20_000))?;
            if round % 2 == 0 {
                client.reset_on_close();
            }
        }
        server.connect().exchange(b"behind all of them")?;
        server.until("they are gone", |stats| stats.open == 0)?;
        Ok(())
    });
}

#[test]
fn whoever_asks_for_its_peers_pays_a_call_for_each_and_nobody_else_does() {
    fn calls<P: Protocol>(way: &Made, protocol: P, greets: bool) -> Result<u64, Lost> {
        let server = way.serve(config(), protocol);
        for _ in 0..10 {
            let mut client = server.connect();
            if greets {
                client.line();
            }
            client.exchange(b"here")?;
        }
        Ok(server.stop().other_calls)
    }

    if is_here() {
        let way = made("as it is", |_| {});
        let asked = calls(&way, Mirror, true).expect("nothing kills here");
        let unasked = calls(&way, Echo, false).expect("nothing kills here");
        assert_eq!((asked - unasked, unasked), (10, 1), "getpeername(2), and the wake that stops it");
    }
}
