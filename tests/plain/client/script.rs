//! A server that does as it is told, connection by connection, however badly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::suite::PATIENCE;

/// A server whose every connection, on a thread of its own, goes by a script; it is closed at the script's end.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    messages: AtomicUsize,
    released: Mutex<bool>,
    release: Condvar,
}

/// One connection, as its script sees it.
pub(super) struct Stream {
    stream: TcpStream,
    shared: Arc<Shared>,
}

impl Scripted {
    /// `script` is given the number of the connection.
    pub(super) fn new(script: impl Fn(usize, &mut Stream) + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let (books, script) = (Arc::clone(&shared), Arc::new(script));
        let acceptor = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for number in 0.. {
                let (stream, _) = listener.accept().expect("a client");
                if books.stopping.load(Ordering::Acquire) {
                    break;
                }
                // Whatever goes wrong, nobody waits for ever.
                stream.set_read_timeout(Some(3 * PATIENCE)).expect("not zero");
                stream.set_write_timeout(Some(3 * PATIENCE)).expect("not zero");
                let (script, shared) = (Arc::clone(&script), Arc::clone(&books));
                threads.push(std::thread::spawn(move || script(number, &mut Stream { stream, shared })));
            }
            for thread in threads {
                thread.join().expect("a script does not panic");
            }
        });
        Scripted { address, shared, acceptor: Some(acceptor) }
    }

    /// How many messages all connections have read.
    pub(super) fn messages(&self) -> usize {
        self.shared.messages.load(Ordering::Acquire)
    }

    /// Ends [`Stream::sleep_until_released`].
    pub(super) fn release(&self) {
        *self.shared.released.lock().expect("no panic") = true;
        self.shared.release.notify_all();
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.release();
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        let ended = self.acceptor.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(woken && matches!(ended, Some(Ok(()))), "the server panicked");
        }
    }
}

impl Stream {
    /// Reads a frame, its length included; nothing at the end of the stream.
    pub(super) fn message(&mut self) -> Vec<u8> {
        let mut frame = vec![0; 4];
        if self.stream.read_exact(&mut frame).is_err() {
            return Vec::new();
        }
        let length = u32::from_be_bytes(frame[..].try_into().expect("four bytes"));
        frame.resize(4 + length as usize, 0);
        if self.stream.read_exact(&mut frame[4..]).is_err() {
            return Vec::new();
        }
        self.shared.messages.fetch_add(1, Ordering::Release);
        frame
    }

    /// Reads a request of HTTP without a body; nothing at the end of the stream.
    #[cfg(feature = "http")]
    pub(super) fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut byte) {
                Ok(1..) => head.extend(byte),
                _ => return String::new(),
            }
        }
        self.shared.messages.fetch_add(1, Ordering::Release);
        String::from_utf8(head).expect("text")
    }

    /// Reads some bytes of whatever comes.
    pub(super) fn some(&mut self) {
        let _ = self.stream.read(&mut [0; 16]);
    }

    /// Whether the bytes were taken.
    pub(super) fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads until the client is gone.
    pub(super) fn until_closed(&mut self) {
        let mut buffer = [0; 4_096];
        while matches!(self.stream.read(&mut buffer), Ok(1..)) {}
    }

    /// Reads nothing until the test has seen enough.
    pub(super) fn sleep_until_released(&mut self) {
        let released = self.shared.released.lock().expect("no panic");

        let _ =
            self.shared.release.wait_timeout_while(released, 3 * PATIENCE, |released| !*released).expect("no panic");
    }

    /// Ends the connection by a reset.
    pub(super) fn reset(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}
