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
    payload: Box<[u8]>,
}

const HEADER: usize = 16;
const PLACES: u64 = 251;

impl Stamp {
    pub(super) fn new(size: usize) -> Stamp {
        let noise = (0..(size as u64 + PLACES)).map(|at| (mix(at) >> 56) as u8).collect();
        Stamp { size, noise, payload: vec![0; size].into_boxed_slice() }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The payload of this exchange.
    pub(super) fn payload(&mut self, connection: u32, sequence: u64) -> &[u8] {
        let header = header(connection, sequence);
        let (start, body) = self.payload.split_at_mut(self.size.min(HEADER));
        start.copy_from_slice(&header[..start.len()]);
        let place = place(connection, sequence);
        body.copy_from_slice(&self.noise[place..place + body.len()]);
        &self.payload
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
            let echo = stamp.payload(7, 3).to_vec();
            for cut in 0..=size {
                assert_eq!(stamp.check(7, 3, 0, &echo[..cut]), Ok(()));
                assert_eq!(stamp.check(7, 3, cut, &echo[cut..]), Ok(()));
            }
        }
    }

    #[test]
    fn one_wrong_byte_is_found_wherever_it_is() {
        let mut stamp = Stamp::new(64);
        let echo = stamp.payload(7, 3).to_vec();
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
            let echo = stamp.payload(7, 3).to_vec();
            for (connection, sequence) in [(7, 2), (7, 4), (6, 3), (8, 3)] {
                assert!(stamp.check(connection, sequence, 0, &echo).is_err(), "{size} {connection} {sequence}");
            }
        }
    }
}
