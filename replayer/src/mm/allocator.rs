//! What a replay asks of an allocator, whichever policy it follows.
//!
//! Frames are named by pfn. The allocator keeps one word for each base page (see
//! [`super::frames`]), so a block that was allocated whole may be freed in pieces, and pieces of
//! several blocks that happen to be buddies may be freed as one.
//!
//! Who lives where is the caller's business, kept in [`Frames`]: after a successful
//! [`PageAllocator::alloc`] the frames have no owner, and the caller calls [`Frames::settle`]. The
//! allocator itself changes the map only when it moves a page (the new frame takes the owner) or
//! drops one ([`Frames::evict`]).

use std::collections::BTreeMap;

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::region::RegionCensus;
use fragscope_trace::snapshot::Snapshot;
use serde::Serialize;
use thiserror::Error;

use super::fallbacks::Fallbacks;
use super::flavour::Flavour;
use super::frames::{Frame, Frames};
use super::free_path::Protocol;
use super::geometry::{PageblockId, RegionId};
use super::request::{FreeEntry, Refusal, Request};
use super::settings::Settings;
use super::spb::debugfs::DebugfsZone;
use super::spb::event::Recorder;
use super::virtual_hold::Stranded;

/// A machine that cannot be modelled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// The trace names no populated zone.
    #[error("the machine has no populated zone")]
    NoZones,
    /// The trace names no CPU.
    #[error("the machine has no CPU")]
    NoCpus,
    /// More frames than the table can name.
    #[error("the machine's highest page frame is {end}; at most {max} frames can be modelled")]
    TooLarge {
        /// One past the highest pfn.
        end: u64,
        /// The limit.
        max: u64,
    },
    /// There is no memory for its tables.
    #[error(
        "a replay of this machine takes {need} of memory ({pages} pages for the kernel's track and \
         {policies} policies), and there are {available}; with one policy it takes {one}",
        need = gib(*.need_bytes),
        available = gib(*.available_bytes),
        one = gib(*.one_bytes)
    )]
    Memory {
        /// What the tracks take.
        need_bytes: u64,
        /// Pages of the machine.
        pages: u64,
        /// Tracks of policies that were asked for.
        policies: usize,
        /// What there is.
        available_bytes: u64,
        /// What a single policy would take.
        one_bytes: u64,
    },
    /// A geometry that no Linux has.
    #[error("{what} is {found}; expected {expected}")]
    Geometry {
        /// Which figure.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What is possible.
        expected: &'static str,
    },
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// A free that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FreeError {
    /// Part of the block is not allocated; nothing was freed.
    #[error("frame {frame:#x} is not allocated")]
    NotAllocated {
        /// The first such frame.
        frame: Frame,
    },
}

/// A region turned tainted (it holds its first page that stands in the way of a 1 GiB page) or
/// clean again (it lost its last).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaintChange {
    /// Position in [`PageAllocator::census`].
    pub region: u32,
    /// The page that did it.
    pub frame: Frame,
    /// Tainted, or clean again.
    pub tainted: bool,
}

/// Free memory as files of the kernel show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryFiles {
    /// `/proc/buddyinfo`
    pub buddyinfo: String,
    /// `/proc/pagetypeinfo`
    pub pagetypeinfo: String,
    /// Lines of free blocks in the log, as `show_mem` writes them.
    pub show_mem: String,
    /// The series' debugfs file, where there are superpageblocks.
    pub superpageblocks: Option<Vec<DebugfsZone>>,
}

/// One page allocator over one machine.
pub trait PageAllocator: Sized {
    /// Its lock flavour.
    type Flavour: Flavour;

    /// An allocator of `machine` that has been given no memory yet.
    ///
    /// # Errors
    /// If the machine cannot be modelled.
    fn build(machine: &Machine, settings: &Settings) -> Result<Self, BuildError>;

    /// Gives it the memory of a snapshot, each page as the kernel has it: free blocks with their
    /// order, type and place in their list as far as the snapshot knows, pageblock types,
    /// per-CPU lists, reserves. Every allocated page is settled in the frame of its own pfn.
    fn load(&self, snapshot: &Snapshot);

    /// Gives it the memory of a snapshot as at boot: pages that no allocator placed (absent,
    /// reserved, offline, hugetlb) stay and are settled in place, all others are free in blocks
    /// of the largest order, every pageblock movable. Use instead of [`PageAllocator::load`].
    fn boot(&self, snapshot: &Snapshot);

    /// The frame table: states, and who lives where.
    fn frames(&self) -> &Frames<Self::Flavour>;

    /// Serves a request: the first frame of an aligned block of `1 << request.order` pages.
    ///
    /// # Errors
    /// [`Refusal`] says why nothing was given.
    fn alloc(&self, request: &Request) -> Result<Frame, Refusal>;

    /// Whether the request would be served now without reclaim and compaction. Changes nothing.
    fn would_succeed(&self, request: &Request) -> bool;

    /// Takes exactly this aligned block out of the free memory (buddy or per-CPU lists), as a
    /// placement replay does: no watermark is tested and no fallback rule applies.
    ///
    /// # Errors
    /// The first frame of the block that is not free; then nothing was taken.
    fn take(
        &self,
        frame: Frame,
        order: u8,
        content: Content,
        migratetype: Migratetype,
    ) -> Result<(), Frame>;

    /// Allocates an aligned contiguous block of any order (a gigantic hugetlb page: order 18),
    /// moving out what is in its way, in the order in which the policy looks for it.
    fn alloc_contig(&self, order: u8, cpu: CpuId, content: Content) -> Option<Frame>;

    /// Frees an aligned block of allocated pages, which need not be one allocation. The frames'
    /// owners are forgotten; where the logical pages lived ([`Frames::place`]) is left to the
    /// caller ([`Frames::unsettle`]).
    ///
    /// # Errors
    /// If part of the block is not allocated.
    fn free(&self, frame: Frame, order: u8, cpu: CpuId, entry: FreeEntry) -> Result<(), FreeError>;

    /// A page in this frame will be freed soon: has brought near what that needs.
    fn prefetch(&self, frame: Frame);

    /// Corrects what an allocated page holds (an LRU insertion, a resync).
    fn set_content(&self, frame: Frame, content: Content);

    /// Lets virtual time pass: decay of per-CPU lists, background compaction, the policy's own
    /// workers. Time never goes back; an earlier time than the last is ignored.
    fn advance(&self, now: TimeNs);

    /// The next operation happens at this time on this CPU. Only how long locks are held in a
    /// replay depends on it ([`super::virtual_hold`]).
    fn at(&self, now: TimeNs, cpu: CpuId);

    /// Gives it new memory (hotplug, lazy initialisation, pages reserved at boot that are freed
    /// now). Pages that it has already are skipped.
    fn grow(&self, range: PfnRange);

    /// Takes memory away, migrating what is movable. Returns the pages taken; what cannot be
    /// moved stays.
    fn shrink(&self, range: PfnRange) -> u64;

    /// Rebuilds the zonelists, as the first memory of a zone and the loss of its last do. Requests
    /// may run meanwhile.
    fn rebuild_zonelists(&self);

    /// A CPU begins to run. Ids that the machine did not list are served by its first CPU.
    fn cpu_online(&self, cpu: CpuId);

    /// A CPU stops; its per-CPU lists are drained.
    fn cpu_offline(&self, cpu: CpuId);

    /// Pages by content for every region, in the order of
    /// [`fragscope_trace::region::regions_of`].
    fn census(&self) -> Vec<RegionCensus>;

    /// Free blocks by order on the zones' buddy lists, all types.
    fn free_blocks(&self) -> Vec<u64>;

    /// Free pages on the zones' buddy lists, and on per-CPU lists.
    fn free_pages(&self) -> (u64, u64);

    /// Type of the pageblock that holds a frame.
    fn pageblock_type(&self, frame: Frame) -> Migratetype;

    /// Pageblocks (pfn / pages of a pageblock) of which a page has changed since the last call,
    /// ascending.
    fn take_touched_blocks(&self) -> Vec<PageblockId>;

    /// Pages of a region (by its position in [`PageAllocator::census`]) that stand in the way of
    /// a 1 GiB page.
    fn tainting_pages(&self, region: RegionId) -> u32;

    /// Fallbacks to other types since the start: every region's first frame and counts.
    fn fallbacks(&self) -> Vec<(Pfn, Fallbacks)>;

    /// Named cumulative counters.
    fn counters(&self) -> BTreeMap<String, u64>;

    /// How frees reach the lists of the CPU that owns their pageblock; `None` where per-CPU lists
    /// own no pageblocks.
    fn free_path(&self) -> Option<Protocol>;

    /// Pages that wait on lock-free lists of other CPUs.
    fn stranded(&self) -> Stranded;

    /// What the kernel's files would show of free memory now.
    fn memory_files(&self) -> MemoryFiles;

    /// Sends the policy's own tracepoints to `recorder` from now on, if it has any.
    fn record_to(&mut self, recorder: &Recorder);

    /// Regions that the SPB series would call tainted by the has-bits of their pageblocks, or
    /// `None` where the policy keeps no such bits.
    fn has_bit_tainted_1g(&self) -> Option<u64>;

    /// Regions with a pageblock of unmovable, reclaimable or highatomic type.
    fn block_type_tainted_1g(&self) -> u64;

    /// Starts aligned to 1 GiB that a contiguous allocation would get now, in the order in which
    /// it would try them: each by itself, with its movable pages moved elsewhere.
    fn obtainable_now(&self) -> Vec<Frame>;

    /// How many taint changes there have been; cheap, to see whether
    /// [`PageAllocator::take_taint_changes`] has any.
    fn taint_changes_seen(&self) -> u64;

    /// Moves the taint changes since the last call to the end of `into`.
    fn take_taint_changes(&self, into: &mut Vec<TaintChange>);

    /// Re-derives everything from scratch and compares. For tests and debug builds.
    ///
    /// # Panics
    /// With a description of what does not hold.
    fn check_invariants(&self);
}
