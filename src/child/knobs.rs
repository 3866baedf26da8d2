//! What a server of ours is set to, where it is not what it is set to by default.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::server::Config;

/// Sizes of a server's own, each as by default unless set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Knobs {
    /// The most events taken from one wait.
    #[serde(default)]
    pub(crate) events: Option<usize>,
    /// Bytes of the buffer that is received into.
    #[serde(default)]
    pub(crate) read_buffer: Option<usize>,
    /// SO_SNDBUF of its connections.
    #[serde(default)]
    pub(crate) send_buffer: Option<usize>,
    /// Seconds after which a connection is closed that is silent.
    #[serde(default)]
    pub(crate) idle_deadline: Option<u64>,
}

impl Knobs {
    /// All as by default.
    pub(crate) const NONE: Knobs = Knobs { events: None, read_buffer: None, send_buffer: None, idle_deadline: None };

    pub(super) fn set(self, config: &mut Config) {
        config.events = self.events.unwrap_or(config.events);
        config.read_buffer = self.read_buffer.unwrap_or(config.read_buffer);
        config.send_buffer = self.send_buffer.or(config.send_buffer);
        config.limits.idle = self.idle_deadline.map(Duration::from_secs).or(config.limits.idle);
    }
}

impl Knobs {
    /// What of a row's label says what it is set to, and the rest of the label. A label that ends otherwise sets nothing.
    pub(crate) fn of_label(label: &str) -> (Knobs, String) {
        let (mut knobs, mut rest) = (Knobs::NONE, Vec::new());
        let mut words = label.split(' ').peekable();
        while let Some(word) = words.next() {
            let mut ends = |unit: &[&str]| {
                let mut ahead = words.clone();
                let said = unit.iter().all(|unit| ahead.next().is_some_and(|word| word.trim_end_matches(',') == *unit));
                if said {
                    words.by_ref().take(unit.len()).for_each(drop);
                }
                said
            };
            match word.parse::<u64>() {
                Ok(number) if ends(&["events"]) || ends(&["event"]) => knobs.events = usize::try_from(number).ok(),
                Ok(number) if ends(&["B", "read", "buffer"]) => knobs.read_buffer = usize::try_from(number).ok(),
                Ok(number) if ends(&["B", "send", "buffer"]) => knobs.send_buffer = usize::try_from(number).ok(),
                Ok(number) if ends(&["s", "idle", "deadline"]) => knobs.idle_deadline = Some(number),
                _ => rest.push(word),
            }
        }
        (knobs, rest.join(" "))
    }
}

impl fmt::Display for Knobs {
    /// What is set, after a space: the end of a row's label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Knobs { events, read_buffer, send_buffer, idle_deadline } = *self;
        let events = events.map(|events| format!("{events} event{}", if events == 1 { "" } else { "s" }));
        let buffer = |bytes: Option<usize>, name| bytes.map(|bytes| format!("{bytes} B {name} buffer"));
        let deadline = idle_deadline.map(|seconds| format!("{seconds} s idle deadline"));
        let set = [events, buffer(read_buffer, "read"), buffer(send_buffer, "send"), deadline];
        let set = set.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if set.is_empty() { Ok(()) } else { write!(f, " {set}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_says_is_read_back_and_what_it_does_not_say_is_left() {
        let all = Knobs { events: Some(1), read_buffer: Some(4_096), send_buffer: Some(9), idle_deadline: Some(60) };
        for knobs in
            [all, Knobs { events: Some(16), ..Knobs::NONE }, Knobs { read_buffer: Some(7), ..all }, Knobs::NONE]
        {
            let label = format!("epoll ×2 shared{knobs} (A/A)");
            assert_eq!(Knobs::of_label(&label), (knobs, "epoll ×2 shared (A/A)".to_owned()), "{label}");
        }
        for foreign in ["", "16", "16 B", "nginx 1.22", "99999999999999999999 events", "-1 events"] {
            assert_eq!(Knobs::of_label(foreign), (Knobs::NONE, foreign.to_owned()));
        }
    }

    #[test]
    fn what_is_set_is_said_and_all_else_stays_as_it_was() {
        let before = Config::listen("127.0.0.1:0".parse().expect("an address"));
        let mut config = before.clone();
        Knobs::default().set(&mut config);
        assert_eq!(Knobs::default().to_string(), "");
        assert_eq!(
            (config.events, config.read_buffer, config.send_buffer),
            (before.events, before.read_buffer, before.send_buffer)
        );
        let knobs = Knobs { events: Some(1), send_buffer: Some(16_384), idle_deadline: Some(60), ..Knobs::NONE };
        knobs.set(&mut config);
        assert_eq!(config.limits.idle, Some(Duration::from_secs(60)));
        assert_eq!((config.events, config.read_buffer, config.send_buffer), (1, before.read_buffer, Some(16_384)));
        assert_eq!(knobs.to_string(), " 1 event, 16384 B send buffer, 60 s idle deadline");
    }
}
