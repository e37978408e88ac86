//! Turning a pageblock over to another type: counting, the claim rule, watermark boost.
//!
//! `stock-allocator` 2.5 (`try_to_claim_block`). Everything here runs under the zone lock.

use fragscope_trace::page::{Content, Migratetype};

use super::buddy::Buddy;
use super::flags::{AllocFlags, Mark};
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState};
use super::geometry::PageblockId;
use super::placement::Placement;
use super::zone::{Zone, ZoneFlags};

/// Pages of a pageblock as the claim rule counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockPages {
    /// On buddy lists.
    pub free: u32,
    /// On an LRU list or movable by their driver.
    pub movable: u32,
}

/// Whether a content is on an LRU list or movable by its driver. A pinned page is on its LRU
/// list as any other.
#[must_use]
pub const fn looks_movable(content: Content) -> bool {
    content.is_movable() || matches!(content, Content::Pinned)
}

/// `should_try_claim_block`
#[must_use]
pub fn should_try_claim(order: u8, want: Migratetype, pageblock_order: u8, grouping: bool) -> bool {
    order >= pageblock_order / 2
        || matches!(want, Migratetype::Unmovable | Migratetype::Reclaimable)
        || !grouping
}

/// How many of a pageblock's pages would fit its new type, beside the free ones.
#[must_use]
pub fn alike_pages(
    pages: BlockPages,
    block_pages: u32,
    want: Migratetype,
    have: Migratetype,
) -> u32 {
    match (want, have) {
        (Migratetype::Movable, _) => pages.movable,
        // Mixing unmovable and reclaimable pages gains nothing.
        (_, Migratetype::Movable) => block_pages - pages.free - pages.movable,
        _ => 0,
    }
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// Counts the pages of a pageblock.
    pub fn count_block_pages(&self, block: PageblockId) -> BlockPages {
        let start = self.geometry.block_start(block);
        let end = start + self.geometry.pageblock_pages();
        let mut pages = BlockPages::default();
        let mut frame = start;
        while frame < end {
            let word = self.frames.word(frame);
            match word.state() {
                FrameState::Buddy => {
                    pages.free += 1 << word.order();
                    frame += 1 << word.order();
                    continue;
                }
                FrameState::Allocated if looks_movable(word.content()) => pages.movable += 1,
                _ => {}
            }
            frame += 1;
        }
        pages
    }

    /// `__move_freepages_block`: moves the free blocks of a pageblock to the tails of another
    /// type's lists. The pageblock's type is not changed. Returns the pages moved.
    pub fn move_free_pages(&self, zone: &Zone<F>, block: PageblockId, to: Migratetype) -> u32 {
        let start = self.geometry.block_start(block);
        let end = start + self.geometry.pageblock_pages();
        let mut moved = 0;
        let mut frame = start;
        while frame < end {
            let word = self.frames.word(frame);
            if word.state() != FrameState::Buddy {
                frame += 1;
                continue;
            }
            self.move_to_list(zone, frame, word.order(), word.migratetype(), to);
            moved += 1 << word.order();
            frame += 1 << word.order();
        }
        moved
    }

    /// Turns a whole listed block of at least a pageblock over to `want` and takes the lowest
    /// `1 << order` pages of it.
    pub fn claim_whole_block(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        block_order: u8,
        order: u8,
        want: Migratetype,
    ) -> Frame {
        let have = self.frames.word(frame).migratetype();
        self.del_from_list(zone, frame, block_order, have);
        zone.unaccount(1 << block_order, have);
        self.set_types(frame, block_order, want);
        P::block_taken(self, zone, frame, block_order, want);
        self.expand(zone, frame, order, block_order, want);
        zone.account((1 << block_order) - (1 << order), want);
        self.note_claim(frame, &self.counters.claims_whole);
        frame
    }

    /// The pages of a pageblock smaller claims turn over, if at least half of them would follow:
    /// moves the free ones and changes its type. A pageblock that reaches out of its zone is
    /// never claimed.
    pub fn claim_partial_block(
        &self,
        zone: &Zone<F>,
        block: PageblockId,
        want: Migratetype,
        have: Migratetype,
        half_rule: bool,
    ) -> bool {
        if !self.geometry.block_is_whole(block) {
            return false;
        }
        let block_pages = self.geometry.pageblock_pages();
        if half_rule {
            let pages = self.count_block_pages(block);
            if pages.free + alike_pages(pages, block_pages, want, have) < block_pages / 2 {
                self.counters.claims_refused.add(1);
                return false;
            }
        }
        self.move_free_pages(zone, block, want);
        self.blocks.set_migratetype(block, want);
        self.note_claim(self.geometry.block_start(block), &self.counters.claims_partial);
        true
    }

    /// Counts a claim of the block at `frame`, on the machine as `kind`, and in its region.
    pub(super) fn note_claim(&self, frame: Frame, kind: &F::U64) {
        kind.add(1);
        self.fallbacks.claimed(&self.geometry, frame);
    }

    /// Counts a steal of the block at `frame`, on the machine and in its region.
    pub(super) fn note_steal(&self, frame: Frame) {
        self.counters.steals.add(1);
        self.fallbacks.stolen(&self.geometry, frame);
    }

    /// `boost_watermark`, called before a claim of less than a pageblock whether it succeeds or
    /// not.
    pub fn boost_watermark(&self, zone: &Zone<F>, flags: AllocFlags) {
        let factor = self.tunables.watermark_boost_factor;
        let block_pages = u64::from(self.geometry.pageblock_pages());
        if factor == 0 || zone.managed.get() < 4 * block_pages {
            return;
        }
        let high = zone.marks[Mark::High as usize].get();
        let max = (u128::from(high) * u128::from(factor) / 10_000) as u64;
        if max == 0 {
            return;
        }
        let limit = max.max(block_pages);
        zone.boost.set((zone.boost.get() + block_pages).min(limit));
        self.counters.watermark_boosts.add(1);
        if flags.contains(AllocFlags::KSWAPD) {
            zone.set_flags(ZoneFlags::BOOSTED_WATERMARK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Migratetype::{Movable, Reclaimable, Unmovable};

    /// pageblock_order 9: small movable requests claim from order 9 / 2 = 4 on, the others
    /// always, everybody without grouping.
    #[test]
    fn who_may_claim() {
        let orders = |want, grouping| (0..=10).find(|o| should_try_claim(*o, want, 9, grouping));
        assert_eq!(orders(Movable, true), Some(4));
        assert_eq!(orders(Unmovable, true), Some(0));
        assert_eq!(orders(Reclaimable, true), Some(0));
        assert_eq!(orders(Movable, false), Some(0));
    }

    /// 100 free, 200 movable of 512 pages: 212 are neither.
    #[test]
    fn what_would_follow_a_claim() {
        let pages = BlockPages { free: 100, movable: 200 };
        assert_eq!(alike_pages(pages, 512, Movable, Unmovable), 200);
        assert_eq!(alike_pages(pages, 512, Movable, Reclaimable), 200);
        assert_eq!(alike_pages(pages, 512, Unmovable, Movable), 212);
        assert_eq!(alike_pages(pages, 512, Reclaimable, Movable), 212);
        assert_eq!(alike_pages(pages, 512, Unmovable, Reclaimable), 0);
        assert_eq!(alike_pages(pages, 512, Reclaimable, Unmovable), 0);
    }
}
