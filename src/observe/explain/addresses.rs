//! Addresses: four numbers make a connection, a path or a name makes another kind, and a box in between hides whose it
//! is.

use std::io::{self, BufRead, BufReader};
#[cfg(unix)]
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use pollmark_backends::{AsSource, raw};
use socket2::SockAddr;

use super::experiment::{CALL, Experiment, PATIENCE, again};
use super::{Knob, Topic};
use crate::observe::{Socket, Sockets, State};

pub(super) const FOUR_TUPLE: Topic = Topic {
    name: "four-tuple",
    question: "A server listens at one port. How can it have more than one client, and a client more than one server?",
    prediction: "A connection is known by both addresses and both ports together. All clients of a server have its \
                 port in common, and one port of a client can be connected to two servers; the same four numbers twice \
                 are refused.",
    knobs: &[
        Knob { name: "clients", default: 3, range: (1, 100), meaning: "how many clients connect to the one server" },
        Knob {
            name: "same",
            default: 0,
            range: (0, 1),
            meaning: "1: the second connection from one port goes to the same server",
        },
    ],
    read_on: &["ip(7): ip_local_port_range", "connect(2): EADDRNOTAVAIL", "RFC 9293, 3.4: connection identification"],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("one port of a client, connected twice"));
        }
        let clients = experiment.size("clients");
        let (listener, address) = experiment.listen(128)?;
        let (_other, elsewhere) = experiment.listen(16)?;
        let mut connected = Vec::new();
        for _ in 0..clients {
            connected.push(experiment.connect(address)?);
        }
        let mut accepted = Vec::new();
        for _ in 0..clients {
            accepted.push(experiment.accept(&listener)?.0);
        }
        let there = Sockets::at(address.port()).in_states(&[State::Established]).list()?;
        let there = there.into_iter().filter(|one| one.local == address).collect::<Vec<_>>();
        for one in there.iter().take(3) {
            experiment.socket("the server's end", one);
        }
        experiment.claim("connections at the server's one port", clients, there.len());

        let first = from(experiment, None, address)??;
        let here = first.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a socket without an address"))?;
        let target = if experiment.setting("same") == 1 { address } else { elsewhere };
        let second = from(experiment, Some(here), target)?;
        experiment.claim("a second connection from the client's port, to another server", true, second.is_ok());
        let third = from(experiment, Some(here), address)?;
        experiment.claim_error("a second one from there to the same server", io::ErrorKind::AddrNotAvailable, &third);
        let of_port = Sockets::at(here.port()).in_states(&[State::Established]).list()?;
        let of_port = of_port.into_iter().filter(|one| one.local == here).collect::<Vec<_>>();
        for one in &of_port {
            experiment.socket("a client's end at its one port", one);
        }
        let refused = third.map_or_else(|error| error.to_string(), |_| "not refused".to_owned());
        Ok(format!(
            "{} connections shared port {} of the server, and {} shared port {} of a client; the same four numbers \
             again were: {refused}. So a server never runs out of ports by having clients, and a client has as many \
             connections to one server as it has ports, and as many again to each other server.",
            there.len(),
            address.port(),
            of_port.len(),
            here.port(),
        ))
    },
};

/// Tries to connect to `address` from this address, or from any: the outcome is what is to be seen.
fn from(
    experiment: &mut Experiment<'_>,
    here: Option<SocketAddr>,
    address: SocketAddr,
) -> io::Result<io::Result<socket2::Socket>> {
    let socket = experiment.stream_socket()?;
    // Otherwise a port is one socket's alone, connected or not.
    socket.set_reuse_address(true)?;
    experiment.bind(&socket, here.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    let number = raw(socket.as_source());
    let connect = || socket.connect_timeout(&SockAddr::from(address), PATIENCE);
    let connected = experiment.call(format!("connect({number}, {address})"), connect, |()| "0".to_owned());
    Ok(connected.map(|()| socket))
}

pub(super) const UNIX_SOCKETS: Topic = Topic {
    name: "unix-sockets",
    question: "Client and server are on one host. What does a Unix socket do that TCP does not?",
    prediction: "Its address is a file: whoever may not write it may not connect. The kernel says which process and \
                 user connected. And the file outlives the server: the next one cannot bind to it until somebody \
                 removes it.",
    knobs: &[Knob {
        name: "remove",
        default: 0,
        range: (0, 1),
        meaning: "1: the file is removed when the server ends, and the next can bind",
    }],
    read_on: &["unix(7): SO_PEERCRED", "unlink(2)", "`pollmark serve --listen unix:/PATH --unix-mode 600`"],
    run: unix_sockets,
};

#[cfg(not(unix))]
fn unix_sockets(_: &mut Experiment<'_>) -> io::Result<String> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Unix sockets: the standard library has none on this OS"))
}

#[cfg(unix)]
fn unix_sockets(experiment: &mut Experiment<'_>) -> io::Result<String> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let folder = std::env::temp_dir().join(format!("pollmark-{}-{moment}", std::process::id()));
    // Nobody else's, or it would be there already.
    std::fs::create_dir(&folder)?;
    let path = folder.join("socket");
    let shown = path.display().to_string();
    let bind = |path: &std::path::Path| UnixListener::bind(path);
    let number = |listener: &UnixListener| raw(listener.as_source()).to_string();
    let listener = experiment.call(format!("bind({shown}), listen"), || bind(&path), number)?;
    let is_socket = std::fs::metadata(&path)?.file_type().is_socket();
    experiment.figure("the file is a socket", is_socket, "stat(2)");
    let client = experiment.call(
        format!("connect({shown})"),
        || UnixStream::connect(&path),
        |client| raw(client.as_source()).to_string(),
    )?;
    let (mut server, _) =
        experiment.call("accept", || listener.accept(), |(server, _)| raw(server.as_source()).to_string())?;
    (&client).write_all(b"hello")?;
    let mut buffer = [0; 5];
    server.read_exact(&mut buffer)?;
    experiment.claim("bytes that went through", "hello".to_owned(), String::from_utf8_lossy(&buffer).into_owned());
    cfg_if::cfg_if! {
        if #[cfg(linux_like)] {
            let peer = rustix::net::sockopt::socket_peercred(&server)?;
            let process = peer.pid.as_raw_nonzero().get().unsigned_abs();
            experiment.figure("the peer, as the kernel says", format!("process {process}, user {}", peer.uid.as_raw()), "SO_PEERCRED");
            experiment.claim("the process that connected", std::process::id(), process);
            let told = format!("that it was process {process}");
        } else {
            let told = "what this experiment does not ask on this OS";
        }
    }
    experiment.close(listener, "the listener");
    drop((client, server));
    if experiment.setting("remove") == 1 {
        experiment.call(format!("unlink({shown})"), || std::fs::remove_file(&path), |()| "0".to_owned())?;
    }
    let stale = experiment.call(
        format!("connect({shown}), to nobody"),
        || UnixStream::connect(&path),
        |_| "connected".to_owned(),
    );
    experiment.claim_error("connect once the server is gone", io::ErrorKind::ConnectionRefused, &stale);
    let again = experiment.call(format!("bind({shown}), by the next server"), || bind(&path), number);
    experiment.claim_error("bind by the next server", io::ErrorKind::AddrInUse, &again);
    let said = again.as_ref().map_or_else(|error| error.to_string(), |_| "let in".to_owned());
    drop(again);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(format!(
        "A file was the address, and permissions of files decide who may connect; of the client the kernel said \
         {told}. When the server had gone, the next one at the same path was: {said}. A server that removes the file \
         before it binds may take it away from one that runs: it should try to connect first, and remove what refuses.",
    ))
}

pub(super) const PROXY_IN_BETWEEN: Topic = Topic {
    name: "proxy-in-between",
    question: "A proxy stands between client and server. Whom does the server talk to?",
    prediction: "The proxy: there are two connections, and the server's has the proxy's address. Whose it passes on is \
                 lost, unless the proxy says so first, as the PROXY protocol does. And when the proxy has heard \
                 nothing for a while and closes both, each side is told that the other has finished; what the client \
                 sends next is taken from it, and never answered.",
    knobs: &[
        Knob {
            name: "say",
            default: 1,
            range: (0, 1),
            meaning: "0: the proxy does not say whose connection it passes on",
        },
        Knob { name: "idle_ms", default: 100, range: (1, 2_000), meaning: "how long the proxy hears nothing, in ms" },
        Knob { name: "kill", default: 1, range: (0, 1), meaning: "0: the proxy does not close what is idle" },
    ],
    read_on: &[
        "haproxy: doc/proxy-protocol.txt",
        "RFC 7239: Forwarded HTTP Extension",
        "RFC 5382, 5: NAT Session Refresh",
        "`pollmark serve --proxy-protocol`",
        "`pollmark serve --idle-timeout`",
    ],
    run: |experiment| {
        let says = experiment.setting("say") == 1;
        let (back, behind) = experiment.listen(16)?;
        let (front, address) = experiment.listen(16)?;
        let (client, local) = experiment.connect(address)?;
        let (incoming, peer) = experiment.accept(&front)?;
        let (outgoing, outside) = experiment.connect(behind)?;
        let (server, seen) = experiment.accept(&back)?;
        for stream in [&client, &incoming, &outgoing, &server] {
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        experiment.claim("the client's address, as the proxy sees it", local, peer);
        experiment.claim("the client's address, as the server sees it", outside, seen);
        if says {
            let line = format!("PROXY TCP4 {} {} {} {}\r\n", peer.ip(), address.ip(), peer.port(), address.port());
            experiment.send(&outgoing, line.as_bytes())?;
        }
        experiment.send(&client, b"question\n")?;
        experiment.arrived(&incoming, 9)?;
        let passed = experiment.receive(&incoming, 64)?;
        experiment.send(&outgoing, &passed)?;
        let mut text = String::new();
        let mut reader = BufReader::new(&server);
        while !text.ends_with("question\n") {
            if again(|| reader.read_line(&mut text))? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the question has not come"));
            }
        }
        experiment.note("the server reads what has come");
        experiment.figure("what it was told", text.replace("\r\n", " ↵ ").replace('\n', " ↵ "), CALL);
        let mut words = text.lines().find_map(|line| line.strip_prefix("PROXY TCP4 ")).unwrap_or_default().split(' ');
        let said = words.next().zip(words.nth(1)).map(|(ip, port)| format!("{ip}:{port}"));
        let said = said.unwrap_or_else(|| "nothing".to_owned());
        experiment.claim("whose connection it is, as the proxy says", local.to_string(), said.clone());
        if experiment.shows_sockets() {
            for (whose, port) in [("the proxy's front", address.port()), ("the server", behind.port())] {
                let all = Sockets::at(port).list()?;
                for one in all.iter().filter(|one| one.state != State::Listen && one.inode > 0) {
                    experiment.socket(whose, one);
                }
            }
        }
        let ends = Ends { client, incoming, outgoing, server };
        let idle = ends.idle(experiment, address)?;
        Ok(format!(
            "The client came from {local}, and the server was connected with {seen}: the proxy's. Of the client it was \
             told: {said}. After {} ms without a word {idle}: whoever keeps a connection has to expect that a box in \
             the middle has ended it, and to ask again on another, or to say something more often than the box \
             forgets.",
            experiment.setting("idle_ms"),
        ))
    },
};

/// Two connections, and the four ends of them.
struct Ends {
    client: TcpStream,
    incoming: TcpStream,
    outgoing: TcpStream,
    server: TcpStream,
}

impl Ends {
    /// What becomes of them when nothing has been said for a while; in words.
    fn idle(self, experiment: &mut Experiment<'_>, address: SocketAddr) -> io::Result<String> {
        let Ends { client, incoming, outgoing, server } = self;
        let (wait, kills) = (Duration::from_millis(experiment.setting("idle_ms")), experiment.setting("kill") == 1);
        incoming.set_read_timeout(Some(wait))?;
        let silence = experiment.receive(&incoming, 64);
        experiment.claim("the proxy hears from the client in that time", false, silence.is_ok());
        // Otherwise they are there until the experiment ends, and nobody closes them.
        let mut kept = Some((incoming, outgoing));
        if let Some((incoming, outgoing)) = kept.take_if(|_| kills) {
            experiment.close(incoming, "by the proxy, of the client's connection");
            experiment.close(outgoing, "by the proxy, of the server's");
        }
        // What is not there will not come.
        let patience = if kills { PATIENCE } else { wait };
        for end in [&client, &server] {
            end.set_read_timeout(Some(patience))?;
        }
        let mut shown = String::new();
        if experiment.shows_sockets() {
            let wanted = |one: &Socket| !kills || one.state == State::CloseWait;
            let end = experiment.end("the client's end", client.local_addr()?, address, wanted)?;
            experiment.socket("the client's end, of which the client knows nothing yet", &end);
            experiment.claim("the client's end", State::CloseWait, end.state);
            shown = format!(" was {},", end.state);
        }
        let end = experiment.receive(&server, 64);
        let heard = end.map_or_else(|error| error.to_string(), |bytes| format!("{} bytes", bytes.len()));
        experiment.claim("the server reads, though the client has not closed", "0 bytes".to_owned(), heard.clone());
        let sent = experiment.send(&client, b"question\n");
        experiment.claim("bytes of the client's next question that are taken", 9, sent.unwrap_or(0));
        let answer = experiment.receive(&client, 64);
        let answer = answer.map_or_else(|error| error.to_string(), |bytes| format!("{} bytes", bytes.len()));
        Ok(format!(
            "the client's end{shown} its next question was taken and the answer to it was \"{answer}\", and the server \
             had read \"{heard}\""
        ))
    }
}
