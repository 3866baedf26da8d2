//! A few bytes that ask for a mebibyte each, thousands at once, by one who does not listen: it is worked for as it
//! listens.

use std::io::{Read, Write};

use crate::client::Peer;
use crate::hosted::{Hosted, config, on_every_mechanism};
use crate::spoken::Spoken;

/// Asks for the whole list.
const QUESTION: &[u8] = b"LRANGE list 0 -1\r\n";
/// The list, by the length and number of its elements: a mebibyte.
const ELEMENT: usize = 16 * 1024;
const ELEMENTS: usize = 64;

/// Makes the list, and returns what is answered who asks for it.
fn stock(peer: &mut Peer) -> Vec<u8> {
    let mut answer = format!("*{ELEMENTS}\r\n").into_bytes();
    for number in 0..ELEMENTS {
        let element = vec![b'a' + (number % 26) as u8; ELEMENT];
        let text = [format!("${ELEMENT}\r\n").as_bytes(), &element, b"\r\n"].concat();
        peer.says(&[b"*3\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n", &text[..]].concat());
        let said = format!(":{}\r\n", number + 1);
        let mut heard = vec![0; said.len()];
        peer.stream().read_exact(&mut heard).expect("an answer");
        assert_eq!(heard, said.as_bytes());
        answer.extend(text);
    }
    answer
}

#[test]
fn whoever_asks_for_a_thousand_times_what_it_says_is_owed_little_and_gets_all_that_it_takes() {
    const IN_VAIN: usize = 3_000;
    on_every_mechanism(|mechanism| {
        let taken = if mechanism.is_common() { 24 } else { 6 };
        let mut config = config();
        config.read_buffer = 64 * 1024; // one read takes all of the questions
        let mut server = Hosted::start(mechanism, Spoken::Resp, config);
        let mut peer = server.guest().with_small_buffers();
        let answer = stock(&mut peer);
        assert!(answer.len() > 1_000 * QUESTION.len(), "that is no amplification");

        // The list itself, an answer beyond the mark, and what an answer was put together in.
        let most = server.may_take(1, 2 * answer.len() as u64);
        peer.says(&QUESTION.repeat(taken));
        peer.shut_down();
        server.is_quiet();
        server.has_grown_by_at_most(most);
        let mut heard = vec![0; answer.len()];
        for number in 0..taken {
            peer.stream().read_exact(&mut heard).expect("it is owed more");
            assert!(heard == answer, "{mechanism}: answer {number} is another one");
        }
        assert_eq!(peer.hears_all(), b"", "{mechanism}: nothing more");

        let greedy = server.guest().with_small_buffers();
        greedy.stream().write_all(&QUESTION.repeat(IN_VAIN)).expect("room for the questions");
        server.neighbour_is_served();
        server.is_quiet();
        server.has_grown_by_at_most(most);
        server.has_not_spun();
        greedy.resets();
        server.end();
    });
}
