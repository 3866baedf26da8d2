//! The life of one connection, from socket(2) to TIME_WAIT: every call, the descriptors, the queues, and what every
//! mechanism of this host says of it.

use std::io;
use std::net::{Shutdown, SocketAddr};

use pollmark_backends::{AsSource, Interest, RawSource, Token, raw};

use super::experiment::{Experiment, PATIENCE};
use super::watchers::Watchers;
use super::{Evidence, Knob, Topic};
use crate::observe::{Sockets, State, descriptors};

pub(super) const LIFECYCLE: Topic = Topic {
    name: "lifecycle",
    question: "What happens between socket and close, and who does it: the program or the kernel?",
    prediction: "The kernel connects the client while the program sleeps, and every mechanism then says that the \
                 listener is readable. accept returns another descriptor, each end goes through its own states, and \
                 the end that closes first is kept in TIME_WAIT by the kernel alone.",
    knobs: &[
        Knob { name: "backlog", default: 16, range: (1, 1_000), meaning: "what is given to listen" },
        Knob { name: "bytes", default: 5, range: (1, 10_000), meaning: "how many bytes the client sends" },
    ],
    read_on: &["socket(2)", "listen(2)", "accept(2)", "tcp(7)", "RFC 9293, 3.3.2: State Machine Overview"],
    run: |experiment| {
        let bytes = experiment.size("bytes");
        let mut watchers = Watchers::open(experiment)?;
        let socket = experiment.stream_socket()?;
        show_descriptor(experiment, raw(socket.as_source()))?;
        let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        experiment.bind(&socket, address)?;
        show_descriptor(experiment, raw(socket.as_source()))?;
        let number = raw(socket.as_source());
        let backlog = experiment.setting("backlog") as i32;
        experiment.call(format!("listen({number}, {backlog})"), || socket.listen(backlog), |()| "0".to_owned())?;
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr()?;
        let shown = experiment.shows_sockets();
        if shown {
            let listening = experiment.listener("the listener", address, |_| true)?;
            experiment.socket("the listener", &listening);
        }
        watchers.register(experiment, LISTENER, "the listener", listener.as_source(), Interest::READABLE)?;

        let (client, local) = experiment.connect(address)?;
        let mut program = String::new();
        if shown {
            let listening = experiment.listener("the queue", address, |one| one.receive_queue >= 1)?;
            let connection = experiment.end("the connection", address, local, |one| one.state == State::Established)?;
            experiment.socket("the listener", &listening);
            experiment.socket("the connection, which no program holds yet", &connection);
            experiment.claim("the connection, before accept is called", State::Established, connection.state);
            experiment.claim("descriptors of it, before accept is called", 0, u64::from(connection.inode > 0));
            program =
                format!(", and the kernel showed it as {} in a queue of {}", connection.state, listening.receive_queue);
        }
        let connected = watchers.expect(experiment, LISTENER)?;
        experiment.claim("mechanisms that say the listener is readable", watchers.count(), connected);

        let (server, _) = experiment.accept(&listener)?;
        server.set_read_timeout(Some(PATIENCE))?;
        let accepted = raw(server.as_source());
        show_descriptor(experiment, accepted)?;
        experiment.claim_that(
            "accept returns another descriptor",
            format!("not {number}"),
            accepted,
            accepted != number,
        );
        watchers.register(experiment, CONNECTION, "the connection", server.as_source(), Interest::READABLE)?;

        experiment.send(&client, &vec![b'x'; bytes])?;
        if shown {
            let connection = experiment.end("the bytes", address, local, |one| one.receive_queue as usize >= bytes)?;
            experiment.socket("the server's end", &connection);
        }
        let readable = watchers.expect(experiment, CONNECTION)?;
        experiment.claim("mechanisms that say the connection is readable", watchers.count(), readable);
        experiment.arrived(&server, bytes)?;
        let read = experiment.receive(&server, bytes)?;
        experiment.send(&server, &read)?;
        experiment.arrived(&client, bytes)?;
        let answer = experiment.receive(&client, bytes)?;
        experiment.claim("bytes that went there and back", bytes, answer.len());

        let half = raw(client.as_source());
        let shut = || client.shutdown(Shutdown::Write);
        experiment.call(format!("shutdown({half}, SHUT_WR), by the client"), shut, |()| "0".to_owned())?;
        if shown {
            let server_end = experiment.end("the end", address, local, |one| one.state == State::CloseWait)?;
            let client_end =
                experiment.end("its acknowledgement", local, address, |one| one.state == State::FinWait2)?;
            experiment.socket("the client's end", &client_end);
            experiment.socket("the server's end", &server_end);
            experiment.claim(
                "the ends, half-closed",
                states([State::FinWait2, State::CloseWait]),
                states([client_end.state, server_end.state]),
            );
        }
        let ended = watchers.expect(experiment, CONNECTION)?;
        experiment.claim("mechanisms that report the end", watchers.count(), ended);
        let end = experiment.receive(&server, 16)?;
        experiment.claim("recv at the end", 0, end.len());

        watchers.remove(server.as_source())?;
        experiment.close(server, "by the server");
        let mut after = String::new();
        if shown {
            let waits = waiting(experiment, address, local)?;
            experiment.socket("the client's end", &waits);
            let of_server = Sockets::at(address.port()).list()?.into_iter().filter(|one| one.peer == local).count();
            experiment.claim("sockets left of the server's end, which closed second", 0, of_server);
        }
        experiment.close(client, "by the client");
        if shown {
            let waits = waiting(experiment, address, local)?;
            experiment.socket("what is left, of no program", &waits);
            experiment.claim(
                "TIME_WAIT is at the end of",
                "the client",
                if waits.local == local { "the client" } else { "the server" },
            );
            after = ", and its TIME_WAIT outlived every descriptor".to_owned();
        }
        watchers.remove(listener.as_source())?;
        let completed = complete(experiment, bytes)?;
        Ok(format!(
            "The client's connect returned before accept was called{program}. Descriptor {number} only ever announced \
             connections, {accepted} carried {} bytes each way, and {} mechanisms said the same of both, each in its \
             own words{completed}. The client said first that it had finished{after}.",
            answer.len(),
            watchers.count(),
        ))
    },
};

cfg_if::cfg_if! {
    if #[cfg(completion)] {
        /// The same where nothing is announced and all is done, as a clause of the lesson.
        fn complete(experiment: &mut Experiment<'_>, bytes: usize) -> io::Result<String> {
            Ok(match super::completing::live(experiment, bytes)? {
                Some(calls) => format!(
                    "; completion said of each act that it was done, and a whole life took {calls} calls in all"
                ),
                None => String::new(),
            })
        }
    } else {
        fn complete(experiment: &mut Experiment<'_>, _: usize) -> io::Result<String> {
            experiment.evidence(Evidence::NotVisible("completion: it is a mechanism of Linux".to_owned()));
            Ok(String::new())
        }
    }
}

fn states(states: [State; 2]) -> String {
    states.map(|state| state.to_string()).join(" and ")
}

/// What is left of the client's end.
fn waiting(experiment: &Experiment<'_>, address: SocketAddr, local: SocketAddr) -> io::Result<crate::observe::Socket> {
    experiment.until("TIME_WAIT", || {
        let mut all = Sockets::to(address.port()).in_states(&[State::TimeWait]).list()?;
        all.append(&mut Sockets::at(address.port()).in_states(&[State::TimeWait]).list()?);
        Ok(all.into_iter().find(|one| [one.local, one.peer].contains(&local)))
    })
}

/// A line of this process's table.
fn show_descriptor(experiment: &mut Experiment<'_>, number: RawSource) -> io::Result<()> {
    if cfg!(linux_like) {
        let all = descriptors()?;
        let of_it = all.into_iter().find(|one| i64::from(one.number) == number as i64);
        experiment.evidence(Evidence::Descriptor(Box::new(of_it.ok_or_else(|| io::Error::other("it is not open"))?)));
    }
    Ok(())
}

const LISTENER: Token = Token(1);
const CONNECTION: Token = Token(2);
