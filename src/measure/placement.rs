//! Which CPUs server and load are bound to: two that share no core, if there are such, and more for more threads.

use crate::cpus::{self, Pinning};

/// A CPU for each of the two; none where they cannot be bound, or where there is only one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Placement {
    pub(super) server: Option<usize>,
    pub(super) load: Option<usize>,
}

impl Placement {
    /// The first CPU this process may use, and the first that is no sibling of it.
    pub(super) fn choose() -> Placement {
        match cpus::apart().as_slice() {
            [server, load, ..] => Placement { server: Some(*server), load: Some(*load) },
            _ => Placement::default(),
        }
    }

    /// A CPU for each of so many threads of the server. The load's is among them only if there are too few others.
    pub(super) fn of_threads(self, threads: usize) -> Vec<usize> {
        let all = cpus::apart();
        let others: Vec<usize> = all.iter().copied().filter(|cpu| Some(*cpu) != self.load).collect();
        let from = if others.len() < threads { all } else { others };
        from.iter().copied().cycle().take(if from.is_empty() { 0 } else { threads }).collect()
    }

    /// The same, for them to be bound to.
    pub(super) fn pin(self, threads: usize) -> Pinning {
        match self.of_threads(threads) {
            cpus if cpus.is_empty() => Pinning::None,
            cpus => Pinning::To(cpus),
        }
    }

    /// Whether one of these is the load's too.
    pub(super) fn is_shared(self, cpus: &[usize]) -> bool {
        self.load.is_none_or(|load| cpus.contains(&load))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_server_leave_the_load_its_cpu_if_there_are_enough() {
        let placement = Placement::choose();
        let all = cpus::allowed().len();
        for threads in 1..=4 {
            let cpus = placement.of_threads(threads);
            assert_eq!(cpus.len(), if all == 0 { 0 } else { threads });
            assert_eq!(placement.is_shared(&cpus), all <= threads, "{threads} threads on {all} CPUs");
        }
    }

    #[test]
    fn server_and_load_never_share_a_cpu() {
        let placement = Placement::choose();
        assert!(placement.server.is_none() || placement.server != placement.load, "{placement:?}");
        assert_eq!(placement.server.is_none(), placement.load.is_none());
    }
}
