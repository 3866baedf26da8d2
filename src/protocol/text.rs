//! Numbers and words as text protocols write them, without allocation.

/// The digits of a number, in a place of their own.
pub(super) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    #[inline]
    pub(super) fn new(number: i64) -> Decimal {
        let mut decimal = Decimal { digits: [0; 20], start: 20 };
        let mut rest = number.unsigned_abs();
        loop {
            decimal.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            decimal.push(b'-');
        }
        decimal
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        // 19 digits and a sign are the most there can be.
        self.start -= 1;
        self.digits[self.start] = byte;
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// The number `text` is the only way to write: no plus, no leading zero, no space.
#[inline]
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] | [_, _, ..] if digits.first().is_none_or(|first| *first == b'0') => return None,
        [b'0'] if negative => return None,
        _ => {}
    }
    let mut number = 0_i64;
    for digit in digits {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Downwards, where there is one number more.
        number = number.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_in_the_one_way_it_is_read() {
        for number in [0, 1, -1, 9, 10, -10, 99, 100, i64::MAX, i64::MIN, i64::MIN + 1] {
            let written = Decimal::new(number);
            assert_eq!(written.as_bytes(), number.to_string().as_bytes());
            assert_eq!(integer(written.as_bytes()), Some(number));
        }
        let others =
            ["", "-", "+1", "-0", "01", "00", " 1", "1 ", "1.", "1x", "9223372036854775808", "-9223372036854775809"];
        for text in others {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
