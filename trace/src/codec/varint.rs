//! Variable-length integers (LEB128, seven bits a byte, lowest first) and the cursor over a
//! payload.

use super::DecodeError;

/// Bytes of the longest varint of 64 bits.
const MAX_BYTES: usize = 10;

/// Appends `value`.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The difference `to - from` (wrapping), with its sign in the lowest bit, so that small
/// differences of either sign are small numbers.
#[must_use]
#[inline]
pub fn zigzag(from: u64, to: u64) -> u64 {
    let delta = to.wrapping_sub(from) as i64;
    ((delta << 1) ^ (delta >> 63)) as u64
}

/// The inverse of [`zigzag`]: `to`.
#[must_use]
#[inline]
pub fn unzigzag(from: u64, coded: u64) -> u64 {
    from.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg())
}

/// What is left of a payload.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes }
    }

    /// Bytes left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let left = self.bytes.len() as u64;
        let short = DecodeError::Short { what, needed: count as u64, left };
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(short)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next byte.
    ///
    /// # Errors
    /// If none is left.
    pub fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(what, 1)?[0])
    }

    /// The next varint.
    ///
    /// # Errors
    /// If it is cut off or has more than 64 bits.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0;
        for at in 0..MAX_BYTES {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if at == MAX_BYTES - 1 && bits > 1 {
                break;
            }
            value |= bits << (7 * at);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::value(what, "a varint of more than 64 bits"))
    }

    /// The next varint, which may be `limit` at most.
    ///
    /// # Errors
    /// If it is cut off or greater.
    pub fn up_to(&mut self, what: &'static str, limit: u64) -> Result<u64, DecodeError> {
        match self.varint(what)? {
            found if found > limit => Err(DecodeError::Limit { what, found, limit }),
            value => Ok(value),
        }
    }

    /// The next varint as a number of things of which each takes `each_bytes` bytes or more, so
    /// that no more are announced than can follow.
    ///
    /// # Errors
    /// If it is cut off, greater than `limit`, or more than can follow.
    pub fn count(
        &mut self,
        what: &'static str,
        limit: u64,
        each_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.up_to(what, limit)?;
        let (needed, left) = (count.saturating_mul(each_bytes as u64), self.left() as u64);
        if needed > left {
            return Err(DecodeError::Short { what, needed, left });
        }
        Ok(count as usize)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// If something is.
    pub fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        match self.left() as u64 {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { what, left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(value in any::<u64>(), shift in 0u32..64, other in any::<u64>()) {
            let value = value >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            let mut input = Input::new(&out);
            prop_assert_eq!(input.varint("it"), Ok(value));
            prop_assert_eq!(input.finish("it"), Ok(()));
            prop_assert_eq!(unzigzag(other, zigzag(other, value)), value);
        }
    }

    #[test]
    fn small_differences_are_small_numbers() {
        let coded = [(5, 5), (5, 4), (5, 6), (5, 3)].map(|(from, to)| zigzag(from, to));
        assert_eq!(coded, [0, 1, 2, 3]);
        assert_eq!(zigzag(0, u64::MAX), 1);
    }

    #[test]
    fn overlong_and_cut_varints_are_refused() {
        assert!(Input::new(&[0xff; 11]).varint("it").is_err());
        assert!(Input::new(&[0x80, 0x80]).varint("it").is_err());
        let two_to_the_64 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2];
        assert!(Input::new(&two_to_the_64).varint("it").is_err());
    }

    #[test]
    fn a_count_that_cannot_follow_is_refused() {
        assert_eq!(Input::new(&[3, 0, 0, 0]).count("it", 10, 1), Ok(3));
        assert!(Input::new(&[3, 0, 0]).count("it", 10, 1).is_err());
        assert!(Input::new(&[3, 0, 0, 0]).count("it", 2, 1).is_err());
    }
}
