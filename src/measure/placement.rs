//! Which CPUs server and load are bound to: two that share no core, if there are such.

use std::fs;

use crate::usage;

/// A CPU for each of the two; none where they cannot be bound, or where there is only one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Placement {
    pub(super) server: Option<usize>,
    pub(super) load: Option<usize>,
}

impl Placement {
    /// The first CPU this process may use, and the first that is no sibling of it.
    pub(super) fn choose() -> Placement {
        let cpus = usage::cpus();
        let [server, others @ ..] = cpus.as_slice() else { return Placement::default() };
        let siblings = siblings(*server);
        let apart = others.iter().find(|cpu| !siblings.contains(cpu));
        match apart.or(others.first()) {
            Some(load) => Placement { server: Some(*server), load: Some(*load) },
            None => Placement::default(),
        }
    }
}

/// The CPUs that share a core with `cpu`, as far as the system tells.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path).map(|list| parse(&list)).unwrap_or_default()
}

/// Reads `0-1,8`.
fn parse(list: &str) -> Vec<usize> {
    let numbers = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(numbers).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse("0-1\n"), [0, 1]);
        assert_eq!(parse("0,64\n"), [0, 64]);
        assert_eq!(parse("2-3,8"), [2, 3, 8]);
        assert!(parse("").is_empty());
    }

    #[test]
    fn server_and_load_never_share_a_cpu() {
        let placement = Placement::choose();
        assert!(placement.server.is_none() || placement.server != placement.load, "{placement:?}");
        assert_eq!(placement.server.is_none(), placement.load.is_none());
    }
}
