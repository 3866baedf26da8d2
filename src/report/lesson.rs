//! A lesson as a person reads it: on a terminal, step by step, or as a chapter of a guide in Markdown.

use std::fmt::Write;

use super::format::{markdown as escape, plain};
use super::terminal::{BOLD, FAINT, GREEN, RED, Style, paint, wrap_at};
use crate::observe::explain::{Claim, Evidence, Knob, Lesson, Settings, Step, Topic};
use crate::observe::{Descriptor, Socket};

/// Every topic, a line each.
pub fn list(style: Style) -> String {
    let names = Topic::all().map(|topic| topic.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for topic in Topic::all() {
        let indent = names + 2;
        let mut line = String::new();
        wrap_at(&mut line, topic.question, prose(style), indent, indent);
        let name = paint(&format!("{:names$}", topic.name), BOLD, style);
        let _ = write!(out, "{name}  {}", line.trim_start());
        for Knob { name, default, meaning, .. } in topic.knobs {
            wrap_at(
                &mut out,
                &paint(&format!("--set {name}={default}: {meaning}"), FAINT, style),
                prose(style),
                indent,
                indent + 2,
            );
        }
    }
    out
}

/// What is known before the experiment runs: the question and the prediction.
pub fn before(topic: &Topic, settings: &Settings, style: Style) -> String {
    let mut out = format!("{}\n", paint(&topic.name.to_uppercase(), BOLD, style));
    wrap_at(&mut out, &format!("Question: {}", topic.question), prose(style), 0, 2);
    wrap_at(&mut out, &format!("Prediction: {}", topic.prediction), prose(style), 0, 2);
    let set = settings.iter().map(|(knob, value)| format!("{}={value} ({})", knob.name, knob.meaning));
    let set = set.collect::<Vec<_>>().join("; ");
    if !set.is_empty() {
        wrap_at(&mut out, &format!("Settings: {set}"), prose(style), 0, 2);
    }
    out + "\n"
}

/// One step, when it is over.
pub fn step(step: &Step, style: Style) -> String {
    let mut out = String::new();
    wrap_at(&mut out, &plain(&act(step)), prose(style), 0, 4);
    for evidence in &step.evidence {
        wrap_at(&mut out, &plain(&seen(evidence)), style, 4, 8);
    }
    out
}

/// What is known when it has run: the prediction part by part, what is to be learnt, and where to read on.
pub fn after(lesson: &Lesson, style: Style) -> String {
    let mut out = "\n".to_owned();
    for claim in &lesson.claims {
        let (verdict, code) = verdict(claim);
        wrap_at(
            &mut out,
            &format!("{}: {}", paint(verdict, code, style), plain(&compared(claim))),
            prose(style),
            0,
            10,
        );
    }
    out.push('\n');
    wrap_at(&mut out, &plain(&format!("Lesson: {}", lesson.text)), prose(style), 0, 2);
    wrap_at(&mut out, &format!("Read on: {}", lesson.read_on.join("; ")), prose(style), 0, 2);
    out
}

/// A chapter of a guide.
pub fn markdown(lesson: &Lesson) -> String {
    let mut out = format!("## {}\n\n**{}**\n\n", escape(lesson.topic), escape(lesson.question));
    let _ = write!(out, "*Predicted:* {}\n\n", escape(lesson.prediction));
    for (knob, value) in lesson.settings.iter() {
        let _ = writeln!(out, "- `{}={value}`: {}", knob.name, escape(knob.meaning));
    }
    if lesson.settings.iter().next().is_some() {
        out.push('\n');
    }
    out.push_str("```text\n");
    for one in &lesson.steps {
        let _ = writeln!(out, "{}", plain(&act(one)));
        for evidence in &one.evidence {
            let _ = writeln!(out, "    {}", plain(&seen(evidence)));
        }
    }
    out.push_str("```\n\n| | about | predicted | seen |\n| --- | --- | --- | --- |\n");
    for claim in &lesson.claims {
        let (what, predicted, seen) = (escape(&claim.what), escape(&claim.predicted), escape(&claim.seen));
        let _ = writeln!(out, "| {} | {what} | {predicted} | {seen} |", verdict(claim).0);
    }
    let read_on = lesson.read_on.iter().map(|one| one.replace('|', "\\|")).collect::<Vec<_>>().join("; ");
    let _ = write!(out, "\n{}\n\nRead on: {read_on}\n\n", escape(&lesson.text));
    out
}

fn verdict(claim: &Claim) -> (&'static str, &'static str) {
    if claim.held { ("held", GREEN) } else { ("NOT HELD", RED) }
}

fn compared(claim: &Claim) -> String {
    format!("{}: predicted {}, seen {}", claim.what, claim.predicted, claim.seen)
}

fn act(step: &Step) -> String {
    if step.outcome.is_empty() { step.act.clone() } else { format!("{} = {}", step.act, step.outcome) }
}

fn seen(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Figure { what, value, source } => format!("{what}: {value} [{source}]"),
        Evidence::Socket { whose, socket } => format!("{whose}: {}", of_socket(socket)),
        Evidence::Descriptor(one) => of_descriptor(one),
        Evidence::Event { mechanism, registered, raw, told } => {
            let said = match raw.is_empty() && told.is_empty() {
                true => "nothing".to_owned(),
                false => format!("{raw}, that is {told}"),
            };
            format!("{mechanism} ({registered}): {said}")
        }
        Evidence::NotVisible(what) => what.clone(),
    }
}

/// A socket in one line: what is nothing is left out.
fn of_socket(one: &Socket) -> String {
    let mut text = format!("{} {}", one.state, one.local);
    if let Some((waiting, limit)) = one.accept_queue() {
        let limit = limit.map_or("a limit not told".to_owned(), |limit| limit.to_string());
        let _ = write!(text, ", {waiting} in the accept queue, of {limit}");
        return text;
    }
    let _ = write!(text, " with {}, {} B unread, {} B unacknowledged", one.peer, one.receive_queue, one.send_queue);
    if let Some(figures) = one.figures {
        let _ = write!(text, ", RTT {} µs", figures.rtt_us);
        let parts = [("segments sent again", figures.retransmitted), ("B not sent even once", figures.not_sent)];
        for (what, figure) in parts.into_iter().filter(|(_, figure)| *figure > 0) {
            let _ = write!(text, ", {figure} {what}");
        }
        if let Some(window) = figures.peer_window {
            let _ = write!(text, ", window {window} B");
        }
    }
    if one.inode == 0 {
        text.push_str(", of no program");
    }
    text
}

fn of_descriptor(one: &Descriptor) -> String {
    let shown = match &one.socket {
        Some(socket) => of_socket(socket),
        None => "in none of the kernel's lists of connections".to_owned(),
    };
    format!("descriptor {}: {} {}, {shown}", one.number, one.kind, one.name)
}

/// However wide the terminal, prose is not.
fn prose(style: Style) -> Style {
    Style { width: style.width.min(100), ..style }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lesson() -> Lesson {
        let topic = Topic::find("backlog").expect("it is there");
        let figure = Evidence::Figure { what: "in the queue".to_owned(), value: "3".to_owned(), source: "sock_diag" };
        let claim = |held, seen: &str| Claim {
            what: "room | places".to_owned(),
            predicted: "3".to_owned(),
            seen: seen.to_owned(),
            held,
        };
        Lesson {
            topic: topic.name,
            question: topic.question,
            prediction: topic.prediction,
            settings: topic.settings(),
            steps: vec![Step { act: "listen(3, 2)".to_owned(), outcome: "0".to_owned(), evidence: vec![figure] }],
            claims: vec![claim(true, "3"), claim(false, "4")],
            text: "A lesson\u{1b}[2J.".to_owned(),
            read_on: topic.read_on,
        }
    }

    #[test]
    fn what_did_not_hold_stands_out_and_nothing_is_a_command_to_the_terminal() {
        let lesson = lesson();
        let style = Style { width: 80, colour: false };
        let topic = Topic::find(lesson.topic).expect("it is there");
        let text = before(topic, &lesson.settings, style) + &step(&lesson.steps[0], style) + &after(&lesson, style);
        assert!(text.contains("listen(3, 2) = 0\n    in the queue: 3 [sock_diag]\n"), "{text}");
        assert!(text.contains("held: room | places: predicted 3, seen 3\nNOT HELD: room"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80) && !text.contains('\u{1b}'), "{text}");
        assert!(after(&lesson, Style { width: 80, colour: true }).contains("\u{1b}[31mNOT HELD"));
    }

    #[test]
    fn a_chapter_has_the_question_the_steps_the_verdict_and_where_to_read_on() {
        let text = markdown(&lesson());
        for part in [
            "## backlog\n",
            "*Predicted:*",
            "- `backlog=2`",
            "listen(3, 2) = 0\n",
            "| NOT HELD | room \\| places | 3 | 4 |",
            "RFC 6298",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn the_list_names_every_topic_and_its_settings() {
        let text = list(Style { width: 80, colour: false });
        for topic in Topic::all() {
            assert!(
                text.contains(topic.name)
                    && topic.knobs.iter().all(|knob| text.contains(&format!("--set {}=", knob.name))),
                "{text}"
            );
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
