//! The buddy allocator proper: blocks on and off lists, splitting, merging.
//!
//! `stock-allocator` 2.5 (expand), 3.4 (merge). Everything here runs under the zone lock, which
//! the caller holds; the functions that take it are in [`super::rmqueue`] and [`super::zone_free`].
//!
//! Invariants: a free block is on exactly one list, that of its order and of its pageblock's
//! type; its head says so, and all its other frames are [`FrameState::FreeTail`]. Two free buddies
//! of one order below the pageblock order never both stay on lists of one zone.

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, Migratetype};

use super::allocator::BuildError;
use super::census::Census;
use super::counters::Counters;
use super::fallbacks::RegionFallbacks;
use super::flags::AllocFlags;
use super::flavour::{Flavour, Guard, Lock, Word};
use super::frames::{Frame, FrameState, FrameWord, Frames, ListId, Mark};
use super::geometry::{Geometry, PageblockId, ZoneId};
use super::page_list::PageList;
use super::pageblock::Pageblocks;
use super::per_thread::PerThread;
use super::placement::Placement;
use super::settings::Settings;
use super::virtual_hold::VirtualHolds;
use super::watermark::Tunables;
use super::zone::Zone;

/// Everything below the per-CPU lists.
#[derive(Debug)]
pub struct Buddy<F: Flavour, P> {
    /// Where everything is.
    pub geometry: Geometry,
    /// What the allocator was told.
    pub settings: Settings,
    /// Sysctls as they apply.
    pub tunables: Tunables,
    /// The frame table.
    pub frames: Frames<F>,
    /// The pageblock table.
    pub blocks: Pageblocks<F>,
    /// Zones in the machine's order.
    pub zones: Box<[Zone<F>]>,
    /// Pages by region and content.
    pub census: Census<F>,
    /// What happened.
    pub counters: PerThread<F, Counters<F>>,
    /// Fallbacks to other types, by region.
    pub fallbacks: RegionFallbacks<F>,
    /// Who would hold the locks of per-CPU lists.
    pub holds: VirtualHolds<F>,
    /// Where free blocks are kept and chosen.
    pub placement: P,
}

/// Which end of its list a freed block goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListEnd {
    /// Head, unless a merge is likely to follow.
    ByChance,
    /// Tail (`FPI_TO_TAIL`).
    Tail,
}

/// How many pages before its own turn to be given back a page's buddy is looked at; the page itself
/// is fetched twice as many before.
const DRAIN_AHEAD: u32 = 6;

/// List heads that each zone has beside those of the placement: deferred frees, and one per
/// order for blocks that compaction isolated.
const LISTS_PER_ZONE: u32 = 1 + fragscope_trace::page::NR_PAGE_ORDERS as u32;

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// Everything of a machine, without memory; `more_lists` list heads are set aside for the
    /// per-CPU lists, and the first of them is returned.
    ///
    /// # Errors
    /// If the machine cannot be modelled.
    pub fn build(
        machine: &Machine,
        settings: &Settings,
        more_lists: impl Fn(&Geometry) -> u32,
    ) -> Result<(Buddy<F, P>, u32), BuildError> {
        let geometry = Geometry::new(machine, settings.region_order)?;
        let zone = |(i, span)| {
            let first = i as u32 * LISTS_PER_ZONE;
            Zone::new(ZoneId(i as u16), span, ListId(first), first + 1)
        };
        let zones: Box<[Zone<F>]> = geometry.zones.iter().enumerate().map(zone).collect();
        let placement_first = zones.len() as u32 * LISTS_PER_ZONE;
        let cache_first = placement_first + P::list_count(&geometry);
        let lists = cache_first + more_lists(&geometry);
        let buddy = Buddy {
            placement: P::build(&geometry, settings, placement_first)?,
            frames: Frames::new(geometry.frames(), lists),
            blocks: Pageblocks::new(
                geometry.pageblocks(),
                geometry.zones.len() as u32 * u32::from(geometry.cpus),
            ),
            census: Census::new(&geometry),
            fallbacks: RegionFallbacks::new(&geometry),
            counters: PerThread::default(),
            holds: VirtualHolds::default(),
            tunables: Tunables::new(machine, settings),
            settings: settings.clone(),
            zones,
            geometry,
        };
        Ok((buddy, cache_first))
    }

    /// A zone by its id.
    #[inline]
    pub fn zone(&self, id: ZoneId) -> &Zone<F> {
        &self.zones[usize::from(id.0)]
    }

    /// The zone of a frame that the allocator has.
    ///
    /// # Panics
    /// If the frame lies in no zone.
    #[inline]
    pub fn zone_of(&self, frame: Frame) -> &Zone<F> {
        let zone = self.geometry.zone_number(frame);
        match self.zones.get(usize::from(zone)) {
            Some(zone) => zone,
            None => panic!("frame {frame:#x} lies in no zone"),
        }
    }

    /// Takes a zone's lock.
    #[inline]
    pub fn lock<'a>(&self, zone: &'a Zone<F>) -> Guard<'a, F::Lock> {
        self.counters.zone_locks.add(1);
        zone.lock.guard()
    }

    /// Takes a zone's lock if nobody holds it.
    #[inline]
    pub fn try_lock<'a>(&self, zone: &'a Zone<F>) -> Option<Guard<'a, F::Lock>> {
        let guard = zone.lock.try_guard();
        let outcome = match guard {
            Some(_) => &self.counters.zone_locks,
            None => &self.counters.zone_trylock_failures,
        };
        outcome.add(1);
        guard
    }

    /// Takes a zone's lock for a request: one that may not wait only tries.
    #[inline]
    pub fn lock_for<'a>(&self, zone: &'a Zone<F>, flags: AllocFlags) -> Option<Guard<'a, F::Lock>> {
        if flags.contains(AllocFlags::TRYLOCK) {
            self.try_lock(zone)
        } else {
            Some(self.lock(zone))
        }
    }

    /// The pageblock that holds a frame.
    #[inline]
    pub fn pageblock(&self, frame: Frame) -> PageblockId {
        self.geometry.pageblock(frame)
    }

    /// `get_pageblock_migratetype`
    #[inline]
    pub fn migratetype(&self, frame: Frame) -> Migratetype {
        self.blocks.migratetype(self.geometry.pageblock(frame))
    }

    /// The pageblocks of a block of at least a pageblock; for a smaller one the one that holds it.
    #[inline]
    pub fn pageblocks_of(
        &self,
        frame: Frame,
        order: u8,
    ) -> impl Iterator<Item = PageblockId> + Clone + use<F, P> {
        let first = self.geometry.pageblock(frame).0;
        let count = 1 << order.saturating_sub(self.geometry.pageblock_order);
        (first..first + count).map(PageblockId)
    }

    /// Says that the pages of a block turned from one content to another.
    #[inline(always)]
    pub fn shift(&self, frame: Frame, order: u8, from: Content, to: Content) {
        if order == 0 {
            let block = self.geometry.pageblock(frame);
            let region = self.geometry.region_of_block(block);
            self.census.shift_page(region, from, to, frame, block);
        } else {
            self.shift_block(frame, order, from, to);
        }
    }

    #[inline(never)]
    fn shift_block(&self, frame: Frame, order: u8, from: Content, to: Content) {
        let region = self.geometry.region_of(frame);
        self.census.shift(region, from, to, 1 << order, frame);
    }

    /// `__add_to_free_list`
    #[inline]
    pub fn add_to_list(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
        tail: bool,
    ) {
        self.frames.set_word(frame, FrameWord::buddy(order, migratetype));
        let list = self.placement.list(zone, frame, order, migratetype);
        if tail {
            self.frames.push_tail(list, frame);
        } else {
            self.frames.push_head(list, frame);
        }
        zone.count_block(order, migratetype);
        if order >= self.geometry.pageblock_order && migratetype != Migratetype::Isolate {
            zone.free_pages_blocks.add(1 << order);
        }
        P::block_added(self, zone, frame, order, migratetype);
    }

    /// `__del_page_from_free_list`: the head becomes an inner frame of nothing in particular.
    #[inline]
    pub fn del_from_list(&self, zone: &Zone<F>, frame: Frame, order: u8, migratetype: Migratetype) {
        debug_assert_eq!(
            self.frames.word(frame).with_marks(Mark::empty()),
            FrameWord::buddy(order, migratetype)
        );
        self.frames.unlink(frame);
        self.frames.set_word(frame, FrameWord::free_tail());
        zone.uncount_block(order, migratetype);
        if order >= self.geometry.pageblock_order && migratetype != Migratetype::Isolate {
            zone.free_pages_blocks.sub(1 << order);
        }
        P::block_removed(self, zone, frame, order, migratetype);
    }

    /// `move_to_free_list`: to the tail of another type's list.
    pub fn move_to_list(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        from: Migratetype,
        to: Migratetype,
    ) {
        self.del_from_list(zone, frame, order, from);
        zone.unaccount(1 << order, from);
        self.add_to_list(zone, frame, order, to, true);
        zone.account(1 << order, to);
    }

    /// `expand`: gives back the upper halves of a block of order `high` until the lowest `1 <<
    /// low` pages are left. Each half goes to the head of the list of `migratetype`; the pages
    /// are not accounted.
    #[inline]
    pub fn expand(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        low: u8,
        high: u8,
        migratetype: Migratetype,
    ) {
        let mut order = high;
        while order > low {
            order -= 1;
            self.add_to_list(zone, frame + (1 << order), order, migratetype, false);
        }
    }

    /// `page_del_and_expand`: takes the lowest `1 << low` pages of a listed block.
    #[inline]
    pub fn del_and_expand(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        low: u8,
        high: u8,
        migratetype: Migratetype,
    ) {
        self.del_from_list(zone, frame, high, migratetype);
        P::block_taken(self, zone, frame, high, migratetype);
        self.expand(zone, frame, low, high, migratetype);
        zone.unaccount(1 << low, migratetype);
    }

    /// `__free_one_page`: lists a block that was not free, merged with its free buddies.
    pub fn free_one_page(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
        end: ListEnd,
    ) {
        let (mut frame, mut order, mut migratetype) = (frame, order, migratetype);
        let block_order = self.geometry.pageblock_order;
        zone.account(1 << order, migratetype);
        if order >= block_order {
            migratetype = self.pageblocks_freed(zone, frame, order, migratetype);
        }
        while order < self.geometry.max_order {
            let buddy = frame ^ 1 << order;
            let Some(kind) = self.mergeable(zone, buddy, order, migratetype) else { break };
            self.del_from_list(zone, buddy, order, kind);
            if kind != migratetype {
                self.set_types(buddy, order, migratetype);
            }
            frame &= buddy;
            order += 1;
            if order == block_order {
                migratetype = self.pageblocks_freed(zone, frame, order, migratetype);
            }
        }
        let tail = end == ListEnd::Tail || self.merge_likely(frame, order);
        self.add_to_list(zone, frame, order, migratetype, tail);
    }

    /// Whole pageblocks became free in the zone: no CPU owns them any more. Returns the type to
    /// list them with.
    fn pageblocks_freed(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) -> Migratetype {
        self.pageblocks_of(frame, order).for_each(|block| self.blocks.disown(block));
        P::pageblocks_freed(self, zone, frame, order, migratetype)
    }

    /// The type of the list that holds a free buddy with which a block may merge.
    #[inline]
    fn mergeable(
        &self,
        zone: &Zone<F>,
        buddy: Frame,
        order: u8,
        migratetype: Migratetype,
    ) -> Option<Migratetype> {
        let word = self.frames.word(buddy);
        if !word.is_buddy_of(order) {
            return None;
        }
        if order < self.geometry.pageblock_order {
            return Some(word.migratetype());
        }
        // From here on the buddy is another pageblock, perhaps of another zone.
        let kind = self.migratetype(buddy);
        let same = kind == migratetype || kind.is_mergeable() && migratetype.is_mergeable();
        (same && self.geometry.in_zone(buddy, zone.id)).then_some(word.migratetype())
    }

    /// `buddy_merge_likely`: the block's buddy is not free, but the buddy of both together is.
    #[inline]
    fn merge_likely(&self, frame: Frame, order: u8) -> bool {
        if order + 1 >= self.geometry.max_order {
            return false;
        }
        let combined = frame & !(1 << order);
        self.frames.word(combined ^ 1 << (order + 1)).is_buddy_of(order + 1)
    }

    /// Single pages are being given back from the tail of a list: has brought near what the next
    /// ones need, first themselves and then the neighbours of the buddies they will merge with.
    #[inline(always)]
    pub(super) fn prefetch_drain(&self, pages: &PageList<F>) {
        if let Some(frame) = pages.nth_last(2 * DRAIN_AHEAD) {
            self.frames.prefetch(frame);
        }
        if let Some(frame) = pages.nth_last(DRAIN_AHEAD) {
            self.blocks.prefetch(self.pageblock(frame));
            let buddy = frame ^ 1;
            if self.frames.word(buddy).is_buddy_of(0) {
                self.frames.prefetch_neighbours(buddy);
            }
        }
    }

    /// Changes the type of all pageblocks of a block.
    pub fn set_types(&self, frame: Frame, order: u8, migratetype: Migratetype) {
        for block in self.pageblocks_of(frame, order) {
            self.blocks.set_migratetype(block, migratetype);
        }
    }

    /// The head of the free block (listed, cached or isolated) that holds a frame.
    pub fn free_block_of(&self, frame: Frame) -> Option<(Frame, FrameWord)> {
        let heads = |order: u8| frame >> order << order;
        let found = (0..=self.geometry.max_order).map(heads).find_map(|head| {
            let word = self.frames.word(head);
            match word.state() {
                FrameState::FreeTail => None,
                FrameState::Buddy | FrameState::Pcp | FrameState::Isolated => Some((head, word)),
                _ => Some((head, FrameWord::ABSENT)),
            }
        });
        found.filter(|(head, word)| *word != FrameWord::ABSENT && frame - head < 1 << word.order())
    }

    /// Marks the frames of a block as handed out, the first as its head. Nobody owns them yet.
    #[inline(always)]
    pub fn mark_allocated(
        &self,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
        content: Content,
        marks: Mark,
    ) {
        let word = FrameWord::new(FrameState::Allocated, order, migratetype, content, marks);
        self.frames.set_unowned(frame, word);
        if order > 0 {
            self.mark_tails(frame, order, migratetype, content, marks | Mark::TAIL);
        }
    }

    #[inline(never)]
    fn mark_tails(
        &self,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
        content: Content,
        marks: Mark,
    ) {
        let tail = FrameWord::new(FrameState::Allocated, 0, migratetype, content, marks);
        for inner in frame + 1..frame + (1 << order) {
            self.frames.set_unowned(inner, tail);
        }
    }
}
