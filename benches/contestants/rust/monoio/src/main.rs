//! An echo server on `monoio`: a task for each connection, on its runtime of one thread over io_uring(7).
//!
//! The kernel fills a buffer while nobody waits for it, so each operation owns one until it is done: an idle connection has
//! its own, of the size that monoio's examples give it. What comes in is sent from where it lies.

use std::io::{self, ErrorKind};

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

/// Of each connection; other servers here share one of 64 KiB.
const BUFFER: usize = 8 * 1024;

fn main() -> io::Result<()> {
    let listener = contestant_start::listener("monoio");
    // What is not ready is the ring's to wait for; of a socket that does not block it would say so at once.
    listener.set_nonblocking(false)?;
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(1024).build()?;
    runtime.block_on(accept(listener))
}

async fn accept(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(monoio::spawn(serve(stream))),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Until the peer has ended, or is gone.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let (read, filled) = stream.read(buffer).await;
        if read? == 0 {
            return Ok(());
        }
        let (written, emptied) = stream.write_all(filled).await;
        written?;
        buffer = emptied;
        buffer.clear();
    }
}
