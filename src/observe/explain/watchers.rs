//! A poller of every mechanism of this host, all before the same sockets: what each says of them, in its own words.

use std::io;
use std::time::{Duration, Instant};

use pollmark_backends::{Events, Interest, Poller, Source, Token, Trigger, raw};

use super::Evidence;
use super::experiment::{Experiment, PATIENCE, again, told};

pub(super) struct Watchers {
    pollers: Vec<(String, Box<dyn Poller>)>,
    events: Events,
    /// What was registered, by its token.
    registered: Vec<(Token, String)>,
}

impl Watchers {
    /// Opens one of each mechanism that is available and no variant.
    pub(super) fn open(experiment: &Experiment<'_>) -> io::Result<Watchers> {
        let mut pollers = Vec::new();
        for entry in experiment.registry.entries() {
            if entry.base().is_none() && entry.probe().is_ok() {
                pollers.push((entry.name().to_owned(), entry.open()?));
            }
        }
        Ok(Watchers { pollers, events: Events::with_capacity(16), registered: Vec::new() })
    }

    pub(super) fn count(&self) -> usize {
        self.pollers.len()
    }

    /// Adds it to each; how many say something of it at once.
    pub(super) fn register(
        &mut self,
        experiment: &mut Experiment<'_>,
        token: Token,
        what: &str,
        source: Source<'_>,
        interest: Interest,
    ) -> io::Result<usize> {
        for (_, poller) in &mut self.pollers {
            poller.add(source, token, interest, Trigger::Level)?;
        }
        let wish = if interest == Interest::WRITABLE { "WRITABLE" } else { "READABLE" };
        self.registered.push((token, format!("{what}: {wish}, level")));
        experiment.note(format!(
            "every mechanism is asked to say when {what}, {}, is {}",
            raw(source),
            wish.to_lowercase()
        ));
        self.look(experiment, token, Duration::ZERO)
    }

    /// How many say within a while that there is something of `token`: it is certain to come.
    pub(super) fn expect(&mut self, experiment: &mut Experiment<'_>, token: Token) -> io::Result<usize> {
        experiment.note("every mechanism waits");
        self.look(experiment, token, PATIENCE)
    }

    /// How many of so many waits, which do not sleep, each says that there is something of `token`. Nothing is opened for
    /// it, and nothing noted.
    pub(super) fn count_waits(&mut self, token: Token, waits: usize) -> io::Result<Vec<(String, usize)>> {
        let mut counts = Vec::new();
        for (name, poller) in &mut self.pollers {
            let mut said = 0;
            for _ in 0..waits {
                again(|| poller.wait(&mut self.events, Some(Duration::ZERO)))?;
                said += usize::from(self.events.iter().any(|event| event.token() == token));
            }
            counts.push((name.clone(), said));
        }
        Ok(counts)
    }

    fn look(&mut self, experiment: &mut Experiment<'_>, token: Token, patience: Duration) -> io::Result<usize> {
        let registered = self.registered.iter().find(|(one, _)| *one == token).map(|(_, what)| what.clone());
        let mut said = 0;
        for (name, poller) in &mut self.pollers {
            let deadline = Instant::now() + patience;
            let event = loop {
                let least = Duration::from_millis(100).min(patience);
                let waited = poller.wait(&mut self.events, Some(least));
                let interrupted = match waited {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                    waited => waited.is_err(),
                };
                let found = self.events.iter().find(|event| event.token() == token);
                if found.is_some() || (Instant::now() >= deadline && !interrupted) {
                    break found;
                }
            };
            said += usize::from(event.is_some());
            experiment.evidence(Evidence::Event {
                mechanism: name.clone(),
                registered: registered.clone().unwrap_or_default(),
                raw: event.map(|event| event.raw().to_string()).unwrap_or_default(),
                told: event.map(|event| told(&event)).unwrap_or_default(),
            });
        }
        Ok(said)
    }

    /// Before it is closed: each has its own registration.
    pub(super) fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.pollers.iter_mut().try_for_each(|(_, poller)| poller.remove(source))
    }
}
