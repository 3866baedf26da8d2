//! Any line is understood or refused; and what is understood is written, on one line, as it will be understood again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::child::wire::{LoadAnswer, LoadOrder, ServerAnswer, ServerOrder};

/// Takes `line` for an order and for an answer, of the server and of the load.
///
/// # Panics
/// If what was understood is written in more than one line, or as something else.
pub fn what_is_understood_is_written_alike(line: &[u8]) {
    understand::<ServerOrder>(line);
    understand::<ServerAnswer>(line);
    understand::<LoadOrder>(line);
    understand::<LoadAnswer>(line);
}

fn understand<T: Serialize + DeserializeOwned>(line: &[u8]) {
    let Ok(understood) = serde_json::from_slice::<T>(line) else { return };
    let written = serde_json::to_vec(&understood).expect("orders and answers have no failing parts");
    assert!(!written.contains(&b'\n'), "a line is one");
    let again = serde_json::from_slice::<T>(&written).expect("what we write, we read");
    assert_eq!(serde_json::to_vec(&again).expect("as above"), written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Knobs;
    use crate::child::wire::Crew;
    use crate::cpus::Pinning;
    use crate::server::{AcceptPolicy, Config, Exhaustion, Sharing};
    use crate::speech::{Language, Speech};
    use crate::workload::Transport;
    use proptest::prelude::*;
    use std::time::Duration;

    /// Lines as they are sent, of every kind.
    const LINES: [&str; 22] = [
        r#"{"Serve":{"mechanism":"epoll-edge","cpu":1,"count_instructions":true}}"#,
        r#"{"Serve":{"mechanism":"poll","cpu":null,"count_instructions":false,"config":null}}"#,
        r#"{"Serve":{"mechanism":"poll","cpu":null,"crew":{"threads":2,"sharing":"Shared","pin":{"To":[0,1]}},"count_instructions":false}}"#,
        r#"{"Lap":{"memory":false}}"#,
        r#""Stop""#,
        r#"{"Serving":{"address":{"Tcp":"[::1]:7000"},"unpinned":"no\nright","uncounted":null}}"#,
        r#"{"Failed":"too many open files"}"#,
        r#"{"Target":{"address":{"Tcp":"127.0.0.1:1"},"size":64,"cpu":null}}"#,
        r#"{"Target":{"address":{"Tcp":"127.0.0.1:1"},"size":64,"cpu":0,"first":9,"sources":"127.0.0.1-127.0.0.3,::1"}}"#,
        r#"{"Follow":{"payload_bytes":64,"outstanding":4,"exchanges_per_connection":0}}"#,
        r#"{"OpenIdle":5000}"#,
        r#"{"OpenActive":18446744073709551615}"#,
        r#"{"Run":{"Elapsed":{"secs":1,"nanos":999999999}}}"#,
        r#"{"Run":{"Requests":100}}"#,
        r#"{"Churn":[7,{"Requests":100}]}"#,
        r#""Memory""#,
        r#""VerifyIdle""#,
        r#""CloseActive""#,
        r#"{"Ready":{"unpinned":null}}"#,
        r#"{"Ran":{"requests":1,"bytes":2,"elapsed":{"secs":0,"nanos":1},"cpu":null,"waits":3,"latency":[[9,1]]}}"#,
        r#"{"Memory":null}"#,
        r#"{"Fault":{"why":"wrong byte","voids":true}}"#,
    ];

    proptest! {
        #[test]
        fn any_line_is_refused_or_understood_the_same_way_twice(
            line in prop::sample::select(&LINES[..]),
            at: prop::sample::Index,
            cut in 0usize..8,
            put in ".{0,4}|[0-9]{0,30}",
        ) {
            let mut line = line.as_bytes().to_vec();
            let at = at.index(line.len() + 1);
            let end = (at + cut).min(line.len());
            line.splice(at..end, put.into_bytes());
            what_is_understood_is_written_alike(&line);
        }
    }

    #[test]
    fn every_kind_of_line_is_understood_by_somebody() {
        fn is<T: DeserializeOwned>(line: &str) -> bool {
            serde_json::from_str::<T>(line).is_ok()
        }
        for line in LINES {
            let orders = is::<ServerOrder>(line) || is::<LoadOrder>(line);
            assert!(orders || is::<ServerAnswer>(line) || is::<LoadAnswer>(line), "{line}");
            what_is_understood_is_written_alike(line.as_bytes());
        }
    }

    #[test]
    fn a_server_is_given_all_that_it_was_configured_with() {
        let mut config = Config::listen("[::1]:7000".parse().expect("an address"));
        (config.reuse_port, config.limits.connections, config.thread_limit) = (true, Some(3), Some(2));
        (config.accept, config.on_exhaustion) = (Some(AcceptPolicy::Drain(8)), Exhaustion::Pause);
        config.accept_pause = Duration::from_millis(3);
        let order = ServerOrder::Serve {
            mechanism: "poll".to_owned(),
            transport: Transport::Unix,
            speech: Speech { language: Language::Resp, proxies: Some("10.0.0.0/8,::1".parse().expect("addresses")) },
            cpu: None,
            crew: Some(Crew { threads: 2, sharing: Sharing::Handout, pin: Pinning::Auto }),
            knobs: Knobs { events: Some(64), ..Knobs::NONE },
            count_instructions: false,
            config: Some(Box::new(config)),
        };
        let line = serde_json::to_vec(&order).expect("no failing parts");
        what_is_understood_is_written_alike(&line);
        let understood: ServerOrder = serde_json::from_slice(&line).expect("an order");
        assert_eq!(format!("{understood:?}"), format!("{order:?}"));
    }
}
