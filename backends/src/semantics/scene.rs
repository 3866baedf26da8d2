//! The stage of a scenario: one poller, its source, and poll(2) to see when a situation has come about.
//!
//! Two things make what is seen the same each time. Before a poller is looked at, poll(2) has been asked until it saw
//! the situation whole, so that no mechanism is caught between two packets. And silence is a wait that ends empty
//! although the situation was there before it began.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::outcome::{Facts, Outcome};
use super::{Column, Play, Scenario};
use crate::event::{Event, Interest, Raw, Token, Trigger};
use crate::events::Events;
use crate::poll::Poll;
use crate::poller::{Capabilities, Poller};
use crate::registry::Entry;
use crate::source::AsSource;

/// The source a scenario is about.
pub(super) const SUBJECT: Token = Token::new(1, 1);

/// How long a situation, or an event that is certain, may take to come. Only a failure ever waits that long.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a wait may last that ends in silence. A situation that poll(2) sees is one that the kernel has told, or is
/// just telling, whoever else waits for it.
const SILENCE: Duration = Duration::from_millis(15);

/// Plays `scenario` on a fresh poller: what was seen at each of its moments, and the kernel's words for it.
pub(super) fn play(scenario: &Scenario, column: &Column, entry: &Entry) -> Vec<(Outcome, String)> {
    let (mut seen, ended) = match Scene::open(scenario, column, entry) {
        Ok(mut scene) => {
            let ended = (scenario.play)(&mut scene);
            (scene.seen, ended)
        }
        Err(ended) => (Vec::new(), Err(ended)),
    };
    let rest = match ended {
        Ok(()) if seen.len() < scenario.moments.len() => Outcome::Failed("not all of it was looked at".to_owned()),
        Ok(()) | Err(Ended::Refused) => Outcome::NotPlayed("–".to_owned()),
        Err(Ended::NoTrigger(trigger)) => Outcome::NoTrigger(trigger),
        Err(Ended::NotHere(why)) => Outcome::NotPlayed(why),
        Err(Ended::Failed(why)) => Outcome::Failed(why),
    };
    debug_assert!(seen.len() <= scenario.moments.len(), "{} looks more often than it has moments", scenario.name);
    seen.resize(scenario.moments.len(), (rest, String::new()));
    seen
}

/// Why a scenario ends before all its moments were looked at.
pub(super) enum Ended {
    /// The poller refused what the rest stands on; the refusal has been noted.
    Refused,
    /// The mechanism lacks the trigger the scenario is about.
    NoTrigger(Trigger),
    /// It cannot be played on this system.
    NotHere(String),
    /// Something went wrong that is no fault of the poller's.
    Failed(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Failed(error.to_string())
    }
}

/// What a scenario's function has to play with.
pub(super) struct Scene<'a> {
    scenario: &'a Scenario,
    trigger: Trigger,
    pub(super) poller: Box<dyn Poller>,
    pub(super) capabilities: Capabilities,
    events: Events,
    seen: Vec<(Outcome, String)>,
}

impl<'a> Scene<'a> {
    fn open(scenario: &'a Scenario, column: &Column, entry: &Entry) -> Result<Scene<'a>, Ended> {
        let poller = entry.open()?;
        let capabilities = poller.capabilities();
        let trigger = scenario.trigger.unwrap_or(column.trigger);
        if !capabilities.supports(trigger) {
            return Err(Ended::NoTrigger(trigger));
        }
        if column.trigger != Trigger::Level && trigger != column.trigger {
            return Err(Ended::NotHere(format!("as {}", column.backend)));
        }
        Ok(Scene { scenario, trigger, poller, capabilities, events: Events::with_capacity(128), seen: Vec::new() })
    }

    /// Two ends of a loopback connection.
    pub(super) fn pair(&self) -> Result<(TcpStream, TcpStream), Ended> {
        Ok(crate::loopback::pair()?)
    }

    /// Adds `source` for what the scenario asks. A refusal is what is seen at this moment, and ends the scenario.
    pub(super) fn watch(&mut self, source: &impl AsSource) -> Play {
        self.watch_as(source, SUBJECT)
    }

    pub(super) fn watch_as(&mut self, source: &impl AsSource, token: Token) -> Play {
        let added = self.poller.add(source.as_source(), token, self.scenario.asked, self.trigger);
        self.unless_refused(added)
    }

    /// Lets the kernel know of the sources added so far: some mechanisms make their changes with the next wait.
    pub(super) fn announce(&mut self) -> Play {
        self.wait(Duration::ZERO)
    }

    /// Modifies `source` to `interest`, or if that was asked before, arms it anew.
    pub(super) fn rewatch(&mut self, source: &impl AsSource, interest: Interest) -> Play {
        let modified = self.poller.modify(source.as_source(), SUBJECT, interest, self.trigger);
        self.unless_refused(modified)
    }

    /// What the scenario asks for.
    pub(super) fn asked(&self) -> Interest {
        self.scenario.asked
    }

    /// Waits, and notes what is said of the subject, or that the wait fails.
    pub(super) fn look(&mut self) -> Play {
        match self.uninterrupted(SILENCE) {
            Ok(()) => self.note(SUBJECT),
            Err(error) => self.seen.push((Outcome::Refused(error.kind()), refusal(&error))),
        }
        Ok(())
    }

    /// One wait that is not what a scenario is about.
    pub(super) fn wait(&mut self, timeout: Duration) -> Play {
        self.uninterrupted(timeout).map_err(|error| Ended::Failed(format!("cannot wait: {error}")))
    }

    fn uninterrupted(&mut self, timeout: Duration) -> io::Result<()> {
        loop {
            match self.poller.wait(&mut self.events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                waited => return waited,
            }
        }
    }

    /// Gives the poller room for `capacity` events in each wait from now on.
    pub(super) fn give_room(&mut self, capacity: usize) {
        self.events = Events::with_capacity(capacity);
    }

    /// The events of the last wait.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    /// Notes what the last wait said of `token`.
    pub(super) fn note(&mut self, token: Token) {
        let event = self.events.iter().find(|event| event.token() == token);
        self.seen.push(match event {
            Some(event) => (Outcome::Event(Facts::of(&event)), words(&event)),
            None => (Outcome::Silence, String::new()),
        });
    }

    /// Notes a finding that is no event.
    pub(super) fn found(&mut self, raw: impl Into<String>, what: impl Into<String>) {
        self.seen.push((Outcome::Found(what.into()), raw.into()));
    }

    /// Notes how a change was received, which is what this moment is about.
    pub(super) fn answered(&mut self, change: io::Result<()>) -> Play {
        match change {
            Ok(()) => {
                self.found("", "accepted");
                Ok(())
            }
            refused => self.unless_refused(refused),
        }
    }

    fn unless_refused(&mut self, change: io::Result<()>) -> Play {
        change.map_err(|error| {
            self.seen.push((Outcome::Refused(error.kind()), refusal(&error)));
            Ended::Refused
        })
    }

    /// Asks poll(2) until it says all of `facts` of `source`: the situation has then come about.
    ///
    /// Elsewhere than on Linux poll(2) says less about ends and errors, and readable or writable must do.
    pub(super) fn settle(&self, source: &impl AsSource, facts: Facts) -> Play {
        let told = if cfg!(linux_like) { facts } else { facts.without(LINUX_ONLY) };
        let all = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        let mut oracle = Poll::open()?;
        oracle.add(source.as_source(), SUBJECT, all, Trigger::Level)?;
        let mut events = Events::with_capacity(1);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match oracle.wait(&mut events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            let seen = events.iter().next().map_or(Facts::NONE, |event| Facts::of(&event));
            if seen.contains(told) {
                return Ok(());
            }
            if left.is_zero() {
                return Err(Ended::NotHere(format!("does not come about: poll(2) saw {seen}, not {facts}")));
            }
        }
    }
}

const LINUX_ONLY: Facts = Facts::READ_CLOSED.and(Facts::WRITE_CLOSED).and(Facts::ERROR).and(Facts::PRIORITY);

/// What the kernel said of a source. select(2) tells a bad number by failing as a whole.
fn words(event: &Event) -> String {
    match event.raw() {
        Raw::Select(0) => if cfg!(windows) { "WSAENOTSOCK" } else { "EBADF" }.to_owned(),
        raw => raw.to_string(),
    }
}

/// The kernel's name of an error where it is the kernel's.
pub(super) fn refusal(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => NAMES
            .iter()
            .find(|(known, _)| *known == code)
            .map_or_else(|| format!("error {code}"), |(_, name)| (*name).to_owned()),
        // Where a refusal of ours stands for one of the kernel's, it ends with that one's name.
        None => {
            let text = error.to_string();
            let quoted = text.strip_suffix(')').and_then(|text| text.rsplit_once('('));
            quoted.map_or_else(String::new, |(_, name)| name.to_owned())
        }
    }
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        const NAMES: &[(i32, &str)] = &[
            (libc::EBADF, "EBADF"),
            (libc::EEXIST, "EEXIST"),
            (libc::EINVAL, "EINVAL"),
            (libc::ENOENT, "ENOENT"),
            (libc::ENODEV, "ENODEV"),
            (libc::EPERM, "EPERM"),
        ];
    } else {
        use windows_sys::Win32::Networking::WinSock;

        const NAMES: &[(i32, &str)] =
            &[(WinSock::WSAENOTSOCK, "WSAENOTSOCK"), (WinSock::WSAEINVAL, "WSAEINVAL"), (WinSock::WSAEBADF, "WSAEBADF")];
    }
}
