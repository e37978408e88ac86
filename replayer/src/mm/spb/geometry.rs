//! Where superpageblocks and pageblocks lie: the part of patch 08 that is arithmetic.
//!
//! Sizes are parameters, so that exhaustive tests can run with blocks of a few pages. Pageblocks
//! are numbered over all memory, superpageblocks over one zone.

use crate::mm::frames::Frame;
use crate::mm::geometry::PageblockId;

/// log2 of the pageblocks in a superpageblock (`SUPERPAGEBLOCK_NR_PAGEBLOCKS` is 512).
pub const SPB_BLOCKS_SHIFT: u8 = 9;

/// A superpageblock of one zone, counted from the zone's `superpageblock_base_pfn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpbId(pub u32);

impl SpbId {
    /// As an index.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How one zone's span is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpbGeometry {
    /// First frame of the zone's span.
    pub start: Frame,
    /// One past the last frame of the zone's span.
    pub end: Frame,
    /// log2 of the pages in a pageblock.
    pub pageblock_order: u8,
    /// log2 of the pageblocks in a superpageblock.
    pub blocks_shift: u8,
}

impl SpbGeometry {
    /// log2 of the pages in a superpageblock (18 on x86-64).
    #[must_use]
    #[inline]
    pub const fn spb_order(&self) -> u8 {
        self.pageblock_order + self.blocks_shift
    }

    /// `superpageblock_base_pfn`: the span's start, aligned down.
    #[must_use]
    #[inline]
    pub const fn base(&self) -> Frame {
        self.start >> self.spb_order() << self.spb_order()
    }

    /// Pages in a pageblock.
    #[must_use]
    #[inline]
    pub const fn block_pages(&self) -> u32 {
        1 << self.pageblock_order
    }

    /// Pageblocks in a whole superpageblock.
    #[must_use]
    #[inline]
    pub const fn spb_blocks(&self) -> u32 {
        1 << self.blocks_shift
    }

    /// `nr_superpageblocks` of the zone.
    #[must_use]
    pub const fn spb_count(&self) -> u32 {
        if self.start >= self.end {
            return 0;
        }
        ((self.end - 1 - self.base()) >> self.spb_order()) + 1
    }

    /// Whether the zone's span holds `frame`.
    #[must_use]
    #[inline]
    pub const fn contains(&self, frame: Frame) -> bool {
        self.start <= frame && frame < self.end
    }

    /// The superpageblock of a frame of the zone.
    #[must_use]
    #[inline]
    pub const fn spb_of(&self, frame: Frame) -> SpbId {
        SpbId((frame - self.base()) >> self.spb_order())
    }

    /// The pageblock of a frame of the zone.
    #[must_use]
    #[inline]
    pub const fn block_of(&self, frame: Frame) -> PageblockId {
        PageblockId(frame >> self.pageblock_order)
    }

    /// The superpageblock of a pageblock.
    #[must_use]
    #[inline]
    pub const fn spb_of_block(&self, block: PageblockId) -> SpbId {
        SpbId((block.0 >> self.blocks_shift) - (self.start >> self.spb_order()))
    }

    /// First frame of a pageblock, which the zone's edge may cut off.
    #[must_use]
    #[inline]
    pub const fn block_start(&self, block: PageblockId) -> Frame {
        block.0 << self.pageblock_order
    }

    /// First frame of a superpageblock, which the zone's edge may cut off.
    #[must_use]
    #[inline]
    pub const fn spb_start(&self, spb: SpbId) -> Frame {
        self.base() + (spb.0 << self.spb_order())
    }

    /// One past the last frame of a superpageblock inside the zone's span.
    #[must_use]
    pub fn spb_end(&self, spb: SpbId) -> Frame {
        (self.spb_start(spb) + (1 << self.spb_order())).min(self.end)
    }

    /// Whether the zone's span holds all of a pageblock.
    #[must_use]
    pub const fn holds_whole_block(&self, block: PageblockId) -> bool {
        let start = self.block_start(block);
        self.start <= start && start + self.block_pages() <= self.end
    }

    /// The pageblocks of a superpageblock that overlap the zone's span (partial ones count:
    /// patch 09 rounds up).
    pub fn blocks_of(&self, spb: SpbId) -> impl DoubleEndedIterator<Item = PageblockId> + use<> {
        let first = self.block_of(self.spb_start(spb)).0;
        let span_first = self.block_of(self.start).0;
        let span_end = self.block_of(self.end - 1).0 + 1;
        let end = (first + self.spb_blocks()).min(span_end);
        (first.max(span_first)..end).map(PageblockId)
    }

    /// `total_pageblocks` of a superpageblock: clipped to the zone.
    #[must_use]
    pub fn total_blocks(&self, spb: SpbId) -> u32 {
        self.blocks_of(spb).count() as u32
    }

    /// All superpageblocks of the zone.
    pub fn spbs(&self) -> impl DoubleEndedIterator<Item = SpbId> + use<> {
        (0..self.spb_count()).map(SpbId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(start: Frame, end: Frame) -> SpbGeometry {
        SpbGeometry { start, end, pageblock_order: 9, blocks_shift: SPB_BLOCKS_SHIFT }
    }

    #[test]
    fn a_whole_superpageblock_has_512_blocks() {
        let g = zone(1 << 18, 3 << 18);
        assert_eq!((g.spb_order(), g.base(), g.spb_count()), (18, 1 << 18, 2));
        assert_eq!(g.total_blocks(SpbId(1)), 512);
        assert_eq!(g.spb_of((3 << 18) - 1), SpbId(1));
        assert_eq!(g.block_of((1 << 18) + 512), PageblockId(513));
    }

    /// Zone DMA begins at pfn 1 and ends at 16 MiB; DMA32 begins where it ends.
    #[test]
    fn zone_edges_clip_superpageblocks() {
        let dma = zone(1, 4096);
        assert_eq!((dma.spb_count(), dma.total_blocks(SpbId(0))), (1, 8));
        assert!(!dma.holds_whole_block(PageblockId(0)) && dma.holds_whole_block(PageblockId(1)));
        let dma32 = zone(4096, 1 << 20);
        assert_eq!((dma32.base(), dma32.spb_count()), (0, 4));
        assert_eq!(dma32.total_blocks(SpbId(0)), 504);
        assert_eq!(dma32.blocks_of(SpbId(0)).next(), Some(PageblockId(8)));
    }

    #[test]
    fn an_empty_zone_has_none() {
        assert_eq!(zone(5, 5).spb_count(), 0);
    }
}
