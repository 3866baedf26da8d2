//! One TCP socket as the kernel describes it: addresses, state, queues, and the figures of its connection.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

/// A TCP socket of this host.
///
/// What the two queues hold depends on the state, as in the output of ss(8): a listener's are connections, a
/// connection's are bytes. [`Socket::accept_queue`] tells of a listener; the fields are the kernel's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Socket {
    /// How far it is.
    pub state: State,
    /// Its own address.
    pub local: SocketAddr,
    /// Whom it is connected to; of a listener port 0 of no address.
    pub peer: SocketAddr,
    /// Bytes received that the program has not read, where the end of the stream counts as one; of a listener,
    /// connections it has not accepted.
    pub receive_queue: u32,
    /// Bytes written that the peer has not acknowledged; of a listener, how many may wait to be accepted. 0 where a
    /// listener's limit is not told: in /proc it is not.
    pub send_queue: u32,
    /// How often what is to be sent next was sent in vain: since the last acknowledgement.
    pub retransmissions: u8,
    /// In how many milliseconds its timer runs out: it then sends again, or probes, or TIME_WAIT is over. 0 if it
    /// waits for nothing.
    pub timer_ms: u32,
    /// The user it belongs to, by number.
    pub user: u32,
    /// What the kernel calls it; descriptors refer to it so. 0 if no program holds it: it is not accepted yet, or not
    /// any more a program's.
    pub inode: u64,
    /// What TCP knows of the connection, if it was [asked for](super::Sockets::with_figures) and is told.
    pub figures: Option<Figures>,
    /// The memory it takes, likewise.
    pub memory: Option<Memory>,
}

impl Socket {
    /// How many connections wait in this listener's queue, and how many may: one more than that have room, for the
    /// kernel compares before it counts. `None` of anything but a listener; the limit is `None` where it is not told.
    pub fn accept_queue(&self) -> Option<(u32, Option<u32>)> {
        let limit = (self.send_queue > 0 || self.figures.is_some()).then_some(self.send_queue);
        (self.state == State::Listen).then_some((self.receive_queue, limit))
    }

    /// A number by which it is told from every other socket of its kind: its two addresses.
    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.local, self.peer)
    }
}

/// How far a TCP socket is, by the names of RFC 9293 as Linux writes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Both ends may send.
    Established,
    /// A client's: it has asked, and nobody has answered.
    SynSent,
    /// A server's: asked, it has answered, and the client has not confirmed that. Half-open.
    SynRecv,
    /// It was closed here, and the peer has not acknowledged that.
    FinWait1,
    /// It was closed here and acknowledged; the peer has yet to close its end.
    FinWait2,
    /// Over: the end that closed first waits for stray segments, a minute on Linux.
    TimeWait,
    /// Nothing: not connected yet, or not any more.
    Close,
    /// The peer has closed its end; the program has yet to close its own.
    CloseWait,
    /// Both have closed, the peer first; it has not acknowledged ours.
    LastAck,
    /// Waits for clients, and is connected to nobody ever.
    Listen,
    /// Both have closed at once.
    Closing,
}

impl State {
    /// Every state, in the order of the kernel's numbers, the first of which is 1.
    pub const ALL: [State; 11] = [
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait1,
        State::FinWait2,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::Closing,
    ];

    /// From the kernel's tcp_states.h.
    pub(super) fn from_number(number: u8) -> Option<State> {
        // A request for a connection, TCP_NEW_SYN_RECV, is told apart in the kernel alone.
        let number = if number == 12 { 3 } else { number };
        State::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    pub(super) fn bit(self) -> u32 {
        1 << (self as u32 + 1)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::Closing => "CLOSING",
        })
    }
}

/// What TCP knows of a connection: of the kernel's `tcp_info`, what a person asks for. What an older kernel does not
/// tell is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Figures {
    /// The smoothed round-trip time, in microseconds.
    pub rtt_us: u32,
    /// Its mean deviation, in microseconds.
    pub rtt_deviation_us: u32,
    /// How long it waits for an acknowledgement before it sends again, in microseconds.
    pub retransmit_after_us: u32,
    /// The most bytes of data in one segment it sends.
    pub segment: u32,
    /// How many milliseconds ago data came last, in steps of the kernel's tick; since it was opened, if none has.
    pub last_received_ms: u32,
    /// How many segments may be under way.
    pub congestion_window: u32,
    /// How many are, unacknowledged.
    pub unacknowledged: u32,
    /// Segments sent again since it was opened.
    pub retransmitted: u32,
    /// Bytes written that have not been sent even once.
    pub not_sent: u32,
    /// Bytes the peer has acknowledged since it was opened.
    pub acknowledged: u64,
    /// Bytes received since it was opened.
    pub received: u64,
    /// Segments with data sent, and received, since it was opened.
    pub data_segments: (u32, u32),
    /// Bytes the peer has room for, as it last said: 0 is a window that is shut. `None` before Linux 5.4.
    pub peer_window: Option<u32>,
}

/// The memory of a socket, in bytes of the kernel, which are more than those of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Memory {
    /// What was received and not read takes so much,
    pub receive: u32,
    /// of so much (SO_RCVBUF, doubled by the kernel).
    pub receive_limit: u32,
    /// What was written and not acknowledged takes so much,
    pub send: u32,
    /// of so much (SO_SNDBUF, doubled by the kernel).
    pub send_limit: u32,
}
