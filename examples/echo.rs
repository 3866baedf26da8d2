//! An echo server on the mechanism you name; without a name, on the best one here.
//!
//!     cargo run --release --example echo -- poll 127.0.0.1:7000     # then: nc 127.0.0.1 7000
//!     cargo run --release --example echo -- poll --once             # serves one greeting and ends

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Echo;
use pollmark::server::{Config, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let once = match flags.as_slice() {
        [] => false,
        [flag] if flag == "--once" => true,
        _ => return Err("usage: echo [MECHANISM [ADDRESS]] [--once]".into()),
    };

    let registry = Registry::builtin();
    let mechanism = match words.first() {
        Some(name) => Mechanism::parse(&registry, name)?, // the error lists the names there are
        None => Mechanism::choose(&registry)?,            // or what POLLMARK_BACKEND says
    };
    let address = words.get(1).map_or(if once { "127.0.0.1:0" } else { "127.0.0.1:7000" }, String::as_str);
    let server = mechanism.bind(&registry, Config::listen(address.parse()?), Echo)?;
    println!("{mechanism} listens on {}", server.addresses()[0]);

    if once {
        return greet(server);
    }
    let stats = server.run()?; // until somebody holding its `control()` stops it; here, for ever
    println!("{stats:?}");
    Ok(())
}

/// The server runs on a thread, this one is its only client.
fn greet(server: Box<dyn Server>) -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = server.addresses()[0].tcp().ok_or("not TCP")?;
    let control = server.control();
    let running = thread::spawn(move || server.run());

    let mut client = TcpStream::connect(address)?;
    client.write_all(b"hello, poller")?;
    let mut echo = [0; 13];
    client.read_exact(&mut echo)?;
    println!("{}", String::from_utf8_lossy(&echo));

    control.stop();
    let stats = running.join().expect("the server does not panic")?;
    println!("{} waits, {} system calls for {} bytes", stats.ledger.waits, stats.calls(), stats.bytes_out);
    Ok(())
}
