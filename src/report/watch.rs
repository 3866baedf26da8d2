//! A port on a terminal: listeners and their queues, how many connections are in which state, the fullest of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::format::{grouped, plain};
use super::terminal::{BOLD, FAINT, RED, Style, paint, wrap_at};
use crate::observe::{Descriptor, Port, Socket, State, View};

/// What one look has seen, in at most so many lines, if there is a limit: connections that have no room are counted.
pub fn render(view: &View, style: Style, lines: Option<usize>) -> String {
    let mut out = String::new();
    head(&mut out, view, style);
    listeners(&mut out, &view.port, style);
    states(&mut out, &view.port, style);
    for (process, theirs) in &view.descriptors {
        descriptors(&mut out, *process, theirs, style);
    }
    for (name, rise) in &view.risen {
        let text = format!("{name} of this host has risen by {}", grouped(*rise));
        wrap_at(&mut out, &paint(&plain(&text), RED, style), style, 0, 2);
    }
    let room = lines.map_or(usize::MAX, |lines| lines.saturating_sub(out.lines().count() + 3));
    connections(&mut out, &view.port, style, room);
    out
}

fn head(out: &mut String, view: &View, style: Style) {
    let owners = view.owners.iter().map(|one| format!("{} (process {})", one.name, one.process));
    let owners = match view.owners.len() {
        0 => "a process that is not shown to this user, or none".to_owned(),
        _ => owners.collect::<Vec<_>>().join(", "),
    };
    let _ =
        writeln!(out, "{}", paint(&cut(&format!("port {}: {}", view.port.port, plain(&owners)), style), BOLD, style));
}

fn listeners(out: &mut String, port: &Port, style: Style) {
    if port.listeners.is_empty() {
        wrap_at(out, "nobody listens", style, 2, 2);
    }
    for one in &port.listeners {
        let (waiting, limit) = one.accept_queue().expect("it listens");
        // One more than the limit has room.
        let full = limit.is_some_and(|limit| waiting > limit);
        let limit = limit.map_or("limit not told".to_owned(), |limit| format!("limit {limit}"));
        let text = cut(&format!("  {}: {waiting} wait to be accepted, {limit}", one.local), style);
        let _ = writeln!(out, "{}", if full { paint(&text, RED, style) } else { text });
    }
}

fn states(out: &mut String, port: &Port, style: Style) {
    let states = port.states();
    let each = states.iter().map(|(state, count)| format!("{} {state}", grouped(*count as u64)));
    let each = match states.len() {
        0 => "no connections".to_owned(),
        _ => each.collect::<Vec<_>>().join(", "),
    };
    wrap_at(out, &each, style, 2, 4);
    let queued = |of: fn(&Socket) -> u32| grouped(port.connections.iter().map(|one| u64::from(of(one))).sum());
    let (unread, unacknowledged) = (queued(|one| one.receive_queue), queued(|one| one.send_queue));
    let resent = port.connections.iter().filter_map(|one| one.figures).map(|one| u64::from(one.retransmitted)).sum();
    let memory =
        port.connections.iter().filter_map(|one| one.memory).map(|one| u64::from(one.receive + one.send)).sum();
    let text = format!(
        "{unread} B unread, {unacknowledged} B unacknowledged, {} segments sent again, {} B of the kernel's memory",
        grouped(resent),
        grouped(memory)
    );
    wrap_at(out, &text, style, 2, 4);
}

/// A line for each kind, with the numbers of a few.
fn descriptors(out: &mut String, process: u32, all: &[Descriptor], style: Style) {
    let mut kinds = BTreeMap::<String, Vec<i32>>::new();
    for one in all {
        let state = one.socket.as_ref().map(|socket| format!(" {}", socket.state)).unwrap_or_default();
        kinds.entry(format!("{}{state}", one.kind)).or_default().push(one.number);
    }
    let _ = writeln!(out, "  descriptors of process {process}: {}", all.len());
    for (kind, numbers) in kinds {
        let few = numbers.iter().take(12).map(i32::to_string).collect::<Vec<_>>().join(" ");
        let more = if numbers.len() > 12 { " …" } else { "" };
        wrap_at(out, &plain(&format!("{} {kind}: {few}{more}", numbers.len())), style, 4, 6);
    }
}

/// The fullest queues first, for those are why one looks.
fn connections(out: &mut String, port: &Port, style: Style, room: usize) {
    let mut connections = port.connections.iter().collect::<Vec<_>>();
    let fullness = |one: &Socket| u64::from(one.receive_queue) + u64::from(one.send_queue);
    connections.sort_by_key(|one| (std::cmp::Reverse(fullness(one)), one.state == State::TimeWait, one.peer));
    if connections.is_empty() || room == 0 {
        return;
    }
    let peers = connections.iter().map(|one| one.peer.to_string().len()).max().unwrap_or(0).max(4);
    // The more needed first: what does not fit at the end is left out, column by column.
    let columns = [
        ("peer", peers),
        ("state", 11),
        ("unread", 9),
        ("unacked", 9),
        ("RTT µs", 7),
        ("resent", 6),
        ("window", 9),
        ("memory", 9),
    ];
    let mut used = 0;
    let fit = |(_, width): &&(&str, usize)| {
        used += 2 + width;
        used <= style.width
    };
    let fitting = columns.iter().take_while(fit).count();
    let row = |cells: [&str; 8]| {
        let mut text = String::new();
        for (at, (cell, (_, width))) in cells.into_iter().zip(columns).take(fitting).enumerate() {
            let _ = if at < 2 { write!(text, "  {cell:width$}") } else { write!(text, "  {cell:>width$}") };
        }
        cut(&text, style)
    };
    let _ = writeln!(out, "{}", paint(&row(columns.map(|(head, _)| head)), FAINT, style));
    for one in connections.iter().take(room) {
        let none = || "–".to_owned();
        let figure = |of: fn(&crate::observe::Figures) -> Option<u32>| {
            one.figures.as_ref().and_then(of).map_or_else(none, |figure| figure.to_string())
        };
        let memory = one.memory.map_or_else(none, |memory| (memory.receive + memory.send).to_string());
        let cells = [
            &one.peer.to_string(),
            &one.state.to_string(),
            &one.receive_queue.to_string(),
            &one.send_queue.to_string(),
            &figure(|figures| Some(figures.rtt_us)),
            &figure(|figures| Some(figures.retransmitted)),
            &figure(|figures| figures.peer_window),
            &memory,
        ];
        let _ = writeln!(out, "{}", row(cells.map(String::as_str)));
    }
    if let Some(more) = connections.len().checked_sub(room).filter(|more| *more > 0) {
        let _ = writeln!(out, "  and {} more", grouped(more as u64));
    }
}

/// At most as wide as the terminal.
fn cut(text: &str, style: Style) -> String {
    match text.chars().count() > style.width {
        true => text.chars().take(style.width.saturating_sub(1)).chain(['…']).collect(),
        false => text.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Figures, Kind, Memory, Owner};

    fn socket(state: State, peer: &str, queues: (u32, u32)) -> Socket {
        Socket {
            state,
            local: "127.0.0.1:7000".parse().expect("an address"),
            peer: peer.parse().expect("an address"),
            receive_queue: queues.0,
            send_queue: queues.1,
            retransmissions: 0,
            timer_ms: 0,
            user: 0,
            inode: 1,
            figures: Some(Figures { rtt_us: 45, retransmitted: 2, peer_window: Some(0), ..Figures::default() }),
            memory: Some(Memory { receive: 2_304, receive_limit: 131_072, send: 0, send_limit: 87_040 }),
        }
    }

    fn view(connections: usize) -> View {
        let peer = |at: usize| format!("127.0.0.2:{}", 40_000 + at);
        let connections = (0..connections).map(|at| socket(State::Established, &peer(at), (at as u32, 0)));
        let listener = socket(State::Listen, "0.0.0.0:0", (3, 2));
        let standard = Descriptor { number: 0, kind: Kind::File, name: "/dev/null".to_owned(), socket: None };
        let open = Descriptor {
            number: 3,
            kind: Kind::Socket("TCP".to_owned()),
            name: "socket:[1]".to_owned(),
            socket: Some(listener.clone()),
        };
        View {
            port: Port { port: 7_000, listeners: vec![listener], connections: connections.collect() },
            owners: vec![Owner { process: 42, name: "red\u{1b}[2Jis".to_owned() }],
            descriptors: BTreeMap::from([(42, vec![standard, open])]),
            risen: BTreeMap::from([("ListenOverflows".to_owned(), 7)]),
        }
    }

    #[test]
    fn it_fits_into_the_terminal_and_the_fullest_queue_stays() {
        for (width, lines) in [(80, 24), (200, 60), (40, 12)] {
            let text = render(&view(9_000), Style { width, colour: false }, Some(lines));
            let widest = text.lines().max_by_key(|line| line.chars().count()).expect("lines");
            assert!(widest.chars().count() <= width && text.lines().count() <= lines, "{width}x{lines}:\n{text}");
            assert!(text.contains("127.0.0.2:48999") || lines == 12, "{text}");
            assert!(!text.contains('\u{1b}'), "a name is not a command to the terminal");
        }
        let text = render(&view(9_000), Style { width: 80, colour: false }, Some(24));
        assert!(text.contains(" more\n") && text.contains("9,000 ESTABLISHED"), "{text}");
        let heads = text.lines().find(|line| line.starts_with("  peer")).expect("a heading");
        assert!(heads.ends_with("  window") && !text.contains('…'), "whole columns: {text}");
    }

    #[test]
    fn a_queue_that_is_full_and_what_the_host_dropped_stand_out() {
        let text = render(&view(1), Style { width: 80, colour: true }, None);
        let red = |words: &str| text.lines().any(|line| line.contains(words) && line.starts_with("\u{1b}[31m"));
        assert!(red("3 wait to be accepted, limit 2") && red("ListenOverflows of this host has risen by 7"), "{text}");
        assert!(text.contains("1 TCP LISTEN: 3") && text.contains("1 file: 0"), "{text}");
    }
}
