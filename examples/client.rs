//! Asks a Redis server over a pool of connections; then asks one that never answers, to see which timeout says so.
//!
//!     cargo run --release --example client                      # a server of its own
//!     cargo run --release --example client -- localhost:6379    # or redis-server, or pollmark serve --protocol resp

use std::error::Error;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use pollmark::backends::Registry;
use pollmark::client::{Client, Endpoint, Replies, Settings, Timeout, Timeouts};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Resp;
use pollmark::server::Config;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(address) => ask(address.parse()?)?,
        None => {
            let registry = Registry::builtin();
            let config = Config::listen("127.0.0.1:0".parse()?);
            let server = Mechanism::choose(&registry)?.bind(&registry, config, Resp::default())?;
            let address = server.addresses()[0].tcp().ok_or("not TCP")?;
            let control = server.control();
            let running = thread::spawn(move || server.run());
            ask(address.into())?;
            control.stop();
            running.join().expect("the server does not panic")?;
        }
    }
    wait_for_nobody()
}

/// Writes a thousand keys over four connections, and reads one.
fn ask(server: Endpoint) -> Result<(), Box<dyn Error>> {
    let settings = Settings { connections: 4, ..Settings::default() };
    let mut client = Client::open(server, Replies)?.with_settings(settings);

    let keys: Vec<String> = (0..1_000).map(|number| format!("pollmark:{number}")).collect();
    let commands: Vec<Vec<u8>> =
        keys.iter().map(|key| command(&[b"SET", key.as_bytes(), b"a value", b"EX", b"60"])).collect();
    let mut failures = 0;
    client.request_all(&commands, |number, answer| {
        if !answer.as_ref().is_ok_and(|reply| *reply == b"+OK\r\n") {
            println!("{}: {answer:?}", keys[number]);
            failures += 1;
        }
    })?;
    let reply = client.request(&command(&[b"GET", b"pollmark:999"]))?;
    println!("GET pollmark:999 gives {}", reply.escape_ascii());

    let stats = client.stats();
    println!(
        "{} of {} answered over {} connections, {} waits, {failures} failed",
        stats.answered, stats.requests, stats.opened, stats.ledger.waits
    );
    Ok(())
}

/// The kernel connects us to a listener that nobody accepts from: connecting succeeds, and only the answer is missing.
fn wait_for_nobody() -> Result<(), Box<dyn Error>> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let timeouts =
        Timeouts { checkout: Duration::from_millis(50), read: Duration::from_millis(200), ..Timeouts::default() };
    let settings = Settings { connections: 2, timeouts, ..Settings::default() };
    let mut client = Client::open(silent.local_addr()?.into(), Replies)?.with_settings(settings);
    client.request_all(&vec![command(&[b"PING"]); 3], |number, answer| {
        if let Err(error) = answer {
            let again = if error.is_unsent() { "may be asked again" } else { "may have been done" };
            println!("request {number} {again}: {error}");
        }
    })?;
    let stats = client.stats();
    let met: Vec<_> = Timeout::ALL.iter().map(|which| format!("{which} {}", stats.timed_out(*which))).collect();
    println!("timeouts: {}", met.join(", "));
    Ok(())
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    Replies::write(words, &mut request);
    request
}
