//! Regions by what a snapshot found and what was counted since: an estimate.
//!
//! Counters tell pages allocated by type, and pages freed without a type. So how many pages of a
//! region are free is known as well as the counters are complete; what the used ones hold is not:
//! * growth is of the types that were allocated, the non-movable part of it [`Content::Unknown`],
//!   since it may have been freed again;
//! * any non-movable allocation leaves one page unknown at least: the region may be tainted now;
//! * shrinkage is taken to be of movable pages first.
//!
//! Unknown pages open the bounds of every figure (`region::Bounds`), which is how this uncertainty
//! shows. The next snapshot ends it.

use std::collections::BTreeMap;

use fragscope_trace::event::{CountedPlace, RegionCount, TimeNs};
use fragscope_trace::page::{Content, Migratetype, REGION_ORDER};
use fragscope_trace::region::RegionCensus;

/// Contents by the order in which pages are taken to be freed.
const FREED_FIRST: [Content; 9] = [
    Content::Movable,
    Content::Anon,
    Content::File,
    Content::MovableOps,
    Content::Unknown,
    Content::Reclaimable,
    Content::Slab,
    Content::PageTable,
    Content::Kernel,
];
/// Contents by the order in which pages are taken to be allocated.
const TAKEN_FIRST: [Content; 3] = [Content::Pcp, Content::Free, Content::Isolated];

/// Pages counted in one aligned GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Change {
    movable: u64,
    other: u64,
    freed: u64,
}

/// What was counted since the last snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    changes: BTreeMap<u32, Change>,
    /// Counts before this time are in the snapshot already.
    from_ns: TimeNs,
}

impl Counted {
    /// Forgets everything: a snapshot has seen it, which was read until then.
    pub(super) fn begin(&mut self, from_ns: TimeNs) {
        *self = Counted { from_ns, ..Counted::default() };
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds what was counted in a span of time. Of a span that began before the snapshot, its later
    /// part is taken by its length.
    pub(super) fn add(&mut self, (since_ns, until_ns): (TimeNs, TimeNs), regions: &[RegionCount]) {
        let span = until_ns.saturating_sub(since_ns).max(1);
        let later = until_ns.saturating_sub(since_ns.max(self.from_ns)).min(span);
        let share = |pages: u64| (u128::from(pages) * u128::from(later) / u128::from(span)) as u64;
        for region in regions {
            let CountedPlace::Region(number) = region.place else { continue };
            let change = self.changes.entry(number).or_default();
            let movable = |t| t == Migratetype::Movable;
            let add = |to: &mut u64, pages| *to = to.saturating_add(share(pages));
            add(&mut change.movable, region.alloc_pages(movable));
            add(&mut change.other, region.alloc_pages(|t| !movable(t)));
            add(&mut change.freed, region.free_pages());
        }
    }

    /// Applies it to regions. A GiB that zones divide is counted as one: its largest part gets all.
    pub(super) fn apply(&self, regions: &mut [RegionCensus]) {
        for (number, change) in &self.changes {
            let of = |r: &&mut RegionCensus| r.start.0 >> REGION_ORDER == u64::from(*number);
            if let Some(region) = regions.iter_mut().filter(of).max_by_key(|r| r.span_pages) {
                change.apply(&mut region.pages);
            }
        }
    }
}

impl Change {
    fn apply(self, pages: &mut [u32; Content::COUNT]) {
        let allocated = self.movable.saturating_add(self.other);
        let grown = take(pages, &TAKEN_FIRST, allocated.saturating_sub(self.freed));
        let unknown = self.other.min(grown);
        put(pages, Content::Unknown, unknown);
        put(pages, Content::Movable, grown - unknown);
        let shrunk = take(pages, &FREED_FIRST, self.freed.saturating_sub(allocated));
        put(pages, Content::Free, shrunk);
        if self.other > 0 && unknown == 0 {
            let replaced = take(pages, &FREED_FIRST[..4], 1);
            put(pages, Content::Unknown, replaced);
        }
    }
}

/// Takes so many pages of `contents`, in their order, as far as there are any.
fn take(pages: &mut [u32; Content::COUNT], contents: &[Content], wanted: u64) -> u64 {
    let mut left = wanted;
    for content in contents {
        let have = &mut pages[content.index()];
        let part = left.min(u64::from(*have));
        *have -= part as u32;
        left -= part;
    }
    wanted - left
}

/// Adds pages that were taken from the same region, so that they fit.
fn put(pages: &mut [u32; Content::COUNT], content: Content, count: u64) {
    pages[content.index()] += count as u32;
}

#[cfg(test)]
mod tests {
    use fragscope_trace::event::{OrderCount, TypeOrderCount};
    use fragscope_trace::page::{Pfn, REGION_PAGES};
    use fragscope_trace::region::RegionState;
    use proptest::prelude::*;

    use super::*;

    fn census(start: u64, parts: &[(Content, u32)]) -> RegionCensus {
        let mut pages = [0; Content::COUNT];
        for (content, count) in parts {
            pages[content.index()] = *count;
        }
        let span_pages = pages.iter().map(|n| u64::from(*n)).sum();
        RegionCensus { zone: 0, start: Pfn(start), span_pages, obtainable: true, pages }
    }

    fn count(region: u32, movable: u64, other: u64, freed: u64) -> RegionCount {
        let of = |migratetype, count| TypeOrderCount { migratetype, order: 0, count };
        RegionCount {
            place: CountedPlace::Region(region),
            allocs: vec![of(Migratetype::Movable, movable), of(Migratetype::Unmovable, other)],
            frees: vec![OrderCount { order: 0, count: freed }],
        }
    }

    fn estimate(region: &RegionCensus, counts: RegionCount) -> RegionCensus {
        let mut counted = Counted::default();
        counted.add((0, 10), &[counts]);
        let mut regions = [region.clone()];
        counted.apply(&mut regions);
        let [region] = regions;
        region
    }

    fn clean() -> RegionCensus {
        let free = REGION_PAGES as u32 - 1000;
        census(0, &[(Content::Free, free), (Content::Anon, 1000)])
    }

    #[test]
    fn movable_growth_leaves_a_region_clean() {
        let after = estimate(&clean(), count(0, 500, 0, 200));
        assert_eq!(after.free_pages(), clean().free_pages() - 300);
        assert_eq!(after.state(), RegionState::Evacuable);
    }

    #[test]
    fn what_is_not_movable_makes_a_region_doubtful_even_where_it_shrinks() {
        let after = estimate(&clean(), count(0, 0, 5, 105));
        assert_eq!(after.free_pages(), clean().free_pages() + 100);
        assert_eq!(
            (after.state(), after.pages[Content::Unknown.index()]),
            (RegionState::Unknown, 1)
        );
    }

    #[test]
    fn counts_before_the_snapshot_are_in_it_already() {
        let mut counted = Counted::default();
        counted.begin(75);
        counted.add((0, 50), &[count(0, 1000, 0, 0)]);
        counted.add((50, 150), &[count(0, 1000, 0, 0)]);
        let mut regions = [clean()];
        counted.apply(&mut regions);
        assert_eq!(regions[0].free_pages(), clean().free_pages() - 750);
    }

    #[test]
    fn a_gib_that_zones_divide_is_counted_in_its_largest_part() {
        let small = census(1, &[(Content::Free, 4095)]);
        let large = census(4096, &[(Content::Free, REGION_PAGES as u32 - 4096)]);
        let mut counted = Counted::default();
        counted.add((0, 1), &[count(0, 10, 0, 0), count(7, 10, 0, 0)]);
        let mut regions = [small.clone(), large.clone()];
        counted.apply(&mut regions);
        assert_eq!(regions[0], small);
        assert_eq!(regions[1].free_pages(), large.free_pages() - 10);
    }

    proptest! {
        /// Whatever is counted, no page appears or vanishes, none that cannot change hands does,
        /// and free pages follow the counters as far as there are pages to follow with.
        #[test]
        fn pages_add_up(
            parts in prop::collection::vec(0u32..15_000, Content::COUNT),
            (movable, other, freed) in (0u64..400_000, 0u64..400_000, 0u64..400_000),
        ) {
            let parts: Vec<_> = Content::ALL.into_iter().zip(parts).collect();
            let before = census(0, &parts);
            let after = estimate(&before, count(0, movable, other, freed));
            prop_assert_eq!(after.pages.iter().map(|n| u64::from(*n)).sum::<u64>(), before.span_pages);
            for fixed in [Content::Absent, Content::Reserved, Content::Hugetlb, Content::Gigantic] {
                prop_assert_eq!(after.pages[fixed.index()], before.pages[fixed.index()]);
            }
            let used: u64 = FREED_FIRST.iter().map(|c| u64::from(before.pages[c.index()])).sum();
            let expected = (before.free_pages() + freed).saturating_sub(movable + other);
            prop_assert_eq!(after.free_pages(), expected.min(before.free_pages() + used));
        }
    }
}
