//! What newer kernels add to the completion driver: each by a name, a line, and how its ring is made.

#[cfg(completion)]
use pollmark_backends::completion::Setup;

/// A variant of `completion`. What the kernel does for it, and where that wins, stands with its field of `Setup`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Extra {
    MinWait,
    ZeroCopy,
    Bundle,
    Sqpoll,
}

impl Extra {
    pub(super) const ALL: [Extra; 4] = [Extra::MinWait, Extra::ZeroCopy, Extra::Bundle, Extra::Sqpoll];

    pub(super) fn name(self) -> &'static str {
        match self {
            Extra::MinWait => "completion-minwait",
            Extra::ZeroCopy => "completion-zc",
            Extra::Bundle => "completion-bundle",
            Extra::Sqpoll => "completion-sqpoll",
        }
    }

    pub(super) fn summary(self) -> &'static str {
        match self {
            Extra::MinWait => "completion that sleeps on for 20 µs, to hear of more at once",
            Extra::ZeroCopy => {
                "completion that sends 16 KiB and more without a copy; on loopback the kernel makes one later"
            }
            Extra::Bundle => "completion that sends what came in several buffers back by one operation",
            Extra::Sqpoll => "completion with a thread of the kernel that takes what is queued",
        }
    }

    #[cfg(completion)]
    pub(super) fn setup(self) -> Setup {
        match self {
            Extra::MinWait => Setup::min_wait(),
            Extra::ZeroCopy => Setup::zero_copy(),
            Extra::Bundle => Setup::bundles(),
            Extra::Sqpoll => Setup::sqpoll(),
        }
    }
}
