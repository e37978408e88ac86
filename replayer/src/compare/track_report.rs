//! The figures of one track at one time, named as in every JSON output of the project.

use std::collections::BTreeMap;

use fragscope_trace::region::Bounds;
use serde::Serialize;

use super::lock_report::LockReport;
use crate::engine::tally::OrderTally;
use crate::engine::worker::PolicySample;
use crate::mm::allocator::MemoryFiles;
use crate::mm::free_path::Protocol;
use crate::mm::spb::visits::VisitBucket;
use crate::observe::{EventTotals, StartState, TrackKind, TrackSample};

/// What became of 1 GiB pages that were asked for at the end, after all other figures were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Asked1g {
    /// Asked for, one after the other.
    pub asked: u32,
    /// Obtained.
    pub obtained: u32,
    /// Pages moved for it.
    pub moved_pages: u64,
    /// Pages reclaimed for it.
    pub reclaimed_pages: u64,
    /// Single pages for which no target was found meanwhile.
    pub order_0_failures: u64,
}

impl Asked1g {
    /// From samples before and after.
    #[must_use]
    pub fn new(asked: u32, obtained: u32, before: &PolicySample, after: &PolicySample) -> Asked1g {
        let count = |sample: &PolicySample, name: &str| {
            sample.track.counters.get(name).copied().unwrap_or(0)
        };
        let grown = |name: &str| count(after, name) - count(before, name);
        Asked1g {
            asked,
            obtained,
            moved_pages: grown("pages_moved"),
            reclaimed_pages: RECLAIMED.into_iter().map(grown).sum(),
            order_0_failures: grown("migrate_failed"),
        }
    }
}

/// Counters of pages that a policy reclaimed.
const RECLAIMED: [&str; 3] = ["reclaimed_file", "reclaimed_movable", "reclaimed_anon"];

/// One track. Counts ending in `_1g` are of 1 GiB regions; see [`fragscope_trace::region`] for
/// their definitions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackReport {
    /// Whose placement.
    pub policy: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// Seed of its history; `None` where nothing is drawn.
    pub seed: Option<u64>,
    /// Free now.
    pub free_1g: Bounds,
    /// Free, or to be freed by moving pages, each by itself.
    pub evacuable_1g: Bounds,
    /// To be had together.
    pub obtainable_1g: Bounds,
    /// With non-movable pages.
    pub tainted_1g: Bounds,
    /// Tainted by at most 512 pages.
    pub nearly_clean_1g: u64,
    /// With unexplained pages only in the way.
    pub unknown_1g: u64,
    /// With hugetlb pages.
    pub hugetlb_1g: u64,
    /// Clipped, with holes, or with pages reserved at boot: never a 1 GiB page.
    pub partial_1g: u64,
    /// All others.
    pub whole_1g: u64,
    /// No policy can taint fewer: the kernel track's peak of non-movable pages, in whole regions.
    pub floor_1g: u64,
    /// Regions whose pageblocks' has-bits say tainted (superpageblock allocator only).
    pub has_bit_tainted_1g: Option<u64>,
    /// Regions with a pageblock of non-movable type, if pageblock types are known.
    pub block_type_tainted_1g: Option<u64>,
    /// Free pages, wherever cached.
    pub free_pages: u64,
    /// Non-movable pages.
    pub unmovable_pages: u64,
    /// Pages to move for the first region, the first two, and so on.
    pub cost_pages: Vec<u64>,
    /// Allocations, frees and failed requests that the track was given.
    pub events_replayed: u64,
    /// Frees of pages that the track thought free or had not placed.
    pub unmatched_frees: u64,
    /// Requests that the policy refused and the kernel served.
    pub refused: u64,
    /// Pages that were asked for and not placed.
    pub dropped_pages: u64,
    /// Pages that the policy migrated.
    pub moved_pages: u64,
    /// Pages that the policy reclaimed beyond what the kernel did.
    pub reclaimed_pages: u64,
    /// Events that never reached the trace.
    pub lost_events: u64,
    /// Free blocks by order.
    pub free_blocks: Vec<u64>,
    /// Requests by order (policies only).
    pub orders: BTreeMap<u8, OrderTally>,
    /// What its locks cost (policies only).
    pub locks: Option<LockReport>,
    /// The track's own counters.
    pub counters: BTreeMap<String, u64>,
    /// Superpageblocks looked at by each search for a block (superpageblock allocator only).
    pub superpageblock_visits: Vec<VisitBucket>,
    /// 1 GiB pages asked for at the end, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_1g: Option<Asked1g>,
    /// Free memory at the end, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_files: Option<MemoryFiles>,
}

/// The histogram in a track's counters, ascending.
fn visits(counters: &BTreeMap<String, u64>) -> Vec<VisitBucket> {
    let bucket = |(name, walks): (&String, &u64)| VisitBucket::from_counter(name, *walks);
    let mut buckets: Vec<_> = counters.iter().filter_map(bucket).filter(|b| b.walks > 0).collect();
    buckets.sort_by_key(|bucket| bucket.from);
    buckets
}

impl TrackReport {
    /// The report of a sampled track. `orders` and the seed are known to its owner only.
    #[must_use]
    pub fn new(track: &TrackSample, events: &EventTotals, floor_1g: u64) -> TrackReport {
        let totals = &track.totals;
        let count = |name: &str| track.counters.get(name).copied().unwrap_or(0);
        let is_kernel = track.kind == TrackKind::Kernel;
        let seen = events.allocs + events.frees + events.failed_allocs;
        TrackReport {
            policy: track.kind,
            start: track.start,
            seed: None,
            free_1g: totals.free_1g,
            evacuable_1g: totals.evacuable_1g,
            obtainable_1g: totals.obtainable_1g,
            tainted_1g: totals.tainted_1g,
            nearly_clean_1g: totals.nearly_clean_1g,
            unknown_1g: totals.unknown_1g,
            hugetlb_1g: totals.hugetlb_1g,
            partial_1g: totals.partial_1g,
            whole_1g: totals.whole_1g,
            floor_1g,
            has_bit_tainted_1g: track.has_bit_tainted_1g,
            block_type_tainted_1g: track.block_type_tainted_1g,
            free_pages: totals.free_pages,
            unmovable_pages: totals.unmovable_pages,
            cost_pages: totals.cost_pages.clone(),
            events_replayed: if is_kernel { seen } else { count("replay_requests") },
            unmatched_frees: if is_kernel {
                events.unmatched_frees
            } else {
                count("replay_unplaced_free_pages")
            },
            refused: count("replay_refused"),
            dropped_pages: count("replay_dropped_pages"),
            moved_pages: count(if is_kernel { "pgmigrate_success" } else { "pages_moved" }),
            reclaimed_pages: RECLAIMED.into_iter().map(count).sum(),
            lost_events: events.lost_events(),
            free_blocks: track.free_blocks.clone(),
            orders: BTreeMap::new(),
            locks: None,
            superpageblock_visits: visits(&track.counters),
            counters: track.counters.clone(),
            asked_1g: None,
            memory_files: None,
        }
    }

    /// The report of a policy track.
    #[must_use]
    pub fn of_policy(sample: &PolicySample, events: &EventTotals, floor_1g: u64) -> TrackReport {
        let is_drawn = sample.track.start != StartState::AsFound;
        let counters = &sample.track.counters;
        let requests = counters.get("replay_requests").copied().unwrap_or(0);
        let free_path = sample.free_path.map(Protocol::name);
        TrackReport {
            locks: Some(LockReport::new(free_path, sample.stranded, counters, requests)),
            seed: is_drawn.then_some(sample.seed),
            orders: sample.tally.orders.iter().map(|(order, tally)| (order, *tally)).collect(),
            ..TrackReport::new(&sample.track, events, floor_1g)
        }
    }
}
