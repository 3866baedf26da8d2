//! The name of a Unix socket: who may take it, who may connect, and when its file goes.
//!
//! A socket outlives its server as a file at which nobody listens, and bind(2) takes over no file. So a path that is
//! taken is looked at:
//! (a) What is no socket is left alone. At a socket one may knock: only if connect(2) is refused, nobody listens.
//! (b) A server that has bound and not yet listens refuses too. So whoever takes a path holds its directory locked
//!     (flock(2)) until he listens, and two that find the same stale path take it one after the other.
//! (c) A file is removed only if it is still the one that was looked at, or bound, by device and inode: what somebody
//!     has put in its place since is his.
//! (d) bind(2) makes the file with the permissions of the socket itself, less the umask. On Linux fchmod(2) sets those
//!     before; then chmod(2) adds what the umask took. Elsewhere there is chmod(2) alone: nobody can connect before a
//!     socket listens, so nobody can before that, but one of datagrams takes messages as soon as it is bound.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::address::UnixName;

/// How often the lock of a directory is tried for, and how long between: others hold it for as long as bind(2) takes.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// The longest path, or name with the zero byte before it, that `sockaddr_un` has room for.
const LONGEST: usize = if cfg!(linux_like) { 107 } else { 103 };

/// A file that bind(2) has made. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct BoundPath {
    path: PathBuf,
    file: Identity,
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let removed = remove_if_still(&self.path, self.file); // (c)
        if let Err(error) = removed {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file is left behind");
        }
    }
}

/// Gives `socket` the name, with `mode` for permissions if its file is to have other than the process's usual ones, and
/// has it `listen`. A stale file at that path is removed first.
///
/// # Errors
/// `AddrInUse` if somebody listens there, or if there is something that is no socket; `InvalidInput` for a name that is
/// too long, and for permissions of what has no file; `Unsupported` for an abstract name where there are none;
/// otherwise the system's. All with what to do.
pub(super) fn bind(
    socket: &Socket,
    name: &UnixName,
    mode: Option<u32>,
    listen: impl FnOnce() -> io::Result<()>,
) -> io::Result<Option<BoundPath>> {
    let address = socket_address(name)?;
    let UnixName::Path(path) = name else {
        if mode.is_some() {
            let why = "an abstract name has no permissions, whoever knows it may connect; choose a path";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        socket.bind(&address).map_err(|error| advise(error, "another socket listens there; choose another name"))?;
        listen()?;
        return Ok(None);
    };
    let _locked = lock_directory_of(path)?; // (b)
    if let Some(mode) = mode {
        restrict(socket, mode)?; // (d)
    }
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_if_stale(path, &address)?;
            socket.bind(&address)?;
        }
        bound => bound.map_err(|error| advise(error, "no file can be made there; choose another directory"))?,
    }
    let bound = BoundPath { path: std::path::absolute(path)?, file: Identity::of(path)? };
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    listen()?;
    Ok(Some(bound))
}

/// (d) Gives a socket that is not bound yet no more permissions than these.
fn restrict(socket: &Socket, mode: u32) -> io::Result<()> {
    #[cfg(linux_like)]
    rustix::fs::fchmod(socket, rustix::fs::Mode::from_raw_mode(mode))?;
    #[cfg(not(linux_like))]
    let _ = (socket, mode);
    Ok(())
}

/// The name as the kernel takes it.
pub(super) fn socket_address(name: &UnixName) -> io::Result<SockAddr> {
    let (bytes, address) = match name {
        UnixName::Path(path) => (path.as_os_str().len(), SockAddr::unix(path)),
        UnixName::Abstract(name) if cfg!(linux_like) => (1 + name.len(), SockAddr::unix(format!("\0{name}"))),
        UnixName::Abstract(_) => {
            let why = "only Linux knows names that are no paths; choose a path";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
    };
    if bytes > LONGEST {
        let why = format!("a socket's name has at most {LONGEST} bytes, and this has {bytes}; choose a shorter one");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    address
}

/// Keeps others from taking a path of this directory, until the lock is dropped.
fn lock_directory_of(path: &Path) -> io::Result<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(directory)
        .map_err(|error| advise(error, "its directory cannot be opened; make it, or choose another"))?;
    for _ in 0..ATTEMPTS {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            Err(Errno::INTR) => {}
            locked => return Ok(locked.map(|()| directory)?),
        }
    }
    let why = "somebody keeps its directory locked; choose another, or try again later";
    Err(io::Error::new(io::ErrorKind::AddrInUse, why))
}

/// (a) Removes a socket at which nobody listens.
fn remove_if_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why.to_owned()));
    let file = match Identity::of(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if !file.is_socket {
        return refuse("there is a file that is no socket; move it away, or choose another path");
    }
    let knock = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A queue that is full is no reason to wait: who has one listens.
    knock.set_nonblocking(true)?;
    match knock.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::debug!(path = %path.display(), "nobody listens at this socket any more: removed");
            remove_if_still(path, file)
                .map_err(|error| advise(error, "nobody listens at the socket there; remove it, or choose another path"))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            refuse("there is a socket of somebody else's; choose another path")
        }
        // Another kind of socket answers, too, that it is there.
        _ => refuse("another server listens there; stop it, or choose another path"),
    }
}

/// (c) Removes the file, if it is still this one.
fn remove_if_still(path: &Path, file: Identity) -> io::Result<()> {
    match Identity::of(path) {
        Ok(now) if now == file => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    is_socket: bool,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Identity> {
        let found = fs::symlink_metadata(path)?;
        Ok(Identity { device: found.dev(), inode: found.ino(), is_socket: found.file_type().is_socket() })
    }
}

fn advise(error: io::Error, advice: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{error}: {advice}"))
}

#[cfg(all(test, linux_like))]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_never_open_to_more_than_it_is_meant_for() {
        let path = std::env::temp_dir().join(format!("pollmark-{}-restricted", std::process::id()));
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket");
        restrict(&socket, 0o600).expect("its own");
        socket.bind(&SockAddr::unix(&path).expect("short")).expect("nobody's path");
        let found = fs::metadata(&path).expect("it was made").permissions().mode();
        fs::remove_file(&path).expect("it is ours");
        assert_eq!(found & 0o077, 0, "{found:o}, before chmod(2)");
    }
}
