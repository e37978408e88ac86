//! What "1 GiB available" and "tainted" mean: states, totals and costs, defined once.
//!
//! A *region* is the part of a zone inside one aligned GiB of physical memory. A [`RegionCensus`]
//! counts its pages by [`Content`]; everything else follows from the counts.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::page::{Content, PAGEBLOCK_PAGES, Pfn, PfnRange, REGION_ORDER, REGION_PAGES};
use crate::snapshot::Snapshot;

/// State of one region. Each excludes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionState {
    /// All of it is holes, or memory not yet given to the allocator.
    Absent,
    /// It can never be one 1 GiB page: clipped by the zone's edge, with holes, or with pages
    /// reserved at boot.
    Partial,
    /// A gigantic page in use, or smaller hugetlb pages (which bar a 1 GiB page on Linux 6.18).
    Hugetlb,
    /// Holds non-movable content (see [`Content::taints`]).
    Tainted,
    /// Only unexplained pages stand in the way.
    Unknown,
    /// Free and movable pages only: obtainable by migrating the movable ones.
    Evacuable,
    /// Free pages only (buddy or per-CPU): obtainable now.
    Free,
}

impl RegionState {
    /// All states.
    pub const ALL: [RegionState; 7] = [
        RegionState::Absent,
        RegionState::Partial,
        RegionState::Hugetlb,
        RegionState::Tainted,
        RegionState::Unknown,
        RegionState::Evacuable,
        RegionState::Free,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RegionState::Absent => "absent",
            RegionState::Partial => "partial",
            RegionState::Hugetlb => "hugetlb",
            RegionState::Tainted => "tainted",
            RegionState::Unknown => "unknown",
            RegionState::Evacuable => "evacuable",
            RegionState::Free => "free",
        }
    }
}

/// Pages of one region by content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionCensus {
    /// Position of the zone in [`Machine::zones`].
    pub zone: u16,
    /// First frame of the region inside the zone.
    pub start: Pfn,
    /// Frames of the region inside the zone's span.
    pub span_pages: u64,
    /// Whether the kernel would build 1 GiB pages in this zone.
    pub obtainable: bool,
    /// Pages by [`Content::index`]; they add up to `span_pages`.
    pub pages: [u32; Content::COUNT],
}

impl RegionCensus {
    /// Pages that `wanted` holds for.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(Content) -> bool) -> u64 {
        let of = |c: &Content| u64::from(self.pages[c.index()]);
        Content::ALL.iter().filter(|c| wanted(**c)).map(of).sum()
    }

    /// Free pages, wherever they are cached.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        self.count(Content::is_free)
    }

    /// Pages that would have to be migrated.
    #[must_use]
    pub fn movable_pages(&self) -> u64 {
        self.count(Content::is_movable)
    }

    /// Pages that taint it.
    #[must_use]
    pub fn tainting_pages(&self) -> u64 {
        self.count(Content::taints)
    }

    /// Whether it is tainted by a single pageblock's worth of pages or less.
    #[must_use]
    pub fn is_nearly_clean(&self) -> bool {
        let pages = self.tainting_pages();
        pages > 0 && pages <= PAGEBLOCK_PAGES
    }

    /// Its state; see [`RegionState`] for the order of precedence.
    #[must_use]
    pub fn state(&self) -> RegionState {
        let has = |c: Content| self.pages[c.index()] > 0;
        let absent = u64::from(self.pages[Content::Absent.index()]);
        if absent == self.span_pages {
            RegionState::Absent
        } else if self.span_pages < REGION_PAGES || absent > 0 || has(Content::Reserved) {
            RegionState::Partial
        } else if has(Content::Hugetlb) || has(Content::Gigantic) {
            RegionState::Hugetlb
        } else if self.tainting_pages() > 0 {
            RegionState::Tainted
        } else if has(Content::Unknown) {
            RegionState::Unknown
        } else if self.movable_pages() > 0 {
            RegionState::Evacuable
        } else {
            RegionState::Free
        }
    }
}

/// A count that unknown pages leave open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// If unknown pages stand in the way.
    pub min: u64,
    /// If they do not.
    pub max: u64,
}

/// The figures of one machine at one time. Counts are of whole regions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionTotals {
    /// Regions in state [`RegionState::Free`] in zones where 1 GiB pages are built; with
    /// unknown pages counted as free for the maximum.
    pub free_1g: Bounds,
    /// The same, or in state [`RegionState::Evacuable`]: each by itself obtainable.
    pub evacuable_1g: Bounds,
    /// The largest set of such regions whose movable pages fit into free memory outside the set
    /// and above the high watermarks: what one would really get.
    pub obtainable_1g: Bounds,
    /// Regions in state [`RegionState::Tainted`]; unknown ones count for the maximum.
    pub tainted_1g: Bounds,
    /// Tainted regions that hold a single pageblock's worth of tainting pages or less (at most
    /// 512): spoiled, perhaps, by one block.
    pub nearly_clean_1g: u64,
    /// Regions in state [`RegionState::Hugetlb`].
    pub hugetlb_1g: u64,
    /// Regions in state [`RegionState::Partial`].
    pub partial_1g: u64,
    /// Regions in state [`RegionState::Unknown`].
    pub unknown_1g: u64,
    /// Whole regions of any state but absent and partial.
    pub whole_1g: u64,
    /// Free pages of the machine.
    pub free_pages: u64,
    /// Non-movable pages of the machine (see [`Content::taints`]).
    pub unmovable_pages: u64,
    /// Element k is the number of pages to migrate to obtain k+1 regions, cheapest first, as far
    /// as `obtainable_1g.min` goes.
    pub cost_pages: Vec<u64>,
}

impl RegionTotals {
    /// Derives the totals from all regions of `machine`.
    ///
    /// With k regions chosen, their movable pages must fit into the free memory outside them
    /// without going below the sum W of the zones' high watermarks: sum(movable) <= F -
    /// sum(free) - W. A region that is only free and movable has free + movable = 262,144, so
    /// the condition is k <= (F - W) / 262,144 whatever the choice, and the cheapest k are taken.
    /// A region without movable pages needs no room outside.
    #[must_use]
    pub fn new(machine: &Machine, regions: &[RegionCensus]) -> RegionTotals {
        let reserve: u64 =
            machine.zones.iter().map(|z| z.watermarks.high + z.watermark_boost).sum();
        RegionTotals::with_reserve(reserve, regions)
    }

    /// The same with an explicit number of pages that must stay free outside the chosen regions.
    #[must_use]
    pub fn with_reserve(reserve_pages: u64, regions: &[RegionCensus]) -> RegionTotals {
        let mut totals = RegionTotals::default();
        let mut sure: Vec<u64> = Vec::new();
        let mut possible: Vec<u64> = Vec::new();
        for region in regions {
            totals.free_pages += region.free_pages();
            totals.unmovable_pages += region.tainting_pages();
            let movable = region.movable_pages();
            let state = region.state();
            match state {
                RegionState::Absent => continue,
                RegionState::Partial => {
                    totals.partial_1g += 1;
                    continue;
                }
                RegionState::Hugetlb => totals.hugetlb_1g += 1,
                RegionState::Tainted => {
                    totals.tainted_1g.min += 1;
                    totals.tainted_1g.max += 1;
                    totals.nearly_clean_1g += u64::from(region.is_nearly_clean());
                }
                RegionState::Unknown => {
                    totals.unknown_1g += 1;
                    totals.tainted_1g.max += 1;
                }
                RegionState::Evacuable | RegionState::Free => {}
            }
            totals.whole_1g += 1;
            if !region.obtainable {
                continue;
            }
            match state {
                RegionState::Unknown => {
                    possible.push(movable);
                    totals.free_1g.max += u64::from(movable == 0);
                }
                RegionState::Evacuable | RegionState::Free => {
                    sure.push(movable);
                    possible.push(movable);
                    let free = u64::from(movable == 0);
                    totals.free_1g.min += free;
                    totals.free_1g.max += free;
                }
                _ => {}
            }
        }
        totals.evacuable_1g = Bounds { min: sure.len() as u64, max: possible.len() as u64 };
        let room = totals.free_pages.saturating_sub(reserve_pages) >> REGION_ORDER;
        totals.obtainable_1g.min = totals.evacuable_1g.min.min(room.max(totals.free_1g.min));
        totals.obtainable_1g.max = totals.evacuable_1g.max.min(room.max(totals.free_1g.max));
        sure.sort_unstable();
        sure.truncate(totals.obtainable_1g.min as usize);
        totals.cost_pages = sure
            .into_iter()
            .scan(0, |sum, pages| {
                *sum += pages;
                Some(*sum)
            })
            .collect();
        totals
    }

    /// Regions obtainable if at most `pages` may be migrated.
    #[must_use]
    pub fn obtainable_for(&self, pages: u64) -> u64 {
        self.cost_pages.partition_point(|cost| *cost <= pages) as u64
    }
}

/// ceil(non-movable pages / 262,144): no policy can taint fewer regions.
#[must_use]
pub fn floor_1g(peak_unmovable_pages: u64) -> u64 {
    peak_unmovable_pages.div_ceil(REGION_PAGES)
}

/// The regions of `machine`, one per zone and aligned GiB that the zone's span touches, with all
/// pages absent. In order of zone, then address.
#[must_use]
pub fn regions_of(machine: &Machine) -> Vec<RegionCensus> {
    let mut regions = Vec::new();
    for (index, zone) in machine.zones.iter().enumerate() {
        let span = zone.span();
        let mut start = span.start;
        while start < span.end {
            let end = Pfn(start.align_down(REGION_ORDER).0 + REGION_PAGES).min(span.end);
            let span_pages = end.0 - start.0;
            let mut pages = [0; Content::COUNT];
            pages[Content::Absent.index()] = span_pages as u32;
            regions.push(RegionCensus {
                zone: index as u16,
                start,
                span_pages,
                obtainable: zone.kind.gigantic_obtainable(),
                pages,
            });
            start = end;
        }
    }
    regions
}

/// Counts the pages of a snapshot by region.
#[must_use]
pub fn census(snapshot: &Snapshot) -> Vec<RegionCensus> {
    let mut regions = regions_of(&snapshot.machine);
    let mut order: Vec<usize> = (0..regions.len()).collect();
    order.sort_unstable_by_key(|i| regions[*i].start);
    for run in &snapshot.runs {
        let from =
            order.partition_point(|i| regions[*i].start.0 + regions[*i].span_pages <= run.start.0);
        for i in &order[from..] {
            let region = &mut regions[*i];
            let Some(part) = run.range().intersect(PfnRange::new(region.start, region.span_pages))
            else {
                break;
            };
            let pages = part.pages() as u32;
            let absent = &mut region.pages[Content::Absent.index()];
            *absent = absent.saturating_sub(pages);
            region.pages[run.content.index()] += pages;
        }
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(parts: &[(Content, u32)]) -> RegionCensus {
        let mut pages = [0; Content::COUNT];
        let mut left = REGION_PAGES as u32;
        for (content, n) in parts {
            pages[content.index()] += n;
            left -= n;
        }
        pages[Content::Free.index()] += left;
        RegionCensus { zone: 0, start: Pfn(0), span_pages: REGION_PAGES, obtainable: true, pages }
    }

    #[test]
    fn one_page_decides_the_state() {
        let state = |c| region(&[(c, 1)]).state();
        assert_eq!(region(&[]).state(), RegionState::Free);
        assert_eq!(state(Content::Pcp), RegionState::Free);
        assert_eq!(state(Content::Anon), RegionState::Evacuable);
        assert_eq!(state(Content::Slab), RegionState::Tainted);
        assert_eq!(state(Content::Pinned), RegionState::Tainted);
        assert_eq!(state(Content::Unknown), RegionState::Unknown);
        assert_eq!(state(Content::Hugetlb), RegionState::Hugetlb);
        assert_eq!(state(Content::Reserved), RegionState::Partial);
        assert_eq!(state(Content::Absent), RegionState::Partial);
    }

    #[test]
    fn a_known_taint_outweighs_unknown_pages() {
        let both = region(&[(Content::Unknown, 5), (Content::Kernel, 1)]);
        assert_eq!(both.state(), RegionState::Tainted);
    }

    /// Three regions half movable, one free, reserve 0: 2.5 GiB are free, so two regions fit.
    #[test]
    fn obtainable_is_limited_by_room_outside() {
        let half = region(&[(Content::Anon, REGION_PAGES as u32 / 2)]);
        let regions = [half.clone(), half.clone(), half, region(&[])];
        let totals = RegionTotals::with_reserve(0, &regions);
        assert_eq!(totals.evacuable_1g, Bounds { min: 4, max: 4 });
        assert_eq!(totals.obtainable_1g, Bounds { min: 2, max: 2 });
        assert_eq!(totals.cost_pages, [0, REGION_PAGES / 2]);
        assert_eq!((totals.obtainable_for(0), totals.obtainable_for(u64::MAX)), (1, 2));
    }

    #[test]
    fn unknown_pages_open_the_bounds() {
        let totals =
            RegionTotals::with_reserve(0, &[region(&[(Content::Unknown, 1)]), region(&[])]);
        assert_eq!(totals.free_1g, Bounds { min: 1, max: 2 });
        assert_eq!(totals.tainted_1g, Bounds { min: 0, max: 1 });
    }

    /// The greedy count against an exhaustive search over all subsets.
    #[test]
    fn obtainable_equals_the_best_subset() {
        let movable = [0, 1000, 70_000, 131_072, 200_000, 262_144];
        let regions: Vec<_> = movable.iter().map(|m| region(&[(Content::Anon, *m)])).collect();
        let free: u64 = regions.iter().map(RegionCensus::free_pages).sum();
        for reserve in [0, 1, 100_000, 300_000, 700_000] {
            let best = (0..1u32 << regions.len())
                .filter(|set| {
                    let chosen = || regions.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1);
                    let inside: u64 = chosen().map(|(_, r)| r.free_pages()).sum();
                    let moved: u64 = chosen().map(|(_, r)| r.movable_pages()).sum();
                    moved == 0 || moved + reserve <= free - inside
                })
                .map(u32::count_ones)
                .max()
                .unwrap_or(0);
            let totals = RegionTotals::with_reserve(reserve, &regions);
            assert_eq!(totals.obtainable_1g.min, u64::from(best), "reserve {reserve}");
        }
    }

    #[test]
    fn the_floor_rounds_up() {
        assert_eq!((floor_1g(0), floor_1g(1), floor_1g(REGION_PAGES + 1)), (0, 1, 2));
    }
}
