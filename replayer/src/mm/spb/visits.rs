//! How many superpageblocks were looked at to serve one request: the cost of many lists instead
//! of one, as a histogram.

use serde::Serialize;

use crate::mm::flavour::{Flavour, Word};

/// Counts up to this have a bucket of their own.
const EXACT: u32 = 16;
/// Buckets: 0..=16 exactly, then 17..=31, 32..=63, .. by powers of two.
const BUCKETS: usize = EXACT as usize + 1 + 28;

/// A histogram of counts: exact up to 16, in powers of two above.
#[derive(Debug)]
pub struct Visits<F: Flavour> {
    buckets: [F::U64; BUCKETS],
    total: F::U64,
}

/// One bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VisitBucket {
    /// Smallest number of superpageblocks in it.
    pub from: u32,
    /// Largest.
    pub to: u32,
    /// Walks.
    pub walks: u64,
}

impl VisitBucket {
    /// The bucket that a counter belongs to, by the counter's name.
    #[must_use]
    pub fn from_counter(name: &str, walks: u64) -> Option<VisitBucket> {
        let bounds = name.strip_prefix("walks_visiting_")?;
        let (from, to) = bounds.split_once("_to_").unwrap_or((bounds, bounds));
        Some(VisitBucket { from: from.parse().ok()?, to: to.parse().ok()?, walks })
    }

    /// Name of its counter: `walks_visiting_3`, or `walks_visiting_17_to_31`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.from == self.to {
            format!("walks_visiting_{}", self.from)
        } else {
            format!("walks_visiting_{}_to_{}", self.from, self.to)
        }
    }
}

impl<F: Flavour> Default for Visits<F> {
    fn default() -> Self {
        Visits::new()
    }
}

impl<F: Flavour> Visits<F> {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Visits<F> {
        Visits { buckets: std::array::from_fn(|_| F::U64::default()), total: F::U64::default() }
    }

    /// Counts one walk that looked at `spbs` superpageblocks.
    #[inline]
    pub fn count(&self, spbs: u32) {
        self.buckets[bucket_of(spbs)].update(|n| n + 1);
        self.total.update(|n| n + u64::from(spbs));
    }

    /// Superpageblocks looked at in all walks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.get()
    }

    /// All buckets that are not empty, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = VisitBucket> + '_ {
        self.buckets.iter().enumerate().filter(|(_, n)| n.get() > 0).map(|(i, n)| {
            let (from, to) = bounds_of(i);
            VisitBucket { from, to, walks: n.get() }
        })
    }
}

#[inline]
fn bucket_of(count: u32) -> usize {
    if count <= EXACT {
        return count as usize;
    }
    // 17..=31 has its highest bit at 4 and follows the exact ones.
    EXACT as usize + 1 + (count.ilog2() as usize - 4)
}

fn bounds_of(bucket: usize) -> (u32, u32) {
    match bucket.checked_sub(EXACT as usize + 1) {
        None => (bucket as u32, bucket as u32),
        Some(0) => (EXACT + 1, 31),
        Some(n) => (1 << (n + 4), u32::MAX >> (27 - n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;

    #[test]
    fn every_count_is_inside_its_bucket() {
        for count in (0..5000).chain([u32::MAX / 2, u32::MAX / 2 + 1, u32::MAX]) {
            let (from, to) = bounds_of(bucket_of(count));
            assert!(from <= count && count <= to, "{count} in {from}..={to}");
        }
    }

    #[test]
    fn buckets_are_adjacent() {
        for bucket in 1..BUCKETS {
            assert_eq!(bounds_of(bucket).0, bounds_of(bucket - 1).1 + 1);
        }
        assert_eq!(bounds_of(BUCKETS - 1).1, u32::MAX);
    }

    #[test]
    fn walks_are_counted() {
        let visits = Visits::<Up>::new();
        [0, 3, 3, 100].into_iter().for_each(|n| visits.count(n));
        let walks: Vec<_> = visits.buckets().map(|b| (b.from, b.to, b.walks)).collect();
        assert_eq!(walks, [(0, 0, 1), (3, 3, 2), (64, 127, 1)]);
        let names: Vec<_> = visits.buckets().map(|b| b.name()).collect();
        assert_eq!(names[1..], ["walks_visiting_3", "walks_visiting_64_to_127"]);
        for bucket in visits.buckets() {
            let back = VisitBucket::from_counter(&bucket.name(), bucket.walks);
            assert_eq!(back, Some(bucket));
        }
        assert_eq!(VisitBucket::from_counter("pass_1", 3), None);
        assert_eq!(visits.total(), 106);
    }
}
