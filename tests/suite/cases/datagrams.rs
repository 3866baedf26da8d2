//! Cases of messages without connections: each comes back for itself, or is lost and counted.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use pollmark::protocol::Echo;
use pollmark::server::{Address, Config, Stats};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::suite::{Subject, Verdict};

/// What a system lets one message have: macOS is content with little, unless it is told otherwise.
const LONGEST: usize = if cfg!(target_os = "macos") { 9_000 } else { 65_507 };

/// One who asks until it is answered, as whoever uses datagrams has to: under faults answers are lost.
struct Asker {
    socket: Socket,
    said: Vec<Vec<u8>>,
    may_lose: bool,
    patience: Duration,
}

impl Asker {
    fn new(subject: &impl Subject, socket: Socket, server: &SockAddr) -> Asker {
        let (may_lose, patience) = (subject.faults().is_some(), subject.patience());
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(if may_lose { Duration::from_millis(20) } else { patience })).expect("a timeout");
        Asker { socket, said: Vec::new(), may_lose, patience }
    }

    /// Of UDP.
    fn at(subject: &impl Subject, address: &Address) -> Asker {
        let server = address.udp().expect("of UDP");
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None).expect("a socket");
        Asker::new(subject, socket, &server.into())
    }

    fn say(&mut self, message: &[u8]) {
        let sent = self.socket.write(message).expect("sent");
        assert_eq!(sent, message.len());
        self.said.push(message.to_vec());
    }

    /// What comes next, if anything does: an echo of what was said.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let mut message = vec![0; 65_536];
        match self.socket.read(&mut message) {
            Ok(bytes) => {
                message.truncate(bytes);
                assert!(self.said.contains(&message), "nobody has said this, of {bytes} bytes");
                Some(message)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                assert!(self.may_lose, "no answer");
                None
            }
            Err(error) => panic!("cannot receive: {error}"),
        }
    }

    /// Says it until it comes back.
    fn ask(&mut self, message: &[u8]) {
        let began = Instant::now();
        loop {
            self.say(message);
            while let Some(heard) = self.hear() {
                if heard == message {
                    return;
                }
                assert!(self.may_lose, "an answer to another question");
            }
            assert!(began.elapsed() < self.patience, "never answered: {} bytes", message.len());
        }
    }
}

fn config(address: &str) -> Config {
    Config::listen(address.parse().expect("an address"))
}

/// What came was answered, but for what was lost, and what has no right to an answer.
fn adds_up(subject: &impl Subject, stats: &Stats, asked: u64, unanswerable: u64) {
    let counts = stats.datagrams;
    assert_eq!(counts.sent + counts.dropped + unanswerable, counts.received, "{counts:?}");
    if subject.faults().is_none() {
        assert_eq!((counts.received, counts.dropped), (asked, 0), "{counts:?}");
    } else {
        assert!(counts.received >= asked, "{counts:?}");
    }
}

pub(crate) fn messages_of_every_length_come_back_each_for_itself(subject: &impl Subject) -> Verdict {
    let mut both = config("udp://127.0.0.1:0");
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        both.addresses.push("udp://[::1]:0".parse().expect("an address"));
    }
    let server = subject.serve(both, Echo);
    let mut asked = 0;
    for address in &server.addresses {
        let mut asker = Asker::at(subject, address);
        for length in [0, 1, 512, 1_472, 9_000, LONGEST] {
            asker.ask(&vec![length as u8; length]);
            asked += 1;
        }
    }
    adds_up(subject, &server.stop(), asked, 0);
    Ok(())
}

pub(crate) fn a_burst_of_messages_is_answered_whole_and_each_once(subject: &impl Subject) -> Verdict {
    const BURST: u8 = 100;
    let server = subject.serve(config("udp://127.0.0.1:0"), Echo);
    let mut asker = Asker::at(subject, &server.addresses[0]);
    let (began, mut heard) = (Instant::now(), [0_u32; BURST as usize]);
    while heard.contains(&0) {
        assert!(began.elapsed() < subject.patience(), "not all came: {heard:?}");
        for number in (0..BURST).filter(|number| heard[usize::from(*number)] == 0) {
            asker.say(&[number]);
        }
        while heard.contains(&0)
            && let Some(message) = asker.hear()
        {
            heard[usize::from(message[0])] += 1;
        }
    }
    assert!(asker.may_lose || heard == [1; BURST as usize], "some came twice: {heard:?}");
    adds_up(subject, &server.stop(), u64::from(BURST), 0);
    Ok(())
}

pub(crate) fn a_message_too_long_is_counted_and_not_answered_in_part(subject: &impl Subject) -> Verdict {
    let mut short = config("udp://127.0.0.1:0");
    short.max_datagram = 16;
    let server = subject.serve(short, Echo);
    let mut asker = Asker::at(subject, &server.addresses[0]);
    asker.say(&[1; 17]);
    asker.said.clear(); // what is left of it is nothing that was said
    asker.ask(&[2; 16]);
    let stats = server.stop();
    assert_eq!(stats.datagrams.truncated, 1);
    adds_up(subject, &stats, 2, 1);
    Ok(())
}

pub(crate) fn messages_that_came_before_the_end_are_answered(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config("udp://127.0.0.1:0"), Echo);
    let mut asker = Asker::at(subject, &server.addresses[0]);
    asker.ask(b"is anybody there?");
    // Fewer than a turn takes, where a call takes one.
    let last: [&[u8]; 3] = [b"and", b"one more", b"thing"];
    last.iter().for_each(|message| asker.say(message));
    server.control.drain();
    let began = Instant::now();
    while !server.has_ended() {
        assert!(began.elapsed() < subject.patience(), "it waits for nobody");
        std::thread::sleep(Duration::from_millis(2));
    }
    let stats = server.stop();
    if subject.faults().is_none() {
        assert_eq!(last.map(|_| asker.hear().expect("answered")), last);
        adds_up(subject, &stats, 4, 0);
    }
    Ok(())
}

#[cfg(unix)]
pub(crate) fn messages_on_a_unix_socket_come_back_to_those_who_have_a_name(subject: &impl Subject) -> Verdict {
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::{AtomicU32, Ordering};
    static CASES: AtomicU32 = AtomicU32::new(0);
    let case = format!("pollmark-{}-{}", std::process::id(), CASES.fetch_add(1, Ordering::Relaxed));
    let [ours, theirs] = ["ours", "theirs"].map(|end| std::env::temp_dir().join(format!("{case}-{end}")));
    let at_ours = config(&format!("unixgram:{}", ours.display()));
    if let Err(why) = subject.bind(at_ours.clone(), Echo)
        && why.kind() == ErrorKind::Unsupported
    {
        assert!(why.to_string().contains("SO_REUSEPORT"), "there is nothing else it could lack: {why}");
        println!("{}: skipped: {why}", subject.name());
        return Ok(());
    }
    let server = subject.serve(at_ours, Echo);
    UnixDatagram::unbound().expect("a socket").send_to(b"who?", &ours).expect("sent");
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket");
    socket.bind(&SockAddr::unix(&theirs).expect("a path")).expect("free");
    let mut asker = Asker::new(subject, socket, &SockAddr::unix(&ours).expect("a path"));
    for message in [&b"here"[..], b"", &[7; 2_000]] {
        asker.ask(message);
    }
    adds_up(subject, &server.stop(), 4, 1);
    assert!(!ours.exists(), "its path outlives the server");
    std::fs::remove_file(&theirs).expect("ours");
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn messages_on_a_unix_socket_come_back_to_those_who_have_a_name(subject: &impl Subject) -> Verdict {
    subject.can(|_| cfg!(unix), "messages_on_a_unix_socket_come_back_to_those_who_have_a_name", "sockets of Unix");
    Ok(())
}
