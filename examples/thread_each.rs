//! The second style: a thread for each connection. The same blocking calls, and nobody waits for anybody else.
//!
//!     cargo run --release --example thread_each                       # three clients of its own
//!     cargo run --release --example thread_each -- 127.0.0.1:7000     # then twice: nc 127.0.0.1 7000
//!
//! The others: `one_at_a_time`, `readiness_loop`, `completion_loop`. As a server to measure, with a bound, deadlines and a
//! stop in good order: `ThreadServer`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

#[path = "common/three_clients.rs"]
mod three_clients;

/// Of address space; the kernel gives memory only for the part that is touched, and that is some pages for each.
const STACK: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let listener = three_clients::listen([3, 2, 1])?;
    loop {
        let (client, peer) = listener.accept()?;
        // The scheduler does now what the other styles do by themselves: it knows which thread waits for which socket, and
        // runs those whose wait is over. What is paid for that is a stack for each connection, idle or not, and two switches
        // for each request that comes alone.
        let serving = move || match echo(client) {
            Ok(bytes) => println!("{peer}: has left after {bytes} bytes"),
            Err(error) => println!("{peer}: lost: {error}"),
        };
        // There is a limit to threads, too. This client is turned away by it, and not the server ended.
        if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(serving) {
            println!("{peer}: turned away, no thread for it: {error}");
        }
    }
}

/// Until the client has said that it will send no more; closes its connection.
fn echo(mut client: TcpStream) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let mut bytes = 0;
    loop {
        // Sleeps, and only this thread does.
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(bytes);
        }
        client.write_all(&buffer[..count])?;
        bytes += count;
    }
}
