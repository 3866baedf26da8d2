//! A results.json may come from anybody: it is a record or an error, and whatever it says can be shown.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::measure::record::Trial;
use crate::measure::{Host, Record};
use crate::report::terminal::{self, Style};
use crate::report::{Summary, csv, html, json, markdown, sample};

/// One change in numbers, of which any do: which value, counted through the whole record, and to what.
pub type Change = (u16, u8);

/// Reads `bytes` as `pollmark report` does.
///
/// # Panics
/// If it is a record, but one that cannot be shown, or is not read back as it was.
pub fn bytes_are_a_record_or_an_error(bytes: &[u8]) {
    if let Ok(record) = json::read(bytes) {
        any_record_can_be_shown(&record);
    }
}

/// Changes a good record in some places: what a newer program, another one or a bad editor would have made of it.
///
/// # Panics
/// As [`bytes_are_a_record_or_an_error`].
pub fn a_changed_record_can_be_shown_or_is_refused(which: u8, changes: &[Change]) {
    let mut value = SAMPLES[usize::from(which) % SAMPLES.len()].clone();
    for &(place, what) in changes {
        let mut place = usize::from(place) % count(&value);
        visit(&mut value, &mut place, &mut |chosen| change(chosen, what));
    }
    bytes_are_a_record_or_an_error(value.to_string().as_bytes());
}

/// Those the tests of the exporters have, without the bulk.
static SAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let thin = |(name, mut record): (&str, Record)| {
        record.host = Host { cpu: Some("a CPU".into()), ..Host::default() };
        // Intervals, which take two rounds, are most of the work: one sample with them is enough.
        let rounds = |trial: &Trial| trial.round == 0 || trial.counted || name == "ordinary" && trial.round == 1;
        record.trials.retain(|trial| trial.idle == 100 && trial.active == 1 && rounds(trial));
        record.trials.retain(|trial| !matches!(&*trial.mechanism, "poll" | "threads"));
        record.visits.truncate(2);
        (record.settings.idle, record.settings.active) = (vec![100], vec![1, 10]);
        record.settings.mechanisms.retain(|name| name != "select");
        serde_json::to_value(record).expect("a record has no failing parts")
    };
    sample::all().into_iter().map(thin).collect()
});

fn any_record_can_be_shown(record: &Record) {
    let summary = Summary::of(record);
    let grid = summary.subjects.len() * summary.idle.len() * summary.loads.len();
    assert_eq!(summary.cells.len(), grid, "no cell is left out");

    let mut bytes = Vec::new();
    for style in [Style::default(), Style { width: 1, colour: false }] {
        bytes.extend(terminal::render(&summary, style).into_bytes());
    }
    bytes.extend(markdown::render(&summary).into_bytes());
    bytes.extend(html::render(&summary).into_bytes());
    assert!(!bytes.contains(&0x1b), "nothing in a record commands the terminal");
    csv::write(&summary, &mut bytes).expect("to memory");

    bytes.clear();
    json::write(record, &mut bytes).expect("to memory");
    assert_eq!(&json::read(&bytes[..]).expect("ours"), record, "what is written is read back as it was");
}

/// How many values there are in a tree, itself among them.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(count).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Hands out the value that has `place` others before it.
fn visit(value: &mut Value, place: &mut usize, then: &mut impl FnMut(&mut Value)) {
    if *place == 0 {
        then(value);
    }
    *place = place.wrapping_sub(1);
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|one| visit(one, place, then)),
        Value::Object(fields) => fields.values_mut().for_each(|one| visit(one, place, then)),
        _ => {}
    }
}

/// Puts something of the same kind in its place; at times, something of another.
fn change(value: &mut Value, what: u8) {
    const NUMBERS: [u64; 8] = [0, 1, 2, 1_000, u32::MAX as u64, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    const FRACTIONS: [f64; 8] = [-1.0, 0.1, 1e-310, f64::MIN_POSITIVE, 1e15, -1e19, f64::MAX, f64::MIN];
    let texts = ["", "epoll", "epoll (A/A)", "threads", sample::HOSTILE, "é\u{301}🦀", "--out", "\u{85}"];
    let at = usize::from(what & 7);
    let number = if what & 8 == 0 { json!(NUMBERS[at]) } else { json!(FRACTIONS[at]) };
    match value {
        _ if what >= 0xf0 => *value = [json!(null), json!([]), json!({}), json!([0]), json!(true)][at % 5].clone(),
        Value::Null => *value = if what & 16 == 0 { number } else { json!(texts[at]) },
        Value::Bool(is) => *is = !*is,
        Value::Number(_) => *value = number,
        Value::String(text) => *text = texts[at].to_owned(),
        Value::Array(elements) => match (elements.last().cloned(), what & 3) {
            (Some(last), 0 | 1) => elements.push(last),
            (Some(_), 2) => drop(elements.pop()),
            _ => elements.clear(),
        },
        Value::Object(fields) => {
            let name = fields.keys().nth(usize::from(what) % fields.len().max(1)).cloned();
            name.map(|name| fields.remove(&name));
        }
    }
}

#[cfg(test)]
proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn a_record_changed_anywhere_can_be_shown_or_is_refused(which: u8, changes: Vec<Change>) {
        // A few: after many it is refused, and nothing is learnt.
        a_changed_record_can_be_shown_or_is_refused(which, &changes[..changes.len().min(6)]);
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>) {
        bytes_are_a_record_or_an_error(&bytes);
    }
}
