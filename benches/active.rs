//! Many active connections and no idle one: what does an exchange cost when a wait has much to return?
//!
//! An iteration is one 64-byte echo over TCP, every byte verified, on any of the connections: all are kept busy. The
//! server runs in a process of its own. On two CPUs the load takes about as much as the server, so equal figures may
//! mean an equal client; `pollmark compare` tells.

mod common;

use pollmark::workload::Until;

fn main() {
    common::main(|criterion| {
        let workload = common::Workload {
            name: "active",
            sizes: &[1, 10, 100, 1_000],
            at_once: |active| active,
            open: |load, active| load.open_active(active),
            run: |load, _, iterations| load.run(Until::Requests(iterations)),
        };
        workload.measure(criterion);
    });
}
