//! What it took to have a population: the time to open it, and memory, the processes' and the kernel's.

use std::time::{Duration, Instant};

use super::counters::Counters;
use super::memory::Slabs;
use super::record::Population;
use super::visit::Errand;

/// Fewer connections leave no trace in the kernel's caches that is sure to be theirs.
const FEW: usize = 1_000;

/// What there was before the first idle connection was opened.
pub(super) struct Before {
    slabs: Slabs,
    counters: Counters,
    servers: Option<u64>,
    loads: Option<u64>,
    began: Instant,
}

impl Before {
    /// Looks, and starts the clock. What the processes have to themselves is known already.
    pub(super) fn now(servers: Option<u64>, loads: Option<u64>) -> Before {
        let (slabs, counters) = (Slabs::read(), Counters::read());
        Before { slabs, counters, servers, loads, began: Instant::now() }
    }

    /// How long it has been.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What has come with the connections of the errand, which are open, and took so long to be.
    pub(super) fn until_now(
        &self,
        errand: &Errand<'_>,
        took: Duration,
        servers: Option<u64>,
        loads: Option<u64>,
    ) -> Population {
        let grown = |before: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(before?));
        let slabs = Slabs::read();
        let enough = errand.idle() >= FEW;
        Population {
            processes: errand.processes as u32,
            sources: errand.sources.map(|sources| sources.count() as u32),
            setup_ns: took.as_nanos() as u64,
            servers_bytes: grown(self.servers, servers),
            loads_bytes: grown(self.loads, loads),
            slabs_bytes: if enough { self.slabs.grown_in_all(&slabs) } else { None },
            caches_bytes: if enough { self.slabs.grown(&slabs, errand.idle()) } else { Default::default() },
            kernel: self.counters.risen(&Counters::read()),
            time_wait_left: None,
        }
    }
}
