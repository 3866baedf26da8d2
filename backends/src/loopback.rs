//! Two ends of a loopback connection: what the suite and the matrix put their pollers in front of.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Two ends of a connection, both non-blocking and without delay.
pub(crate) fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    loop {
        // Anybody on this host may connect; take only our own.
        let (far, peer) = listener.accept()?;
        if peer == near.local_addr()? {
            for end in [&near, &far] {
                end.set_nonblocking(true)?;
                end.set_nodelay(true)?;
            }
            return Ok((near, far));
        }
    }
}
