//! Connections that are refused, that nobody answers, that there is no way or no port for; and Unix sockets.

use std::io::{self, ErrorKind};
#[cfg(unix)]
use std::io::{Read, Write};
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
use std::net::{TcpListener, TcpStream};
#[cfg(target_os = "linux")]
use std::time::Duration;

use pollmark::backends::{OwnedSource, Source};
use pollmark::client::{Client, Endpoint, Error, Frames, Kernel, Net, Target, Timeout, connect};

#[cfg(target_os = "linux")]
use super::{AnyPoller, client, only};
use super::{frame, mirror, on_every_poller, patient, settings};
use crate::suite::PATIENCE;

#[test]
fn the_addresses_of_a_name_are_tried_in_order_and_each_failure_is_told() {
    on_every_poller(|open| {
        let server = mirror();
        let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let targets = [nobody, nobody, server.tcp()].map(Target::Tcp);
        let endpoint = Endpoint::new("example:1", targets.clone()).expect("three addresses");
        let stream = TcpStream::from(connect(&mut open(), &endpoint, PATIENCE).expect("the third listens"));
        assert_eq!(stream.peer_addr().expect("connected"), server.tcp());

        let nowhere = Endpoint::new("example:1", targets[..2].to_vec()).expect("two addresses");
        let error = connect(&mut open(), &nowhere, PATIENCE).expect_err("nobody listens");
        assert_eq!((error.kind(), error.failures().len(), error.timeout()), (ErrorKind::ConnectionRefused, 2, None));
        let said = error.to_string();
        assert!(said.contains("example:1") && said.contains(&nobody.to_string()) && said.contains("refused"), "{said}");

        let mut client = Client::over(open(), nowhere, Frames::default());
        let error = client.request(&frame(b"anyone?")).expect_err("nobody listens");
        assert!(matches!(error, Error::Connect(_)) && error.is_unsent() && error.timeout().is_none(), "{error}");
        assert_eq!(io::Error::from(error).kind(), ErrorKind::ConnectionRefused);
        assert_eq!((client.stats().open, client.stats().opened), (0, 0));
    });
}

/// A network on which every connection fails in the same way: at once, or when it is asked about.
struct Failing(ErrorKind, bool);

impl Net for Failing {
    fn connect(&self, target: &Target) -> io::Result<OwnedSource> {
        if self.1 { Err(self.0.into()) } else { Kernel.connect(target) }
    }

    fn connected(&self, _: Source<'_>) -> io::Result<bool> {
        Err(self.0.into())
    }

    fn recv(&self, _: Source<'_>, _: &mut [u8]) -> io::Result<usize> {
        panic!("nothing is connected")
    }

    fn send(&self, _: Source<'_>, _: &[u8]) -> io::Result<usize> {
        panic!("nothing is connected")
    }
}

#[test]
fn each_way_a_connection_fails_has_its_kind_and_says_what_to_do() {
    let server = mirror(); // so that what is begun comes to an end, and is asked about
    on_every_poller(|open| {
        for (kind, advice) in [
            (ErrorKind::ConnectionRefused, "nobody listens there"),
            (ErrorKind::HostUnreachable, "no way to it"),
            (ErrorKind::NetworkUnreachable, "no way to it"),
            (ErrorKind::AddrNotAvailable, "widen the range of ports"),
            (ErrorKind::TimedOut, "no answer"),
            (ErrorKind::PermissionDenied, "permission denied"),
        ] {
            for at_once in [false, true] {
                let asked = Client::over(open(), server.tcp().into(), Frames::default());
                let mut asked = asked.with_settings(settings(2, patient())).with_net(Failing(kind, at_once));
                let error = asked.request(&frame(b"hello")).expect_err("no connection");
                assert!(error.to_string().contains(advice), "{error}");
                assert_eq!((error.kind(), error.is_unsent()), (kind, true));
                // The kernel's own patience may end before ours.
                assert_eq!(error.timeout(), (kind == ErrorKind::TimedOut).then_some(Timeout::Connect));
                assert_eq!((asked.stats().opened, asked.stats().open), (0, 0));
            }
        }
    });
}

/// A listener whose queue is full, what fills it, and the error of the first that had no room.
#[cfg(target_os = "linux")] // others refuse, or have more room than they were asked for
fn full_queue(open: &dyn Fn() -> AnyPoller) -> (socket2::Socket, SocketAddr, Vec<TcpStream>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("bound");
    listener.listen(0).expect("listens");
    let address = listener.local_addr().expect("bound").as_socket().expect("IPv4");
    let (mut poller, mut held) = (open(), Vec::new());
    loop {
        match connect(&mut poller, &address.into(), Duration::from_millis(100)) {
            Ok(source) => held.push(TcpStream::from(source)),
            Err(error) => {
                assert_eq!((error.kind(), error.timeout()), (ErrorKind::TimedOut, Some(Duration::from_millis(100))));
                return (listener, address, held);
            }
        }
        assert!(held.len() < 64, "a queue of none takes everybody");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn connect_timeout_when_the_queue_is_full() {
    on_every_poller(|open| {
        let (_listener, address, _held) = full_queue(open);
        let timeouts = only(|timeouts| timeouts.connect = Duration::from_millis(50));
        let mut asked = client(open(), address, settings(1, timeouts));
        let error = asked.request(&frame(b"hello")).expect_err("the queue is full");
        assert_eq!(error.timeout(), Some(Timeout::Connect));
        let said = error.to_string();
        assert!(said.contains("connect timeout") && said.contains("within 50ms") && error.is_unsent(), "{said}");
        let stats = asked.stats();
        assert_eq!((stats.timed_out(Timeout::Connect), stats.opened, stats.open), (1, 0, 0));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn an_address_that_does_not_answer_leaves_time_to_the_next() {
    let open =
        || pollmark::backends::Registry::builtin().default_entry().and_then(|entry| entry.open()).expect("one is here");
    let (_listener, address, _held) = full_queue(&open);
    let server = mirror();
    let two = Endpoint::new("two", [address, server.tcp()].map(Target::Tcp)).expect("two addresses");
    let share = settings(1, only(|timeouts| timeouts.connect = PATIENCE / 10));
    let mut client = Client::over(open(), two, Frames::default()).with_settings(share);
    assert_eq!(client.request(&frame(b"hello")).map(Frames::body).expect("answered"), b"hello");
}

#[test]
#[cfg(unix)]
fn a_unix_socket_is_asked_like_any_other_and_says_when_its_queue_is_full() {
    use std::os::unix::net::UnixListener;

    let directory = std::env::temp_dir().join(format!("pollmark-client-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("socket");
    on_every_poller(|open| {
        let listener = UnixListener::bind(&path).expect("bound");
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut buffer = [0; 64];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..bytes]).expect("taken");
            }
            listener
        });
        let endpoint = Endpoint::unix(&path);
        let mut client =
            Client::over(open(), endpoint.clone(), Frames::default()).with_settings(settings(1, patient()));
        for _ in 0..3 {
            assert_eq!(client.request(&frame(b"hello")).map(Frames::body).expect("answered"), b"hello");
        }
        assert_eq!((client.stats().opened, client.stats().reused), (1, 2));
        drop(client);
        let listener = echo.join().expect("no panic");

        if cfg!(target_os = "linux") {
            rustix::net::listen(&listener, 0).expect("a shorter queue");
            let (mut poller, mut held) = (open(), Vec::new());
            let error = loop {
                match connect(&mut poller, &endpoint, PATIENCE) {
                    Ok(source) => held.push(source),
                    Err(error) => break error,
                }
                assert!(held.len() < 64, "a queue of none takes everybody");
            };
            assert!(error.kind() == ErrorKind::WouldBlock && error.to_string().contains("queue is full"), "{error}");
        }
        std::fs::remove_file(&path).expect("it is there");
    });
    std::fs::remove_dir(&directory).expect("empty");
}
