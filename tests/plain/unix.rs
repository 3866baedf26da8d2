//! Servers at Unix sockets: the server suite, and what becomes of the files.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use pollmark::backends::conformance::fault::Faults;
use pollmark::backends::{Trigger, poll::Poll};
use pollmark::protocol::{Echo, Protocol};
use pollmark::server::{Abilities, Address, Config, ReadinessServer, Server, Sharing, UnixName};

use crate::everywhere::side_by_side;
use crate::group::in_every_way;
use crate::server::{Plain, everywhere, on_every_mechanism};
use crate::suite::cases::{self, config};
use crate::suite::{PATIENCE, Running, Subject, Verdict};

/// Another subject, at a Unix socket instead of its first address.
struct AtAPath<'a, S>(&'a S);

impl<S: Subject> Subject for AtAPath<'_, S> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }

    fn bind<P: Protocol>(&self, mut config: Config, protocol: P) -> io::Result<Box<dyn Server>> {
        config.addresses[0] = Address::Unix(UnixName::Path(fresh_path()));
        self.0.bind(config, protocol)
    }

    fn faults(&self) -> Option<&Faults> {
        self.0.faults()
    }

    fn herd(&self) -> u64 {
        self.0.herd()
    }
}

/// Where nothing is yet.
pub(crate) fn fresh_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(format!("pollmark-{process}-{number}.sock"))
}

/// Runs `case` on the first mechanism of each kind of driver.
fn on_every_driver(case: impl Fn(&Plain) -> Verdict + Sync) {
    let mut drivers: Vec<Plain> = Vec::new();
    for subject in everywhere() {
        if drivers.iter().all(|driver| driver.abilities() != subject.abilities()) {
            drivers.push(subject);
        }
    }
    assert!(drivers.len() >= 3, "loops, threads and one at a time are everywhere");
    side_by_side(&drivers, |subject| {
        println!("{}", subject.name());
        case(subject).expect("nothing kills here");
    });
}

macro_rules! at_a_path {
    ($($case:ident,)+) => { $(
        #[test]
        fn $case() {
            on_every_driver(|subject| cases::$case(&AtAPath(subject)));
        }
    )+ };
}
suite!(at_a_path);

#[test]
fn every_mechanism_serves_at_a_path() {
    on_every_mechanism(|subject| {
        let subject = AtAPath(subject);
        cases::bytes_come_back_exactly_however_they_are_split(&subject)?;
        cases::a_half_closed_peer_is_answered_in_full_and_then_closed(&subject)?;
        cases::a_paused_reader_is_resumed_when_its_peer_reads(&subject)
    });
}

#[test]
fn threads_share_a_path_in_every_way_but_by_the_port_it_has_not() {
    in_every_way(|subject| {
        let path = AtAPath(subject);
        if subject.sharing == Sharing::ReusePort {
            let error = path.bind(config(), Echo).err().expect("there is no port to share");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("share one listener"), "no way out is given: {error}");
            return Ok(());
        }
        cases::bytes_come_back_exactly_however_they_are_split(&path)?;
        cases::many_connections_are_served_at_once(&path)
    });
}

/// A server at this path.
fn at(path: &Path) -> io::Result<Box<dyn Server>> {
    Ok(Box::new(ReadinessServer::bind(listening(path), Echo, Trigger::Level, Poll::open)?))
}

fn listening(path: &Path) -> Config {
    Config::listen(Address::Unix(UnixName::Path(path.to_owned())))
}

/// Binding there is refused in words that name the path, and `why`.
fn is_refused(path: &Path, why: &str) {
    let error = at(path).err().expect("it is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    let said = error.to_string();
    assert!(said.contains(why) && said.contains(&format!("unix:{}", path.display())), "{said}");
}

#[test]
fn a_path_is_there_while_its_server_is_and_not_after() {
    let path = fresh_path();
    let server = Running::start(at(&path).expect("free"), None, PATIENCE);
    assert!(fs::symlink_metadata(&path).expect("there").file_type().is_socket());
    server.connect().exchange(b"here").expect("nothing kills here");
    server.stop();
    assert_eq!(fs::symlink_metadata(&path).expect_err("gone").kind(), ErrorKind::NotFound);
}

#[test]
fn a_path_at_which_nobody_listens_is_taken_over_and_one_at_which_somebody_does_is_not() {
    let path = fresh_path();
    drop(UnixListener::bind(&path).expect("free")); // its file stays
    let server = Running::start(at(&path).expect("stale"), None, PATIENCE);
    server.connect().exchange(b"taken over").expect("nothing kills here");
    is_refused(&path, "another server listens there");
    server.connect().exchange(b"still there").expect("nothing kills here");
    drop(server);

    drop(UnixDatagram::bind(&path).expect("free")); // stale as well, of whatever kind it was
    drop(at(&path).expect("stale"));
    let _datagrams = UnixDatagram::bind(&path).expect("free");
    is_refused(&path, "another server listens there");
    fs::remove_file(&path).expect("still there");
}

#[test]
fn what_is_no_socket_is_left_where_it_is() {
    let path = fresh_path();
    fs::write(&path, "of value").expect("writable");
    is_refused(&path, "no socket");
    assert_eq!(fs::read(&path).expect("still there"), b"of value");
    fs::remove_file(&path).expect("still there");

    // A link to a stale socket is no socket either.
    let target = fresh_path();
    drop(UnixListener::bind(&target).expect("free"));
    std::os::unix::fs::symlink(&target, &path).expect("free");
    is_refused(&path, "no socket");
    for left in [&path, &target] {
        fs::remove_file(left).expect("still there");
    }
}

#[test]
fn a_file_that_took_the_place_of_ours_is_not_removed() {
    let path = fresh_path();
    let server = at(&path).expect("free");
    fs::remove_file(&path).expect("ours");
    let theirs = UnixListener::bind(&path).expect("free again");
    drop(server);
    UnixStream::connect(&path).expect("the other one listens still");
    drop(theirs);
    fs::remove_file(&path).expect("still there");
}

#[test]
fn of_many_who_find_a_stale_path_at_once_one_has_it_and_is_reached_by_it() {
    for _ in 0..20 {
        let path = fresh_path();
        drop(UnixListener::bind(&path).expect("free"));
        let barrier = std::sync::Barrier::new(4);
        let bound: Vec<_> = std::thread::scope(|scope| {
            let bind = || {
                barrier.wait();
                at(&path)
            };
            let binding: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            binding.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        let (mut served, mut refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
        assert_eq!((served.len(), refused.len()), (1, 3));
        let why = refused.pop().and_then(Result::err).expect("refused");
        assert!(why.to_string().contains("another server listens there"), "{why}");
        let server = served.pop().and_then(Result::ok).expect("one");
        let server = Running::start(server, None, PATIENCE);
        server.connect().exchange(b"reached").expect("nothing kills here");
    }
}

#[test]
fn a_path_has_the_permissions_that_were_asked_for() {
    for mode in [0o600, 0o666, 0o660] {
        let path = fresh_path();
        let mut config = listening(&path);
        config.unix_mode = Some(mode);
        let _server = ReadinessServer::bind(config, Echo, Trigger::Level, Poll::open).expect("free");
        assert_eq!(fs::symlink_metadata(&path).expect("there").permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_name_that_cannot_be_had_is_explained() {
    let long = std::env::temp_dir().join("x".repeat(200));
    let said = at(&long).err().expect("too long").to_string();
    assert!(said.contains("has at most") && said.contains("choose a shorter one"), "{said}");
    let said = at(Path::new("/no/such/directory/here.sock")).err().expect("nowhere").to_string();
    assert!(said.contains("its directory cannot be opened"), "{said}");
}

#[test]
fn an_abstract_name_is_served_where_there_are_such_and_its_refusal_explained() {
    let name = format!("pollmark-{}", std::process::id());
    let mut config = Config::listen(Address::Unix(UnixName::Abstract(name)));
    let bind = |config: &Config| ReadinessServer::bind(config.clone(), Echo, Trigger::Level, Poll::open);
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        assert_eq!(bind(&config).err().expect("not here").kind(), ErrorKind::Unsupported);
        return;
    }
    let server = Running::start(Box::new(bind(&config).expect("free")), None, PATIENCE);
    server.connect().exchange(b"here").expect("nothing kills here");
    let said = bind(&config).err().expect("taken").to_string();
    assert!(said.contains("another socket listens there") && said.contains("another name"), "{said}");
    config.unix_mode = Some(0o600);
    assert_eq!(bind(&config).err().expect("no file").kind(), ErrorKind::InvalidInput);
}
