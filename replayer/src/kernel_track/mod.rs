//! The kernel track: the state of every page frame of the traced kernel, by its own events.
//!
//! Placement replay: each allocation takes the very pages that the kernel took, so the track is
//! reality as far as it was traced. It is also the one place where events are interpreted: what
//! it makes of them reaches the policy tracks as operations ([`crate::engine::op`]).
//!
//! * [`pages`]: state by page; [`free_blocks`]: what free pages would merge to;
//! * [`page_events`], [`side_events`]: what each event changes;
//! * [`counted`]: regions by counters, where events were counted and not recorded;
//! * [`correct`]: corrections that are not events; [`fidelity`]: comparison with a snapshot;
//! * [`block_types`]: pageblock types as far as they are known;
//! * [`anomalies`]: what did not fit.

pub mod anomalies;
pub mod block_types;
mod correct;
mod counted;
pub mod fidelity;
pub mod free_blocks;
mod page_events;
pub mod pages;
mod side_events;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, Pfn, PfnRange};
use fragscope_trace::region::{RegionCensus, RegionTotals};
use fragscope_trace::snapshot::Snapshot;

use crate::engine::began::Began;
use crate::engine::read_times::ReadTimes;
use crate::mm::allocator::{BuildError, TaintChange};
use crate::mm::fallbacks::Fallbacks;
use crate::mm::frames::Frame;
use crate::observe::{BlockCensus, BlockChanges, EventTotals, StartState, TrackKind, TrackSample};
use anomalies::Anomalies;
use block_types::BlockTypes;
pub use correct::aligned_blocks;
use counted::Counted;
pub use page_events::AHEAD;
use pages::{PageState, PageTable};

/// A free that no traced allocation explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmatchedFree {
    /// First page.
    pub pfn: Frame,
    /// log2 of its pages.
    pub order: u8,
    /// When it was freed.
    pub time_ns: TimeNs,
    /// The earliest time after the page's event before, or the start.
    pub after_ns: TimeNs,
}

/// The traced kernel's memory.
#[derive(Debug)]
pub struct KernelTrack {
    machine: Machine,
    pages: PageTable,
    types: BlockTypes,
    anomalies: Anomalies,
    events: EventTotals,
    /// How the kernel's own fallbacks went (`kmem:mm_page_alloc_extfrag`) and the like.
    counters: BTreeMap<&'static str, u64>,
    /// The same by region.
    fallbacks: Vec<Fallbacks>,
    /// Whether the recorder's own requests are part of the workload.
    serves_own: bool,
    /// The reading of the opening snapshot, until no event can be contained in it.
    opening: Option<ReadTimes>,
    opened_ns: TimeNs,
    /// Whether the trace says which pages are on per-CPU lists.
    pcp_split: bool,
    /// Spans of the zones in which compactions run now.
    compactions: Vec<PfnRange>,
    /// Ranges that contiguous allocations took.
    contiguous: Vec<PfnRange>,
    peak_unmovable_pages: u64,
    began: Began,
    /// Events since the last snapshot that were counted and not recorded.
    counted: Counted,
    /// Untraced allocations by their frees, if somebody wants them.
    unmatched: Option<Vec<UnmatchedFree>>,
}

impl KernelTrack {
    /// The machine before anything is known of it: all frames absent. Times count from
    /// `clock_base_ns`.
    ///
    /// # Errors
    /// If the machine cannot be modelled.
    pub fn new(machine: &Machine, clock_base_ns: TimeNs) -> Result<KernelTrack, BuildError> {
        let pages = PageTable::new(machine, clock_base_ns)?;
        Ok(KernelTrack {
            types: BlockTypes::new(pages.geometry().pageblocks()),
            fallbacks: vec![Fallbacks::default(); pages.geometry().regions.len()],
            serves_own: false,
            machine: machine.clone(),
            pages,
            anomalies: Anomalies::default(),
            events: EventTotals::default(),
            counters: BTreeMap::new(),
            opening: None,
            opened_ns: clock_base_ns,
            pcp_split: false,
            compactions: Vec::new(),
            contiguous: Vec::new(),
            peak_unmovable_pages: 0,
            began: Began::default(),
            counted: Counted::default(),
            unmatched: None,
        })
    }

    /// Makes the recorder's own requests part of the workload: policies serve them as any others,
    /// and no page counts as the recorder's.
    pub fn serve_own(&mut self) {
        self.serves_own = true;
    }

    /// Whether it is.
    #[must_use]
    pub fn serves_own(&self) -> bool {
        self.serves_own
    }

    /// Keeps frees that no allocation explains, for [`KernelTrack::take_unmatched`].
    pub fn keep_unmatched(&mut self) {
        self.unmatched.get_or_insert_default();
    }

    /// Whether such frees are kept.
    #[must_use]
    pub fn keeps_unmatched(&self) -> bool {
        self.unmatched.is_some()
    }

    /// The frees kept so far.
    pub fn take_unmatched(&mut self) -> Vec<UnmatchedFree> {
        self.unmatched.take().unwrap_or_default()
    }

    /// Begins with the state that a snapshot found.
    pub fn open(&mut self, snapshot: &Snapshot) {
        self.reload(snapshot);
        self.opening = Some(ReadTimes::new(snapshot));
        self.opened_ns = snapshot.end_ns;
        self.begin();
    }

    /// Takes the state that a snapshot found for the truth: what was counted before is in it.
    pub fn reload(&mut self, snapshot: &Snapshot) {
        self.machine = snapshot.machine.clone();
        for run in &snapshot.runs {
            let frames = self.pages.clip(run.range());
            self.pages.set(frames, PageState::new(run.content));
        }
        self.types.load(snapshot, self.pages.geometry());
        self.counted.begin(snapshot.end_ns);
        self.note_peak();
    }

    fn begin(&mut self) {
        self.began = Began::new(&self.machine, &self.pages.regions(), BTreeMap::new());
        let mut initial = Vec::new();
        self.pages.take_taint_changes(&mut initial);
    }

    /// Begins without a snapshot: every page that zones span is unknown.
    pub fn open_unknown(&mut self) {
        for zone in &self.machine.zones {
            let frames = self.pages.clip(zone.span());
            self.pages.set(frames, PageState::new(Content::Unknown));
        }
        self.begin();
    }

    /// State by page.
    #[must_use]
    pub fn pages(&self) -> &PageTable {
        &self.pages
    }

    /// Moves the taint changes since the last call to the end of `into`.
    pub fn take_taint_changes(&mut self, into: &mut Vec<TaintChange>) {
        let from = into.len();
        self.pages.take_taint_changes(into);
        for change in &into[from..] {
            self.began.note(change.region, change.tainted);
        }
    }

    /// The host, as the last snapshot described it.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What did not fit so far.
    #[must_use]
    pub fn anomalies(&self) -> &Anomalies {
        &self.anomalies
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> EventTotals {
        let mut events = self.events.clone();
        events.unmatched_frees = self.anomalies.unmatched_frees.values().sum();
        events.unmatched_allocs = self.anomalies.unmatched_allocs.values().sum();
        events.repaired_pages = self.anomalies.repaired_pages_total();
        events
    }

    /// Most non-movable pages at any time so far.
    #[must_use]
    pub fn peak_unmovable_pages(&self) -> u64 {
        self.peak_unmovable_pages
    }

    #[inline]
    fn note_peak(&mut self) {
        self.peak_unmovable_pages = self.peak_unmovable_pages.max(self.pages.unmovable_pages());
    }

    /// The track now.
    #[must_use]
    pub fn sample(&self) -> TrackSample {
        let mut regions = self.pages.regions();
        self.counted.apply(&mut regions);
        let totals = RegionTotals::new(&self.machine, &regions);
        let mut counters = self.began.since(BTreeMap::new());
        self.anomalies.collect(&mut counters);
        counters.extend(self.counters.iter().map(|(name, count)| ((*name).to_owned(), *count)));
        TrackSample {
            kind: TrackKind::Kernel,
            start: StartState::AsFound,
            regions,
            totals,
            has_bit_tainted_1g: None,
            block_type_tainted_1g: self.types.tainted_regions(self.pages.geometry()),
            free_blocks: self.pages.free_blocks(),
            counters,
        }
    }

    /// Pageblocks that have changed since the last call; at first all.
    #[must_use]
    pub fn take_block_changes(&self) -> BlockChanges {
        let geometry = self.pages.geometry();
        let mut blocks = Vec::new();
        for (block, pages) in self.pages.take_touched_blocks() {
            let migratetype = self.types.of(geometry, block.0 << geometry.pageblock_order);
            let pages = pages.map(|content| (content, 1));
            let free_blocks = self.pages.free_blocks_of(block);
            blocks.push((block.0, BlockCensus::new(migratetype, pages, free_blocks)));
        }
        BlockChanges { kind: TrackKind::Kernel, start: StartState::AsFound, blocks }
    }

    /// The kernel's fallbacks (`kmem:mm_page_alloc_extfrag`): every region's first frame and counts.
    #[must_use]
    pub fn fallbacks(&self) -> Vec<(Pfn, Fallbacks)> {
        let starts = self.pages.geometry().regions.iter().map(|r| Pfn(u64::from(r.start)));
        starts.zip(self.fallbacks.iter().copied()).collect()
    }

    /// Free pages of the machine now.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        if self.counted.is_empty() {
            return self.pages.free_pages();
        }
        let mut regions = self.pages.regions();
        self.counted.apply(&mut regions);
        regions.iter().map(RegionCensus::free_pages).sum()
    }

    /// A named counter of side events so far.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    fn count(&mut self, name: &'static str, by: u64) {
        *self.counters.entry(name).or_default() += by;
    }
}
