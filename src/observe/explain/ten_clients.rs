//! One port and its clients: how many sockets a server has, what each accept adds, and what is left without the
//! listener.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use pollmark_backends::{AsSource, raw};

use super::experiment::{CALL, Experiment, PATIENCE, again};
use super::{Evidence, Knob, Topic};
use crate::observe::{Sockets, State, descriptors};

pub(super) const LISTEN_WITH_TEN_CLIENTS: Topic = Topic {
    name: "listen-with-ten-clients",
    question: "Ten clients connect to the one port at which a server listens. How many sockets does the server have?",
    prediction: "Eleven, all at that port: the one that listens, and one for each client. Before accept is called the \
                 clients are connected and the server has no descriptor of them; each accept returns another, which \
                 brings the bytes of one client alone. The listener only made them: when it is closed, nobody else \
                 gets in, and the ten go on.",
    knobs: &[
        Knob { name: "clients", default: 10, range: (1, 100), meaning: "how many clients connect" },
        Knob {
            name: "waiting",
            default: 0,
            range: (0, 100),
            meaning: "so many of them are not accepted before the listener is closed, and do not go on",
        },
    ],
    read_on: &["listen(2)", "accept(2)", "getsockname(2)", "`pollmark watch --once --descriptors`"],
    run: |experiment| {
        let clients = experiment.size("clients");
        let to_accept = clients.saturating_sub(experiment.size("waiting"));
        let (listener, address) = experiment.listen(clients as u64)?;
        let number = raw(listener.as_source());
        let mut connected = Vec::new();
        for _ in 0..clients {
            connected.push(experiment.connect(address)?);
        }
        experiment.note("accept has not been called yet");
        let mut before = String::new();
        if experiment.shows_sockets() {
            let queue = experiment.listener("the queue", address, |one| one.receive_queue as usize >= clients)?;
            experiment.socket("the listener", &queue);
            let there = experiment.until("the clients at the server's port", || {
                let mut all = Sockets::at(address.port()).in_states(&[State::Established]).list()?;
                all.retain(|one| one.local == address);
                Ok((all.len() >= clients).then_some(all))
            })?;
            if let Some(one) = there.first() {
                experiment.socket("the first of the others at its port", one);
            }
            experiment.claim("ESTABLISHED at the server's port, before accept is called", clients, there.len());
            let held = show_table(experiment, address, 1)?;
            experiment.claim("descriptors of the server, before accept is called", 1, held);
            before = format!(
                ": {} were {} while the server had {held} descriptor at its port",
                there.len(),
                State::Established
            );
        }

        let mut accepted = Vec::new();
        for _ in 0..to_accept {
            accepted.push(experiment.accept(&listener)?);
        }
        let mut numbers = accepted.iter().map(|(server, _)| raw(server.as_source())).collect::<BTreeSet<_>>();
        numbers.insert(number);
        experiment.claim("different descriptors, with the listener's", clients + 1, numbers.len());
        let mut ports = BTreeSet::from([listener.local_addr()?.port()]);
        for (server, _) in &accepted {
            ports.insert(server.local_addr()?.port());
        }
        experiment.note(format!("getsockname of all {}", numbers.len()));
        experiment.figure("local ports", listed(&ports), CALL);
        experiment.claim("local ports of all of them", address.port().to_string(), listed(&ports));
        if experiment.shows_sockets() {
            let held = show_table(experiment, address, 1 + to_accept)?;
            experiment.claim("descriptors of the server, afterwards", clients + 1, held);
        }

        // Each says which it is, by its own port.
        for (client, local) in &connected {
            let mut client = client;
            client.write_all(&local.port().to_be_bytes())?;
        }
        experiment.note("each client sends two bytes, the number of its port");
        let mut own = 0;
        for (server, peer) in &accepted {
            let bytes = exactly(server, 2)?;
            own += usize::from(bytes == peer.port().to_be_bytes());
        }
        experiment.figure("descriptors that brought their own client's bytes", own, CALL);
        experiment.claim("clients whose bytes came by their own descriptor", clients, own);

        experiment.close(listener, "the listener");
        let late = experiment.call(
            format!("connect({address}), by one client more"),
            || TcpStream::connect_timeout(&address, PATIENCE),
            |late| raw(late.as_source()).to_string(),
        );
        experiment.claim_error("one client more, without the listener", io::ErrorKind::ConnectionRefused, &late);
        let refused = late.map_or_else(|error| error.to_string(), |_| "let in".to_owned());
        for (server, peer) in &accepted {
            let mut server = server;
            server.write_all(&peer.port().to_be_bytes())?;
        }
        let mut answered = 0;
        for (client, local) in &connected {
            // One that was not accepted is told so by a reset.
            answered += usize::from(exactly(client, 2).is_ok_and(|bytes| bytes == local.port().to_be_bytes()));
        }
        experiment.note("each descriptor sends two bytes to its client");
        experiment.figure("clients that read their own", answered, CALL);
        experiment.claim("clients that are answered without the listener", clients, answered);
        let range = match (numbers.first(), numbers.last()) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => String::new(),
        };
        Ok(format!(
            "The {clients} clients did not need accept to be connected{before}. Descriptor {number} only listened; {} \
             calls of accept returned another each, so that there were {}, {range}, all at port {}, and {own} of them \
             brought the bytes of their own client. When {number} was closed, one client more was told: {refused}; of \
             the others {answered} were answered, for a connection that was accepted does not need the socket it came \
             by.",
            accepted.len(),
            numbers.len(),
            listed(&ports),
        ))
    },
};

/// Shows the descriptors whose sockets are at the server's address, which those of the clients are not; and how many they
/// are: `certain` of them at least, for the kernel may pass over one while it lists others that come and go.
fn show_table(experiment: &mut Experiment<'_>, address: SocketAddr, certain: usize) -> io::Result<usize> {
    let held = experiment.until("the descriptors of the server", || {
        let mut held = descriptors()?;
        held.retain(|one| one.socket.as_ref().is_some_and(|socket| socket.local == address));
        Ok((held.len() >= certain).then_some(held))
    })?;
    let count = held.len();
    for one in held {
        experiment.evidence(Evidence::Descriptor(Box::new(one)));
    }
    Ok(count)
}

fn exactly(mut stream: &TcpStream, bytes: usize) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; bytes];
    again(|| stream.read_exact(&mut buffer))?;
    Ok(buffer)
}

fn listed(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
