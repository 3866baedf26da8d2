//! What connections take of the kernel's memory: how its slabs have grown, cache by cache.
//!
//! The whole machine's slabs tell little of us: whoever reads files meanwhile makes them grow too. But a cache that has
//! gained an object for each connection has gained them from these. Objects are counted, and each is charged its part
//! of a slab, so that slabs that were there already, and were filled, are not got for nothing.

use std::collections::BTreeMap;
use std::fs;

/// Slabs are pages, of this many bytes on every kernel that shows them so.
const PAGE: u64 = 4_096;

const PROC_INODES: &str = "proc_inode_cache";
const ENTRIES: &str = "dentry";

/// The slabs at one time.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Slabs {
    /// Of each cache: objects in use, and what one of them takes.
    caches: BTreeMap<String, (u64, f64)>,
    /// All together, whatever they are used for, in bytes.
    total: Option<u64>,
}

impl Slabs {
    /// Reads them: the caches only for root, and nothing where there are none.
    pub(super) fn read() -> Slabs {
        let file = |path: &str| {
            if cfg!(linux_like) { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
        };
        Slabs { caches: caches(&file("/proc/slabinfo")), total: total(&file("/proc/meminfo")) }
    }

    /// By how many bytes each cache has grown until `now`, of those that have gained an object or more for each two of
    /// `connections`. Fewer may be anybody's.
    pub(super) fn grown(&self, now: &Slabs, connections: usize) -> BTreeMap<String, u64> {
        let least = (connections as u64).div_ceil(2);
        let gained = |name: &str| {
            let objects = |slabs: &Slabs| slabs.caches.get(name).map_or(0, |(objects, _)| *objects);
            objects(now).saturating_sub(objects(self))
        };
        // Whoever looks into /proc/PID/fd meanwhile makes an inode and an entry for each descriptor listed there.
        let seen = gained(PROC_INODES);
        let grown = now.caches.iter().filter(|(name, _)| *name != PROC_INODES).filter_map(|(name, (_, bytes))| {
            let more = gained(name).saturating_sub(if name == ENTRIES { seen } else { 0 });
            (more >= least).then(|| (name.clone(), (more as f64 * bytes) as u64))
        });
        grown.collect()
    }

    /// By how many bytes all have grown together, whoever used them.
    pub(super) fn grown_in_all(&self, now: &Slabs) -> Option<u64> {
        Some(now.total?.saturating_sub(self.total?))
    }
}

/// A line of /proc/slabinfo: name, objects in use, objects, size, objects and pages of a slab.
fn caches(slabinfo: &str) -> BTreeMap<String, (u64, f64)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.to_owned();
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (used, _all, _size, objects, pages) = (number()?, number()?, number()?, number()?, number()?);
        Some((name, (used, (pages * PAGE) as f64 / objects.max(1) as f64)))
    };
    slabinfo.lines().filter_map(line).collect()
}

fn total(meminfo: &str) -> Option<u64> {
    let figures = meminfo.lines().find_map(|line| line.strip_prefix("Slab:"))?;
    Some(figures.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slabs(sockets: u64, entries: u64, seen: u64) -> Slabs {
        let text = format!(
            "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
             TCP                {sockets}   {sockets}   2368   13    8 : tunables    0    0    0 : slabdata      7\n\
             dentry             {entries}   {entries}    192   21    1 : tunables    0    0    0 : slabdata     12\n\
             proc_inode_cache   {seen}   {seen}    704   23    4 : tunables    0    0    0 : slabdata     9\n"
        );
        Slabs { caches: caches(&text), total: total("MemTotal: 1 kB\nSlab:   100 kB\n") }
    }

    #[test]
    fn a_cache_is_charged_to_connections_that_each_took_of_it() {
        let (before, after) = (slabs(10, 500, 7), slabs(2_010, 520, 7));
        assert_eq!(before.caches.len(), 3, "the headings are no caches");
        let grown = before.grown(&after, 1_000);
        assert_eq!(grown.into_iter().collect::<Vec<_>>(), [("TCP".to_owned(), 2_000 * 8 * 4_096 / 13)]);
        assert!(before.grown(&before, 1).is_empty() && before.grown(&after, 0).contains_key("dentry"));
        // 2,000 entries of sockets, and 1,500 of somebody who has looked at them.
        let seen = before.grown(&slabs(2_010, 4_000, 1_507), 1_000);
        assert_eq!((seen.len(), seen["dentry"]), (2, 2_000 * 4_096 / 21));
        assert_eq!((before.grown_in_all(&after), Slabs::default().grown_in_all(&after)), (Some(0), None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_kernel_shows_at_least_the_whole() {
        let now = Slabs::read();
        assert!(now.total.is_some_and(|bytes| bytes > 1 << 20), "{now:?}");
        if now.caches.is_empty() {
            println!("NOT CHECKED: /proc/slabinfo is for root only, or not there");
        } else {
            assert!(now.caches.keys().any(|name| name.starts_with("TCP")), "{now:?}");
        }
    }
}
