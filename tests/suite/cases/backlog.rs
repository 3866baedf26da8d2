//! Cases of peers that ask for far more than they take: they are worked for as they take it, and get all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pollmark::protocol::{Context, Peer, Protocol};
use pollmark::server::Config;

use super::drain::ends;
use super::limits::limited;
use super::pattern;
use crate::suite::{Subject, Verdict};

/// How long an answer to one byte is, and how many are asked for at once.
pub(super) const ANSWER: usize = 4 * 1024;
const REQUESTS: usize = 200;
const HIGH_WATER: usize = 16 * 1024;

/// Answers each byte at length, and remembers the most it has gathered at once.
#[derive(Clone, Default)]
pub(super) struct Amplifier(Arc<AtomicUsize>);

impl Protocol for Amplifier {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        while consumed < input.len() && !cx.is_full() {
            cx.send(pattern(ANSWER));
            consumed += 1;
        }
        self.0.fetch_max(cx.gathered(), Ordering::SeqCst);
        consumed
    }
}

pub(super) fn small(change: impl FnOnce(&mut pollmark::server::Limits)) -> Config {
    let mut config = limited(|limits| {
        (limits.high_water, limits.low_water) = (HIGH_WATER, HIGH_WATER / 4);
        change(limits);
    });
    config.send_buffer = Some(16 * 1024);
    config
}

pub(crate) fn whoever_asks_for_much_at_once_gets_all_of_it_as_it_takes_it(subject: &impl Subject) -> Verdict {
    const LONG: Duration = Duration::from_secs(3_600);
    const AT_ONCE: Duration = Duration::from_millis(10);
    for drains in [false, true] {
        let amplifier = Amplifier::default();
        // What is held back is no message that its peer is late with.
        let config = small(|limits| (limits.request, limits.drain) = (Some(AT_ONCE), LONG));
        let server = subject.serve(config, amplifier.clone());
        let mut client = server.connect();
        client.write(&[b'.'; REQUESTS])?;
        let mut first = [0; ANSWER];
        client.read(&mut first)?;
        std::thread::sleep(3 * AT_ONCE);
        match drains {
            true => server.control.drain(),
            false => client.shut_down()?,
        }
        let rest = match client.read_to_end() {
            Err(_) if drains && server.may_be_misled() => continue,
            read => read?,
        };
        let heard = [&first[..], &rest].concat();
        assert!(heard.chunks(ANSWER).all(|answer| pattern(ANSWER).starts_with(answer)), "another answer");
        if heard.len() < REQUESTS * ANSWER && server.tally().total() > 0 {
            return Err(client.gone(&format!("closed after {} bytes", heard.len())));
        }
        assert_eq!(heard.len(), REQUESTS * ANSWER, "it is owed {REQUESTS} answers; drained: {drains}");
        if drains {
            ends(&server, subject.patience());
        } else {
            server.until("it is closed", |stats| stats.closed == 1)?;
        }
        let stats = server.stop();
        assert_eq!(stats.expired.sum(), 0, "{stats:?}");
        let most = amplifier.0.load(Ordering::SeqCst);
        assert!(most <= HIGH_WATER + ANSWER, "{most} bytes were gathered for one that was owed enough");
    }
    Ok(())
}
