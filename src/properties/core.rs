//! Any split of the input, any sizes of what was sent, any order of calls: the bytes that go out are the same.

use std::time::Duration;

use pollmark_backends::Token;

use crate::conn::Connection;
use crate::protocol::{Context, Echo, Host, Peer, Protocol};

/// One step in numbers, of which any do: what and of which connection; how much, or what of.
pub type Step = (u8, u16);

/// Drives two [`Echo`] connections of one host against what they should say.
///
/// # Panics
/// If they say anything else, or are in a state they should not be in.
pub fn an_echo_is_what_came_in(steps: &[Step]) {
    drive(Echo, steps);
}

/// The same for a protocol that keeps unfinished lines, answers in each way there is, closes, aborts, sets deadlines,
/// and has something to say at the end of the input and after it.
///
/// # Panics
/// As [`an_echo_is_what_came_in`].
pub fn a_conversation_does_not_depend_on_how_it_is_cut(steps: &[Step]) {
    drive(Lines, steps);
}

fn drive<P: Reference>(protocol: P, steps: &[Step]) {
    let mut run = Run::new(protocol);
    for &(what, amount) in steps {
        run.turn_to(usize::from(what >> 7));
        match what % 8 {
            0 | 1 => run.receive(&piece(amount)),
            2 => run.receive_straight(&piece(amount), size(amount)),
            3 => run.send(size(amount)),
            4 => run.settle(),
            5 => run.owe(&piece(amount)),
            6 => run.due(),
            _ if amount % 4 == 0 => run.eof(),
            _ => run.send(usize::MAX),
        }
        run.check();
    }
    for at in 0..2 {
        run.turn_to(at);
        run.drain();
        run.check();
    }
}

/// What arrives at once: part of a line, a line, several, or much.
fn piece(amount: u16) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"e",
        b"i",
        b"n",
        b"\n",
        b"echo\n",
        b"input\n",
        b"number\n",
        b"deadline\n",
        b"never\n",
        b"e1\ni2\ne3\n",
        b"xyz",
        b"quit\n",
        b"abort\n",
        b"q",
        b"",
        b"i1\nquit\nlate\n",
    ];
    let piece = PIECES[usize::from(amount) % PIECES.len()];
    match amount >> 12 {
        0 => vec![b'x'; usize::from(amount)],
        1..=3 => piece.repeat(usize::from(amount >> 4 & 0xff)),
        _ => piece.to_vec(),
    }
}

/// As often a few bytes as many.
fn size(amount: u16) -> usize {
    usize::from(amount >> (amount % 16))
}

/// A protocol, and what is to come of it, worked out from all that came in rather than call by call.
trait Reference: Protocol {
    /// `spoken.unread` has grown.
    fn heard(spoken: &mut Spoken);
    /// The peer will send no more.
    fn ended(spoken: &mut Spoken);
    /// The deadline has passed.
    fn overdue(spoken: &mut Spoken);
}

#[derive(Default)]
struct Spoken {
    unread: Vec<u8>,
    /// All there is to send, from the first byte on.
    answer: Vec<u8>,
    lines: u32,
    phase: Phase,
    /// What was wished for the deadline since it was last asked.
    deadline: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug, Default)]
enum Phase {
    #[default]
    Open,
    HalfClosed,
    Closing,
    Aborted,
}

impl Reference for Echo {
    fn heard(spoken: &mut Spoken) {
        spoken.answer.append(&mut spoken.unread);
    }

    fn ended(spoken: &mut Spoken) {
        spoken.phase = Phase::Closing;
    }

    fn overdue(spoken: &mut Spoken) {
        spoken.phase = Phase::Aborted;
    }
}

/// Answers lines, by their first letter.
#[derive(Clone)]
struct Lines;

impl Protocol for Lines {
    /// Lines seen.
    type Session = u32;

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) -> u32 {
        cx.send(b"hello\n");
        0
    }

    fn received(&mut self, lines: &mut u32, input: &[u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        for line in input.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            *lines += 1;
            let first = consumed == 0;
            consumed += line.len();
            match line[0] {
                b'i' if first => cx.send_input(consumed),
                b'n' => cx.send(format!("{lines}\n").as_bytes()),
                b'd' => cx.deadline(Some(Duration::from_secs(*lines as u64))),
                _ => cx.send(line),
            }
            match line[0] {
                b'x' => cx.deadline(None),
                b'q' => cx.close_when_flushed(),
                b'a' => cx.abort(),
                _ => continue,
            }
            if line[0] != b'x' {
                return consumed;
            }
        }
        // More than there is counts as all.
        if consumed == input.len() && lines.is_multiple_of(2) { usize::MAX } else { consumed }
    }

    fn eof(&mut self, lines: &mut u32, cx: &mut Context<'_>) {
        cx.send(b"bye\n");
        if lines.is_multiple_of(2) {
            cx.close_when_flushed();
        }
    }

    fn due(&mut self, lines: &mut u32, cx: &mut Context<'_>) {
        *lines += 1;
        cx.send(b"late\n");
        if lines.is_multiple_of(4) {
            cx.close_when_flushed();
        }
    }
}

impl Reference for Lines {
    fn heard(spoken: &mut Spoken) {
        while spoken.phase == Phase::Open
            && let Some(end) = spoken.unread.iter().position(|byte| *byte == b'\n')
        {
            let line = spoken.unread.drain(..=end).collect::<Vec<_>>();
            spoken.lines += 1;
            match line[0] {
                b'n' => spoken.answer.extend(format!("{}\n", spoken.lines).as_bytes()),
                b'd' => spoken.deadline = Some(true),
                _ => spoken.answer.extend(&line),
            }
            match line[0] {
                b'x' => spoken.deadline = Some(false),
                b'q' => spoken.phase = Phase::Closing,
                b'a' => spoken.phase = Phase::Aborted,
                _ => {}
            }
        }
    }

    fn ended(spoken: &mut Spoken) {
        spoken.answer.extend(b"bye\n");
        spoken.phase = if spoken.lines.is_multiple_of(2) { Phase::Closing } else { Phase::HalfClosed };
    }

    fn overdue(spoken: &mut Spoken) {
        spoken.lines += 1;
        spoken.answer.extend(b"late\n");
        if spoken.lines.is_multiple_of(4) {
            spoken.phase = Phase::Closing;
        }
    }
}

/// Two connections in turn, as a loop has them, and what should have come of each.
struct Run<P: Protocol> {
    host: Host<P>,
    ends: [End<P>; 2],
    now: usize,
}

struct End<P: Protocol> {
    connection: Connection<P>,
    spoken: Spoken,
    /// What the kernel took.
    taken: Vec<u8>,
}

impl<P: Reference> Run<P> {
    fn new(protocol: P) -> Run<P> {
        let mut host = Host::new(protocol);
        let ends = [0, 1].map(|at| {
            let mut connection = Connection::open(&mut host, Token(at), &Peer::default());
            connection.settle(&mut host);
            let answer = connection.outgoing(&host).to_vec();
            End { connection, spoken: Spoken { answer, ..Spoken::default() }, taken: Vec::new() }
        });
        Run { host, ends, now: 0 }
    }

    /// A loop settles one connection before it serves the next.
    fn turn_to(&mut self, at: usize) {
        if at != self.now {
            self.settle();
            self.now = at;
        }
    }

    fn parts(&mut self) -> (&mut Host<P>, Token, &mut End<P>) {
        (&mut self.host, Token(self.now as u64), &mut self.ends[self.now])
    }

    fn receive(&mut self, bytes: &[u8]) {
        let (host, id, end) = self.parts();
        end.connection.receive(host, id, bytes);
        end.hears(bytes);
    }

    /// The straight line of a readiness loop: what a quiet connection is to send goes from where it lies.
    fn receive_straight(&mut self, bytes: &[u8], most: usize) {
        self.settle();
        let (host, id, end) = self.parts();
        if !end.connection.is_quiet() {
            return self.receive(bytes);
        }
        let reply = end.connection.receive_quietly(host, id, bytes);
        let answer = host.turn.answer(reply.returned);
        let taken = answer.len().min(most);
        end.taken.extend(&answer[..taken]);
        let whole = taken == answer.len();
        host.turn.answered(reply.returned, taken, whole);
        end.hears(bytes);
        if reply.quiet && whole {
            assert!(end.connection.is_quiet(), "it said so");
        }
        self.settle();
    }

    fn send(&mut self, most: usize) {
        let (host, _, end) = self.parts();
        let piece = end.connection.outgoing(host);
        let taken = piece.len().min(most);
        end.taken.extend(&piece[..taken]);
        end.connection.sent(host, taken);
    }

    fn settle(&mut self) {
        let (host, _, end) = self.parts();
        end.connection.settle(host);
        let deadline = host.take_deadline();
        assert_eq!(deadline.map(|deadline| deadline.is_some()), end.spoken.deadline.take(), "the deadline");
    }

    /// What another connection sent to this one; a loop hands that out between two turns.
    fn owe(&mut self, bytes: &[u8]) {
        self.settle();
        let (_, _, end) = self.parts();
        end.connection.owe(bytes);
        if end.spoken.phase <= Phase::HalfClosed {
            end.spoken.answer.extend(bytes);
        }
    }

    fn eof(&mut self) {
        let (host, id, end) = self.parts();
        end.connection.eof(host, id);
        if end.spoken.phase == Phase::Open {
            P::ended(&mut end.spoken);
        }
    }

    fn due(&mut self) {
        let (host, id, end) = self.parts();
        end.connection.due(host, id);
        if end.spoken.phase != Phase::Aborted {
            P::overdue(&mut end.spoken);
        }
    }

    fn drain(&mut self) {
        while !self.ends[self.now].connection.outgoing(&self.host).is_empty() {
            self.send(usize::MAX);
        }
        self.settle();
        let (_, _, end) = self.parts();
        if end.spoken.phase != Phase::Aborted {
            assert_eq!(end.taken, end.spoken.answer);
        }
    }

    fn check(&self) {
        let (end, turn) = (&self.ends[self.now], &self.host.turn);
        let (connection, spoken) = (&end.connection, &end.spoken);
        assert!(spoken.answer.starts_with(&end.taken), "bytes nobody should have said, or in another order");
        assert_eq!(connection.reads(), spoken.phase == Phase::Open);
        assert_eq!(connection.aborted(), spoken.phase == Phase::Aborted);
        let unsettled = turn.output.len() - turn.sent;
        match spoken.phase {
            Phase::Aborted => return assert!(connection.finished()),
            Phase::Closing if unsettled == 0 => assert_eq!(connection.finished(), connection.owed() == 0),
            Phase::Closing => {}
            Phase::Open | Phase::HalfClosed => assert!(!connection.finished()),
        }
        assert_eq!(end.taken.len() + connection.owed() + unsettled, spoken.answer.len(), "bytes lost or made up");
        let unread = if spoken.phase < Phase::Closing { spoken.unread.len() } else { 0 };
        assert_eq!(connection.kept(), unread, "the unfinished line");
        let holds_nothing = connection.owed() == 0 && connection.kept() == 0;
        assert_eq!(connection.is_quiet(), holds_nothing && connection.reads(), "an idle connection owns no buffer");
    }
}

impl<P: Reference> End<P> {
    fn hears(&mut self, bytes: &[u8]) {
        if self.spoken.phase == Phase::Open {
            self.spoken.unread.extend(bytes);
            P::heard(&mut self.spoken);
        }
    }
}

#[cfg(test)]
proptest::proptest! {
    #[test]
    fn an_echo_is_what_came_in_however_it_is_cut(steps: Vec<Step>) {
        an_echo_is_what_came_in(&steps);
    }

    #[test]
    fn any_order_of_calls_gives_the_same_conversation(steps: Vec<Step>) {
        a_conversation_does_not_depend_on_how_it_is_cut(&steps);
    }
}
