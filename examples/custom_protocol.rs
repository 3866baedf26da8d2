//! A protocol of your own: a server that adds up the numbers you send, line by line, for each connection.
//!
//!     cargo run --release --example custom_protocol -- 127.0.0.1:7000     # then: nc 127.0.0.1 7000
//!     cargo run --release --example custom_protocol                       # talks to itself and ends
//!
//! A protocol sees bytes and a `Context`, never a socket: the same code runs over every mechanism.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Context, Peer, Protocol};
use pollmark::server::Config;

#[derive(Clone)]
struct Sums {
    patience: Duration,
}

impl Protocol for Sums {
    type Session = i64; // all that an idle connection costs here

    fn open(&mut self, _peer: &Peer, cx: &mut Context<'_>) -> i64 {
        cx.deadline(Some(self.patience));
        0
    }

    fn received(&mut self, sum: &mut i64, input: &[u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        // A line that has not wholly arrived is not consumed; it comes back with what follows it.
        for line in input.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            consumed += line.len();
            match str::from_utf8(line).map(str::trim) {
                Ok("quit") => cx.close_when_flushed(),
                Ok(text) => match text.parse::<i64>() {
                    Ok(number) => {
                        *sum = sum.saturating_add(number);
                        cx.send(format!("{sum}\n").as_bytes());
                    }
                    Err(error) => cx.send(format!("{text:?}: {error}\n").as_bytes()),
                },
                Err(_) => cx.abort(), // not our protocol at all
            }
        }
        cx.deadline(Some(self.patience));
        consumed
    }

    fn due(&mut self, sum: &mut i64, cx: &mut Context<'_>) {
        cx.send(format!("too quiet; it was {sum}\n").as_bytes());
        cx.close_when_flushed();
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
    let config = Config::listen(address.as_deref().unwrap_or("127.0.0.1:0").parse()?);
    let patience = Duration::from_millis(if address.is_some() { 30_000 } else { 200 });
    let registry = Registry::builtin();
    let server = Mechanism::choose(&registry)?.bind(&registry, config, Sums { patience })?;
    println!("listening on {}", server.addresses()[0]);
    if address.is_some() {
        return server.run().map(|stats| println!("{stats:?}"));
    }

    let (listening, control) = (server.addresses()[0].tcp().expect("a TCP address"), server.control());
    let running = thread::spawn(move || server.run());
    let mut client = TcpStream::connect(listening)?;
    client.write_all(b"40\n2\nthree\n")?; // then silence, until the deadline closes the connection
    let mut said = String::new();
    client.read_to_string(&mut said)?;
    print!("{said}");
    assert!(said.starts_with("40\n42\n\"three\": ") && said.ends_with("too quiet; it was 42\n"));
    control.stop();
    running.join().expect("the server does not panic").map(drop)
}
