//! Which block lists are not empty in any superpageblock of a zone list, so that a walk need not
//! look at one after the other where none can serve.

use crate::mm::flavour::{Flavour, Word};

use super::lists::ListName;
use super::superpageblock::Occupancy;

/// For each list of superpageblocks, how many of them have blocks on each of their block lists; the
/// zone lock guards it.
#[derive(Debug)]
pub struct Supply<F: Flavour> {
    counts: Box<[[F::U32; Occupancy::BITS]]>,
    any: [F::U64; ListName::COUNT],
}

impl<F: Flavour> Default for Supply<F> {
    fn default() -> Self {
        Supply {
            counts: F::U32::zeroed(ListName::COUNT),
            any: std::array::from_fn(|_| F::U64::default()),
        }
    }
}

impl<F: Flavour> Supply<F> {
    /// The block lists that are not empty in some superpageblock of `list`.
    #[must_use]
    #[inline]
    pub fn of(&self, list: ListName) -> Occupancy {
        Occupancy(self.any[list.index()].get())
    }

    /// A superpageblock of `list` has blocks on these lists from now on.
    pub fn add(&self, list: ListName, occupancy: Occupancy) {
        let any = &self.any[list.index()];
        any.set(any.get() | occupancy.0);
        for bit in bits(occupancy) {
            self.counts[list.index()][bit].update(|n| n + 1);
        }
    }

    /// A superpageblock of `list` has no blocks on these lists any more, or left `list`.
    pub fn sub(&self, list: ListName, occupancy: Occupancy) {
        let any = &self.any[list.index()];
        for bit in bits(occupancy) {
            let count = &self.counts[list.index()][bit];
            debug_assert!(count.get() > 0, "supply of {list:?} below 0");
            count.update(|n| n - 1);
            if count.get() == 0 {
                any.set(any.get() & !(1 << bit));
            }
        }
    }
}

/// Positions of the bits that are set.
fn bits(occupancy: Occupancy) -> impl Iterator<Item = usize> {
    let mut left = occupancy.0;
    std::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
        left &= left - 1;
        Some(bit)
    })
}
