//! Three clients for the four styles of an echo server: all have connected before any says a word, and the last speaks
//! first.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process;
use std::thread;
use std::time::Duration;

/// Listens where the command line says. Without a word there: anywhere, for three clients of its own, who end the program
/// when they have been answered, and well if it was in this order: 3, 2, 1 is that in which they speak.
pub(crate) fn listen(order: [usize; 3]) -> io::Result<TcpListener> {
    let address = env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let listening = listener.local_addr()?;
    println!("listening on {listening}");
    if address.is_none() {
        thread::spawn(move || process::exit(visit(listening, order)));
    }
    Ok(listener)
}

fn visit(address: SocketAddr, order: [usize; 3]) -> i32 {
    // Who is to be answered at once may wait for long; who is not will not be, however long that is.
    let patience = Duration::from_millis(if order == [3, 2, 1] { 10_000 } else { 200 });
    match talk(address, patience) {
        Ok(answered) => {
            println!("answered, in this order: clients {answered:?}");
            i32::from(answered != order)
        }
        Err(error) => {
            eprintln!("a client could not go on: {error}");
            1
        }
    }
}

fn talk(address: SocketAddr, patience: Duration) -> io::Result<Vec<usize>> {
    // Shaking hands is the kernel's affair: connect(2) returns although the program may be asleep, or busy with another.
    let connect = |number| Ok((number, TcpStream::connect(address)?));
    let mut clients = (1..=3).map(connect).collect::<io::Result<Vec<_>>>()?;
    let mut answered = Vec::new();
    for (number, client) in clients.iter_mut().rev() {
        client.write_all(b"hello")?;
        client.set_read_timeout(Some(patience))?;
        match client.read_exact(&mut [0; 5]) {
            Ok(()) => answered.push(*number),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                println!("client {number} has connected and spoken, and hears nothing");
            }
            Err(error) => return Err(error),
        }
    }
    // They leave in the order they came.
    for (number, mut client) in clients {
        if !answered.contains(&number) {
            client.set_read_timeout(Some(Duration::from_secs(10)))?;
            client.read_exact(&mut [0; 5])?;
            answered.push(number);
        }
    }
    Ok(answered)
}
