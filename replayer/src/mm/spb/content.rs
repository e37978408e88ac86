//! When has-bits, `PB_all_free` and the counters of a superpageblock change (patches 07 and 08):
//! the event table, one function for each event.
//!
//! Bits describe what *left the zone's lists*, not what callers hold: pages cached on a per-CPU
//! list keep their block used, and freeing the last unmovable page of a block clears nothing
//! until the whole block is free in the zone's lists again.

use fragscope_trace::page::Migratetype;

use crate::mm::flavour::Flavour;
use crate::mm::frames::Frame;
use crate::mm::geometry::PageblockId;
use crate::mm::pageblock::{BlockFlags, Pageblocks};

use super::geometry::SpbId;
use super::superpageblock::HasBit;
use super::zone::SpbZone;

impl HasBit {
    /// The bit in the pageblock table.
    #[must_use]
    pub const fn flag(self) -> BlockFlags {
        match self {
            HasBit::Unmovable => BlockFlags::HAS_UNMOVABLE,
            HasBit::Reclaimable => BlockFlags::HAS_RECLAIMABLE,
            HasBit::Movable => BlockFlags::HAS_MOVABLE,
        }
    }
}

impl<F: Flavour> SpbZone<F> {
    /// Sets the has-bit that pages of `migratetype` need; nothing if it is set already.
    pub fn set_has(&self, blocks: &Pageblocks<F>, block: PageblockId, migratetype: Migratetype) {
        let Some(bit) = HasBit::of(migratetype) else { return };
        if self.covers(block) && !blocks.has(block, bit.flag()) {
            blocks.set(block, bit.flag());
            self.count_bit(block, bit, true);
        }
    }

    /// Clears a has-bit; nothing if it is clear already.
    pub fn clear_has(&self, blocks: &Pageblocks<F>, block: PageblockId, bit: HasBit) {
        if blocks.has(block, bit.flag()) {
            blocks.clear(block, bit.flag());
            self.count_bit(block, bit, false);
        }
    }

    /// Takes a pageblock out of the wholly free ones; false if it was not one.
    fn clear_all_free(&self, blocks: &Pageblocks<F>, block: PageblockId) -> bool {
        let was = blocks.has(block, BlockFlags::ALL_FREE);
        if was {
            blocks.clear(block, BlockFlags::ALL_FREE);
            self.spb_of(block).count_free(false);
        }
        was
    }

    fn spb_of(&self, block: PageblockId) -> &super::superpageblock::Superpageblock<F> {
        self.spb(self.geometry().spb_of_block(block))
    }

    fn covers(&self, block: PageblockId) -> bool {
        self.is_covered(self.geometry().spb_of_block(block))
    }

    fn update_list_of(&self, block: PageblockId) {
        if self.covers(block) {
            self.update_list(self.geometry().spb_of_block(block));
        }
    }

    /// The pageblocks of an aligned block of at least one pageblock.
    fn blocks_in(&self, frame: Frame, order: u8) -> impl Iterator<Item = PageblockId> + use<F> {
        let first = self.geometry().block_of(frame).0;
        let count = 1 << order.saturating_sub(self.geometry().pageblock_order);
        (first..first + count).map(PageblockId)
    }

    /// Boot or hotplug initialised a pageblock of type `migratetype`.
    pub fn pageblock_initialised(
        &self,
        blocks: &Pageblocks<F>,
        block: PageblockId,
        migratetype: Migratetype,
    ) {
        self.cover(self.geometry().spb_of_block(block));
        self.spb_of(block).count_initialised();
        self.set_has(blocks, block, migratetype);
        self.update_list_of(block);
    }

    /// All memory of a pageblock was taken away: its slot is as before its initialisation.
    pub fn pageblock_removed(&self, blocks: &Pageblocks<F>, block: PageblockId) {
        HasBit::ALL.into_iter().for_each(|bit| self.clear_has(blocks, block, bit));
        self.clear_all_free(blocks, block);
        self.spb_of(block).count_removed();
        self.update_list_of(block);
    }

    /// An allocation removed a free block from the list of type `list` (`page_del_and_expand`),
    /// or relabelled it to that type (`claim_whole_block`). Of a whole pageblock or more, *every*
    /// pageblock becomes used, also those whose pages return to the lists as remainder.
    pub fn block_allocated(
        &self,
        blocks: &Pageblocks<F>,
        frame: Frame,
        order: u8,
        list: Migratetype,
    ) {
        let whole = order >= self.geometry().pageblock_order;
        for block in self.blocks_in(frame, order) {
            if whole && self.clear_all_free(blocks, block) {
                self.update_list_of(block);
            }
            let bit = if self.settings().p07 { list } else { blocks.own_type(block) };
            self.set_has(blocks, block, bit);
            self.update_list_of(block);
        }
    }

    /// A partly free pageblock was relabelled (`try_to_claim_block`): what is in it stays, so
    /// both bits are set. Between unmovable and reclaimable the block is wholly free, and the old
    /// bit is cleared instead.
    pub fn partial_block_claimed(
        &self,
        blocks: &Pageblocks<F>,
        block: PageblockId,
        old: Migratetype,
        new: Migratetype,
    ) {
        self.set_has(blocks, block, new);
        let keeps_old = self.settings().p07 && !(is_cross_type(old, new) && self.settings().p24);
        match HasBit::of(old) {
            Some(_) if keeps_old => self.set_has(blocks, block, old),
            Some(bit) if Some(bit) != HasBit::of(new) => self.clear_has(blocks, block, bit),
            _ => {}
        }
        self.update_list_of(block);
    }

    /// A block that was just taken off another type's list serves a request of type `requester`
    /// and its pageblock is not relabelled (steal, or borrow by passes 2c and 2d): the bit of the
    /// list is set already, that of the requester as well from now on.
    pub fn block_lent(
        &self,
        blocks: &Pageblocks<F>,
        frame: Frame,
        order: u8,
        requester: Migratetype,
    ) {
        if !self.settings().p07 {
            return;
        }
        for block in self.blocks_in(frame, order) {
            self.set_has(blocks, block, requester);
            self.update_list_of(block);
        }
    }

    /// A free block was taken off the lists without being allocated (page isolation, a poisoned
    /// page, offlining). Has-bits stay as they are.
    pub fn block_isolated(&self, blocks: &Pageblocks<F>, frame: Frame, order: u8) {
        if order < self.geometry().pageblock_order {
            return;
        }
        for block in self.blocks_in(frame, order) {
            if self.clear_all_free(blocks, block) {
                self.update_list_of(block);
            }
        }
    }

    /// A page that the lists did not give arrived in a pageblock: compaction moved it there, or
    /// the start state had it.
    pub fn page_arrived(
        &self,
        blocks: &Pageblocks<F>,
        block: PageblockId,
        migratetype: Migratetype,
    ) {
        let Some(bit) = HasBit::of(migratetype) else { return };
        if !blocks.has(block, bit.flag()) {
            self.set_has(blocks, block, migratetype);
            self.update_list_of(block);
        }
    }

    /// A full scan of a pageblock found no movable page, and no free page of it is on a movable
    /// list below the pageblock order (the caller looked).
    pub fn no_movable_page_found(&self, blocks: &Pageblocks<F>, block: PageblockId) {
        if blocks.has(block, HasBit::Movable.flag()) {
            self.clear_has(blocks, block, HasBit::Movable);
            self.update_list_of(block);
        }
    }

    /// A pageblock became wholly free in the zone's lists (merging reached its order, or a free
    /// that large arrived): all bits are cleared and its type falls back to movable, which is
    /// returned if it changed. The caller retypes the block and its free pages. CMA and isolated
    /// pageblocks keep their type.
    pub fn pageblock_freed(
        &self,
        blocks: &Pageblocks<F>,
        block: PageblockId,
    ) -> Option<Migratetype> {
        HasBit::ALL.into_iter().for_each(|bit| self.clear_has(blocks, block, bit));
        if self.covers(block) && !blocks.has(block, BlockFlags::ALL_FREE) {
            blocks.set(block, BlockFlags::ALL_FREE);
            self.spb_of(block).count_free(true);
        }
        self.update_list_of(block);
        let falls_back = matches!(
            blocks.migratetype(block),
            Migratetype::Unmovable | Migratetype::Reclaimable | Migratetype::HighAtomic
        );
        (falls_back && self.covers(block)).then_some(Migratetype::Movable)
    }

    /// Pageblocks of a superpageblock with a has-bit, ascending.
    pub fn blocks_with<'a>(
        &self,
        blocks: &'a Pageblocks<F>,
        spb: SpbId,
        bit: HasBit,
    ) -> impl Iterator<Item = PageblockId> + use<'a, F> {
        self.geometry().blocks_of(spb).filter(move |b| blocks.has(*b, bit.flag()))
    }
}

/// Unmovable against reclaimable.
#[must_use]
#[inline]
pub fn is_cross_type(a: Migratetype, b: Migratetype) -> bool {
    use Migratetype::{Reclaimable, Unmovable};
    matches!((a, b), (Unmovable, Reclaimable) | (Reclaimable, Unmovable))
}
