//! recv(2) and send(2) on a stream socket, as servers and clients make them.

use std::io;

use pollmark_backends::Source;
use rustix::net::{RecvFlags, SendFlags};

// No NOSIGNAL on Apple, where socket2 sets SO_NOSIGPIPE of what it opens and accepts; no SIGPIPE on Windows.
cfg_if::cfg_if! {
    if #[cfg(accept4)] {
        const SEND: SendFlags = SendFlags::NOSIGNAL;
    } else {
        const SEND: SendFlags = SendFlags::empty();
    }
}

/// Receives into `buffer`; 0 is the end of the stream.
#[inline(always)]
pub(crate) fn recv(source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (_, received) = rustix::net::recv(source, buffer, RecvFlags::empty())?;
    Ok(received)
}

/// Sends from `bytes`, perhaps not all. Never raises SIGPIPE.
#[inline(always)]
pub(crate) fn send(source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(source, bytes, SEND)?)
}
