//! Isolation: pageblocks whose free pages nobody may take, and single free blocks.
//!
//! `stock-allocator` 1.3 (the isolate bit), 4.3 (`__isolate_free_page`), 4.4 (pageblocks).

use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, Migratetype};

use super::buddy::{Buddy, ListEnd};
use super::flags::{AllocFlags, Mark};
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState};
use super::geometry::PageblockId;
use super::pageblock::BlockFlags;
use super::placement::Placement;
use super::watermark::Attempt;
use super::zone::Zone;
use super::zone_free::isolated_word;

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// `__isolate_free_page`: takes a listed block for compaction, if that leaves the zone above
    /// its low-order minimum. The lock is held. The block's pages then hold
    /// [`Content::Isolated`].
    pub fn isolate_free_block(&self, zone: &Zone<F>, frame: Frame, order: u8) -> bool {
        let migratetype = self.frames.word(frame).migratetype();
        if migratetype != Migratetype::Isolate {
            let mark = zone.marks[Mark::Min as usize].get() + (1 << order);
            let attempt = Attempt { order: 0, highest: ZoneKind::Dma, flags: AllocFlags::CMA };
            if !zone.watermark_ok(&attempt, mark, zone.free_pages.get()) {
                return false;
            }
        }
        self.del_from_list(zone, frame, order, migratetype);
        zone.unaccount(1 << order, migratetype);
        if order + 1 >= self.geometry.pageblock_order {
            self.make_movable(zone, frame, order);
        }
        P::block_isolated(self, zone, frame, order);
        self.shift(frame, order, Content::Free, Content::Isolated);
        self.frames.set_word(frame, isolated_word(order));
        true
    }

    /// A block of half a pageblock or more turns its pageblocks movable, with what else is free
    /// in them.
    fn make_movable(&self, zone: &Zone<F>, frame: Frame, order: u8) {
        for block in self.pageblocks_of(frame, order) {
            if self.blocks.migratetype(block).is_mergeable() {
                self.move_free_pages(zone, block, Migratetype::Movable);
                self.blocks.set_migratetype(block, Migratetype::Movable);
            }
        }
    }

    /// `set_migratetype_isolate`: isolates a pageblock. The lock is held.
    pub fn isolate_pageblock(&self, zone: &Zone<F>, block: PageblockId) {
        self.split_larger(zone, block);
        self.blocks.set(block, BlockFlags::ISOLATE);
        self.move_free_pages(zone, block, Migratetype::Isolate);
    }

    /// `unset_migratetype_isolate` for several pageblocks: their old types apply again, and free
    /// blocks merge as far as they can. The lock is held.
    pub fn unisolate_pageblocks(
        &self,
        zone: &Zone<F>,
        blocks: impl Iterator<Item = PageblockId> + Clone,
    ) {
        for block in blocks.clone() {
            // Isolated pageblocks of different own types may have merged.
            self.split_larger(zone, block);
            self.blocks.clear(block, BlockFlags::ISOLATE);
            self.move_free_pages(zone, block, self.blocks.own_type(block));
        }
        for block in blocks {
            let start = self.geometry.block_start(block);
            let word = self.frames.word(start);
            if word.state() == FrameState::Buddy && word.order() >= self.geometry.pageblock_order {
                self.del_from_list(zone, start, word.order(), word.migratetype());
                zone.unaccount(1 << word.order(), word.migratetype());
                let migratetype = self.blocks.migratetype(block);
                self.free_one_page(zone, start, word.order(), migratetype, ListEnd::ByChance);
            }
        }
    }

    /// Cuts a free block that is larger than a pageblock and covers `block` into pageblocks, each
    /// on the list of its own type.
    fn split_larger(&self, zone: &Zone<F>, block: PageblockId) {
        let block_order = self.geometry.pageblock_order;
        let Some((head, word)) = self.free_block_of(self.geometry.block_start(block)) else {
            return;
        };
        if word.state() != FrameState::Buddy || word.order() <= block_order {
            return;
        }
        self.del_from_list(zone, head, word.order(), word.migratetype());
        for part in (head..head + (1 << word.order())).step_by(1 << block_order) {
            self.add_to_list(zone, part, block_order, word.migratetype(), false);
        }
    }
}
