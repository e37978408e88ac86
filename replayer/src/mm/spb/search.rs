//! One search for a block under the zone lock: what it asks for, what it has seen, and the steps
//! that several passes share.

use fragscope_trace::page::Migratetype;

use crate::mm::buddy::Buddy;
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::Flavour;
use crate::mm::frames::Frame;
use crate::mm::zone::Zone;

use super::category::Category;
use super::event::{Outcome, SpbEvent, WalkSnapshot};
use super::geometry::SpbId;
use super::index::{Need, Place, Walk};
use super::placement::Spb;
use super::superpageblock::Orders;
use super::zone::SpbZone;

/// A request for one block of one zone.
pub struct Search<'a, F: Flavour> {
    /// Everything below the per-CPU lists.
    pub buddy: &'a Buddy<F, Spb<F>>,
    /// The zone, whose lock is held.
    pub zone: &'a Zone<F>,
    /// Its superpageblocks.
    pub spbs: &'a SpbZone<F>,
    /// log2 of the pages wanted.
    pub order: u8,
    /// Type wanted.
    pub migratetype: Migratetype,
    /// What the attempt may do.
    pub flags: AllocFlags,
    /// Superpageblocks looked at so far.
    pub visited: u32,
}

impl<'a, F: Flavour> Search<'a, F> {
    /// A search that has looked at nothing.
    #[inline]
    pub fn new(
        buddy: &'a Buddy<F, Spb<F>>,
        zone: &'a Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Search<'a, F> {
        let spbs = buddy.placement.zone(zone.id);
        Search { buddy, zone, spbs, order, migratetype, flags, visited: 0 }
    }

    /// Largest order of a free block.
    #[inline]
    pub fn max_order(&self) -> u8 {
        self.buddy.geometry.max_order
    }

    /// log2 of the pages in a pageblock.
    #[inline]
    pub fn block_order(&self) -> u8 {
        self.buddy.geometry.pageblock_order
    }

    /// Orders of whole pageblocks that are large enough.
    #[inline]
    pub fn whole_orders(&self) -> Orders {
        Orders::range(self.order.max(self.block_order()), self.max_order())
    }

    /// Orders below a pageblock that are large enough.
    #[inline]
    pub fn part_orders(&self) -> Orders {
        Orders::range(self.order, self.block_order() - 1)
    }

    /// All orders that are large enough.
    #[inline]
    pub fn orders(&self) -> Orders {
        Orders::range(self.order, self.max_order())
    }

    /// Where pages of the wanted type belong: movable ones into clean superpageblocks, all others
    /// into tainted ones. CMA is not "movable" by the series' test (setting
    /// `cma_prefers_tainted`).
    #[inline]
    pub fn preferred(&self) -> Category {
        let clean = match self.migratetype {
            Migratetype::Movable => true,
            Migratetype::Cma => !self.buddy.settings.cma_prefers_tainted,
            _ => false,
        };
        if clean { Category::Clean } else { Category::Tainted }
    }

    /// The next superpageblock of a walk, counted as visited.
    #[inline]
    pub fn step(&mut self, walk: &mut Walk) -> Option<SpbId> {
        walk.next(self.spbs, &mut self.visited)
    }

    /// A walk over a place for blocks of one type.
    #[inline]
    pub fn walk_for(&self, place: Place, migratetype: Migratetype, orders: Orders) -> Walk {
        Walk::new(place, Need::block(migratetype, orders))
    }

    /// The first block of a superpageblock's list.
    #[inline]
    pub fn head(&self, spb: SpbId, order: u8, migratetype: Migratetype) -> Option<Frame> {
        self.buddy.frames.first(self.spbs.block_list(spb, order, migratetype))
    }

    /// Takes the wanted pages off the head of a superpageblock's list of the wanted type.
    #[inline]
    pub fn take(&self, spb: SpbId, found: u8) -> Option<Frame> {
        let frame = self.head(spb, found, self.migratetype)?;
        self.buddy.del_and_expand(self.zone, frame, self.order, found, self.migratetype);
        Some(frame)
    }

    /// Takes the wanted pages off a block of another type; what is left stays on that type's
    /// lists and the pageblock keeps its type. The pages return there when they are freed.
    pub fn lend(&self, frame: Frame, found: u8, source: Migratetype) -> Frame {
        self.buddy.del_and_expand(self.zone, frame, self.order, found, source);
        self.spbs.block_lent(&self.buddy.blocks, frame, self.order, self.migratetype);
        frame
    }

    /// What a walk over all tainted superpageblocks sees (patch 26).
    pub fn snapshot(&self) -> WalkSnapshot {
        let mut saw = WalkSnapshot::default();
        for id in self.spbs.in_category(Category::Tainted) {
            let spb = self.spbs.spb(id);
            saw.saw_free_pages |= spb.free_pages() > 0;
            saw.saw_free_pb |= spb.free() > 0;
            saw.saw_below_reserve |= spb.free() <= self.spbs.reserve(id);
        }
        saw
    }

    /// `spb_react_to_tainted_pressure` (patch 28): after a block left a tainted superpageblock
    /// that runs low, shrink slab and try to defragment.
    #[inline]
    pub fn react(&self, frame: Frame) {
        let id = self.spbs.geometry().spb_of(frame);
        let spb = self.spbs.spb(id);
        let low = spb.free_pages() < self.spbs.shrink_high_water_pages(id);
        if low && self.buddy.settings.p28 && self.spbs.category(id) == Category::Tainted {
            self.buddy.placement.background().queue_shrink(self.zone.node);
            self.spbs.start_defrag(id);
        }
    }

    /// The walk has ended: `spb_alloc_walk`.
    #[inline]
    pub fn finish(&self, outcome: Outcome) {
        self.spbs.events().emit(SpbEvent::SpbAllocWalk {
            order: self.order,
            migratetype: self.migratetype,
            alloc_flags: self.flags.bits(),
            outcome,
            n_spbs_visited: self.visited,
        });
    }

    /// `queue_spb_evacuate` and slab shrink, before a request taints or because a tainted
    /// superpageblock is below its reserve.
    pub fn relieve(&self) {
        self.buddy.placement.queue_evacuation(self);
        if self.buddy.settings.p28 {
            self.buddy.placement.background().queue_shrink(self.zone.node);
        }
    }
}
