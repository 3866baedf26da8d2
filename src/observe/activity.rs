//! What went on at a port between looks at it: who asked, how often and for how much, and how many came and went.
//!
//! TCP counts, for each connection, the bytes and the segments with data that came and that went. Nothing is captured, and no
//! byte is read: the server is not aware of it. What follows from such counters is less than what happened: (a) a
//! connection that comes and goes between two looks is not seen; (b) requests that come in one segment are one exchange;
//! (c) a message that takes several segments, both ways, is several. [`Activity`] has a field that says so for each.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::port::Port;
use super::socket::{Figures, Socket, State};

/// Data that came so long ago is a request of now: the kernel's figure moves in ticks of up to 10 ms.
const NOW_MS: u32 = 10;

/// What went on at a port while it was watched.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Activity {
    /// From the first look to the last.
    #[serde(rename = "window_ns", serialize_with = "nanoseconds")]
    pub window: Duration,
    /// How many looks.
    pub looks: usize,
    /// Sockets that listened, at the last look.
    pub listeners: usize,
    /// Connections at the last look that the server had not closed.
    pub open: usize,
    /// Those of them that were asked something in the window, and answered.
    pub active: usize,
    /// Connections on which data had come in the last 10 ms: half of the looks found as many or more.
    pub at_once: usize,
    /// Exchanges: on each connection the segments with data that came, or those that went if they were fewer.
    pub exchanges: u64,
    /// Bytes that came with them.
    pub received: u64,
    /// Bytes that went with them, and were acknowledged.
    pub sent: u64,
    /// Connections that were asked, and sent no data.
    pub unanswered: usize,
    /// Connections that sent data, and were asked nothing.
    pub unasked: usize,
    /// Connections that were opened in the window, as far as a look has seen them or what they left in TIME_WAIT.
    pub came: u64,
    /// Those that were closed in it, likewise.
    pub went: u64,
    /// Of those that were open at a look, fewer than half were there at the one before: most come and go between looks,
    /// and are not seen.
    pub fleeting: bool,
    /// The most exchanges of one that went.
    pub most_exchanges: u64,
    /// Segments came and went that were full, or nearly: messages may be longer, and exchanges fewer.
    pub long_messages: bool,
    /// Connections open whose figures the kernel did not tell: nothing is known of them but that they are there.
    pub untold: usize,
}

fn nanoseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_nanos() as u64)
}

impl Activity {
    /// Connections that were open and silent for the whole window.
    pub fn idle(&self) -> usize {
        self.open - self.active.min(self.open)
    }

    /// Exchanges a second.
    pub fn per_second(&self) -> f64 {
        self.each_second(self.exchanges)
    }

    /// Connections opened a second, of those that were seen.
    pub fn came_per_second(&self) -> f64 {
        self.each_second(self.came)
    }

    fn each_second(&self, count: u64) -> f64 {
        let seconds = self.window.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }
}

/// Adds up looks at a port.
///
/// ```
/// use pollmark::observe::{Port, Tally};
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
/// use std::time::Instant;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
///
/// let (began, mut tally) = (Instant::now(), Tally::default());
/// for _ in 0..2 {
///     match Port::observe(listener.local_addr()?.port()) {
///         Ok(port) => tally.add(began.elapsed(), &port),
///         Err(error) => return Ok(println!("{error}")), // not on this system
///     }
///     client.write_all(b"ask")?;
///     server.read_exact(&mut [0; 3])?;
///     server.write_all(b"answer")?;
///     client.read_exact(&mut [0; 6])?;
/// }
/// let activity = tally.activity();
/// if activity.untold == 0 {
///     assert_eq!((activity.active, activity.exchanges, activity.received), (1, 1, 3));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tally {
    first: Option<Duration>,
    last: Duration,
    looks: usize,
    listeners: usize,
    /// Those that were open at the last look.
    open: HashMap<Ends, Seen>,
    /// In TIME_WAIT at the last look.
    over: BTreeSet<Ends>,
    /// What those did that went.
    gone: Sums,
    came: u64,
    went: u64,
    at_once: Vec<usize>,
    /// Of the connections of each look, how many there were and how many of them were new.
    fresh: Vec<(usize, usize)>,
}

type Ends = (SocketAddr, SocketAddr);

/// A connection: its figures when the window began, and now.
#[derive(Clone, Copy, Debug)]
struct Seen {
    inode: u64,
    before: Figures,
    now: Option<Figures>,
}

/// What connections did in the window.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    active: usize,
    unanswered: usize,
    unasked: usize,
    exchanges: u64,
    received: u64,
    sent: u64,
    most: u64,
    /// Bytes and segments' room, each way: their share says whether segments were full.
    room: (u64, u64),
    untold: usize,
}

impl Tally {
    /// Adds a look, taken at this moment of whatever clock the others were taken by.
    pub fn add(&mut self, at: Duration, port: &Port) {
        let is_first = self.first.is_none();
        self.first.get_or_insert(at);
        (self.last, self.looks, self.listeners) = (at, self.looks + 1, port.listeners.len());

        let (mut open, mut over, mut fresh) = (HashMap::new(), BTreeSet::new(), 0);
        for socket in port.connections.iter().filter(|one| is_of(one, &port.listeners)) {
            match socket.state {
                State::Established | State::CloseWait => {
                    let earlier = self.open.remove(&socket.ends());
                    let known = earlier.filter(|earlier| earlier.is_same(socket));
                    if let (Some(other), None) = (earlier, known) {
                        self.leave(other);
                    }
                    if known.is_none() && !is_first {
                        fresh += 1;
                    }
                    open.insert(socket.ends(), Seen::of(socket, known, is_first));
                }
                State::TimeWait => {
                    over.insert(socket.ends());
                }
                _ => {}
            }
        }
        self.came += fresh as u64;
        self.fresh.extend((!is_first).then_some((open.len(), fresh)));
        self.at_once.push(open.values().filter(|one| one.is_asked_now()).count());
        let left = std::mem::replace(&mut self.open, open);
        // Of what is over now and was not before, some has been seen, and is counted as gone below.
        let unseen = |ends: &&Ends| !is_first && !self.over.contains(*ends) && !left.contains_key(*ends);
        let unseen = over.iter().filter(unseen).count() as u64;
        (self.came, self.went, self.over) = (self.came + unseen, self.went + unseen, over);
        left.into_values().for_each(|one| self.leave(one));
    }

    fn leave(&mut self, one: Seen) {
        self.went += 1;
        self.gone.add(&one);
    }

    /// What there is to say of all looks so far; nothing of fewer than two.
    pub fn activity(&self) -> Activity {
        let mut here = Sums::default();
        self.open.values().for_each(|one| here.add(one));
        let mut all = Sums { most: 0, ..self.gone };
        all.plus(&here);
        let mut at_once = self.at_once.clone();
        at_once.sort_unstable();
        let (seen, fresh) = self.fresh.iter().fold((0, 0), |(seen, fresh), look| (seen + look.0, fresh + look.1));
        Activity {
            window: self.last.saturating_sub(self.first.unwrap_or(self.last)),
            looks: self.looks,
            listeners: self.listeners,
            open: self.open.len(),
            active: here.active,
            at_once: at_once.get(at_once.len() / 2).copied().unwrap_or(0),
            exchanges: all.exchanges,
            received: all.received,
            sent: all.sent,
            unanswered: here.unanswered,
            unasked: here.unasked,
            came: self.came,
            went: self.went,
            fleeting: fresh * 2 > seen,
            most_exchanges: self.gone.most,
            // Half full on average, each way.
            long_messages: all.exchanges > 0 && all.received * 2 > all.room.0 && all.sent * 2 > all.room.1,
            untold: here.untold,
        }
    }
}

/// Whether a listener has made it: a client may have this port at another address.
fn is_of(socket: &Socket, listeners: &[Socket]) -> bool {
    let local = socket.local.ip().to_canonical();
    let made = |listener: &Socket| listener.local.ip().is_unspecified() || listener.local.ip().to_canonical() == local;
    listeners.iter().any(made)
}

impl Seen {
    fn of(socket: &Socket, known: Option<Seen>, is_first: bool) -> Seen {
        // What was there before the window counts from what it had then, and what came in it from nothing.
        let began = if is_first { socket.figures.unwrap_or_default() } else { Figures::default() };
        let before = known.map_or(began, |known| known.before);
        Seen { inode: socket.inode, before, now: socket.figures }
    }

    /// Whether this is the same connection, and not another between the same ends: its counters never fall, and the
    /// number it has from being accepted on stays.
    fn is_same(&self, socket: &Socket) -> bool {
        let fell = self
            .now
            .zip(socket.figures)
            .is_some_and(|(then, now)| now.received < then.received || now.data_segments.0 < then.data_segments.0);
        !fell && (self.inode == 0 || self.inode == socket.inode)
    }

    fn is_asked_now(&self) -> bool {
        self.now.is_some_and(|now| now.received > 0 && now.last_received_ms <= NOW_MS)
    }
}

impl Sums {
    fn add(&mut self, one: &Seen) {
        let Some(now) = one.now else {
            self.untold += 1;
            return;
        };
        let since = |count: fn(&Figures) -> u64| count(&now).saturating_sub(count(&one.before));
        let went = since(|figures| figures.data_segments.0.into());
        let came = since(|figures| figures.data_segments.1.into());
        let exchanges = came.min(went);
        self.unanswered += usize::from(came > 0 && went == 0);
        self.unasked += usize::from(came == 0 && went > 0);
        self.most = self.most.max(exchanges);
        if exchanges > 0 {
            let (received, sent) = (since(|figures| figures.received), since(|figures| figures.acknowledged));
            let segment = u64::from(now.segment);
            self.plus(&Sums {
                active: 1,
                exchanges,
                received,
                sent,
                room: (came * segment, went * segment),
                ..Sums::default()
            });
        }
    }

    fn plus(&mut self, other: &Sums) {
        self.active += other.active;
        self.unanswered += other.unanswered;
        self.unasked += other.unasked;
        self.exchanges += other.exchanges;
        self.received += other.received;
        self.sent += other.sent;
        self.most = self.most.max(other.most);
        self.room = (self.room.0 + other.room.0, self.room.1 + other.room.1);
        self.untold += other.untold;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket of the port, to the client of this number.
    fn socket(state: State, client: u16, figures: Option<Figures>) -> Socket {
        Socket {
            state,
            local: "127.0.0.1:7000".parse().expect("an address"),
            peer: SocketAddr::new([127, 0, 0, 2].into(), client),
            receive_queue: 0,
            send_queue: 0,
            retransmissions: 0,
            timer_ms: 0,
            user: 0,
            inode: 1_000 + u64::from(client),
            figures,
            memory: None,
        }
    }

    /// After so many exchanges of 10 bytes and 20.
    fn after(exchanges: u32) -> Figures {
        let bytes = u64::from(exchanges) * 10;
        let long_ago = 5_000;
        Figures {
            received: bytes,
            acknowledged: bytes * 2,
            data_segments: (exchanges, exchanges),
            segment: 1_448,
            last_received_ms: long_ago,
            ..Figures::default()
        }
    }

    fn open(client: u16, exchanges: u32) -> Socket {
        socket(State::Established, client, Some(after(exchanges)))
    }

    fn port(connections: Vec<Socket>) -> Port {
        Port { port: 7000, listeners: vec![socket(State::Listen, 0, None)], connections }
    }

    /// The activity of looks a second apart.
    fn seen(looks: impl IntoIterator<Item = Vec<Socket>>) -> Activity {
        let mut tally = Tally::default();
        for (at, connections) in looks.into_iter().enumerate() {
            tally.add(Duration::from_secs(at as u64), &port(connections));
        }
        tally.activity()
    }

    #[test]
    fn what_was_done_before_the_window_is_not_of_it_and_the_silent_are_idle() {
        let activity = seen([
            vec![open(1, 100), open(2, 50), open(3, 7)],
            vec![open(1, 110), open(2, 50), open(3, 7)],
            vec![open(1, 130), open(2, 50), open(3, 8)],
        ]);
        assert_eq!((activity.open, activity.active, activity.idle(), activity.looks), (3, 2, 1, 3));
        assert_eq!((activity.exchanges, activity.received, activity.sent), (31, 310, 620));
        assert_eq!((activity.came, activity.went, activity.fleeting), (0, 0, false));
        assert!((activity.per_second() - 15.5).abs() < 1e-9 && !activity.long_messages);
    }

    #[test]
    fn who_came_in_the_window_counts_from_nothing_and_who_went_with_what_it_had() {
        let activity = seen([vec![open(1, 5), open(2, 5)], vec![open(1, 9), open(3, 4)], vec![open(3, 6)]]);
        assert_eq!((activity.came, activity.went, activity.open, activity.active), (1, 2, 1, 1));
        assert_eq!((activity.exchanges, activity.most_exchanges), (4 + 6, 4), "client 2 did nothing before it went");
    }

    #[test]
    fn another_connection_between_the_same_ends_is_another() {
        let other = |inode, exchanges| Socket { inode, ..open(1, exchanges) };
        for (inode, exchanges) in [(1_001, 3), (7, 30), (7, 3)] {
            let activity = seen([vec![open(1, 20)], vec![other(inode, exchanges)]]);
            assert_eq!((activity.came, activity.went), (1, 1), "{inode} {exchanges}");
            assert_eq!(activity.exchanges, u64::from(exchanges));
        }
        // Nobody had accepted it, and somebody has: that is the same one.
        let activity = seen([vec![other(0, 0)], vec![open(1, 2)]]);
        assert_eq!((activity.came, activity.exchanges), (0, 2));
    }

    #[test]
    fn what_is_left_in_time_wait_has_come_and_gone_unseen() {
        let over = |client| socket(State::TimeWait, client, None);
        let activity = seen([vec![over(1), open(2, 1)], vec![over(1), over(3), over(4), over(2)]]);
        assert_eq!((activity.came, activity.went), (2, 3), "3 and 4, which nobody has seen; and 2, which went");
        assert_eq!(activity.open, 0);
    }

    #[test]
    fn connections_that_are_others_at_every_look_are_fleeting() {
        let activity = seen((0..5).map(|look| vec![open(100 + look, 3), open(1, u32::from(look))]));
        assert!(!activity.fleeting, "every second one stays");
        let activity = seen((0..5).map(|look| vec![open(100 + look, 3), open(200 + look, 1)]));
        assert!(activity.fleeting && activity.came == 8 && activity.most_exchanges == 3, "{activity:?}");
        assert!(!seen([vec![], vec![]]).fleeting, "of nothing, nothing is");
    }

    #[test]
    fn one_way_traffic_is_no_exchange_and_full_segments_are_told() {
        let figures = |came, went| Some(Figures { data_segments: (went, came), received: 9, ..after(0) });
        let of = |came, went| vec![socket(State::Established, 1, figures(came, went))];
        let only_asked = seen([of(0, 0), of(4, 0)]);
        assert_eq!((only_asked.active, only_asked.unanswered, only_asked.exchanges), (0, 1, 0));
        let only_told = seen([of(0, 0), of(0, 4)]);
        assert_eq!((only_told.active, only_told.unasked, only_told.idle()), (0, 1, 1));
        // One request, whose answer took seven segments.
        assert_eq!(seen([of(0, 0), of(1, 7)]).exchanges, 1);
        let full = Figures { received: 8 * 1_400, acknowledged: 8 * 1_448, ..after(8) };
        let activity = seen([vec![open(1, 0)], vec![socket(State::Established, 1, Some(full))]]);
        assert!(activity.long_messages, "{activity:?}");
    }

    #[test]
    fn at_once_are_those_of_which_data_came_just_now() {
        let asked =
            |client, ago| socket(State::Established, client, Some(Figures { last_received_ms: ago, ..after(1) }));
        let looks = [vec![asked(1, 0), asked(2, 10), asked(3, 11)], vec![asked(1, 4)], vec![asked(1, 0), asked(2, 1)]];
        assert_eq!(seen(looks).at_once, 2);
        let silent = Figures { last_received_ms: 0, ..after(0) };
        assert_eq!(seen([vec![socket(State::Established, 1, Some(silent))]]).at_once, 0, "it was only opened");
    }

    #[test]
    fn what_is_not_of_a_listener_or_not_open_does_not_count() {
        let elsewhere = Socket { local: "127.0.0.9:7000".parse().expect("an address"), ..open(1, 1) };
        let mapped = Socket { local: "[::ffff:127.0.0.1]:7000".parse().expect("an address"), ..open(2, 1) };
        let half_open = socket(State::SynRecv, 3, None);
        let closing = socket(State::FinWait2, 4, None);
        let looks = || vec![elsewhere.clone(), mapped.clone(), half_open.clone(), closing.clone()];
        assert_eq!(seen([looks(), looks()]).open, 1);
        let untold = seen([vec![socket(State::Established, 1, None)], vec![socket(State::Established, 1, None)]]);
        assert_eq!((untold.open, untold.untold, untold.exchanges), (1, 1, 0));
    }

    proptest! {
        /// Neither the order in which the kernel lists sockets nor how often one looks changes what stays was done.
        #[test]
        fn the_order_of_a_list_and_further_looks_change_nothing(
            steps in proptest::collection::vec(proptest::collection::vec(0u32..5, 4), 1..6),
            turns in proptest::collection::vec(0usize..4, 7),
        ) {
            let mut figures = vec![0u32; 4];
            let mut looks = vec![figures.clone()];
            for step in &steps {
                figures.iter_mut().zip(step).for_each(|(sum, more)| *sum += more);
                looks.push(figures.clone());
            }
            let sockets = |figures: &Vec<u32>| -> Vec<Socket> {
                figures.iter().zip(1..).map(|(exchanges, client)| open(client, *exchanges)).collect()
            };
            let all = seen(looks.iter().zip(&turns).map(|(look, turn)| {
                let mut sockets = sockets(look);
                sockets.rotate_left(*turn);
                sockets
            }));
            let ends = seen([sockets(&looks[0]), sockets(looks.last().expect("two"))]);
            let figures = |one: &Activity| {
                (one.open, one.active, one.exchanges, one.received, one.sent, one.came, one.went, one.fleeting)
            };
            prop_assert_eq!(figures(&all), figures(&ends));
            prop_assert_eq!(all.exchanges, u64::from(steps.iter().flatten().sum::<u32>()));
            prop_assert!(all.active <= all.open && all.idle() + all.active == all.open);
        }
    }
}
