//! Payloads that cannot be mistaken for one another: every byte of every echo is known beforehand.

/// Makes and checks the payloads of one size.
///
/// A payload begins with its sequence number and its connection, mixed so that even a payload of one byte changes with
/// both; the rest is cut from a table of noise at a place that depends on both. An echo that is late, early, shifted,
/// repeated, or another connection's, differs.
#[derive(Debug)]
pub(super) struct Stamp {
    size: usize,
    noise: Box<[u8]>,
    payloads: Vec<u8>,
    /// As many as are made at a time.
    together: usize,
}

/// The most bytes of payloads made together, unless one is larger.
const TOGETHER: usize = 64 * 1024;

const HEADER: usize = 16;
const PLACES: u64 = 251;

impl Stamp {
    pub(super) fn new(size: usize) -> Stamp {
        let noise = (0..(size as u64 + PLACES)).map(|at| (mix(at) >> 56) as u8).collect();
        Stamp { size, noise, payloads: vec![0; size], together: (TOGETHER / size).max(1) }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The payloads of this exchange and those that follow, `count` of them or as many as are worth sending together.
    #[inline]
    pub(super) fn payloads(&mut self, connection: u32, sequence: u64, count: usize) -> &[u8] {
        let bytes = self.size * count.min(self.together);
        if self.payloads.len() < bytes {
            self.payloads.resize(bytes, 0);
        }
        for (sequence, payload) in (sequence..).zip(self.payloads[..bytes].chunks_exact_mut(self.size)) {
            let header = header(connection, sequence);
            let (start, body) = payload.split_at_mut(self.size.min(HEADER));
            start.copy_from_slice(&header[..start.len()]);
            let place = place(connection, sequence);
            body.copy_from_slice(&self.noise[place..place + body.len()]);
        }
        &self.payloads[..bytes]
    }

    /// Compares what came back, `offset` bytes into the echo. The caller has seen to it that it is not too long.
    pub(super) fn check(&self, connection: u32, sequence: u64, offset: usize, found: &[u8]) -> Result<(), WrongByte> {
        let header = header(connection, sequence);
        let in_header = HEADER.saturating_sub(offset).min(found.len());
        let (start, body) = found.split_at(in_header);
        let expected_start = &header[offset.min(HEADER)..][..in_header];
        let place = place(connection, sequence) + (offset + in_header).saturating_sub(HEADER);
        let expected_body = &self.noise[place..place + body.len()];
        if start == expected_start && body == expected_body {
            return Ok(());
        }
        let expected = expected_start.iter().chain(expected_body);
        let (at, (expected, found)) =
            expected.zip(found).enumerate().find(|(_, (one, other))| one != other).expect("the slices differ");
        Err(WrongByte { offset: offset + at, expected: *expected, found: *found })
    }
}

/// The first byte that differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WrongByte {
    pub(super) offset: usize,
    pub(super) expected: u8,
    pub(super) found: u8,
}

fn header(connection: u32, sequence: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    // An odd factor, so that neighbouring connections differ in the first byte too.
    let mixed = sequence.wrapping_add(u64::from(connection).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    header[..8].copy_from_slice(&mixed.to_le_bytes());
    header[8..].copy_from_slice(&u64::from(connection).to_le_bytes());
    header
}

fn place(connection: u32, sequence: u64) -> usize {
    (sequence.wrapping_add(u64::from(connection) * 31) % PLACES) as usize
}

/// splitmix64's finaliser.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_right_however_it_is_cut() {
        for size in [1, 2, 15, 16, 17, 64, 1_000] {
            let mut stamp = Stamp::new(size);
            let echo = stamp.payloads(7, 3, 1).to_vec();
            for cut in 0..=size {
                assert_eq!(stamp.check(7, 3, 0, &echo[..cut]), Ok(()));
                assert_eq!(stamp.check(7, 3, cut, &echo[cut..]), Ok(()));
            }
        }
    }

    #[test]
    fn payloads_made_together_are_those_made_one_by_one() {
        for size in [1, 16, 1_000, TOGETHER, TOGETHER + 1] {
            let mut stamp = Stamp::new(size);
            let one_by_one = (3..6).flat_map(|sequence| stamp.payloads(7, sequence, 1).to_vec()).collect::<Vec<_>>();
            let together = stamp.payloads(7, 3, 3);
            assert!(together.len().is_multiple_of(size) && one_by_one.starts_with(together), "{size}");
            assert_eq!(together.len() == 3 * size, size <= 1_000, "a few of the small are sent together: {size}");
        }
    }

    #[test]
    fn one_wrong_byte_is_found_wherever_it_is() {
        let mut stamp = Stamp::new(64);
        let echo = stamp.payloads(7, 3, 1).to_vec();
        for at in 0..64 {
            let mut spoilt = echo.clone();
            spoilt[at] ^= 1;
            let wrong = stamp.check(7, 3, 0, &spoilt).expect_err("one byte is wrong");
            assert_eq!((wrong.offset, wrong.found), (at, spoilt[at]));
        }
    }

    #[test]
    fn another_exchange_or_another_connection_is_never_right() {
        for size in [1, 64] {
            let mut stamp = Stamp::new(size);
            let echo = stamp.payloads(7, 3, 1).to_vec();
            for (connection, sequence) in [(7, 2), (7, 4), (6, 3), (8, 3)] {
                assert!(stamp.check(connection, sequence, 0, &echo).is_err(), "{size} {connection} {sequence}");
            }
        }
    }
}
