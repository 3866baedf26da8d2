//! Whoever watches a server is told all that it does, whatever it waits by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pollmark::backends::{Registry, Token};
use pollmark::protocol::{Echo, Peer};
use pollmark::server::Observer;

use crate::everywhere::mechanisms;
use crate::suite::cases::config;
use crate::suite::{PATIENCE, Running};

/// What was told, by the methods' names: how often, and of how many bytes or events.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<&'static str, (u64, u64)>>>);

impl Told {
    fn add(&self, what: &'static str, many: usize) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, sum) = told.entry(what).or_default();
        (*times, *sum) = (*times + 1, *sum + many as u64);
    }

    fn of(&self, what: &str) -> (u64, u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied().unwrap_or_default()
    }
}

impl Observer for Told {
    fn waiting(&mut self) {
        self.add("waiting", 0);
    }

    fn waited(&mut self, events: usize) {
        self.add("waited", events);
    }

    fn accepted(&mut self, _: Token, _: &Peer) {
        self.add("accepted", 0);
    }

    fn read(&mut self, _: Token, bytes: usize) {
        self.add("read", bytes);
    }

    fn wrote(&mut self, _: Token, bytes: usize, offered: usize) {
        assert!(bytes <= offered);
        self.add("wrote", bytes);
    }

    fn closed(&mut self, _: Token) {
        self.add("closed", 0);
    }
}

#[test]
fn an_observer_is_told_all_that_a_server_does_whatever_it_waits_by() {
    let registry = Registry::builtin();
    for mechanism in mechanisms(&registry) {
        let told = Told::default();
        let server = mechanism.bind_observed(&registry, config(), Echo, told.clone());
        let server = Running::start(server.unwrap_or_else(|error| panic!("{mechanism}: {error}")), None, PATIENCE);
        for said in ["hello", "and again"] {
            let mut client = server.connect();
            client.write(said.as_bytes()).expect("the kernel takes it");
            client.shut_down().expect("it is connected");
            assert_eq!(client.read_to_end().expect("an answer, and the end"), said.as_bytes(), "{mechanism}");
        }
        let stats = server.stop();
        assert_eq!((stats.accepted, stats.closed, stats.bytes_in), (2, 2, 14), "{mechanism}");
        assert_eq!((told.of("accepted"), told.of("closed")), ((2, 0), (2, 0)), "{mechanism}");
        assert_eq!((told.of("read").1, told.of("wrote").1), (stats.bytes_in, stats.bytes_out), "{mechanism}");
        assert!(told.of("read").0 >= 4, "{mechanism}: two ends are read as nothing: {:?}", told.of("read"));
        let (begun, (ended, events)) = (told.of("waiting").0, told.of("waited"));
        assert!(events >= 2 && ended >= 2 && begun >= ended, "{mechanism}: {begun} begun, {ended} ended, {events}");
    }
}
