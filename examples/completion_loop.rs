//! The fourth style: one thread that never reads or writes. It has the kernel do so, by io_uring(7), and hears when it is done.
//!
//!     cargo run --release --example completion_loop                       # three clients of its own
//!     cargo run --release --example completion_loop -- 127.0.0.1:7000
//!
//! The others: `one_at_a_time`, `thread_each`, `readiness_loop`. As a server to measure: `CompletionServer`.

#[cfg(completion)]
#[path = "common/three_clients.rs"]
mod three_clients;

#[cfg(completion)]
fn main() -> std::io::Result<()> {
    use std::collections::HashMap;

    use pollmark::backends::completion::{Completion, Next, Ring, Setup};
    use pollmark::backends::{AsSource, OwnedSource, Token};

    const LISTENER: Token = Token(0);
    const NO_BUFFERS: Option<i32> = Some(rustix::io::Errno::NOBUFS.raw_os_error());

    let mut ring = match Ring::open(&Setup::default()) {
        Ok(ring) => ring,
        Err(error) => {
            println!("not on this host: {error}");
            return Ok(());
        }
    };
    // Sockets block here: it is the kernel that waits for each, as it does for a thread.
    let listener = three_clients::listen([3, 2, 1])?;
    // Asked for once: every connection that comes is a completion.
    ring.accept(listener.as_source(), LISTENER);
    let (mut clients, mut next) = (HashMap::<Token, OwnedSource>::new(), 1);
    loop {
        // The only call there is: it hands over all that was asked for since the last, and sleeps until some of it is done.
        ring.turn(true, None)?;
        while let Some(done) = ring.next() {
            let done = match done {
                Next::Received(token) => Completion::Received { token },
                Next::Other(other) => ring.learn(other),
            };
            match done {
                Completion::Accepted { source, .. } => {
                    // A connection always has one operation under way. This one takes a buffer of those that all share, and
                    // not before there are bytes for it: an idle connection has none.
                    let source = source?;
                    ring.receive_once(source.as_source(), Token(next));
                    clients.insert(Token(next), source);
                    next += 1; // never used again, so that what completes late finds nobody
                }
                Completion::Received { token } => {
                    // The kernel reads these bytes while we are elsewhere, so they are given away until it is done.
                    let bytes = ring.bytes().to_vec();
                    ring.send(clients[&token].as_source(), token, bytes, 0);
                }
                Completion::Sent { token, bytes, from, result: Ok(taken) } if from + taken < bytes.len() => {
                    ring.send(clients[&token].as_source(), token, bytes, from + taken);
                }
                Completion::Sent { token, result: Ok(_), .. } => {
                    ring.receive_once(clients[&token].as_source(), token);
                }
                // More have spoken at once than there are buffers: those that were used are free again after this turn.
                Completion::Ended { token, result: Err(error) } if error.raw_os_error() == NO_BUFFERS => {
                    ring.receive_once(clients[&token].as_source(), token);
                }
                // The end, or one client's trouble. Nothing of it is under way, so there is nothing to cancel.
                Completion::Ended { token, .. } | Completion::Sent { token, .. } => {
                    ring.close(clients.remove(&token).expect("it had an operation under way"), false);
                }
                Completion::Readable { .. } | Completion::Nothing => {}
            }
        }
    }
}

#[cfg(not(completion))]
fn main() {
    println!("not on this system: operations that complete are those of io_uring(7), which Linux has");
}
