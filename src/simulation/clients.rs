//! What clients and network do, each thing at its time: connect, speak, arrive, take, reset, vanish.

use fastrand::Rng;
use rustix::io::Errno;

use super::script::{Ending, MILLISECOND, Mischief, Script, skewed};
use super::socket::{Bits, Phase, Socket};
use super::trace::{Name, What};
use super::world::{Happening, World};

/// TCP gives a peer up that acknowledges nothing: after 15.4 minutes with the defaults of Linux, tcp(7).
const GIVEN_UP_AFTER: u64 = 924_600 * MILLISECOND;

impl World {
    /// Plans so many clients, who come within `over` nanoseconds.
    pub(super) fn populate(&mut self, clients: u32, over: u64) {
        for id in 0..clients {
            let mut rng = Rng::with_seed(self.seed ^ (u64::from(id) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            self.sockets.push(Socket::new(Script::drawn(&mut rng, &self.weather)));
            let at = rng.u64(..=over);
            self.schedule(at, id, Happening::Connect);
        }
    }

    pub(super) fn happen(&mut self, id: u32, what: Happening) {
        match what {
            Happening::Connect => self.connect(id),
            Happening::Stop => self.stop(),
            Happening::Message => return self.message_comes(id),
            _ if self.sockets[id as usize].phase == Phase::Closed => {}
            Happening::Speak => self.speak(id),
            Happening::End => self.end_of_script(id),
            Happening::Arrive => self.arrive(id),
            Happening::Take => self.take(id),
            Happening::Reset => self.reset(id, Errno::CONNRESET),
            Happening::Vanish => {
                self.note(Name::Client(id), What::Vanishes);
                self.sockets[id as usize].vanished = true;
                self.give_up_in_time(id);
            }
            Happening::StopReading => {
                self.note(Name::Client(id), What::StopsReading);
                self.sockets[id as usize].reads = false;
            }
            Happening::ReadAgain => {
                self.note(Name::Client(id), What::ReadsAgain);
                self.sockets[id as usize].reads = true;
                self.let_take(id);
            }
            Happening::GiveUp => {
                self.note(Name::Client(id), What::TimesOut);
                self.reset(id, Errno::TIMEDOUT);
            }
            Happening::Look => self.show(id),
        }
        if what != Happening::Stop {
            self.touch(Name::Client(id));
        }
    }

    fn connect(&mut self, id: u32) {
        self.note(Name::Client(id), What::Connects);
        let script = self.sockets[id as usize].script.clone();
        if script.is_adopted {
            self.hand_in(id);
        } else {
            let listener = self.rng.usize(..self.queues.len());
            self.queues[listener].push_back(id);
            self.sockets[id as usize].phase = Phase::Queued;
            self.touch(Name::Listener(listener as u8));
        }
        let now = self.now();
        let first = if script.total > 0 { Happening::Speak } else { Happening::End };
        let pause = skewed(&mut self.rng, script.longest_gap);
        self.schedule(now + pause, id, first);
        match script.mischief {
            Some((after, Mischief::Reset)) => self.schedule(now + after, id, Happening::Reset),
            Some((after, Mischief::Vanish)) => self.schedule(now + after, id, Happening::Vanish),
            Some((after, Mischief::StopReading(until))) => {
                self.schedule(now + after, id, Happening::StopReading);
                if let Some(until) = until {
                    self.schedule(now + after + until, id, Happening::ReadAgain);
                }
            }
            None => {}
        }
    }

    fn speak(&mut self, id: u32) {
        let now = self.now();
        let socket = &mut self.sockets[id as usize];
        if socket.vanished || socket.dead {
            return;
        }
        let piece = socket.script.piece.min(socket.script.total - socket.said);
        socket.said += piece;
        let (latency, longest) = (socket.script.latency, socket.script.longest_gap);
        let next = if socket.said < socket.script.total { Happening::Speak } else { Happening::End };
        self.note(Name::Client(id), What::Speaks(piece));
        self.let_arrive(id, now + latency);
        let pause = skewed(&mut self.rng, longest);
        self.schedule(now + pause, id, next);
    }

    fn end_of_script(&mut self, id: u32) {
        let now = self.now();
        let socket = &mut self.sockets[id as usize];
        if socket.vanished || socket.dead || socket.script.ending == Ending::Stay {
            return;
        }
        socket.end_said = true;
        let latency = socket.script.latency;
        self.let_arrive(id, now + latency);
    }

    fn let_arrive(&mut self, id: u32, at: u64) {
        if !std::mem::replace(&mut self.sockets[id as usize].arriving, true) {
            self.schedule(at, id, Happening::Arrive);
        }
    }

    fn arrive(&mut self, id: u32) {
        let socket = &mut self.sockets[id as usize];
        socket.arriving = false;
        if socket.dead {
            return;
        }
        let arrived = socket.said.min(socket.read + socket.script.receive_buffer);
        let new = arrived - socket.arrived;
        socket.arrived = arrived;
        if new > 0 {
            socket.edges = socket.edges | Bits::READABLE;
            self.note(Name::Client(id), What::Arrives(new));
        }
        let socket = &mut self.sockets[id as usize];
        if socket.end_said && arrived == socket.said && !socket.end_arrived {
            socket.end_arrived = true;
            socket.edges = socket.edges | Bits::READABLE | Bits::READ_CLOSED;
            self.note(Name::Client(id), What::EndArrives);
        }
    }

    /// The server has read: there is room for more to arrive.
    pub(super) fn let_more_arrive(&mut self, id: u32) {
        let socket = &self.sockets[id as usize];
        if socket.said > socket.arrived || socket.end_said && !socket.end_arrived {
            let at = self.now() + socket.script.latency;
            self.let_arrive(id, at);
        }
    }

    /// The server has written: the client will look.
    pub(super) fn let_take(&mut self, id: u32) {
        let at = self.now() + self.sockets[id as usize].script.latency;
        let socket = &mut self.sockets[id as usize];
        if socket.vanished {
            self.give_up_in_time(id);
        } else if socket.reads && !socket.receiving && socket.taken > socket.delivered {
            socket.receiving = true;
            self.schedule(at, id, Happening::Take);
        }
    }

    fn give_up_in_time(&mut self, id: u32) {
        let at = self.now() + GIVEN_UP_AFTER;
        let socket = &mut self.sockets[id as usize];
        if socket.taken > socket.delivered && !std::mem::replace(&mut socket.given_up, true) {
            self.schedule(at, id, Happening::GiveUp);
        }
    }

    fn take(&mut self, id: u32) {
        let now = self.now();
        let socket = &mut self.sockets[id as usize];
        socket.receiving = false;
        if socket.dead || !socket.reads || socket.vanished {
            return;
        }
        if socket.end_said && socket.script.ending == Ending::Close {
            return self.reset(id, Errno::CONNRESET);
        }
        let bytes = socket.script.appetite.min(socket.taken - socket.delivered);
        socket.delivered += bytes;
        self.note(Name::Client(id), What::Takes(bytes));
        self.tell_of_room(id);
        let socket = &mut self.sockets[id as usize];
        if socket.taken > socket.delivered {
            socket.receiving = true;
            let pause = socket.script.digestion;
            self.schedule(now + pause, id, Happening::Take);
        }
    }

    /// An edge for whoever waits for room, once there is some.
    pub(super) fn tell_of_room(&mut self, id: u32) {
        let now = self.now();
        let socket = &mut self.sockets[id as usize];
        if socket.wants_room && socket.ready(now, &self.kernel).intersects(Bits::WRITABLE) {
            socket.wants_room = false;
            socket.edges = socket.edges | Bits::WRITABLE;
        }
    }

    /// The connection breaks, and the next call on it is told `error`.
    pub(super) fn reset(&mut self, id: u32, error: Errno) {
        self.note(Name::Client(id), What::Resets);
        let socket = &mut self.sockets[id as usize];
        if socket.dead {
            return;
        }
        (socket.dead, socket.error) = (true, Some(error));
        (socket.hidden_until, socket.blocked_until) = (0, 0);
        if self.kernel.reset_destroys {
            socket.arrived = socket.read;
        }
        let all = Bits::READABLE | Bits::WRITABLE | Bits::READ_CLOSED | Bits::HANG_UP | Bits::ERROR;
        socket.edges = socket.edges | all;
    }

    /// What is there is not to be had for a while; then it is as if it arrived again.
    pub(super) fn hide(&mut self, id: u32) {
        let until = self.now() + skewed(&mut self.rng, 10 * MILLISECOND);
        self.sockets[id as usize].hidden_until = until;
        self.schedule(until, id, Happening::Look);
    }

    fn show(&mut self, id: u32) {
        let now = self.now();
        let socket = &mut self.sockets[id as usize];
        if socket.hidden_until > 0 && socket.hidden_until <= now {
            socket.hidden_until = 0;
            socket.edges = socket.edges | Bits::READABLE;
            if socket.end_arrived {
                socket.edges = socket.edges | Bits::READ_CLOSED;
            }
        }
    }

    /// As above, for the room there is.
    pub(super) fn block(&mut self, id: u32) {
        let until = self.now() + skewed(&mut self.rng, 10 * MILLISECOND);
        self.sockets[id as usize].blocked_until = until;
        self.schedule(until, id, Happening::Look);
    }
}
