//! What a request, and a connection, consist of: system calls, CPU time in user and kernel mode, memory.

use super::super::format::grouped;
use super::super::plot::{Bar, Bars, Group, Plot};
use super::super::population::held;
use super::super::summary::{Figures, Summary};
use super::super::table;
use super::super::wording::Wording;

/// System calls per request, by what they are made for.
pub(super) fn calls(summary: &Summary<'_>) -> Group {
    let of = |figures: &Figures| {
        let calls = figures.calls_for?;
        Some(vec![calls.wait, calls.change, calls.read, calls.write, calls.accept, calls.other])
    };
    let note = "Counted by the server itself, as strace(1) counts them; where a crate makes them, by formula. What a ring \
                takes with one call are many operations, and one call.";
    let parts = ["wait", "change", "receive", "send", "accept", "other"];
    split(summary, "System calls", note, "System calls", "system calls", &parts, of)
}

/// CPU time per request in user and kernel mode.
pub(super) fn cpu(summary: &Summary<'_>) -> Group {
    let of = |figures: &Figures| {
        let (cpu, user) = (figures.cpu_ns?.value / 1e3, figures.user_share?);
        Some(vec![cpu * user, cpu * (1.0 - user)])
    };
    let note = "The sum is precise; most kernels find out the split by their tick, so it is approximate.";
    let name = Wording::of(summary.record).title();
    split(summary, "CPU time: user and system", note, name, "µs of CPU", &["user", "system"], of)
}

/// A plot for each load that is shown by itself, a bar for each row.
fn split(
    summary: &Summary<'_>,
    title: &str,
    note: &str,
    name: &str,
    x_label: &'static str,
    parts: &[&'static str],
    of: impl Fn(&Figures) -> Option<Vec<f64>>,
) -> Group {
    let (loads, left_out) = super::loads_one_by_one(summary);
    let operation = Wording::of(summary.record).operation;
    let plots = loads.into_iter().map(|(idle, load)| {
        let bars = summary.table(idle, load).iter().map(|cell| {
            let known =
                cell.figures().map_or_else(|| super::why(&cell.outcome).map(Err), |figures| of(figures).map(Ok));
            bar(summary, cell.subject, known.unwrap_or_else(|| Err("not known".to_owned())))
        });
        let title = format!("{name} per {operation}, {}", table::load(summary, idle, load));
        Plot::Bars(Bars { title, x_label, parts: parts.to_vec(), bars: bars.collect() })
    });
    Group { title: title.to_owned(), plots: plots.collect(), note: format!("{note}{left_out}") }
}

/// Memory of each of the idle connections: of the server, and of the kernel.
pub(super) fn memory(summary: &Summary<'_>) -> Group {
    let bars = held(summary).map(|held| {
        let each = |bytes: u64| bytes as f64 / 1024.0 / f64::from(held.idle.max(1));
        let bar = |one: &super::super::population::Holder<'_>| {
            let known = one.population.servers_bytes.zip(one.kernel_bytes());
            let parts = known.map(|(server, kernel)| vec![each(server), each(kernel)]);
            bar(summary, one.subject, parts.ok_or_else(|| "this host does not tell".to_owned()))
        };
        let title = format!("Memory of each of {} idle connections", grouped(held.idle.into()));
        let parts = vec!["server", "kernel, both ends"];
        Plot::Bars(Bars { title, x_label: "KiB", parts, bars: held.rows.iter().map(bar).collect() })
    });
    let note = "Both ends of each connection are on this host, and in the kernel's part.";
    Group { title: "Memory of a connection".to_owned(), note: note.to_owned(), plots: bars.into_iter().collect() }
}

fn bar(summary: &Summary<'_>, row: usize, parts: Result<Vec<f64>, String>) -> Bar {
    Bar { row, name: summary.subjects[row].name.clone(), look: super::look(summary, row), parts }
}
