//! What the pageblocks of a policy track hold.

use fragscope_trace::page::{Content, MAX_PAGE_ORDER};

use super::PolicyTrack;
use crate::mm::allocator::PageAllocator;
use crate::mm::frames::{Frame, FrameState};
use crate::mm::geometry::PageblockId;
use crate::observe::{BlockCensus, FreeBlocks};

impl<A: PageAllocator> PolicyTrack<A> {
    /// Pageblocks that have changed since the last call; at first all.
    pub fn take_blocks(&mut self) -> Vec<(u32, BlockCensus)> {
        let order = self.machine.pageblock_order;
        let census = |PageblockId(block): PageblockId| {
            let first = block << order;
            let migratetype = Some(self.allocator.pageblock_type(first));
            let mut lists = [0; MAX_PAGE_ORDER as usize + 1];
            let pages = self.runs(first, order, |order| lists[usize::from(order)] += 1);
            let mut free_blocks = FreeBlocks::default();
            let mut census = BlockCensus::new(migratetype, pages, free_blocks);
            for (order, count) in (0..).zip(lists).filter(|(_, count)| *count > 0) {
                free_blocks.add_many(order, count);
            }
            census.free_blocks = free_blocks;
            (block, census)
        };
        self.allocator.take_touched_blocks().into_iter().map(census).collect()
    }

    /// Pages of the pageblock at `first` as runs of equal ones. `listed` is told the order of each
    /// part of it that lies on a buddy list, whose pages are passed over at once.
    fn runs(
        &self,
        first: Frame,
        pageblock_order: u8,
        mut listed: impl FnMut(u8),
    ) -> impl Iterator<Item = (Content, u16)> {
        let frames = self.allocator.frames();
        let end = (first + (1 << pageblock_order)).min(frames.len());
        let mut at = first;
        std::iter::from_fn(move || {
            let word = (at < end).then(|| frames.word(at))?;
            let order = match word.state() {
                FrameState::Buddy => word.order().min(pageblock_order),
                // The whole pageblock lies inside a larger free block.
                FrameState::FreeTail if at == first => pageblock_order,
                _ => {
                    at += 1;
                    return Some((word.content(), 1));
                }
            };
            listed(order);
            let pages = (1 << order).min(end - at);
            at += pages;
            Some((word.content(), pages as u16))
        })
    }
}
