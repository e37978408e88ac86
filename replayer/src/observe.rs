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
}

impl BlockCensus {
    /// The census of a pageblock with these pages.
    #[must_use]
    pub fn new(
        migratetype: Option<Migratetype>,
        pages: impl IntoIterator<Item = Content>,
    ) -> BlockCensus {
        let mut counts = [0u16; Content::COUNT];
        pages.into_iter().for_each(|content| counts[content.index()] += 1);
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
            stack: Vec::new(),
            placements: Vec::new(),
        }
    }
}
