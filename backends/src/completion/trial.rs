//! Tries on a pair of sockets what no probe tells: receives that go on, and sends that do not wait and say only what
//! they lack.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Fate, Next, Ring};
use crate::event::Token;
use crate::source::AsSource;
use crate::uring::reasons;

/// Longer than it takes.
const PATIENCE: Duration = Duration::from_secs(5);

const OURS: Token = Token::new(0, 0);

/// Leaves the ring as it was.
pub(super) fn run<F: Fate>(ring: &mut Ring<F>) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    // Read and written as a file is: whoever counts receives does not count ours.
    let (ours, mut theirs) = (File::from(OwnedFd::from(ours)), File::from(OwnedFd::from(theirs)));
    let goes_on = receives_go_on(ring, &ours, &mut theirs)?;
    let silent = whole_sends_are_silent(ring, &ours, &mut theirs)?;
    let bundled = !ring.bundles.are_wanted() || whole_bundles_are_silent(ring, &ours, &mut theirs)?;
    let at_once = full_sends_fail_at_once(ring, &ours)?;
    let told = !ring.bundles.are_wanted() || full_bundles_fail_at_once(ring, &ours)?;
    ring.close(OwnedFd::from(ours), true);
    ring.finish()?;
    reasons::require(&[
        ("receives that go on (multishot, Linux 6.0)", goes_on),
        ("sends that say nothing when they succeed", silent),
        ("sends that fail at once when there is no room", at_once),
        ("sends of several buffers (bundles, Linux 6.10) that say nothing when they succeed", bundled),
        ("sends of several buffers that fail at once when there is no room", told),
    ])
}

fn receives_go_on<F: Fate>(ring: &mut Ring<F>, ours: &File, theirs: &mut File) -> io::Result<bool> {
    ring.receive(ours.as_source(), OURS);
    theirs.write_all(b"?")?;
    // Where a thread of the kernel's receives, that may be after the call.
    ring.turn(true, Some(PATIENCE))?;
    let received = matches!(ring.next(), Some(Next::Received(OURS)));
    Ok(received && ring.bytes() == b"?" && ring.next().is_none())
}

fn whole_sends_are_silent<F: Fate>(ring: &mut Ring<F>, ours: &File, theirs: &mut File) -> io::Result<bool> {
    if !ring.send_copy(ours.as_source(), OURS, b"!") {
        return Ok(false);
    }
    ring.turn(false, None)?;
    let told: usize = ring.sent().map(|(_, taken, _)| taken).sum();
    let silent = ring.next().is_none() && ring.short().is_none();
    let mut answer = [0; 2];
    Ok(silent && told == 1 && matches!(theirs.read(&mut answer), Ok(1)) && answer[0] == b'!')
}

fn full_sends_fail_at_once<F: Fate>(ring: &mut Ring<F>, ours: &File) -> io::Result<bool> {
    fill(ours)?;
    if !ring.send_copy(ours.as_source(), OURS, b"!") {
        return Ok(false);
    }
    ring.turn(false, None)?;
    let short = ring.short();
    Ok(short.is_some_and(|short| short.rest == b"!" && short.error.kind() == io::ErrorKind::WouldBlock))
}

fn whole_bundles_are_silent<F: Fate>(ring: &mut Ring<F>, ours: &File, theirs: &mut File) -> io::Result<bool> {
    bundle(ring, ours);
    ring.turn(false, None)?;
    let told: usize = ring.sent().map(|(_, taken, _)| taken).sum();
    let silent = ring.next().is_none() && ring.short().is_none();
    let mut answer = [0; 5];
    Ok(silent && told == 4 && matches!(theirs.read(&mut answer), Ok(4)) && answer[..4] == *b"!!??")
}

fn full_bundles_fail_at_once<F: Fate>(ring: &mut Ring<F>, ours: &File) -> io::Result<bool> {
    bundle(ring, ours);
    ring.turn(false, None)?;
    let short = ring.short();
    Ok(short.is_some_and(|short| short.rest == b"!!??" && short.error.kind() == io::ErrorKind::WouldBlock))
}

fn bundle<F: Fate>(ring: &mut Ring<F>, ours: &File) {
    ring.send_bundle(ours.as_source(), OURS, b"!!".as_ptr(), 2);
    if let Some((at, silent)) = ring.bundles.growing(OURS) {
        ring.extend_bundle(at, silent, b"??".as_ptr(), 2);
    }
}

/// Until the socket has no room left.
fn fill(mut socket: &File) -> io::Result<()> {
    let block = [0; 64 * 1024];
    rustix::io::ioctl_fionbio(socket, true)?;
    while socket.write(&block).is_ok() {}
    while socket.write(&block[..1]).is_ok() {}
    Ok(rustix::io::ioctl_fionbio(socket, false)?)
}
