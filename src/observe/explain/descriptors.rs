//! Descriptors run out: what accept says, and what the listener goes on saying.

use std::io;

use pollmark_backends::{AsSource, Interest, Token};

use super::experiment::CALL;
use super::watchers::Watchers;
use super::{Knob, Topic};
use crate::usage;

pub(super) const TOO_MANY_OPEN_FILES: Topic = Topic {
    name: "too-many-open-files",
    question: "A server has no descriptor left, and a client connects. What happens to the client?",
    prediction: "It is connected, for the kernel needs no descriptor of the server to shake hands. accept fails, the \
                 connection stays in the queue, and so every wait of every mechanism says at once that the listener is \
                 readable: a loop that only tries again spins. One descriptor given up, and the client is accepted.",
    knobs: &[
        Knob {
            name: "spare",
            default: 1,
            range: (0, 1),
            meaning: "0: no descriptor is given up, and nobody is accepted",
        },
        Knob { name: "waits", default: 10, range: (1, 1_000), meaning: "how often the loop waits meanwhile" },
    ],
    read_on: &[
        "accept(2): EMFILE",
        "getrlimit(2): RLIMIT_NOFILE",
        "libev(3): the special problem of accept()ing when you can't",
    ],
    run: |experiment| {
        let waits = experiment.size("waits");
        let Some(limit) = usage::descriptor_limit().filter(|limit| *limit <= 1 << 20) else {
            let message = "this process has no limit of descriptors that could be reached: set one (ulimit -n 1000)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        };
        let (listener, address) = experiment.listen(16)?;
        listener.set_nonblocking(true)?;
        let mut watchers = Watchers::open(experiment)?;
        watchers.register(experiment, LISTENER, "the listener", listener.as_source(), Interest::READABLE)?;
        let (_client, local) = experiment.connect(address)?;

        let mut taken = Vec::new();
        let refused = loop {
            match listener.as_source().try_clone_to_owned() {
                Ok(one) => taken.push(one),
                Err(error) => break error,
            }
        };
        // While there is none left, nothing may need one: what is seen is kept, and told afterwards.
        let accepted = listener.accept();
        let counts = watchers.count_waits(LISTENER, waits);
        let given_up = if experiment.setting("spare") == 1 { taken.pop() } else { None };
        let freed = given_up.is_some();
        drop(given_up);
        let later = listener.accept();
        let count = taken.len();
        drop(taken);
        let counts = counts?;

        experiment.note(format!(
            "dup({}) until it failed: {count} more descriptors, then {refused}",
            pollmark_backends::raw(listener.as_source())
        ));
        experiment.figure("the limit of this process", limit, "getrlimit");
        experiment.note("accept, with none left");
        experiment.figure("it returned", outcome(&accepted), CALL);
        experiment.claim("accept fails", true, accepted.is_err());
        experiment.note(format!("{waits} waits of every mechanism, each with a timeout of 0"));
        for (name, said) in &counts {
            experiment.figure(format!("{name} said that the listener is readable"), said, CALL);
            experiment.claim(format!("{name}: waits that found it readable all the same"), waits, *said);
        }
        let counts = counts.iter().map(|(name, said)| format!("{name} {said}")).collect::<Vec<_>>().join(", ");
        experiment.note(if freed { "one descriptor is given up; accept" } else { "accept once more" });
        experiment.figure("it returned", outcome(&later), CALL);
        let peer = later.as_ref().map_or_else(|error| error.to_string(), |(_, peer)| peer.to_string());
        experiment.claim("who is accepted then", local.to_string(), peer);
        Ok(format!(
            "With all {limit} descriptors taken, the client was connected and accept said: {}. Of {waits} waits so \
             many said that there was somebody to accept: {counts}; so a loop that answers each by accept uses a \
             whole CPU and gets nowhere. {}",
            outcome(&accepted),
            match &later {
                Ok(_) =>
                    "With one spare descriptor given up it accepted, and could tell the client that it is full: that \
                     is what the spare of `--on-exhaustion shed` is for.",
                Err(_) =>
                    "As none was given up, it never accepted: pausing the listener would at least have let it sleep.",
            },
        ))
    },
};

const LISTENER: Token = Token(1);

fn outcome<T>(accepted: &io::Result<T>) -> String {
    accepted.as_ref().map_or_else(|error| error.to_string(), |_| "a connection".to_owned())
}
