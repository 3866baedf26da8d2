//! Cases of who is at the other end: what a protocol is told of its peer, and by whom.

use std::io::{ErrorKind, Read};
use std::time::Instant;

use pollmark::protocol::{Context, Peer, Protocol, Proxied};

use super::config;
use super::own_terms::QUIET;
use crate::suite::{Client, Subject, Verdict};

/// Tells each peer its address, and returns what it says.
#[derive(Clone)]
pub(crate) struct Mirror;

impl Protocol for Mirror {
    type Session = ();

    const ASKS_FOR_PEER: bool = true;

    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) {
        cx.send(format!("{peer}\n").as_bytes());
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.send_input(input.len());
        input.len()
    }
}

pub(crate) fn a_protocol_that_asks_is_told_its_peers_true_address(subject: &impl Subject) -> Verdict {
    let mut both = config();
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => both.addresses.push("[::1]:0".parse().expect("an address")),
        Err(error) => println!("without IPv6: {error}"),
    }
    let server = subject.serve(both, Mirror);
    let named = |mut client: Client| {
        let address = client.stream().local_addr().expect("connected").as_socket();
        client.expect_line(&address.map_or_else(Peer::on_unix, Peer::at).to_string())
    };
    for address in &server.addresses {
        named(server.connect_to(address))?;
    }
    // Nobody accepted it, so nobody but the socket can tell.
    named(server.adopted())
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n";
const BLOCK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x13\x88\0\x50";
/// The proxy speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn behind(proxies: &str) -> Proxied<Mirror> {
    Proxied::new(Mirror, proxies.parse().expect("addresses"))
}

pub(crate) fn a_trusted_proxy_says_who_the_peer_is(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), behind("10.0.0.0/8,127.0.0.1"));
    let mut client = server.connect();
    if !client.has_address() {
        // On a Unix socket nobody has an address.
        assert_eq!(client.read_byte_or_end(), None);
        drop(server);
        let server = subject.serve(config(), behind("10.0.0.0/8,unix"));
        for header in [LINE, BLOCK] {
            let mut client = server.connect();
            client.write(&[header, b"hello\n"].concat())?;
            client.expect_line("192.0.2.7:5000")?;
            client.expect_line("hello")?;
        }
        return Ok(());
    }
    drop(client);
    for header in [LINE, BLOCK] {
        let mut client = server.connect();
        client.write(&[header, b"hello\n"].concat())?;
        client.expect_line("192.0.2.7:5000")?;
        client.expect_line("hello")?;
        client.exchange(b"you")?;
        drop(client);
        // In two parts, of which the second is not sent before the first has been read.
        let mut client = server.connect();
        let (first, rest) = header.split_at(header.len() - 1);
        let before = server.stats().bytes_in;
        client.write(first)?;
        server.until("the first part is read", |stats| stats.bytes_in == before + first.len() as u64)?;
        client.write(rest)?;
        client.expect_line("192.0.2.7:5000")?;
    }
    let mut client = server.connect();
    client.write(LOCAL)?;
    let own = client.stream().local_addr().expect("connected").as_socket().expect("of TCP");
    client.expect_line(&own.to_string())
}

pub(crate) fn nobody_is_heard_who_is_no_trusted_proxy_or_names_nobody(subject: &impl Subject) -> Verdict {
    let is_reset = |client: &mut Client| match client.stream().read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Ok(0) if !client.is_told_of_resets() => Ok(()),
        Ok(0) => Err(client.gone("closed in order instead of reset")),
        other => panic!("{other:?} instead of a reset"),
    };
    let server = subject.serve(config(), behind("127.0.0.1,unix").with_patience(QUIET));
    let mut client = server.connect();
    client.write(b"GET / HTTP/1.1\r\n\r\n")?;
    is_reset(&mut client)?;
    // Half a header, then nothing.
    let began = Instant::now();
    let mut client = server.connect();
    client.write(&LINE[..20])?;
    is_reset(&mut client)?;
    if began.elapsed() < QUIET {
        return Err(client.gone("reset before its time was over"));
    }
    server.until("they have gone", |stats| stats.closed == 2)?;
    drop(server);

    let elsewhere = if client.has_address() { "192.0.2.0/24,unix" } else { "0.0.0.0/0,::/0" };
    let server = subject.serve(config(), behind(elsewhere));
    is_reset(&mut server.connect())?;
    server.until("it has gone", |stats| stats.closed == 1)?;
    Ok(())
}
