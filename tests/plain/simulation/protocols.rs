//! Protocols that ask for all that can be asked for: deadlines, last words, mail, half-closed replies, aborts.

use std::sync::Arc;
use std::time::Duration;

use pollmark::backends::Token;
use pollmark::protocol::{Context, Peer, Protocol};

/// Echoes whole lines.
#[derive(Clone)]
pub(super) struct Lines;

impl Protocol for Lines {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        let whole = input.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        cx.send_input(whole);
        whole
    }

    fn eof(&mut self, _: &mut (), cx: &mut Context<'_>) {
        // The rest of an unfinished line is not sent back: see that nobody expects it.
        cx.abort();
    }
}

/// Echoes, and aborts whoever says nothing for a while. Half a stream is no reason to close.
#[derive(Clone)]
pub(super) struct Impatient {
    pub(super) after: Duration,
}

impl Protocol for Impatient {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.deadline(Some(self.after));
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.deadline(Some(self.after));
        cx.send_input(input.len());
        input.len()
    }

    fn eof(&mut self, _: &mut (), _: &mut Context<'_>) {}
}

/// Asks whoever says nothing whether anybody is there, twice, then says goodbye; gives up whoever does not take that.
#[derive(Clone)]
pub(super) struct Polite {
    pub(super) after: Duration,
}

impl Protocol for Polite {
    type Session = u8;

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) -> u8 {
        cx.deadline(Some(self.after));
        0
    }

    fn received(&mut self, asked: &mut u8, input: &[u8], cx: &mut Context<'_>) -> usize {
        if *asked > 0 || input[0] < 64 {
            *asked = 0;
            cx.deadline(Some(self.after));
        }
        if input[0] == 0 {
            cx.deadline(None);
        }
        cx.send(b"you said: ");
        cx.send_input(input.len());
        input.len()
    }

    fn due(&mut self, asked: &mut u8, cx: &mut Context<'_>) {
        *asked += 1;
        match asked {
            1 | 2 => {
                cx.send(b"are you there?");
                cx.deadline(Some(self.after * u32::from(*asked)));
            }
            3 => {
                cx.send(&[b'!'; 5_000]);
                cx.close_when_flushed();
                cx.deadline(Some(self.after));
            }
            _ => cx.abort(),
        }
    }
}

/// Greets, listens, and answers when all is said; or breaks off, and answers then.
#[derive(Clone)]
pub(super) struct Quiz;

impl Protocol for Quiz {
    type Session = u64;

    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) -> u64 {
        let port = peer.address.map_or(0, |address| u64::from(address.port()));
        cx.send(format!("welcome, {peer}").repeat(100).as_bytes());
        port
    }

    fn received(&mut self, sum: &mut u64, input: &[u8], cx: &mut Context<'_>) -> usize {
        for byte in input {
            *sum = sum.rotate_left(5) ^ u64::from(*byte);
        }
        if sum.is_multiple_of(97) {
            cx.send(b"enough");
            cx.close_when_flushed();
        }
        input.len()
    }

    fn eof(&mut self, sum: &mut u64, cx: &mut Context<'_>) {
        cx.send(sum.to_string().repeat(300).as_bytes());
        cx.close_when_flushed();
    }
}

/// Tells the four who came last what anybody says, in halves: one at once, one when the speaker has a deadline.
#[derive(Clone, Default)]
pub(super) struct Gossip {
    latest: Vec<Token>,
}

impl Protocol for Gossip {
    type Session = Vec<u8>;

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) -> Vec<u8> {
        self.latest.insert(0, cx.connection());
        self.latest.truncate(4);
        Vec::new()
    }

    fn received(&mut self, later: &mut Vec<u8>, input: &[u8], cx: &mut Context<'_>) -> usize {
        let (now, rest) = input.split_at(input.len() / 2);
        for friend in &self.latest {
            cx.send_to(*friend, Arc::from(now));
        }
        cx.send(b"heard");
        later.extend_from_slice(rest);
        cx.deadline(Some(Duration::from_millis(5)));
        input.len()
    }

    fn due(&mut self, later: &mut Vec<u8>, cx: &mut Context<'_>) {
        let bytes: Arc<[u8]> = Arc::from(std::mem::take(later));
        for friend in &self.latest {
            cx.send_to(*friend, Arc::clone(&bytes));
        }
        cx.send(b"told");
    }
}
