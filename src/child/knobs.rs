//! What a server of ours is set to, where it is not what it is set to by default.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::server::Config;

/// Sizes of a server's own, each as by default unless set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Knobs {
    /// The most events taken from one wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<usize>,
    /// Bytes of the buffer that is received into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_buffer: Option<usize>,
    /// SO_SNDBUF of its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_buffer: Option<usize>,
    /// Seconds after which a connection is closed that is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_deadline: Option<u64>,
}

impl Knobs {
    /// All as by default.
    pub const NONE: Knobs = Knobs { events: None, read_buffer: None, send_buffer: None, idle_deadline: None };

    pub(crate) fn is_none(&self) -> bool {
        *self == Knobs::NONE
    }

    pub(super) fn set(self, config: &mut Config) {
        config.events = self.events.unwrap_or(config.events);
        config.read_buffer = self.read_buffer.unwrap_or(config.read_buffer);
        config.send_buffer = self.send_buffer.or(config.send_buffer);
        config.limits.idle = self.idle_deadline.map(Duration::from_secs).or(config.limits.idle);
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
