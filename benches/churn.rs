//! Connect, one exchange, close: what does it cost to take a connection on and to see it off?
//!
//! An iteration is one connection with one verified 64-byte echo; so many are under way at a time as the cell's name
//! says. The client closes by a reset, so that no port stays in TIME_WAIT.

mod common;

use pollmark::workload::Until;

fn main() {
    common::main(|criterion| {
        let workload = common::Workload {
            name: "churn",
            sizes: &[1, 10, 100],
            at_once: |_| 1,
            open: |_, _| Ok(()),
            run: |load, at_once, iterations| load.churn(at_once, Until::Requests(iterations)),
        };
        workload.measure(criterion);
    });
}
