//! The first style: one client at a time. The textbook loop, and why nobody leaves it at that.
//!
//!     cargo run --release --example one_at_a_time                       # three clients of its own
//!     cargo run --release --example one_at_a_time -- 127.0.0.1:7000     # then twice: nc 127.0.0.1 7000
//!
//! The others: `thread_each`, `readiness_loop`, `completion_loop`. As a server to measure: `IterativeServer`.

use std::io::{self, Read, Write};
use std::net::TcpStream;

#[path = "common/three_clients.rs"]
mod three_clients;

fn main() -> io::Result<()> {
    // socket(2), bind(2), listen(2). This socket will never be connected to anyone and never carries a byte: it is a
    // place at which the kernel collects connections that are ready made.
    let listener = three_clients::listen([1, 2, 3])?;
    loop {
        // Takes the oldest of them, or sleeps until there is one. What comes back is another socket, with another
        // descriptor, for this client alone; the listener stays as it was.
        let (client, peer) = listener.accept()?;
        println!("{peer}: its turn");
        match echo(client) {
            Ok(bytes) => println!("{peer}: has left after {bytes} bytes"),
            Err(error) => println!("{peer}: lost: {error}"), // one client's trouble is not the server's
        }
    }
}

/// Until the client has said that it will send no more; closes its connection.
fn echo(mut client: TcpStream) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let mut bytes = 0;
    loop {
        // Sleeps until this client says something. While it is silent, everybody else waits: some in the listener's queue,
        // connected and unheard, and when that is full, others cannot even connect.
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(bytes);
        }
        // A stream has no messages: these bytes may be half of what was written over there, or three writes at once. And
        // the kernel may take fewer than it is offered; `write_all` goes on until it has them all, or sleeps.
        client.write_all(&buffer[..count])?;
        bytes += count;
    }
}
