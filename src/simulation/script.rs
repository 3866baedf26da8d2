//! What a simulated client is going to do, and how fast: drawn from the seed before it does it.

use fastrand::Rng;

pub(super) const MICROSECOND: u64 = 1_000;
pub(super) const MILLISECOND: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// A connection is moved in no more than about this many steps, so that a run in small steps is one of few bytes.
const STEPS: u64 = 150;

/// What the clients of one run have in common.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// The longest silence between two things a client says, in nanoseconds.
    longest_gap: u64,
    /// The most bytes a client says, and in how many pieces.
    most_bytes: u64,
    most_pieces: u64,
    /// The most bytes one step of anything can move.
    step: u64,
    /// Whether clients do other than speak, listen and end.
    rude: bool,
}

impl Weather {
    /// `step` is the least of the sizes that the server's own configuration sets.
    pub(super) fn drawn(rng: &mut Rng, step: u64) -> Weather {
        let longest_gap = [0, 50 * MICROSECOND, 20 * MILLISECOND, 5 * SECOND, 900 * SECOND][rng.usize(..5)];
        let most_bytes = [1, 40, 700, 9_000, 120_000][rng.usize(..5)];
        Weather { longest_gap, most_bytes, most_pieces: 8, step, rude: rng.u8(..5) > 0 }
    }

    /// Many clients that each say little, with minutes between.
    pub(super) fn crowd() -> Weather {
        Weather { longest_gap: 600 * SECOND, most_bytes: 300, most_pieces: 4, step: 256, rude: true }
    }
}

/// What one client does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// How long anything takes to the server or back.
    pub(super) latency: u64,
    /// How many bytes it says in all, and how many at once.
    pub(super) total: u64,
    pub(super) piece: u64,
    pub(super) longest_gap: u64,
    /// How much it takes at once, and how long it then rests.
    pub(super) appetite: u64,
    pub(super) digestion: u64,
    /// Sizes of the server's buffers for this connection.
    pub(super) receive_buffer: u64,
    pub(super) send_buffer: u64,
    pub(super) ending: Ending,
    /// It is not accepted: another thread hands it to the server.
    pub(super) is_adopted: bool,
    /// What it does besides, so long after it has connected.
    pub(super) mischief: Option<(u64, Mischief)>,
}

/// What a client does when it has said all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// It says so, and reads on until the server closes.
    HalfClose,
    /// It closes, and answers whatever comes later by a reset.
    Close,
    /// It keeps the connection, idle.
    Stay,
}

/// What a client may do at any time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mischief {
    Reset,
    /// It is gone, and nothing says so.
    Vanish,
    /// It takes nothing any more, for so long, or for ever.
    StopReading(Option<u64>),
}

impl Script {
    pub(super) fn drawn(rng: &mut Rng, weather: &Weather) -> Script {
        let bytes = |rng: &mut Rng, most: u64| 1 + skewed(rng, most.saturating_sub(1));
        let total = if rng.u8(..12) == 0 { 0 } else { bytes(rng, weather.most_bytes.min(weather.step * STEPS)) };
        let least = total / STEPS + 1;
        let pieces = rng.u64(1..=weather.most_pieces);
        // One size for both directions would hide much: each is drawn for itself.
        let mut size = |most: u64| least.max(bytes(rng, most));
        let (receive_buffer, send_buffer, appetite) = (size(65_536), size(65_536), size(65_536));
        let longest_gap = skewed(rng, weather.longest_gap);
        let life = longest_gap * pieces + 20 * MILLISECOND;
        let mischief = match rng.u8(..20) {
            _ if !weather.rude => None,
            0..=2 => Some(Mischief::Reset),
            3 => Some(Mischief::Vanish),
            4 | 5 => Some(Mischief::StopReading(Some(rng.u64(..=life)))),
            6 => Some(Mischief::StopReading(None)),
            _ => None,
        };
        Script {
            latency: skewed(rng, 200 * MILLISECOND),
            total,
            piece: total.div_ceil(pieces).max(1),
            longest_gap,
            appetite,
            digestion: if rng.u8(..4) == 0 { skewed(rng, SECOND) } else { 0 },
            receive_buffer,
            send_buffer,
            ending: match rng.u8(..10) {
                0..=4 => Ending::HalfClose,
                5 | 6 => Ending::Close,
                _ => Ending::Stay,
            },
            is_adopted: weather.rude && rng.u8(..10) == 0,
            mischief: mischief.map(|mischief| (rng.u64(..=life), mischief)),
        }
    }
}

/// A number up to `most`, of any order of magnitude with equal chance.
pub(super) fn skewed(rng: &mut Rng, most: u64) -> u64 {
    let magnitude = u64::BITS - most.leading_zeros();
    let shift = rng.u32(..=magnitude);
    rng.u64(..=most) >> shift
}
