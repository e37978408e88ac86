//! What the two policies differ in: where free blocks are kept, and which one serves a request.
//!
//! Everything is dispatched statically. Functions that take a [`Buddy`] run under the zone lock;
//! those that take an [`Mm`] run without any lock.

use std::collections::BTreeMap;
use std::fmt::Debug;

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::Migratetype;

use super::allocator::BuildError;
use super::buddy::Buddy;
use super::cache::Cache;
use super::flags::AllocFlags;
use super::flavour::Flavour;
use super::frames::{Frame, ListId};
use super::geometry::{CpuIndex, Geometry, PageblockId};
use super::page_alloc::Mm;
use super::request::{Entry, Request};
use super::rmqueue::{self, RmqueueMode};
use super::settings::Settings;
use super::spb::debugfs::DebugfsZone;
use super::spb::event::Recorder;
use super::zone::Zone;

/// What becomes of a request after every zone failed it (`get_page_from_freelist`, end of list).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relax {
    /// Scan all zones again with these flags.
    Retry(AllocFlags),
    /// Nothing more to relax.
    GiveUp,
    /// The policy refuses the request although it could be served.
    Refuse,
}

/// Who walks the free lists without taking from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `/proc/pagetypeinfo` (patch 14).
    Statistics,
    /// Free page reporting (patch 29).
    Reporting,
    /// `show_mem` (patch 30).
    ShowMem,
    /// Hibernation (patch 33).
    Hibernation,
}

/// A placement policy.
pub trait Placement<F: Flavour>: Sized + Debug {
    /// Its name.
    const NAME: &'static str;

    /// How many list heads it needs.
    fn list_count(geometry: &Geometry) -> u32;

    /// A placement without blocks whose first list head is `first_list`.
    ///
    /// # Errors
    /// If a setting makes no sense for the machine.
    fn build(geometry: &Geometry, settings: &Settings, first_list: u32)
    -> Result<Self, BuildError>;

    /// Whether per-CPU lists own pageblocks (patch 02).
    fn owns_pageblocks(settings: &Settings) -> bool {
        settings.stock_pcp_buddy
    }

    /// The list that a free block belongs to.
    fn list(&self, zone: &Zone<F>, frame: Frame, order: u8, migratetype: Migratetype) -> ListId;

    /// All lists of one order and type in a zone, in the order in which they are searched.
    fn lists(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
    ) -> impl Iterator<Item = ListId>;

    /// Those of them that a reader finds.
    fn lists_for(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        _reader: Reader,
    ) -> impl Iterator<Item = ListId> {
        Self::lists(buddy, zone, order, migratetype)
    }

    /// Reports blocks of one list, the first of those that were not reported yet. Returns how
    /// many.
    fn report(
        buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        list: ListId,
        _order: u8,
        blocks: &[Frame],
    ) -> usize {
        blocks.iter().for_each(|frame| buddy.mark_reported(list, *frame));
        blocks.len()
    }

    // Bookkeeping.

    /// A block was put on its list.
    fn block_added(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _frame: Frame,
        _order: u8,
        _migratetype: Migratetype,
    ) {
    }

    /// A block was taken off its list.
    fn block_removed(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _frame: Frame,
        _order: u8,
        _migratetype: Migratetype,
    ) {
    }

    /// A listed block is being allocated from: `order` is that of the whole block, the type that
    /// of its list. Its remainder is not listed yet.
    fn block_taken(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _frame: Frame,
        _order: u8,
        _migratetype: Migratetype,
    ) {
    }

    /// A block left its list without being allocated (page isolation by compaction, take-off).
    fn block_isolated(_buddy: &Buddy<F, Self>, _zone: &Zone<F>, _frame: Frame, _order: u8) {}

    /// One or more whole pageblocks became free in the zone: a merge reached the pageblock order,
    /// or a larger block is being freed. They are not listed yet. Returns the type to list them
    /// with; if it changes the type, it also moves the pages' account and sets the pageblocks'.
    fn pageblocks_freed(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _frame: Frame,
        _order: u8,
        migratetype: Migratetype,
    ) -> Migratetype {
        migratetype
    }

    /// A pageblock was given memory; its type is set.
    fn pageblock_online(_buddy: &Buddy<F, Self>, _zone: &Zone<F>, _block: PageblockId) {}

    /// All memory of a pageblock was taken away.
    fn pageblock_offline(_buddy: &Buddy<F, Self>, _zone: &Zone<F>, _block: PageblockId) {}

    /// A page in `frame` that the allocator did not place (load, migration) is of this type.
    fn page_arrived(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _frame: Frame,
        _migratetype: Migratetype,
    ) {
    }

    /// The initial state is complete.
    fn loaded(_buddy: &Buddy<F, Self>) {}

    // Choice.

    /// `__rmqueue`: the modes of one attempt, in order.
    fn rmqueue(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
        mode: &mut RmqueueMode,
    ) -> Option<Frame> {
        rmqueue::by_modes(buddy, zone, order, migratetype, flags, mode)
    }

    /// `__rmqueue_smallest`: from the type's own lists.
    fn rmqueue_smallest(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame>;

    /// `__rmqueue_claim`: by turning a block of another type into this one.
    fn rmqueue_claim(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame>;

    /// `__rmqueue_steal`: from another type's lists, leaving the pageblock its type.
    fn rmqueue_steal(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame>;

    /// A wholly free block for a per-CPU list that wants to own it (order of a pageblock).
    fn whole_pageblock(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        let order = buddy.geometry.pageblock_order;
        Self::rmqueue(buddy, zone, order, migratetype, flags, &mut RmqueueMode::Normal)
    }

    /// Free parts of partly used pageblocks that a per-CPU list may adopt: takes them off their
    /// lists one by one and hands each with its order to `adopt`, as long as that returns `true`.
    fn partial_pageblocks(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _order: u8,
        _migratetype: Migratetype,
        _adopt: &mut dyn FnMut(Frame, u8) -> bool,
    ) {
    }

    // Decisions of a request.

    /// A CPU begins to serve a request.
    fn request_begins(_buddy: &Buddy<F, Self>, _cpu: CpuIndex) {}

    /// Whether requests of this entry (bulk, nolock) also begin with the NOFRAGMENT rule.
    fn begins_nofragment(_buddy: &Buddy<F, Self>, _entry: Entry) -> bool {
        false
    }

    /// Flags that the policy adds to those of the slow path; `nofragment` is the fast path's
    /// NOFRAGMENT flag or none.
    fn slow_flags(
        _buddy: &Buddy<F, Self>,
        _request: &Request,
        flags: AllocFlags,
        _nofragment: AllocFlags,
    ) -> AllocFlags {
        flags
    }

    /// Every zone failed an attempt with `flags`.
    fn relax(
        buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _request: &Request,
        flags: AllocFlags,
    ) -> Relax {
        if flags.contains(AllocFlags::NOFRAGMENT) && !buddy.tunables.defrag_mode {
            return Relax::Retry(flags - AllocFlags::NOFRAGMENT);
        }
        Relax::GiveUp
    }

    /// Before direct compaction: the policy's own way to make room. Whether it did anything.
    fn before_compaction<C: Cache<F, Self>>(_mm: &Mm<F, Self, C>, _request: &Request) -> bool {
        false
    }

    /// After reclaim and compaction failed and before NOFRAGMENT is dropped. Whether it did
    /// anything.
    fn last_resort<C: Cache<F, Self>>(
        _mm: &Mm<F, Self, C>,
        _request: &Request,
        _flags: AllocFlags,
    ) -> bool {
        false
    }

    /// Whether the slow path drops NOFRAGMENT as its last step (stock: only in defrag mode).
    fn drops_nofragment_last(buddy: &Buddy<F, Self>) -> bool {
        buddy.tunables.defrag_mode
    }

    // Compaction and contiguous allocation.

    /// First frame at or after `block` that the migration scanner should look at.
    fn next_source(_buddy: &Buddy<F, Self>, _zone: &Zone<F>, block: PageblockId) -> PageblockId {
        block
    }

    /// Whether compaction may migrate pages into a pageblock.
    fn is_target(_buddy: &Buddy<F, Self>, _zone: &Zone<F>, _block: PageblockId) -> bool {
        true
    }

    /// Free blocks below `limit_order` that compaction should use as targets before it scans for
    /// others, best first; at least `pages` pages if there are so many.
    fn preferred_targets(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _limit_order: u8,
        _pages: u32,
        _into: &mut Vec<Frame>,
    ) {
    }

    /// Starts that a contiguous allocation of `order` tries before it scans the zone.
    fn contig_candidates(
        _buddy: &Buddy<F, Self>,
        _zone: &Zone<F>,
        _order: u8,
        _into: &mut Vec<Frame>,
    ) {
    }

    /// A contiguous allocation took (or gave back) the frames of a region.
    fn contig_changed(_buddy: &Buddy<F, Self>, _frame: Frame, _order: u8, _taken: bool) {}

    /// Virtual time passed: the policy's own workers.
    fn tick<C: Cache<F, Self>>(_mm: &Mm<F, Self, C>, _now: TimeNs) {}

    // What observers see.

    /// Adds the policy's own counters.
    fn counters(_buddy: &Buddy<F, Self>, _into: &mut BTreeMap<String, u64>) {}

    /// The series' debugfs file, if the policy has superpageblocks.
    fn superpageblocks(_buddy: &Buddy<F, Self>) -> Option<Vec<DebugfsZone>> {
        None
    }

    /// Sends the policy's tracepoints to `recorder` from now on.
    fn record_to(&mut self, _recorder: &Recorder) {}

    /// Regions tainted by has-bits, if the policy keeps them.
    fn has_bit_tainted(_buddy: &Buddy<F, Self>) -> Option<u64> {
        None
    }

    /// Re-derives the policy's own state and compares.
    ///
    /// # Panics
    /// With a description of what does not hold.
    fn check(_buddy: &Buddy<F, Self>) {}
}
