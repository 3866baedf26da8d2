//! An echo server on `tokio`: a task for each connection, on its runtime of one thread.
//!
//! A task waits until there is something to read, and reads it into a buffer that all share: nothing is awaited between
//! that and the write, so an idle connection has no buffer. What the socket does not take is copied, and awaited.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use contestant_start::BUFFER;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

fn main() -> io::Result<()> {
    let listener = contestant_start::listener("tokio");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, accept(listener))
}

async fn accept(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let buffer = Rc::new(RefCell::new(vec![0; BUFFER]));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::task::spawn_local(serve(stream, Rc::clone(&buffer)))),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Until the peer has ended, or is gone.
async fn serve(mut stream: TcpStream, buffer: Rc<RefCell<Vec<u8>>>) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let owed = match echo(&stream, &mut buffer.borrow_mut()) {
            Ok(Some(owed)) => owed,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if !owed.is_empty() {
            stream.write_all(&owed).await?;
        }
    }
}

/// What the socket has not taken; `None` at the end.
fn echo(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let length = stream.try_read(buffer)?;
    if length == 0 {
        return Ok(None);
    }
    let written = match stream.try_write(&buffer[..length]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        written => written?,
    };
    Ok(Some(buffer[written..length].to_vec()))
}
