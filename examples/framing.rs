//! A stream has no messages: three writes may be one read, and one write three reads. What a frame does about it.
//!
//!     cargo run --release --example framing

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use pollmark::client::Frames;
use pollmark::protocol::frame::{PREFIX, split};

/// Longer than any message here: who announces more than that is not believed, or he could have us wait for 4 GiB.
const MOST: usize = 1_024;

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut writer = TcpStream::connect(listener.local_addr()?)?;
    let (mut reader, _) = listener.accept()?;

    for word in ["one", "two", "three"] {
        writer.write_all(word.as_bytes())?;
    }
    let all = read_once(&mut reader, "onetwothree".len(), 64)?;
    println!("three writes, one read:  {:?}", String::from_utf8_lossy(&all));
    assert_eq!(all, b"onetwothree");

    writer.write_all(b"four-five-six")?;
    let mut reads = Vec::new();
    while reads.iter().map(Vec::len).sum::<usize>() < 13 {
        reads.push(read_once(&mut reader, 1, 5)?);
    }
    let words = reads.iter().map(|read| String::from_utf8_lossy(read)).collect::<Vec<_>>();
    println!("one write, three reads:  {words:?}");
    assert_eq!(words, ["four-", "five-", "six"]);

    // Each message after its length, and sent as badly as can be: byte by byte.
    let mut frames = Vec::new();
    for word in ["one", "", "three"] {
        Frames::write(word.as_bytes(), &mut frames);
    }
    let sending = thread::spawn(move || frames.iter().try_for_each(|byte| writer.write_all(&[*byte])));
    let (mut kept, mut messages, mut buffer) = (Vec::new(), Vec::new(), [0; 7]);
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        // What is whole is taken, and what is not stays until the rest has come.
        while let Some(message) = split(&kept, MOST).map_err(|long| format!("a message of {} bytes", long.bytes))? {
            messages.push(String::from_utf8_lossy(message).into_owned());
            kept.drain(..PREFIX + message.len());
        }
    }
    sending.join().expect("nothing in it panics")?;
    println!("three frames, {PREFIX} bytes of length before each: {messages:?}");
    assert_eq!((messages.as_slice(), kept.as_slice()), (&["one", "", "three"].map(String::from)[..], &b""[..]));
    Ok(())
}

/// One read(2) into so much room, once that many bytes are there to be read.
fn read_once(stream: &mut TcpStream, bytes: usize, room: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; room];
    while stream.peek(&mut buffer)? < bytes.min(room) {
        thread::yield_now();
    }
    let count = stream.read(&mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}
