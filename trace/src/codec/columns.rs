//! Columns of integers as byte planes.
//!
//! A column of n values stores the lowest bytes of all values, then all second bytes, and so on,
//! `width` planes in all: bytes of equal weight resemble each other, which zstd likes, and a
//! decoder reads them without branches. The rare values that need more bytes than `width` stand
//! in a list of exceptions with their remaining high bits.

use super::DecodeError;
use super::varint::{self, Input};

/// Bytes that an exception is reckoned to cost, in choosing a width.
const EXCEPTION_BYTES: usize = 4;

/// Values decoded at a time: small enough for the first-level cache.
pub(crate) const BLOCK: usize = 512;

/// Appends `values` to `out`.
pub(crate) fn encode(values: &[u64], out: &mut Vec<u8>) {
    let (width, exceptions) = best_width(values);
    out.push(width as u8);
    varint::put(out, exceptions as u64);
    if exceptions > 0 {
        put_exceptions(values, width, out);
    }
    let from = out.len();
    out.resize(from + width * values.len(), 0);
    let planes = &mut out[from..];
    for (index, block) in values.chunks(BLOCK).enumerate() {
        for plane in 0..width {
            let bytes = &mut planes[plane * values.len() + index * BLOCK..][..block.len()];
            for (byte, value) in bytes.iter_mut().zip(block) {
                *byte = (value >> (8 * plane)) as u8;
            }
        }
    }
}

/// The number of planes that makes planes and exceptions smallest, and how many exceptions.
fn best_width(values: &[u64]) -> (usize, usize) {
    let mut longer = counts_by_length(values);
    for length in (0..8).rev() {
        longer[length] += longer[length + 1];
    }
    let exceptions = |width: usize| longer.get(width + 1).copied().unwrap_or(0);
    let cost = |width: &usize| width * values.len() + EXCEPTION_BYTES * exceptions(*width);
    let width = (0..=8).min_by_key(cost).unwrap_or(8);
    (width, exceptions(width))
}

/// Numbers of values by significant bytes. Two tallies take turns, because adding to a counter
/// that was just written has to wait for it.
fn counts_by_length(values: &[u64]) -> [usize; 9] {
    let mut tallies = [[0; 9]; 2];
    for pair in values.chunks(2) {
        for (tally, value) in tallies.iter_mut().zip(pair) {
            tally[significant_bytes(*value)] += 1;
        }
    }
    std::array::from_fn(|length| tallies[0][length] + tallies[1][length])
}

/// Bytes without the leading zero bytes: 0 for 0, 8 for the largest.
fn significant_bytes(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()).div_ceil(8) as usize
}

/// The bits of `value` above `width` bytes.
fn high_bits(value: u64, width: usize) -> u64 {
    if width == 8 { 0 } else { value >> (8 * width) }
}

fn put_exceptions(values: &[u64], width: usize, out: &mut Vec<u8>) {
    let mut next = 0;
    for (at, value) in values.iter().enumerate() {
        let high = high_bits(*value, width);
        if high != 0 {
            varint::put(out, (at - next) as u64);
            varint::put(out, high);
            next = at + 1;
        }
    }
}

/// A column in a payload, decoded block by block in ascending order.
pub(crate) struct Column<'a> {
    planes: [&'a [u8]; 8],
    width: usize,
    len: usize,
    /// Position and high bits (already shifted), ascending.
    exceptions: Vec<(u32, u64)>,
    /// The first exception not yet applied.
    next: usize,
}

impl<'a> Column<'a> {
    /// Takes a column of `len` values from `input`.
    pub(crate) fn take(
        input: &mut Input<'a>,
        what: &'static str,
        len: usize,
    ) -> Result<Column<'a>, DecodeError> {
        let width = match input.byte(what)? {
            width @ 0..=8 => usize::from(width),
            found => return Err(DecodeError::Limit { what, found: found.into(), limit: 8 }),
        };
        let exceptions = take_exceptions(input, what, len, width)?;
        let mut planes: [&[u8]; 8] = [&[]; 8];
        for plane in &mut planes[..width] {
            *plane = input.take(what, len)?;
        }
        Ok(Column { planes, width, len, exceptions, next: 0 })
    }

    /// Decodes the values `from..from + block.len()`. Blocks are asked for in ascending order.
    pub(crate) fn fill(&mut self, from: usize, block: &mut [u64]) {
        let to = from + block.len();
        debug_assert!(to <= self.len);
        match self.width {
            0 => block.fill(0),
            1 => self.gather::<1>(from, block),
            2 => self.gather::<2>(from, block),
            3 => self.gather::<3>(from, block),
            4 => self.gather::<4>(from, block),
            _ => self.gather_any(from, block),
        }
        while let Some((at, high)) = self.exceptions.get(self.next)
            && (*at as usize) < to
        {
            block[*at as usize - from] |= high;
            self.next += 1;
        }
    }

    fn gather<const WIDTH: usize>(&self, from: usize, block: &mut [u64]) {
        let planes: [&[u8]; WIDTH] =
            std::array::from_fn(|i| &self.planes[i][from..from + block.len()]);
        for (at, value) in block.iter_mut().enumerate() {
            let mut sum = 0;
            for (i, plane) in planes.iter().enumerate() {
                sum |= u64::from(plane[at]) << (8 * i);
            }
            *value = sum;
        }
    }

    fn gather_any(&self, from: usize, block: &mut [u64]) {
        block.fill(0);
        for (i, plane) in self.planes[..self.width].iter().enumerate() {
            for (value, byte) in block.iter_mut().zip(&plane[from..]) {
                *value |= u64::from(*byte) << (8 * i);
            }
        }
    }

    /// All values in order, through `each`; it may refuse.
    pub(crate) fn for_each(
        mut self,
        mut each: impl FnMut(usize, u64) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut block = [0; BLOCK];
        for from in (0..self.len).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(self.len - from)];
            self.fill(from, block);
            for (at, value) in block.iter().enumerate() {
                each(from + at, *value)?;
            }
        }
        Ok(())
    }
}

fn take_exceptions(
    input: &mut Input<'_>,
    what: &'static str,
    len: usize,
    width: usize,
) -> Result<Vec<(u32, u64)>, DecodeError> {
    let count = input.count(what, len as u64, 2)?;
    let mut exceptions = Vec::with_capacity(count);
    let mut next = 0u64;
    for _ in 0..count {
        let at = next.saturating_add(input.varint(what)?);
        let high = input.varint(what)?;
        if at >= len as u64 || high == 0 || high_bits(u64::MAX, width) < high {
            let reason = format!("exception {at} of a column of {len} values");
            return Err(DecodeError::value(what, reason));
        }
        exceptions.push((at as u32, high << (8 * width)));
        next = at + 1;
    }
    Ok(exceptions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[u64]) -> Result<Vec<u64>, DecodeError> {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut input = Input::new(&out);
        let column = Column::take(&mut input, "it", values.len())?;
        let mut back = Vec::new();
        column.for_each(|_, value| {
            back.push(value);
            Ok(())
        })?;
        input.finish("it")?;
        Ok(back)
    }

    proptest! {
        #[test]
        fn columns_come_back(
            values in prop::collection::vec((any::<u64>(), 0u32..64), 0..1500),
            keep in 0u32..64,
        ) {
            let values: Vec<u64> =
                values.into_iter().map(|(v, s)| if s < 3 { v >> s } else { v >> keep }).collect();
            prop_assert_eq!(round_trip(&values), Ok(values));
        }
    }

    #[test]
    fn one_outlier_does_not_widen_the_column() {
        let mut values = vec![1; 1000];
        values[500] = u64::MAX;
        let mut out = Vec::new();
        encode(&values, &mut out);
        assert!(out.len() < 1000 + 20, "{} bytes", out.len());
    }

    #[test]
    fn exceptions_outside_the_column_are_refused() {
        // Width 1, one exception at position 3 of 2 values.
        let bytes = [1, 1, 3, 1, 0, 0];
        assert!(Column::take(&mut Input::new(&bytes), "it", 2).is_err());
        let bytes = [8, 1, 0, 1];
        assert!(Column::take(&mut Input::new(&bytes), "it", 1).is_err());
    }
}
