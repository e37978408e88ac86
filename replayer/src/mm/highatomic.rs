//! The reserve of pageblocks for high-order atomic requests.
//!
//! `stock-allocator` 2.6.

use fragscope_trace::page::Migratetype;

use super::buddy::Buddy;
use super::flavour::{Flavour, Word};
use super::frames::Frame;
use super::placement::Placement;
use super::zone::Zone;

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// `reserve_highatomic_pageblock`: after such a request was served from `frame`.
    pub fn reserve_highatomic(&self, zone: &Zone<F>, frame: Frame, order: u8) {
        let block_pages = u64::from(self.geometry.pageblock_pages());
        let percent = zone.managed.get() / 100;
        if !self.settings.highatomic_reserve || percent < block_pages {
            return;
        }
        let limit = percent.next_multiple_of(block_pages);
        if zone.reserved_highatomic.get() >= limit {
            return;
        }
        let _guard = self.lock(zone);
        if zone.reserved_highatomic.get() >= limit || !self.migratetype(frame).is_mergeable() {
            return;
        }
        let mut reserved = 0;
        for block in self.pageblocks_of(frame, order) {
            if !self.geometry.block_is_whole(block) {
                return;
            }
            self.move_free_pages(zone, block, Migratetype::HighAtomic);
            self.blocks.set_migratetype(block, Migratetype::HighAtomic);
            reserved += block_pages;
        }
        zone.reserved_highatomic.add(reserved);
        self.counters.highatomic_reserved.add(1);
    }

    /// `unreserve_highatomic_pageblock` for one zone: gives the first reserved pageblock that has
    /// free pages to `to`. Without `force` one pageblock is kept. Whether any page moved.
    pub fn unreserve_highatomic(&self, zone: &Zone<F>, to: Migratetype, force: bool) -> bool {
        let block_pages = u64::from(self.geometry.pageblock_pages());
        let _guard = self.lock(zone);
        if !force && zone.reserved_highatomic.get() <= block_pages {
            return false;
        }
        for order in 0..=self.geometry.max_order {
            let lists = P::lists(self, zone, order, Migratetype::HighAtomic);
            let Some(frame) = lists.filter_map(|list| self.frames.first(list)).next() else {
                continue;
            };
            let mut moved = 0;
            let mut released = 0;
            for block in self.pageblocks_of(frame, order) {
                moved += self.move_free_pages(zone, block, to);
                self.blocks.set_migratetype(block, to);
                released += block_pages;
            }
            let reserved = zone.reserved_highatomic.get();
            zone.reserved_highatomic.set(reserved.saturating_sub(released));
            self.counters.highatomic_unreserved.add(1);
            return moved > 0;
        }
        false
    }
}
