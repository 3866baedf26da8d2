//! One active connection among many idle ones: what does it cost a server to have to pass over them?
//!
//! An iteration is one 64-byte echo over TCP, every byte verified; the server sleeps in its wait before each. It runs
//! in a process of its own. criterion measures one mechanism after the other; for a comparison in interleaved rounds,
//! with the server's CPU time and system calls, use `pollmark compare`.

mod common;

use pollmark::workload::Until;

fn main() {
    common::main(|criterion| {
        let workload = common::Workload {
            name: "idle",
            sizes: &[10, 100, 1_000, 9_000],
            at_once: |idle| idle + 1,
            open: |load, idle| {
                load.open_idle(idle)?;
                load.open_active(1)
            },
            run: |load, _, iterations| load.run(Until::Requests(iterations)),
        };
        workload.measure(criterion);
    });
}
