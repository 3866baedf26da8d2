//! Waiting: what is said of bytes that are left, and what it costs to hear of the same clients in every way there is.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, Events, Growth, Interest, Poller, Token, Trigger};

use super::experiment::{CALL, Experiment, PATIENCE, told};
use super::streams::thread_number;
use super::{Evidence, Knob, Topic};

pub(super) const LEVEL_AND_EDGE: Topic = Topic {
    name: "level-and-edge",
    question: "A program reads less than there is. Is it told again?",
    prediction: "Level-triggered, yes: what is reported is that there are bytes. Edge-triggered, no: what is reported \
                 is that bytes came, and the rest lies there until more come. So an edge reader has to read until \
                 EAGAIN.",
    knobs: &[
        Knob { name: "bytes", default: 100, range: (1, 10_000), meaning: "how many bytes come" },
        Knob {
            name: "read",
            default: 10,
            range: (1, 10_000),
            meaning: "how many of them are read; all of them, and level is silent too",
        },
    ],
    read_on: &["epoll(7): Level-triggered and edge-triggered", "kqueue(2): EV_CLEAR", "`pollmark semantics`"],
    run: |experiment| {
        let (bytes, part) = (experiment.size("bytes"), experiment.size("read"));
        let mut told_again = [Vec::new(), Vec::new()];
        let mut later = Vec::new();
        let entries = experiment.registry.entries().filter(|entry| entry.base().is_none()).collect::<Vec<_>>();
        for entry in entries {
            let Ok(capabilities) = entry.probe() else { continue };
            for (at, trigger) in [Trigger::Level, Trigger::Edge].into_iter().enumerate() {
                if !capabilities.supports(trigger) {
                    continue;
                }
                let (_listener, client, server) = experiment.pair()?;
                let mut poller = entry.open()?;
                poller.add(server.as_source(), Token(7), Interest::READABLE, trigger)?;
                experiment.send(&client, &vec![b'x'; bytes])?;
                experiment.arrived(&server, bytes)?;
                let what = format!("{}, {trigger}", entry.name());
                let first = wait(experiment, &mut *poller, &what, PATIENCE)?;
                experiment.claim(format!("{what}: told of {bytes} bytes"), true, first);
                let read = experiment.receive(&server, part)?.len();
                // What is there is there: silence now is silence for ever.
                let second = wait(experiment, &mut *poller, &what, Duration::from_millis(20))?;
                experiment.claim(
                    format!("{what}: told again of the {} left", bytes - read),
                    trigger == Trigger::Level,
                    second,
                );
                told_again[at].extend(second.then(|| entry.name().to_owned()));
                if trigger == Trigger::Edge {
                    experiment.send(&client, b"y")?;
                    experiment.arrived(&server, bytes - read + 1)?;
                    let third = wait(experiment, &mut *poller, &what, PATIENCE)?;
                    experiment.claim(format!("{what}: told when one byte more comes"), true, third);
                    later.push(entry.name().to_owned());
                }
            }
        }
        let [level, edge] = told_again.map(|names| if names.is_empty() { "none".to_owned() } else { names.join(", ") });
        let later = if later.is_empty() { "none of this host's".to_owned() } else { later.join(", ") };
        Ok(format!(
            "Of {bytes} bytes {part} were asked for: level-triggered, these told of the rest: {level}; edge-triggered, \
             these: {edge}. For the edge-triggered ({later}) one byte more was needed before the rest was told of, and \
             from a client that waits for its answer none comes. Edge saves waits only for those who read until \
             EAGAIN, or until less than they asked for.",
        ))
    },
};

/// One wait, or several that say nothing in between, and what it said.
fn wait(experiment: &mut Experiment<'_>, poller: &mut dyn Poller, what: &str, patience: Duration) -> io::Result<bool> {
    let mut events = Events::with_capacity(4);
    let deadline = Instant::now() + patience;
    let event = loop {
        match poller.wait(&mut events, Some(deadline.saturating_duration_since(Instant::now()))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let found = events.iter().next();
        if found.is_some() || Instant::now() >= deadline {
            break found;
        }
    };
    experiment.note(format!("{what}: wait"));
    experiment.evidence(Evidence::Event {
        mechanism: what.to_owned(),
        registered: "READABLE".to_owned(),
        raw: event.map(|event| event.raw().to_string()).unwrap_or_default(),
        told: event.map(|event| told(&event)).unwrap_or_default(),
    });
    Ok(event.is_some())
}

pub(super) const EVENT_LOOP: Topic = Topic {
    name: "event-loop",
    question: "One thread, a few clients that speak in turns. What does each way of waiting do for that?",
    prediction: "All of them deliver every message, by one wait for each turn or a few. select and poll keep nothing \
                 in the kernel, so adding a client costs no call and each wait passes all of them; epoll and kqueue \
                 keep the list in the kernel, by calls or with the next wait; so does io_uring, in a ring.",
    knobs: &[
        Knob { name: "clients", default: 5, range: (1, 100), meaning: "how many clients are connected" },
        Knob { name: "turns", default: 20, range: (1, 200), meaning: "how often each of them sends a byte" },
    ],
    read_on: &["select(2)", "poll(2)", "epoll(7)", "kqueue(2)", "io_uring(7)", "`pollmark compare`"],
    run: |experiment| {
        let (clients, turns) = (experiment.size("clients"), experiment.size("turns"));
        let entries = experiment.registry.entries().filter(|entry| entry.base().is_none()).collect::<Vec<_>>();
        let (mut rows, mut tables) = (Vec::new(), Vec::new());
        for entry in entries {
            let Ok(capabilities) = entry.probe() else { continue };
            let mut poller = entry.open()?;
            let delivered = rounds(&mut *poller, clients, turns)?;
            let ledger = poller.ledger();
            experiment.note(format!("{}: {clients} clients, {turns} turns", entry.name()));
            experiment.figure("messages delivered", delivered, CALL);
            experiment.figure("waits", ledger.waits, "the poller's ledger");
            experiment.figure("system calls of waits", ledger.wait_calls, "the poller's ledger");
            experiment.figure(
                "system calls to add clients and take them out",
                ledger.change_calls,
                "the poller's ledger",
            );
            experiment.figure("a wait costs", capabilities.growth, "the poller's capabilities");
            experiment.claim(format!("{}: messages delivered", entry.name()), clients * turns, delivered);
            let turn = turns as u64;
            experiment.claim_that(
                format!("{}: waits", entry.name()),
                format!("{turn} or more"),
                ledger.waits,
                ledger.waits >= turn,
            );
            if capabilities.growth != Growth::Ready {
                experiment.claim(format!("{}: calls to add clients", entry.name()), 0, ledger.change_calls);
                tables.push(entry.name().to_owned());
            }
            rows.push(format!("{} {} + {}", entry.name(), ledger.wait_calls, ledger.change_calls));
        }
        Ok(format!(
            "{} messages of {clients} clients, in system calls to wait + to change what is waited for: {}. Those that \
             are told of all clients anew in each wait ({}) need no call for a change, and so cost more the more \
             clients are idle; the others cost what is ready. With {clients} clients nobody could tell: `pollmark \
             compare --idle 0,5000` shows where it begins to count.",
            clients * turns,
            rows.join(", "),
            tables.join(", "),
        ))
    },
};

/// How many messages come through, if every client sends one in each turn.
fn rounds(poller: &mut dyn Poller, clients: usize, turns: usize) -> io::Result<usize> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut near = Vec::new();
    let mut far = Vec::new();
    for at in 0..clients {
        near.push(TcpStream::connect_timeout(&address, PATIENCE)?);
        let (server, _) = listener.accept()?;
        server.set_nonblocking(true)?;
        poller.add(server.as_source(), Token(at as u64), Interest::READABLE, Trigger::Level)?;
        far.push(server);
    }
    let mut events = Events::with_capacity(clients);
    let mut delivered = 0;
    for turn in 1..=turns {
        for client in &mut near {
            client.write_all(b"x")?;
        }
        let deadline = Instant::now() + PATIENCE;
        while delivered < turn * clients && Instant::now() < deadline {
            match poller.wait(&mut events, Some(PATIENCE)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                let stream = &mut far[event.token().0 as usize];
                delivered += match stream.read(&mut [0; 16]) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => return Err(error),
                };
            }
        }
    }
    for server in &far {
        poller.remove(server.as_source())?;
    }
    Ok(delivered)
}

pub(super) const THUNDERING_HERD: Topic = Topic {
    name: "thundering-herd",
    question: "Several threads wait for the same listener, and one client comes. How many wake up?",
    prediction: "All of them, though one alone can accept it: each poller is told that the listener is readable. If \
                 each asked to be told exclusively (EPOLLEXCLUSIVE), one at least, and not all.",
    knobs: &[
        Knob { name: "threads", default: 4, range: (2, 64), meaning: "how many threads wait" },
        Knob {
            name: "exclusive",
            default: 1,
            range: (0, 1),
            meaning: "0: nobody asks to be told exclusively, and all wake up in that attempt too",
        },
    ],
    read_on: &[
        "epoll_ctl(2): EPOLLEXCLUSIVE",
        "socket(7): SO_REUSEPORT",
        "`pollmark serve --threads 2 --sharing exclusive`",
    ],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("whether a thread sleeps"));
        }
        let threads = experiment.size("threads");
        let entries = experiment.registry.entries().filter(|entry| entry.base().is_none()).collect::<Vec<_>>();
        let (mut all, mut few) = (Vec::new(), Vec::new());
        for entry in entries {
            let Ok(capabilities) = entry.probe() else { continue };
            for exclusive in [false, true] {
                if exclusive && !capabilities.exclusive {
                    continue;
                }
                let asked = exclusive && experiment.setting("exclusive") == 1;
                let woken = herd(experiment, entry, threads, asked, if asked { 1 } else { threads })?;
                let how = if exclusive { "exclusively" } else { "shared" };
                experiment.note(format!(
                    "{}, {how}: {threads} threads sleep in a wait, and one client connects",
                    entry.name()
                ));
                experiment.figure("threads that woke up", woken, CALL);
                let what = format!("{}, {how}: threads that woke up", entry.name());
                if exclusive {
                    experiment.claim_that(
                        what,
                        format!("1 or more, fewer than {threads}"),
                        woken,
                        (1..threads).contains(&woken),
                    );
                    few.push(format!("{} {woken}", entry.name()));
                } else {
                    experiment.claim(what, threads, woken);
                    all.push(format!("{} {woken}", entry.name()));
                }
            }
        }
        let few = if few.is_empty() { "no mechanism here can".to_owned() } else { few.join(", ") };
        Ok(format!(
            "Of {threads} threads that slept, one connection woke: {}; asked exclusively: {few}. Whoever wakes for \
             nothing has cost a switch of threads and an accept that fails, for each connection. The other way out is \
             a listener for each thread, by SO_REUSEPORT, which is what `pollmark serve --threads` does unless it is \
             asked for another.",
            all.join(", "),
        ))
    },
};

/// How many of so many threads wake up for one connection; `certain` of them are waited for.
fn herd(
    experiment: &Experiment<'_>,
    entry: &pollmark_backends::Entry,
    threads: usize,
    exclusive: bool,
    certain: usize,
) -> io::Result<usize> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let woken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let mut wakers = Vec::new();
        let mut sleepers = Vec::new();
        for _ in 0..threads {
            let (waker, wakes) = pollmark_backends::waker()?;
            let (tell, listener, woken) = (tell.clone(), listener.as_source(), &woken);
            wakers.push(waker);
            sleepers.push(scope.spawn(move || -> io::Result<()> {
                let mut poller = entry.open()?;
                poller.add(wakes.as_source(), END, Interest::READABLE, Trigger::Level)?;
                match exclusive {
                    true => poller.add_exclusive(listener, CLIENT, Interest::READABLE)?,
                    false => poller.add(listener, CLIENT, Interest::READABLE, Trigger::Level)?,
                }
                let _ = tell.send(thread_number());
                drop(tell);
                let mut events = Events::with_capacity(4);
                loop {
                    match poller.wait(&mut events, Some(3 * PATIENCE)) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        waited => waited?,
                    }
                    let came = |token| events.iter().any(|event| event.token() == token);
                    if came(CLIENT) {
                        woken.fetch_add(1, Ordering::SeqCst);
                        // Once is enough: it stays readable, for nobody accepts.
                        poller.remove(listener)?;
                    }
                    if came(END) || events.is_empty() {
                        return Ok(());
                    }
                }
            }));
        }
        drop(tell);
        let counted = (|| {
            let sleeping = told.iter().take(threads).collect::<Option<Vec<_>>>();
            let sleeping = sleeping.filter(|all| all.len() == threads);
            let sleeping = sleeping.ok_or_else(|| io::Error::other("a thread could not begin to wait"))?;
            for thread in sleeping {
                experiment.until("a thread to sleep", || Ok(asleep(thread)?.then_some(())))?;
            }
            let _client = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
            let enough =
                experiment.until("threads to wake up", || Ok((woken.load(Ordering::SeqCst) >= certain).then_some(())));
            // Whoever has been woken beyond that is on its way; whoever has not been will not be.
            std::thread::sleep(Duration::from_millis(100));
            match enough {
                Err(error) if error.kind() != io::ErrorKind::TimedOut => Err(error),
                _ => Ok(woken.load(Ordering::SeqCst)),
            }
        })();
        wakers.iter().for_each(pollmark_backends::Waker::wake);
        for sleeper in sleepers {
            sleeper.join().map_err(|_| io::Error::other("a waiting thread has panicked"))??;
        }
        counted
    })
}

const CLIENT: Token = Token(1);
const END: Token = Token(2);

/// Whether a thread of this process sleeps, and goes on doing so.
fn asleep(thread: i32) -> io::Result<bool> {
    let status = || {
        let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status"))?;
        let line =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        io::Result::Ok((line("State:"), line("voluntary_ctxt_switches:")))
    };
    let before = status()?;
    std::thread::sleep(Duration::from_millis(5));
    Ok(before.0.starts_with('S') && status()? == before)
}
