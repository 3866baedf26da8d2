//! epoll(7) that asks the network's device before it sleeps: busy polling, with parameters of one instance.
//!
//! What a wait then does: if nothing is ready, it does not sleep at once but runs the driver's receive routine itself,
//! over and over, for as long as it was told, and so takes packets without the interrupt, the softirq and the wake-up.
//! The routine is that of the queue (the NAPI instance) of the socket that last had an event.
//!
//! Since Linux 6.9, "eventpoll: Add epoll ioctl for epoll_params" (18e2bf0edf4d); before, only the sysctl
//! net.core.busy_poll set this, for the whole host. The manual is ioctl_eventpoll(2); the kernel's
//! Documentation/networking/napi.rst says how a device is set up for it.
//!
//! It should win where one thread has all connections of one hardware queue, and a processor to itself: latency, and
//! under full load the interrupts. It loses the processor's time while nothing comes, and what shares the processor
//! loses with it. Over loopback there is nothing to ask: a packet is handed to the receiver by the sender's own call,
//! its socket has no NAPI instance (SO_INCOMING_NAPI_ID is 0), and a wait sleeps as ever. There this row shows what it
//! costs to have set it.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use super::Epoll;

/// How an epoll instance polls the device: ioctl_eventpoll(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusyPoll {
    /// How long a wait that finds nothing polls before it sleeps; in whole microseconds, rounded up.
    pub at_most: Duration,
    /// The most packets taken by one look. Above 64 takes CAP_NET_ADMIN.
    pub budget: u16,
    /// Whether the device's interrupts stay off while the application comes back in time. Of use only if the device is
    /// set up for it: napi_defer_hard_irqs and gro_flush_timeout.
    pub prefer: bool,
}

impl Default for BusyPoll {
    /// What the kernel's documentation has for examples: 50 µs, and 8 packets, its own default.
    fn default() -> BusyPoll {
        BusyPoll { at_most: Duration::from_micros(50), budget: 8, prefer: false }
    }
}

impl Epoll {
    /// Opens an epoll instance that polls the device before it sleeps.
    ///
    /// # Errors
    /// `Unsupported` if the kernel does not know of it, `PermissionDenied` if the budget is beyond what anybody may
    /// set; the text says which. Else as [`open`](Epoll::open).
    pub fn busy(parameters: &BusyPoll) -> io::Result<Epoll> {
        let epoll = Epoll::open()?;
        // SAFETY: EPIOCSPARAMS takes a pointer to an `epoll_params`, which `Parameters` is.
        let set = unsafe { Setter::<SET, Parameters>::new(Parameters::from(parameters)) };
        // SAFETY: as above. It reads the parameters, and changes nothing but the instance.
        unsafe { ioctl(&epoll.queue, set) }.map_err(|errno| explain(errno, parameters))?;
        Ok(epoll)
    }
}

fn explain(errno: Errno, parameters: &BusyPoll) -> io::Error {
    let reason = match errno {
        Errno::NOTTY | Errno::INVAL => {
            "this kernel's epoll has no busy-poll parameters: Linux 6.9 brought them".to_owned()
        }
        Errno::OPNOTSUPP => "this kernel is built without busy polling, CONFIG_NET_RX_BUSY_POLL".to_owned(),
        Errno::PERM => {
            format!("a budget of {} packets takes CAP_NET_ADMIN, or a sandbox forbids it", parameters.budget)
        }
        errno => return errno.into(),
    };
    let name = match errno {
        Errno::NOTTY => "ENOTTY",
        Errno::INVAL => "EINVAL",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        _ => "EPERM",
    };
    let kind = if errno == Errno::PERM { io::ErrorKind::PermissionDenied } else { io::ErrorKind::Unsupported };
    io::Error::new(kind, format!("{reason} ({name})"))
}

/// The kernel's `epoll_params`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Parameters {
    busy_poll_usecs: u32,
    busy_poll_budget: u16,
    prefer_busy_poll: u8,
    padding: u8,
}

impl From<&BusyPoll> for Parameters {
    fn from(parameters: &BusyPoll) -> Parameters {
        // The kernel's own limit.
        let micros = parameters.at_most.as_nanos().div_ceil(1_000).min(i32::MAX as u128);
        Parameters {
            busy_poll_usecs: micros as u32,
            busy_poll_budget: parameters.budget,
            prefer_busy_poll: parameters.prefer.into(),
            padding: 0,
        }
    }
}

/// EPIOCSPARAMS.
const SET: Opcode = opcode::write::<Parameters>(0x8A, 0x01);

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use rustix::ioctl::Getter;

    use super::*;

    /// EPIOCGPARAMS.
    const GET: Opcode = opcode::read::<Parameters>(0x8A, 0x02);

    #[test]
    fn the_kernel_keeps_what_it_was_told_or_the_reason_is_given() {
        let asked = BusyPoll { at_most: Duration::from_nanos(39_001), budget: 64, prefer: true };
        let epoll = match Epoll::busy(&asked) {
            Ok(epoll) => epoll,
            Err(why) => {
                assert!(why.to_string().contains("(E"), "{why}");
                println!("SKIPPED, NOT CHECKED: {why}");
                return;
            }
        };
        // SAFETY: EPIOCGPARAMS writes an `epoll_params`, which `Parameters` is.
        let get = unsafe { Getter::<GET, Parameters>::new() };
        // SAFETY: as above.
        let kept = unsafe { ioctl(&epoll.queue, get) }.expect("what can be set can be got");
        assert_eq!(kept, Parameters { busy_poll_usecs: 40, busy_poll_budget: 64, prefer_busy_poll: 1, padding: 0 });
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let parameters = BusyPoll { budget: 65, ..BusyPoll::default() };
        let cases = [
            (Errno::NOTTY, io::ErrorKind::Unsupported, "Linux 6.9 brought them (ENOTTY)"),
            (Errno::INVAL, io::ErrorKind::Unsupported, "Linux 6.9 brought them (EINVAL)"),
            (Errno::OPNOTSUPP, io::ErrorKind::Unsupported, "CONFIG_NET_RX_BUSY_POLL (EOPNOTSUPP)"),
            (Errno::PERM, io::ErrorKind::PermissionDenied, "65 packets"),
        ];
        for (errno, kind, part) in cases {
            let error = explain(errno, &parameters);
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(explain(Errno::NOMEM, &parameters).raw_os_error(), Some(Errno::NOMEM.raw_os_error()));
    }

    /// What the header says of loopback.
    #[test]
    fn a_loopback_socket_has_no_device_to_ask() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback can be bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (mut server, _) = listener.accept().expect("it connected");
        io::Write::write_all(&mut client, b"x").expect("there is room");
        io::Read::read_exact(&mut server, &mut [0]).expect("it was sent");
        let (mut id, mut length) = (u32::MAX, size_of::<u32>() as libc::socklen_t);
        // SAFETY: `id` is a writable number of `length` bytes, and both outlive the call.
        let got = unsafe {
            libc::getsockopt(
                server.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_INCOMING_NAPI_ID,
                (&raw mut id).cast(),
                &mut length,
            )
        };
        if got == 0 {
            assert_eq!(id, 0, "this socket has a NAPI instance: say so in the header");
        } else {
            println!("SKIPPED, NOT CHECKED: {}", io::Error::last_os_error()); // built without busy polling
        }
    }
}
