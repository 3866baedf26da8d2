//! A hundred thousand requests in one write, for every protocol: whoever listens is answered in order, whoever does not
//! is not worked for without end.

use std::io::Write;
use std::time::Duration;

use crate::client::is_an_end;
use crate::hosted::{Hosted, config, on_every_protocol};

const REQUESTS: u32 = 100_000;

fn every_protocol(case: impl Fn(&mut Hosted, &[u8], u32)) {
    on_every_protocol(|mechanism, spoken| {
        let many = if mechanism.is_common() { REQUESTS } else { REQUESTS / 10 };
        let burst = (0..many).flat_map(|number| spoken.request(number)).collect::<Vec<_>>();
        let mut server = Hosted::start(mechanism, spoken, config());
        case(&mut server, &burst, many);
        server.end();
    });
}

#[test]
fn a_hundred_thousand_requests_at_once_are_answered_in_order() {
    every_protocol(|server, burst, many| {
        let spoken = server.spoken;
        let mut peer = server.guest();
        let writer = peer.stream().try_clone().expect("a second handle");
        std::thread::scope(|scope| {
            scope.spawn(move || (&writer).write_all(burst).expect("the server reads"));
            for number in 0..many {
                peer.hears(spoken, number);
                if number == many / 2 {
                    server.neighbour_is_served();
                }
            }
        });
        // One read of requests may ask for more than the mark allows, but only one.
        server.has_grown_by_at_most(server.may_take(1, 8 * server.config.read_buffer as u64));
        server.has_not_spun();
    });
}

#[test]
fn a_hundred_thousand_requests_of_a_peer_that_does_not_listen_wait_for_it() {
    every_protocol(|server, burst, _| {
        let peer = server.guest();
        peer.stream().set_nonblocking(true).expect("a socket");
        let (mut written, mut looks_in_vain, mut read) = (0, 0, 0);
        while looks_in_vain < 4 && written < burst.len() {
            match peer.stream().write(&burst[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                    let before = std::mem::replace(&mut read, server.stats().bytes_in);
                    looks_in_vain = if read == before { looks_in_vain + 1 } else { 0 };
                }
                Err(error) if is_an_end(&error) => break,
                Err(error) => panic!("{error}"),
            }
        }
        server.neighbour_is_served();
        server.is_quiet();
        server.has_grown_by_at_most(server.may_take(1, 8 * server.config.read_buffer as u64));
        server.has_not_spun();
        peer.stream().set_nonblocking(false).expect("a socket");
        peer.resets();
    });
}
