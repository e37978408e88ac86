//! What an observer sees of a replay: plain data, the same for screens, JSON and files.
//!
//! The replay fills these; nothing here computes. Definitions of the 1 GiB figures are in
//! [`fragscope_trace::region`].

use std::collections::BTreeMap;

use fragscope_trace::event::{LossCause, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, Migratetype, Pfn};
use fragscope_trace::region::{RegionCensus, RegionTotals};
use serde::{Deserialize, Serialize};

/// Whose placement a track shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackKind {
    /// The running kernel's own.
    Kernel,
    /// The stock allocator's, by model.
    Stock,
    /// The superpageblock allocator's.
    Spb,
}

impl TrackKind {
    /// All tracks in the order they are shown.
    pub const ALL: [TrackKind; 3] = [TrackKind::Kernel, TrackKind::Stock, TrackKind::Spb];

    /// Short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TrackKind::Kernel => "kernel",
            TrackKind::Stock => "stock",
            TrackKind::Spb => "spb",
        }
    }
}

/// What a policy track began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartState {
    /// Each page where the kernel had it: answers "from now on".
    AsFound,
    /// Placed by the policy through a seeded fill-in history: answers "had it ruled since boot".
    FromBoot,
    /// Only the survivors, placed on an empty machine: a bound, not a forecast.
    FromBootIdeal,
}

/// One track at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackSample {
    /// Whose.
    pub kind: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// Pages by content for every region, in the order of [`fragscope_trace::region::regions_of`].
    pub regions: Vec<RegionCensus>,
    /// The 1 GiB figures.
    pub totals: RegionTotals,
    /// Regions that the series would call tainted: a pageblock's has-bits say so.
    pub has_bit_tainted_1g: Option<u64>,
    /// Regions with a pageblock of unmovable, reclaimable or highatomic type.
    pub block_type_tainted_1g: Option<u64>,
    /// Free blocks by order, all types.
    pub free_blocks: Vec<u64>,
    /// Named counters of the policy, cumulative (`pass_1`, `steals`, `refused_no_memory`, ..).
    pub counters: BTreeMap<String, u64>,
}

/// How many events of each sort have been seen, cumulative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTotals {
    /// Allocations.
    pub allocs: u64,
    /// Frees.
    pub frees: u64,
    /// Requests that the kernel refused.
    pub failed_allocs: u64,
    /// Side events.
    pub side_events: u64,
    /// Tagged as the recorder's own.
    pub own_events: u64,
    /// Tagged late.
    pub late_events: u64,
    /// Frees of pages that were thought free.
    pub unmatched_frees: u64,
    /// Allocations of pages that were thought allocated.
    pub unmatched_allocs: u64,
    /// Lost before the trace, by cause.
    pub lost: BTreeMap<LossCause, u64>,
    /// Pages corrected by resync, LRU and contiguous-allocation records.
    pub repaired_pages: u64,
}

impl EventTotals {
    /// Lost events of all causes.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// How far a track is from the kernel's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Free pages by the track.
    pub track_free_pages: u64,
    /// Free and per-CPU pages by `/proc/zoneinfo` at the same time.
    pub kernel_free_pages: u64,
    /// |track - kernel| / managed pages.
    pub ratio: f64,
}

impl Divergence {
    /// The distance of two counts on a machine of `managed_pages`.
    #[must_use]
    pub fn new(track_free_pages: u64, kernel_free_pages: u64, managed_pages: u64) -> Divergence {
        let distance = track_free_pages.abs_diff(kernel_free_pages);
        let ratio = distance as f64 / managed_pages.max(1) as f64;
        Divergence { track_free_pages, kernel_free_pages, ratio }
    }
}

/// What the agent itself takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentCost {
    /// CPU time in the last interval over its length.
    pub cpu_share: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Largest fill of any ring in the interval, 0..1.
    pub ring_peak: f64,
}

/// Everything at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `CLOCK_MONOTONIC` of the traced host.
    pub time_ns: TimeNs,
    /// Tracks in the order of [`TrackKind::ALL`], then by start state.
    pub tracks: Vec<TrackSample>,
    /// Cumulative event counts.
    pub events: EventTotals,
    /// Kernel track against the kernel's counters at the last check.
    pub kernel_divergence: Option<Divergence>,
    /// Stock track (as-found) against the kernel's counters at the last check.
    pub stock_divergence: Option<Divergence>,
    /// Largest number of non-movable pages of the kernel track so far.
    pub peak_unmovable_pages: u64,
    /// `floor_1g` of that.
    pub floor_1g: u64,
    /// The agent's cost, if the trace tells.
    pub cost: Option<AgentCost>,
}

/// One pageblock of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCensus {
    /// Its type, where that is known.
    pub migratetype: Option<Migratetype>,
    /// What most of its pages hold that are not free; [`Content::Free`] if all are.
    pub content: Content,
    /// Free pages, wherever cached.
    pub free_pages: u16,
    /// Pages that would have to be migrated.
    pub movable_pages: u16,
    /// Pages that stand in the way of a 1 GiB page.
    pub tainting_pages: u16,
    /// Its part of the free lists, all of its own type.
    pub free_blocks: FreeBlocks,
}

/// Free blocks of one pageblock by order, as they stand on free lists: per-CPU lists excepted, and
/// a block larger than the pageblock counted as pageblocks. Packed, because there is one for every
/// pageblock of every track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FreeBlocks(u64);

impl FreeBlocks {
    /// Largest order that is told apart; larger blocks are several of these.
    pub const MAX_ORDER: u8 = 9;

    /// Bits for the count of an order. No two buddies are both free below the largest order of a
    /// pageblock (10 at most), so that half of the places is enough.
    const fn bits(order: u8) -> u32 {
        if order < Self::MAX_ORDER { 10 - order as u32 } else { 2 }
    }

    /// First bit of an order; the largest orders come first, so that few blocks are a small number.
    const fn shift(order: u8) -> u32 {
        let (mut at, mut shift) = (Self::MAX_ORDER, 0);
        while at > order {
            shift += Self::bits(at);
            at -= 1;
        }
        shift
    }

    const fn mask(order: u8) -> u64 {
        (1 << Self::bits(order)) - 1
    }

    /// Counts one more block of any order.
    pub fn add(&mut self, order: u8) {
        self.add_many(order, 1);
    }

    /// Counts `count` more blocks of any order.
    pub fn add_many(&mut self, order: u8, count: u64) {
        let told = order.min(Self::MAX_ORDER);
        let blocks = self.of_order(told) + (count << (order - told));
        let kept = blocks.min(Self::mask(told));
        self.0 = self.0 & !(Self::mask(told) << Self::shift(told)) | kept << Self::shift(told);
    }

    /// Blocks of an order up to [`FreeBlocks::MAX_ORDER`].
    #[must_use]
    pub fn of_order(self, order: u8) -> u64 {
        self.0 >> Self::shift(order) & Self::mask(order)
    }

    /// Pages of all blocks.
    #[must_use]
    pub fn pages(self) -> u64 {
        (0..=Self::MAX_ORDER).map(|order| self.of_order(order) << order).sum()
    }

    /// As one number, small where there are few small blocks.
    #[must_use]
    pub fn bits_of_all(self) -> u64 {
        self.0
    }

    /// The inverse of [`FreeBlocks::bits_of_all`].
    #[must_use]
    pub fn from_bits(bits: u64) -> FreeBlocks {
        FreeBlocks(bits)
    }
}

const _: () = assert!(FreeBlocks::shift(0) + FreeBlocks::bits(0) <= u64::BITS);

impl BlockCensus {
    /// The census of a pageblock with these pages, as runs of equal ones, and free blocks.
    #[must_use]
    pub fn new(
        migratetype: Option<Migratetype>,
        pages: impl IntoIterator<Item = (Content, u16)>,
        free_blocks: FreeBlocks,
    ) -> BlockCensus {
        let mut counts = [0u16; Content::COUNT];
        // Most pages are like the one before: those are counted without touching memory.
        let (mut last, mut alike) = (Content::Free, 0);
        for (content, pages) in pages {
            if content != last {
                counts[last.index()] += alike;
                (last, alike) = (content, 0);
            }
            alike += pages;
        }
        counts[last.index()] += alike;
        let sum = |wanted: fn(Content) -> bool| {
            Content::ALL.iter().filter(|c| wanted(**c)).map(|c| counts[c.index()]).sum()
        };
        let held = Content::ALL.into_iter().filter(|c| !c.is_free() && counts[c.index()] > 0);
        BlockCensus {
            migratetype,
            content: held.max_by_key(|c| counts[c.index()]).unwrap_or(Content::Free),
            free_pages: sum(Content::is_free),
            movable_pages: sum(Content::is_movable),
            tainting_pages: sum(Content::taints),
            free_blocks,
        }
    }
}

/// Pageblocks of a track that have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockChanges {
    /// Whose.
    pub kind: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// By pfn / pages of a pageblock, ascending.
    pub blocks: Vec<(u32, BlockCensus)>,
}

/// Where a policy put an allocation that turned a region of the kernel tainted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Whose policy.
    pub track: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// First pfn of its region; `None` if it was not placed.
    pub region_start: Option<Pfn>,
    /// Other pages of that region that stand in the way of a 1 GiB page.
    pub others_pages: u64,
}

/// The page that turned a region of the kernel tainted does so no longer: it was freed, or it
/// turned out to be movable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Time of the taint event.
    pub tainted_ns: TimeNs,
    /// Its page.
    pub pfn: Pfn,
    /// When, to within 66 us.
    pub time_ns: TimeNs,
}

/// A region of a track turned tainted (or clean again).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaintEvent {
    /// When.
    pub time_ns: TimeNs,
    /// In which track.
    pub track: TrackKind,
    /// What that track began with.
    pub start: StartState,
    /// First pfn of the region.
    pub region_start: Pfn,
    /// Tainted (`true`) or clean again.
    pub tainted: bool,
    /// The page that did it, as the kernel knows it.
    pub pfn: Pfn,
    /// Order of its allocation.
    pub order: u8,
    /// Flags of its allocation.
    pub gfp: Gfp,
    /// Type of its allocation.
    pub migratetype: Migratetype,
    /// Process that allocated it, if recorded.
    pub comm: Option<String>,
    /// Its process id, 0 if not recorded.
    pub pid: u32,
    /// Id of its cgroup (the inode of its directory), 0 if not recorded.
    pub cgroup: u64,
    /// Path of that cgroup, if the trace tells it.
    pub cgroup_path: Option<String>,
    /// Kernel stack, innermost first, if recorded.
    pub stack: Vec<String>,
    /// Where the policy tracks put the same allocation (of the kernel track only).
    pub placements: Vec<Placement>,
}

impl TaintEvent {
    /// What a change of a region alone tells, done by the allocation at `pfn` of this order and
    /// these flags: who asked for it is not known.
    #[must_use]
    pub fn new(
        time_ns: TimeNs,
        (track, start): (TrackKind, StartState),
        (region_start, tainted): (Pfn, bool),
        pfn: Pfn,
        (order, gfp): (u8, Gfp),
    ) -> TaintEvent {
        TaintEvent {
            time_ns,
            track,
            start,
            region_start,
            tainted,
            pfn,
            order,
            gfp,
            migratetype: gfp.migratetype(),
            comm: None,
            pid: 0,
            cgroup: 0,
            cgroup_path: None,
            stack: Vec::new(),
            placements: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any set of blocks that can lie in a pageblock of 2^10 pages, in any order.
        #[test]
        fn free_blocks_are_counted_by_order(
            counts in prop::collection::vec(0u64..=512, 10),
            seed in any::<u64>(),
        ) {
            let most = |order: usize| if order == 9 { 2 } else { 512 >> order };
            let counts: Vec<u64> = counts.iter().enumerate().map(|(o, n)| n % (most(o) + 1)).collect();
            let mut blocks: Vec<u8> =
                counts.iter().zip(0..).flat_map(|(n, o)| vec![o; *n as usize]).collect();
            blocks.sort_by_key(|o| seed.rotate_left(u32::from(*o) * 7) & 0xff);
            let mut free = FreeBlocks::default();
            blocks.iter().for_each(|order| free.add(*order));
            let found: Vec<u64> = (0..=9).map(|order| free.of_order(order)).collect();
            prop_assert_eq!(&found, &counts);
            prop_assert_eq!(free.pages(), counts.iter().zip(0..).map(|(n, o)| n << o).sum::<u64>());
            prop_assert_eq!(FreeBlocks::from_bits(free.bits_of_all()), free);
        }
    }

    #[test]
    fn a_block_beyond_the_pageblock_is_several() {
        let mut free = FreeBlocks::default();
        free.add(10);
        assert_eq!((free.of_order(9), free.pages()), (2, 1024));
    }
}
