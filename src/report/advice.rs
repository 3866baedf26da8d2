//! Advice for a live server, as a person reads it: what was seen, what each mechanism would cost, and whether that held.

use std::fmt::Write;

use super::format::{factor, grouped, markdown as escape, micros, percent, plain, three_digits};
use super::markdown;
use super::table::{Column, Kind, Row, Table};
use super::terminal::{BOLD, Style, draw, paint, wrap, wrap_at};
use crate::measure::advice::{Advice, Beyond, Pattern, Predicted, Replayed};
use crate::measure::stats::Interval;

/// For a terminal: what was seen, both tables, and last what follows from them.
pub fn render(advice: &Advice, style: Style) -> String {
    let mut out = format!("{}\n", paint(&plain(&title(advice)), BOLD, style));
    let facts = facts(advice);
    let indent = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 4;
    for (name, text) in &facts {
        let mut line = String::new();
        wrap_at(&mut line, &plain(text), prose(style), indent, indent);
        let _ = write!(out, "  {name:width$}{}", line.trim_start(), width = indent - 2);
    }
    out.push('\n');
    draw(&mut out, &prediction(advice), style);
    replay(advice).iter().for_each(|table| draw(&mut out, table, style));
    for line in cautions(advice).iter().chain([&LEGEND.to_owned()]).chain(&findings(advice)) {
        wrap(&mut out, &plain(line), prose(style));
    }
    out
}

/// As above, for a page.
pub fn markdown(advice: &Advice) -> String {
    let mut out = format!("## {}\n\n", escape(&title(advice)));
    for (name, text) in facts(advice) {
        let _ = writeln!(out, "- **{name}:** {}", escape(&text));
    }
    out.push('\n');
    markdown::draw(&mut out, &prediction(advice));
    replay(advice).iter().for_each(|table| markdown::draw(&mut out, table));
    for line in cautions(advice).iter().chain([&LEGEND.to_owned()]).chain(&findings(advice)) {
        let _ = writeln!(out, "{}\n", escape(line));
    }
    out
}

const LEGEND: &str = "Predicted by the cost model for a loop that does nothing but read and answer; what the server itself does \
                      with a request comes on top, whatever it waits by. interval: 95 % of the bootstrap over the rounds, and \
                      on either side what the model is off by for half of what it was made from. =: the interval overlaps that \
                      of the cheapest.";

fn title(advice: &Advice) -> String {
    let owners = advice.owners.iter().map(|one| format!("{} (process {})", one.name, one.process));
    let owners = match advice.owners.is_empty() {
        true => "a process that is not shown to this user".to_owned(),
        false => owners.collect::<Vec<_>>().join(", "),
    };
    let seconds = three_digits(advice.activity.window.as_secs_f64());
    format!("port {}: {owners}, watched for {seconds} s in {} looks", advice.port, advice.activity.looks)
}

fn facts(advice: &Advice) -> Vec<(&'static str, String)> {
    let Advice { activity, pattern, .. } = advice;
    let count = |count: usize| grouped(count as u64);
    let mut facts = vec![
        (
            "connections",
            format!(
                "{} open: {} asked, {} idle; {} at once, that is within 10 ms",
                count(activity.open),
                count(activity.active),
                count(activity.idle()),
                count(activity.at_once)
            ),
        ),
        (
            "requests",
            format!(
                "{} a second, of {} bytes in and {} out",
                three_digits(pattern.per_second),
                three_digits(pattern.bytes.0),
                three_digits(pattern.bytes.1)
            ),
        ),
        (
            "came, went",
            format!(
                "{} came and {} went that were seen; {} came a second{}",
                grouped(activity.came),
                grouped(activity.went),
                three_digits(pattern.opened_per_second),
                pattern
                    .exchanges_per_connection
                    .map(|each| format!(", each for {} requests", grouped(each)))
                    .unwrap_or_default()
            ),
        ),
    ];
    if let Some((used, each)) = advice.server_cpu_ns.zip(advice.server_request_ns()) {
        let of_cpu = used as f64 / activity.window.as_nanos().max(1) as f64;
        facts.push(("its own CPU", format!("{} of a CPU, {} µs a request", percent(of_cpu), micros(each))));
    }
    facts.push((
        "cost model",
        match &advice.record {
            Some(path) => format!("of the record {path}, begun {}", advice.record_started),
            None => "of a short comparison made for it just now".to_owned(),
        },
    ));
    facts
}

fn prediction(advice: &Advice) -> Table {
    let columns = [
        ("#", 0),
        ("mechanism", 0),
        ("CPU µs/req", 0),
        ("interval", 1),
        ("× best", 2),
        ("% of a CPU", 0),
        ("req/wait", 3),
        ("waits asleep", 4),
        ("off by", 5),
    ];
    let best = advice.predicted.first().map_or(1.0, |best| best.request_ns);
    let row = |(at, one): (usize, &Predicted)| {
        let place = if at > 0 && one.indistinguishable { "=".to_owned() } else { (at + 1).to_string() };
        let mark = if one.beyond.is_empty() { "" } else { "‡" };
        let share = format!("{}{}", percent(one.share), if one.most_per_second.is_some() { " !" } else { "" });
        let cells = vec![
            place,
            one.subject.clone(),
            micros(one.request_ns) + mark,
            interval(one.interval),
            factor(one.request_ns / best),
            share,
            three_digits(one.per_wait),
            percent(one.asleep),
            percent(one.off_by),
        ];
        Row { kind: if at == 0 { Kind::Leading } else { Kind::Ordinary }, cells, reason: None }
    };
    Table {
        title: format!("Predicted at {} requests a second", three_digits(advice.pattern.per_second)),
        columns: columns.map(column).to_vec(),
        rows: advice.predicted.iter().enumerate().map(row).collect(),
    }
}

/// Prediction beside measurement, if it was measured.
fn replay(advice: &Advice) -> Option<Table> {
    let replayed = advice.replayed.as_ref()?;
    let columns = [
        ("mechanism", 0),
        ("predicted µs/req", 0),
        ("measured", 0),
        ("interval", 1),
        ("residual", 0),
        ("req/s", 2),
        ("req/wait", 3),
    ];
    let row = |one: &Replayed| {
        let known = |value: Option<f64>, text: fn(f64) -> String| value.map_or("–".to_owned(), text);
        let residual = |residual: f64| if residual.abs() > 0.0 { percent(residual) } else { percent(0.0) };
        let cells = vec![
            one.subject.clone(),
            known(one.predicted_ns, micros),
            known(one.measured_ns, micros),
            interval(one.interval),
            if one.fell_short { "–".to_owned() } else { known(one.residual, residual) }
                + if one.is_anomaly { " !" } else { "" },
            known(one.per_second, three_digits) + if one.fell_short { " !" } else { "" },
            known(one.per_wait, three_digits),
        ];
        match &one.missing {
            Some(why) => Row { kind: Kind::Absent, cells: vec![one.subject.clone()], reason: Some(why.clone()) },
            None => Row { kind: Kind::Ordinary, cells, reason: None },
        }
    };
    let Pattern { connections, active, .. } = advice.pattern;
    Some(Table {
        title: format!(
            "Replayed on {} connections, {}",
            grouped(connections as u64),
            match advice.pattern.exchanges_per_connection {
                None => format!("{} of them asking at that rate, at random", grouped(active as u64)),
                Some(each) => format!(
                    "{} of them in a closed loop, closed after {} requests",
                    grouped(advice.pattern.at_once as u64),
                    grouped(each)
                ),
            }
        ),
        columns: columns.map(column).to_vec(),
        rows: replayed.iter().map(row).collect(),
    })
}

fn column((head, expendable): (&str, u8)) -> Column {
    Column { head: head.to_owned(), right: head != "mechanism", expendable }
}

fn interval(interval: Option<Interval>) -> String {
    interval.map_or("–".to_owned(), |one| format!("{}–{}", micros(one.low), micros(one.high)))
}

/// What keeps the figures from being what they seem.
fn cautions(advice: &Advice) -> Vec<String> {
    let Advice { activity, pattern, .. } = advice;
    let mut lines = advice.cautions.iter().map(|caution| format!("warning: {caution}")).collect::<Vec<_>>();
    let mut say = |there_is: bool, text: String| lines.extend(there_is.then_some(text));
    say(
        activity.listeners > 1,
        format!(
            "{} sockets listen at the port: if as many loops share its connections, each goes over its own share only, and \
             what scans costs less than is predicted for one loop.",
            activity.listeners
        ),
    );
    say(
        pattern.by_host,
        format!(
            "Most connections come and go between two looks: {} accepted by the whole host, at all of its ports, are taken for \
             this server's, and each for as many requests as one that was seen. Both may be too many.",
            grouped(advice.accepted_on_host.unwrap_or(0))
        ),
    );
    say(
        activity.long_messages,
        "Segments were full both ways: where a message is longer than a segment it was counted as several requests."
            .to_owned(),
    );
    say(
        activity.unanswered > 0,
        format!(
            "{} connections asked and were not answered while it was watched: they count as idle.",
            grouped(activity.unanswered as u64)
        ),
    );
    say(
        activity.unasked > 0,
        format!(
            "{} connections were sent data without asking: they count as idle, and what they are sent is no wait's doing.",
            grouped(activity.unasked as u64)
        ),
    );
    let mut beyond =
        advice.predicted.iter().flat_map(|one| one.beyond.iter().map(move |beyond| (beyond, &one.subject)));
    let mut told: Vec<(&Beyond, Vec<&str>)> = Vec::new();
    for (beyond, subject) in &mut beyond {
        match told.iter_mut().find(|(known, _)| *known == beyond) {
            Some((_, subjects)) => subjects.push(subject),
            None => told.push((beyond, vec![subject])),
        }
    }
    lines.extend(told.into_iter().map(|(beyond, subjects)| format!("‡ {}: {}", listed(&subjects), outside(beyond))));
    lines
}

fn outside(beyond: &Beyond) -> String {
    let whole = |number: f64| grouped(number.round() as u64);
    match *beyond {
        Beyond::Connections { asked, measured: (fewest, most) } => format!(
            "extrapolated: a loop would watch {} connections, and {} to {} were measured.",
            whole(asked),
            whole(fewest),
            whole(most)
        ),
        Beyond::Payload { asked, measured } => format!(
            "extrapolated: messages have {} bytes on average, and the model is of {}.",
            grouped(asked),
            grouped(measured)
        ),
        Beyond::PerWait { asked, measured } => format!(
            "extrapolated: a wait would find {} requests, and {} is the most that was measured.",
            three_digits(asked),
            three_digits(measured)
        ),
        Beyond::Churn => "what a connection costs that comes and goes is not in this prediction: the record has no \
                          calibration of this mechanism for it."
            .to_owned(),
    }
}

/// What follows, in sentences.
fn findings(advice: &Advice) -> Vec<String> {
    let mut lines = Vec::new();
    let Some((best, others)) = advice.predicted.split_first() else { return lines };
    let rate = three_digits(advice.pattern.per_second);
    let (alike, dearer): (Vec<_>, Vec<_>) = others.iter().partition(|one| one.indistinguishable);
    let mut line = format!(
        "By the model {} costs least: {} µs of CPU for each request, {} of a CPU at {rate} a second.",
        best.subject,
        micros(best.request_ns),
        percent(best.share)
    );
    if !alike.is_empty() {
        let names = alike.iter().map(|one| one.subject.as_str()).collect::<Vec<_>>();
        let _ = write!(line, " Indistinguishable from it: {}.", listed(&names));
    }
    for one in &dearer {
        let _ = write!(line, " {}: {} of it.", one.subject, factor(one.request_ns / best.request_ns));
    }
    lines.push(line);
    for one in &advice.predicted {
        if let Some(most) = one.most_per_second {
            lines.push(format!(
                "! {} cannot serve that rate by one loop: {} requests a second at most.",
                one.subject,
                three_digits(most)
            ));
        }
    }
    if let Some(own) = advice.server_request_ns() {
        let rest = own - best.request_ns;
        lines.push(if rest > 0.0 {
            format!(
                "The server used {} µs for each request itself. An echo by {} would have used {} µs of that; the rest, {}, is \
                 what else it does, or waits by, and no other mechanism takes away more than the difference.",
                micros(own),
                best.subject,
                micros(best.request_ns),
                percent(rest / own)
            )
        } else {
            format!(
                "The server used {} µs for each request itself, which is no more than the model predicts of {}: nothing is to \
                 be gained by another mechanism.",
                micros(own),
                best.subject
            )
        });
    }
    lines.extend(held(advice));
    lines
}

/// Whether the replay found what was predicted.
fn held(advice: &Advice) -> Vec<String> {
    let Some(replayed) = &advice.replayed else {
        return vec!["Not replayed: the prediction is not checked.".to_owned()];
    };
    let mut lines = Vec::new();
    let counts = |one: &&Replayed| one.residual.is_some() && !one.fell_short;
    let (off, near): (Vec<_>, Vec<_>) = replayed.iter().filter(counts).partition(|one| one.is_anomaly);
    let names = |rows: &[&Replayed]| {
        let named = rows.iter().map(|one| format!("{} ({})", one.subject, percent(one.residual.unwrap_or(0.0))));
        named.collect::<Vec<_>>().join(", ")
    };
    if !near.is_empty() {
        lines.push(format!("Within 15 % of what was measured in the replay: {}.", names(&near)));
    }
    if !off.is_empty() {
        lines.push(format!(
            "! Off by more than 15 %: {}; above 0 it cost more than predicted. Believe the measurement.",
            names(&off)
        ));
    }
    let short = replayed.iter().filter(|one| one.fell_short).map(|one| one.subject.as_str()).collect::<Vec<_>>();
    if !short.is_empty() {
        lines.push(format!(
            "! Not at the rate: {}. Either the mechanism cannot serve it, or this host has no CPU time left beside the server \
             that was watched: then replay on a quiet one, by --save and pollmark compare --workload.",
            listed(&short)
        ));
    }
    let measured = replayed.iter().filter(|one| one.measured_ns.is_some() && !one.fell_short).collect::<Vec<_>>();
    if let [first, others @ ..] = measured.as_slice() {
        let alike = |one: &&&Replayed| {
            first.interval.zip(one.interval).is_none_or(|(first, interval)| interval.low <= first.high)
        };
        let alike = others.iter().filter(alike).map(|one| one.subject.as_str()).collect::<Vec<_>>();
        let alike = match alike.is_empty() {
            true => String::new(),
            false => format!("; not to be told from it: {}", listed(&alike)),
        };
        lines.push(format!("In the replay {} cost least{alike}.", first.subject));
    } else {
        lines.push("Nothing of the replay counts: the prediction is not checked.".to_owned());
    }
    lines
}

fn listed(names: &[&str]) -> String {
    names.join(", ")
}

/// However wide the terminal, prose is not.
fn prose(style: Style) -> Style {
    Style { width: style.width.min(120), ..style }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::advice::{predict, replayed};
    use crate::measure::units;
    use crate::observe::{Activity, Owner};
    use std::time::Duration;

    /// A server that is asked 100 times a second on 5 of 1,000 connections.
    fn advice() -> Advice {
        let record = units::sample::record();
        let activity = Activity {
            window: Duration::from_secs(10),
            looks: 20,
            listeners: 1,
            open: 1_000,
            active: 5,
            at_once: 1,
            exchanges: 1_000,
            received: 64_000,
            sent: 128_000,
            ..Activity::default()
        };
        let pattern = Pattern::of(&activity, Some(0)).expect("it was asked");
        let mut replay = record.clone();
        replay.trials.retain(|trial| (trial.idle, trial.active) == (1_000, 10));
        replay.trials.iter_mut().for_each(|trial| trial.duration_ns = trial.requests * 10_000_000);
        Advice {
            port: 7_000,
            owners: vec![Owner { process: 9, name: "daemon\u{1b}[2J".to_owned() }],
            server_cpu_ns: Some(40_000_000),
            accepted_on_host: Some(0),
            predicted: predict(&record, &pattern),
            replayed: Some(replayed(&record, &replay, &pattern)),
            activity,
            pattern,
            record: Some("results".to_owned()),
            record_started: record.started,
            cautions: vec!["kernel of the record: 1; here: 2".to_owned()],
        }
    }

    fn text(advice: &Advice) -> String {
        render(advice, Style { width: 100, colour: false })
    }

    #[test]
    fn what_was_seen_what_it_would_cost_and_whether_that_held_stand_one_below_the_other() {
        let shown = text(&advice());
        let mut rest = shown.as_str();
        for part in [
            "port 7000: daemon [2J (process 9), watched for 10.0 s in 20 looks",
            "1,000 open: 5 asked, 995 idle",
            "100 a second, of 64.0 bytes in and 128 out",
            "40.0 µs a request",
            "of the record results",
            "Predicted at 100 requests a second",
            "1  epoll",
            "Replayed on 1,000 connections, 5 of them asking at that rate",
            "warning: kernel of the record: 1; here: 2",
            "By the model epoll costs least",
            "The server used 40.0 µs for each request itself. An echo by epoll would have used",
            "Off by more than 15 %:",
            "In the replay",
        ] {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is missing, or out of place:\n{shown}"));
            rest = &rest[at..];
        }
        assert!(!shown.contains('\u{1b}') && shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        let page = markdown(&advice());
        assert!(
            page.starts_with("## port 7000") && page.contains("| # | mechanism |") && page.contains("| 1 | epoll |"),
            "{page}"
        );
    }

    #[test]
    fn what_may_mislead_is_said_and_only_then() {
        type Change = fn(&mut Advice);
        let cases: [(Change, &str); 8] = [
            (|one| one.activity.listeners = 4, "4 sockets listen"),
            (|one| one.pattern.by_host = true, "come and go between two looks"),
            (|one| one.activity.long_messages = true, "counted as several requests"),
            (|one| one.activity.unanswered = 3, "3 connections asked and were not answered"),
            (|one| one.activity.unasked = 3, "3 connections were sent data without asking"),
            (|one| one.replayed = None, "Not replayed: the prediction is not checked"),
            (|one| one.predicted[1].most_per_second = Some(70.0), "cannot serve that rate by one loop: 70.0"),
            (
                |one| one.predicted[0].beyond = vec![Beyond::Payload { asked: 4_096, measured: 64 }],
                "‡ epoll: extrapolated: messages have 4,096 bytes on average, and the model is of 64.",
            ),
        ];
        let one_line = |advice: &Advice| text(advice).split_whitespace().collect::<Vec<_>>().join(" ");
        let plain = one_line(&advice());
        for (change, words) in cases {
            let mut changed = advice();
            change(&mut changed);
            assert!(one_line(&changed).contains(words) && !plain.contains(words), "{words}: {}", text(&changed));
        }
        let mut short = advice();
        short.replayed.iter_mut().flatten().for_each(|one| (one.fell_short, one.is_anomaly) = (true, false));
        let said = one_line(&short);
        assert!(said.contains("! Not at the rate: ") && said.contains("Nothing of the replay counts"), "{said}");
        let mut cheap = advice();
        cheap.server_cpu_ns = Some(1_000_000);
        assert!(one_line(&cheap).contains("nothing is to be gained"), "{}", text(&cheap));
    }
}
