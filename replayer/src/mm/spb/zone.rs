//! The superpageblocks of one zone: where they are listed, what is counted, how they are found
//! (patches 08, 10 and 14).
//!
//! Invariants, each re-derived by [`SpbZone::check`]: every superpageblock is on exactly the list
//! that its counters demand; each counter equals the number of its pageblocks with that bit; the
//! occupancy tells exactly which of its lists are not empty; its free pages are those on its
//! lists.

use std::sync::{Mutex, PoisonError};

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::Migratetype;

use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::{Frame, Frames, ListId};
use crate::mm::geometry::PageblockId;
use crate::mm::pageblock::{BlockFlags, Pageblocks};
use crate::mm::settings::Settings;

use super::bitmap::Bitmap;
use super::category::{Category, Counts};
use super::event::Events;
use super::geometry::{SpbGeometry, SpbId};
use super::index::{Index, Need, SpbIndex};
use super::lists::{ListName, SpbLists};
use super::superpageblock::{HasBit, Occupancy, Superpageblock};
use super::supply::Supply;

/// Lists of one superpageblock: one for each order and type.
pub const LISTS_PER_SPB: u32 = (fragscope_trace::page::NR_PAGE_ORDERS * Migratetype::COUNT) as u32;

/// The superpageblocks of one zone; the zone lock guards them.
#[derive(Debug)]
pub struct SpbZone<F: Flavour> {
    geometry: SpbGeometry,
    settings: Settings,
    spbs: Box<[Superpageblock<F>]>,
    lists: SpbLists<F>,
    /// What the superpageblocks of each list have together.
    supply: Supply<F>,
    index: Index<F>,
    events: Events<F>,
    /// First of the superpageblocks' block lists; [`LISTS_PER_SPB`] for each, then the zone's own.
    first_list: u32,
    /// `nr_superpageblocks`: the first so many have metadata. Memory beyond them, which came
    /// later with patch 09 switched off, is on the zone's own lists.
    covered: F::U32,
    /// Those on tainted lists that have movable pageblocks and are below their reserve: none
    /// other needs a defragmentation.
    below_reserve: Bitmap<F>,
    /// Superpageblocks whose defragmentation is queued, in order.
    defrag_queue: Mutex<Vec<SpbId>>,
    /// Whether new work may be queued: not while memory is loaded.
    live: F::U32,
}

impl<F: Flavour> SpbZone<F> {
    /// Superpageblocks over `geometry` without initialised pageblocks, whose block lists begin
    /// with number `first_list`.
    #[must_use]
    pub fn new(
        zone: u16,
        geometry: SpbGeometry,
        settings: &Settings,
        cpus: u16,
        first_list: u32,
    ) -> SpbZone<F> {
        let count = geometry.spb_count();
        SpbZone {
            geometry,
            settings: settings.clone(),
            spbs: geometry
                .spbs()
                .map(|s| Superpageblock::new(geometry.total_blocks(s), settings))
                .collect(),
            lists: SpbLists::new(count),
            supply: Supply::default(),
            index: Index::new(settings, count, cpus),
            events: Events::new(zone),
            first_list,
            covered: F::U32::default(),
            below_reserve: Bitmap::new(count),
            defrag_queue: Mutex::default(),
            live: F::U32::default(),
        }
    }

    /// Where the zone's superpageblocks lie.
    #[must_use]
    #[inline]
    pub fn geometry(&self) -> &SpbGeometry {
        &self.geometry
    }

    /// The settings that apply.
    #[must_use]
    #[inline]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// One superpageblock.
    #[must_use]
    #[inline]
    pub fn spb(&self, spb: SpbId) -> &Superpageblock<F> {
        &self.spbs[spb.index()]
    }

    /// Number of superpageblocks with metadata (`nr_superpageblocks`).
    #[must_use]
    #[inline]
    pub fn len(&self) -> u32 {
        self.covered.get()
    }

    /// Whether a superpageblock has metadata.
    #[must_use]
    #[inline]
    pub fn is_covered(&self, spb: SpbId) -> bool {
        spb.0 < self.covered.get()
    }

    /// `resize_zone_superpageblocks` (patch 09): metadata up to `spb`. Hints are dropped.
    pub(super) fn cover(&self, spb: SpbId) {
        if self.is_covered(spb) || self.live.get() != 0 && !self.settings.p09 {
            return;
        }
        let new = self.covered.get()..spb.0 + 1;
        self.covered.set(new.end);
        new.for_each(|id| self.update_list(SpbId(id)));
        self.index.forget();
    }

    /// Whether the zone has no superpageblocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The zone's lists.
    #[must_use]
    #[inline]
    pub fn lists(&self) -> &SpbLists<F> {
        &self.lists
    }

    /// How superpageblocks are found.
    #[must_use]
    #[inline]
    pub fn index(&self) -> &Index<F> {
        &self.index
    }

    /// The zone's tracepoints.
    #[must_use]
    #[inline]
    pub fn events(&self) -> &Events<F> {
        &self.events
    }

    /// The same, to attach a recorder.
    pub fn events_mut(&mut self) -> &mut Events<F> {
        &mut self.events
    }

    /// Clean or tainted.
    #[must_use]
    #[inline]
    pub fn category(&self, spb: SpbId) -> Category {
        self.spb(spb).counts().category(&self.settings)
    }

    /// Free pageblocks that a tainted superpageblock should keep.
    #[must_use]
    #[inline]
    pub fn reserve(&self, spb: SpbId) -> u32 {
        self.spb(spb).reserve()
    }

    /// Free pages below which slab is shrunk: the reserve in pages (patch 28).
    #[must_use]
    #[inline]
    pub fn shrink_high_water_pages(&self, spb: SpbId) -> u32 {
        self.reserve(spb) << self.geometry.pageblock_order
    }

    /// Whether the zone packs non-movable pages aggressively (patch 19).
    #[must_use]
    #[inline]
    pub fn is_aggressive(&self) -> bool {
        self.settings.p19 && u64::from(self.len()) > self.settings.aggressive_threshold
    }

    /// The memory of the start is there: work may be queued from now on.
    pub fn set_live(&self) {
        self.live.set(1);
        self.start_defrags();
    }

    /// `spb_update_list`: lists a superpageblock where its counters demand. With rotation it goes
    /// to the tail even of the list it is on. Then a defragmentation may start.
    pub fn update_list(&self, spb: SpbId) {
        let counts = self.spb(spb).counts();
        let list = counts.list(&self.settings, self.geometry.spb_blocks());
        let from = self.lists.list_of(spb);
        if self.settings.spb_rotation || from != Some(list) {
            self.lists.move_to_tail(spb, list);
        }
        if from != Some(list) {
            let occupancy = self.spb(spb).occupancy();
            if let Some(from) = from {
                self.supply.sub(from, occupancy);
            }
            self.supply.add(list, occupancy);
        }
        self.index.counts_changed(spb, &counts, list);
        let below_reserve = self.is_below_reserve(spb, &counts, list);
        if self.below_reserve.contains(spb.0) != below_reserve {
            self.below_reserve.put(spb.0, below_reserve);
        }
        if below_reserve {
            self.start_defrag(spb);
        }
    }

    fn is_below_reserve(&self, spb: SpbId, counts: &Counts, list: ListName) -> bool {
        let tainted = matches!(list, ListName::Of(Category::Tainted, _));
        tainted && counts.movable > 0 && counts.free < self.reserve(spb)
    }

    /// The list of a superpageblock's free blocks of one order and type.
    #[must_use]
    #[inline]
    pub fn block_list(&self, spb: SpbId, order: u8, migratetype: Migratetype) -> ListId {
        let within = u32::from(order) * Migratetype::COUNT as u32 + migratetype as u32;
        ListId(self.first_list + spb.0 * LISTS_PER_SPB + within)
    }

    /// The list of a free block outside all superpageblocks.
    #[must_use]
    pub fn zone_list(&self, order: u8, migratetype: Migratetype) -> ListId {
        self.block_list(SpbId(self.spbs.len() as u32), order, migratetype)
    }

    /// The list that a free block belongs to.
    #[must_use]
    #[inline]
    pub fn list_at(&self, frame: Frame, order: u8, migratetype: Migratetype) -> ListId {
        let spb = self.geometry.spb_of(frame);
        if self.is_covered(spb) {
            self.block_list(spb, order, migratetype)
        } else {
            self.zone_list(order, migratetype)
        }
    }

    /// A free block was put on its list.
    #[inline]
    pub fn block_added(&self, frame: Frame, order: u8, migratetype: Migratetype) {
        let id = self.geometry.spb_of(frame);
        if !self.is_covered(id) {
            return;
        }
        let spb = self.spb(id);
        spb.add_free_pages(1 << order);
        let old = spb.occupancy();
        let new = Occupancy(old.0 | Occupancy::bit(migratetype, order));
        self.put_occupancy(id, old, new);
    }

    /// A free block was taken off its list.
    #[inline]
    pub fn block_removed(
        &self,
        frames: &Frames<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) {
        let id = self.geometry.spb_of(frame);
        if !self.is_covered(id) {
            return;
        }
        let spb = self.spb(id);
        spb.sub_free_pages(1 << order);
        if frames.first(self.block_list(id, order, migratetype)).is_none() {
            let old = spb.occupancy();
            let new = Occupancy(old.0 & !Occupancy::bit(migratetype, order));
            self.put_occupancy(id, old, new);
        }
    }

    #[inline]
    fn put_occupancy(&self, spb: SpbId, old: Occupancy, new: Occupancy) {
        if old != new {
            self.spb(spb).set_occupancy(new);
            self.index.occupancy_changed(spb, old, new);
            if let Some(list) = self.lists.list_of(spb) {
                self.supply.add(list, Occupancy(new.0 & !old.0));
                self.supply.sub(list, Occupancy(old.0 & !new.0));
            }
        }
    }

    /// Whether no superpageblock of a list can have the blocks that are needed.
    #[must_use]
    #[inline]
    pub fn lacks(&self, list: ListName, need: Need) -> bool {
        need.lists().is_some_and(|lists| !self.supply.of(list).meets(lists))
    }

    /// Marks a superpageblock as held by one contiguous allocation, or not any more (patch 17).
    pub fn set_contig_allocated(&self, spb: SpbId, held: bool) {
        if self.spb(spb).is_contig_allocated() != held {
            self.spb(spb).set_contig_allocated(held);
            self.update_list(spb);
        }
    }

    /// `spb_needs_defrag` (patches 15 and 23): tainted, with movable pageblocks, below its
    /// reserve of free ones, and not resting after a pass in vain.
    #[must_use]
    pub fn needs_defrag(&self, spb: SpbId, now_ns: TimeNs) -> bool {
        let counts = self.spb(spb).counts();
        counts.category(&self.settings) == Category::Tainted
            && counts.movable > 0
            && counts.free < self.reserve(spb)
            && !self.is_resting(spb, now_ns)
    }

    /// Whether the last pass freed no pageblock, is recent, and few pages were freed since.
    fn is_resting(&self, spb: SpbId, now_ns: TimeNs) -> bool {
        let Some((since, pages)) = self.spb(spb).fruitless_pass() else { return false };
        let gained = u64::from(self.spb(spb).free_pages().saturating_sub(pages));
        let cooldown_ns = self.settings.defrag_cooldown_ms * 1_000_000;
        now_ns < since.saturating_add(cooldown_ns) && gained < self.settings.defrag_rearm_pages
    }

    /// `spb_maybe_start_defrag`: queues a pass if one is needed; at most one is in flight.
    #[inline]
    pub fn start_defrag(&self, spb: SpbId) {
        let idle = self.settings.p15 && self.live.get() != 0 && !self.spb(spb).is_defrag_active();
        if idle && self.needs_defrag(spb, self.events.now_ns()) {
            self.spb(spb).set_defrag_active(true);
            self.defrag_queue.lock().unwrap_or_else(PoisonError::into_inner).push(spb);
        }
    }

    /// [`SpbZone::start_defrag`] for all tainted superpageblocks, in the order of a walk.
    #[inline]
    pub fn start_defrags(&self) {
        if self.settings.p15 && self.is_defrag_due() {
            self.in_category(Category::Tainted).for_each(|spb| self.start_defrag(spb));
        }
    }

    /// Whether a pass is needed and not queued. Mostly none is, because they rest.
    fn is_defrag_due(&self) -> bool {
        let now_ns = self.events.now_ns();
        let due = |spb: SpbId| !self.spb(spb).is_defrag_active() && !self.is_resting(spb, now_ns);
        let next = |from| self.below_reserve.next(from);
        std::iter::successors(next(0), |spb| next(spb + 1)).any(|spb| due(SpbId(spb)))
    }

    /// Takes the superpageblocks whose pass is due, in the order in which they were queued.
    pub fn take_defrags(&self) -> Vec<SpbId> {
        std::mem::take(&mut self.defrag_queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Superpageblocks of a category in the order of a walk; the lists must not change meanwhile.
    pub fn in_category(&self, category: Category) -> impl Iterator<Item = SpbId> + '_ {
        let lists = super::category::Fullness::ALL.map(|f| ListName::Of(category, f));
        lists.into_iter().flat_map(|list| self.listed(list))
    }

    /// Superpageblocks of one list in the order of a walk.
    pub fn listed(&self, list: ListName) -> impl Iterator<Item = SpbId> + '_ {
        let rotating = self.settings.spb_rotation;
        let first = if rotating { self.lists.first(list) } else { self.by_address(list, 0) };
        std::iter::successors(first, move |at| {
            if rotating { self.lists.next(*at) } else { self.by_address(list, at.0 + 1) }
        })
    }

    fn by_address(&self, list: ListName, from: u32) -> Option<SpbId> {
        self.lists.members(list).next(from).map(SpbId)
    }

    /// Re-derives every invariant of the module from pageblock bits and block lists.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self, frames: &Frames<F>, blocks: &Pageblocks<F>) {
        for id in self.geometry.spbs().take(self.len() as usize) {
            let counts = self.spb(id).counts();
            assert_eq!(counts, self.recount(id, blocks, &counts), "counters of {id:?}");
            let list = counts.list(&self.settings, self.geometry.spb_blocks());
            assert_eq!(self.lists.list_of(id), Some(list), "list of {id:?} with {counts:?}");
            let below_reserve = self.is_below_reserve(id, &counts, list);
            assert_eq!(self.below_reserve.contains(id.0), below_reserve, "reserve of {id:?}");
            self.check_blocks(id, frames);
        }
        for list in ListName::all() {
            let of = |all: Occupancy, spb| all.or(self.spb(spb).occupancy());
            let together = self.lists.iter(list).fold(Occupancy::default(), of);
            assert_eq!(self.supply.of(list), together, "supply of {list:?}");
        }
        let listed: u32 = ListName::all().map(|l| self.lists.iter(l).count() as u32).sum();
        assert_eq!(listed, self.len(), "every superpageblock is on one list");
    }

    /// The counters as the pageblocks' bits say.
    fn recount(&self, id: SpbId, blocks: &Pageblocks<F>, counts: &Counts) -> Counts {
        let with = |flag| self.geometry.blocks_of(id).filter(|b| blocks.has(*b, flag)).count();
        Counts {
            free: with(BlockFlags::ALL_FREE) as u32,
            unmovable: with(BlockFlags::HAS_UNMOVABLE) as u32,
            reclaimable: with(BlockFlags::HAS_RECLAIMABLE) as u32,
            movable: with(BlockFlags::HAS_MOVABLE) as u32,
            ..*counts
        }
    }

    fn check_blocks(&self, id: SpbId, frames: &Frames<F>) {
        let (mut pages, mut occupancy) = (0, 0);
        for migratetype in Migratetype::ALL {
            for order in 0..fragscope_trace::page::NR_PAGE_ORDERS as u8 {
                let list = self.block_list(id, order, migratetype);
                frames.check_list(list);
                for frame in frames.iter(list) {
                    assert_eq!(self.geometry.spb_of(frame), id, "block {frame:#x} is listed here");
                    pages += 1 << order;
                    occupancy |= Occupancy::bit(migratetype, order);
                }
            }
        }
        assert_eq!(self.spb(id).free_pages(), pages, "free pages of {id:?}");
        assert_eq!(self.spb(id).occupancy().0, occupancy, "occupancy of {id:?}");
    }

    /// A has-bit of one of its pageblocks changed: counts it, and emits the taint event.
    pub(super) fn count_bit(&self, block: PageblockId, bit: HasBit, set: bool) {
        let spb = self.spb(self.geometry.spb_of_block(block));
        let is_first_or_last = spb.count_has(bit, set);
        self.events.emit(super::event::SpbEvent::SpbPbTaint {
            pfn: self.geometry.block_start(block),
            migratetype: bit.migratetype(),
            set,
            is_first_or_last,
        });
    }
}
