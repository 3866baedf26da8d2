//! How a ring that completes is made: its sizes, and what newer kernels can do for it.

use std::time::Duration;

/// How a [`Ring`](super::Ring) is made. The defaults serve many connections with small messages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// Operations that fit into the memory shared with the kernel. More than that wait in memory of ours.
    pub submissions: u32,
    /// Completions that fit. What finds no room is kept by the kernel, at a price. Never less than `submissions`.
    pub completions: u32,
    /// Receive buffers, for all connections together; rounded up to a power of two, at most 32,768.
    pub buffers: u16,
    /// Size of each, in bytes.
    pub buffer_size: u32,
    /// Room for what one turn sends silently and does not lie in a receive buffer, in bytes.
    pub outbox: usize,
    /// Completions are made only inside calls of ours, where the kernel can do that.
    pub deferred: bool,
    /// A sleep goes on for a while although something has completed, to hear of more at once.
    ///
    /// Since Linux 6.12, "io_uring: add support for batch wait timeout" (IORING_FEAT_MIN_TIMEOUT; io_uring_enter(2)).
    /// It should win calls and wake-ups where many connections are active and nobody minds a little delay. It loses
    /// that delay whenever fewer have something to say than it waits for; with one active connection that is each time.
    pub min_wait: Option<MinWait>,
    /// What [`Ring::send`](super::Ring::send) is given is not copied from so many bytes on: IORING_OP_SEND_ZC.
    ///
    /// Since Linux 6.0 (io_uring_enter(2); the kernel's Documentation/networking/msg_zerocopy.rst has the same of
    /// send(2)). The device reads the pages where they are, and the memory is held until the peer has acknowledged
    /// them. It should win where payloads are large and the device can gather; it loses a second completion, and the
    /// accounting of pages, which for small payloads cost more than the copy. Over loopback it cannot win: the kernel
    /// makes the copy after all, later. A socket that cannot, as one of AF_UNIX, ends it for the ring.
    pub zero_copy_from: usize,
    /// A thread of the kernel's takes what is queued: IORING_SETUP_SQPOLL. Completions are then its affair too.
    ///
    /// Since Linux 5.1, for everybody since 5.13 (io_uring_setup(2)). It should win where there is a processor to
    /// spare: what is queued begins at once and without a call, and sending is done there. It loses that processor's
    /// time, also for a while after nothing came; and a loop that sleeps makes its call all the same. The thread is one
    /// of this process, `iou-sqp-`, and so its time is in getrusage(2); it runs on any processor, whatever the process
    /// is bound to.
    pub thread: bool,
    /// So many sends of a turn may be bundles, each of up to 64 buffers that were received into:
    /// IORING_RECVSEND_BUNDLE. At most 1,024; each has a group of buffers, that is a page.
    ///
    /// Since Linux 6.10 (io_uring_enter(2), IORING_FEAT_RECVSEND_BUNDLE). It should win where what comes in at once
    /// fills several buffers and goes back as it came: that is then sent from where it lies, and in the same turn,
    /// instead of being copied and sent in the next. Where it fits into one buffer, nothing is bundled, and nothing is
    /// won or lost. It does not go together with a [`thread`](Setup::thread).
    pub bundles: u16,
}

/// For how long a sleep goes on, and for how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MinWait {
    /// With so many completions it is over at once.
    pub completions: u32,
    /// Until then it is over when there is one, and this has passed; in whole microseconds, rounded up.
    pub at_least: Duration,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            submissions: 256,
            completions: 1_024,
            buffers: 256,
            buffer_size: 4 * 1024,
            outbox: 64 * 1024,
            deferred: true,
            min_wait: None,
            zero_copy_from: usize::MAX,
            thread: false,
            bundles: 0,
        }
    }
}

impl Setup {
    /// The default, and sleeps that go on for 20 µs unless 32 completions have come.
    pub fn min_wait() -> Setup {
        let min_wait = MinWait { completions: 32, at_least: Duration::from_micros(20) };
        Setup { min_wait: Some(min_wait), ..Setup::default() }
    }

    /// The default with fewer but larger buffers, and sends without a copy from 16 KiB on.
    pub fn zero_copy() -> Setup {
        Setup { buffers: 64, buffer_size: 64 * 1024, zero_copy_from: 16 * 1024, ..Setup::default() }
    }

    /// The default, and up to 64 bundles of sends in a turn.
    pub fn bundles() -> Setup {
        Setup { bundles: 64, ..Setup::default() }
    }

    /// The default, and a thread of the kernel's that takes what is queued.
    pub fn sqpoll() -> Setup {
        Setup { thread: true, ..Setup::default() }
    }
}
