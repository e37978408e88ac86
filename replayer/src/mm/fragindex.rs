//! How fragmented a zone is: the kernel's indices, and its score for proactive compaction.
//!
//! `stock-allocator` 4.1.

use super::flavour::{Flavour, Word};
use super::zone::Zone;

/// Free memory of a zone as one order sees it (`struct contig_page_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContigPages {
    /// Free pages.
    pub free_pages: u64,
    /// Free blocks of any order.
    pub blocks: u64,
    /// Blocks of the order that the larger ones could be cut into.
    pub suitable: u64,
}

impl ContigPages {
    /// From free blocks by order.
    #[must_use]
    pub fn new(free_blocks: impl Iterator<Item = u64>, order: u8) -> ContigPages {
        let mut info = ContigPages::default();
        for (of, blocks) in free_blocks.enumerate() {
            info.blocks += blocks;
            info.free_pages += blocks << of;
            if of >= usize::from(order) {
                info.suitable += blocks << (of - usize::from(order));
            }
        }
        info
    }

    /// `fragmentation_index` in 1/1000: towards 0 a failure is lack of memory, towards 1000
    /// fragmentation; -1000 if the request would not fail.
    #[must_use]
    pub fn fragmentation_index(self, order: u8) -> i64 {
        if self.blocks == 0 {
            return 0;
        }
        if self.suitable > 0 {
            return -1000;
        }
        let requested = 1u64 << order;
        1000 - ((1000 + self.free_pages * 1000 / requested) / self.blocks) as i64
    }

    /// `unusable_free_index` in 1/1000: the part of free memory that is of no use to the order.
    #[must_use]
    pub fn unusable_index(self, order: u8) -> u64 {
        if self.free_pages == 0 {
            return 1000;
        }
        (self.free_pages - (self.suitable << order)) * 1000 / self.free_pages
    }

    /// `extfrag_for_order` in percent.
    #[must_use]
    pub fn external_fragmentation(self, order: u8) -> u64 {
        if self.free_pages == 0 {
            return 0;
        }
        (self.free_pages - (self.suitable << order)) * 100 / self.free_pages
    }
}

impl<F: Flavour> Zone<F> {
    /// Free memory of the zone as one order sees it.
    pub fn contig_pages(&self, order: u8) -> ContigPages {
        let orders = 0..fragscope_trace::page::NR_PAGE_ORDERS as u8;
        ContigPages::new(orders.map(|o| self.nr_free(o)), order)
    }

    /// `fragmentation_score_zone_weighted`: the zone's part of its node's score.
    pub fn weighted_score(&self, pageblock_order: u8, node_present: u64) -> u64 {
        let score = self.contig_pages(pageblock_order).external_fragmentation(pageblock_order);
        self.present.get() * score / (node_present + 1)
    }
}

/// `fragmentation_score_wmark`: the scores at which proactive compaction ends and begins.
#[must_use]
pub fn score_marks(proactiveness: u64) -> (u64, u64) {
    let low = 100 - proactiveness.min(100);
    let low = low.max(5);
    (low, (low + 10.min(low / 2)).min(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(blocks: &[u64], order: u8) -> ContigPages {
        ContigPages::new(blocks.iter().copied(), order)
    }

    /// 100 single pages and 50 pairs: 200 pages in 150 blocks. For order 2 nothing fits: 1000 -
    /// (1000 + 200000 / 4) / 150 = 1000 - 340 = 660. For order 1 the 50 pairs fit, 100 of the 200
    /// pages are of no use.
    #[test]
    fn indices_of_small_blocks() {
        let info = pages(&[100, 50, 0], 2);
        assert_eq!((info.free_pages, info.blocks, info.suitable), (200, 150, 0));
        assert_eq!(info.fragmentation_index(2), 660);
        assert_eq!((info.unusable_index(2), info.external_fragmentation(2)), (1000, 100));
        let info = pages(&[100, 50, 0], 1);
        assert_eq!(info.fragmentation_index(1), -1000);
        assert_eq!((info.unusable_index(1), info.external_fragmentation(1)), (500, 50));
    }

    #[test]
    fn an_empty_zone_lacks_memory() {
        assert_eq!(pages(&[0, 0], 1).fragmentation_index(1), 0);
        assert_eq!(pages(&[0, 0], 1).unusable_index(1), 1000);
    }

    /// Proactiveness 20: from 80, plus 10, at most 100. 100: at least 5, plus 2.
    #[test]
    fn thresholds_follow_the_proactiveness() {
        assert_eq!(score_marks(20), (80, 90));
        assert_eq!(score_marks(0), (100, 100));
        assert_eq!(score_marks(100), (5, 7));
    }
}
