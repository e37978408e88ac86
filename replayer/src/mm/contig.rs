//! Contiguous allocation: isolate a range, move out what can move, take it whole.
//!
//! `stock-allocator` 4.4. A range fails early on what is seen to be unmovable, and late, after
//! others were moved, on what only turns out to be (pinned pages, order-0 slab pages).

use std::ops::Range;

use fragscope_trace::page::{Content, CpuId, Migratetype};

use super::buddy::Buddy;
use super::cache::Cache;
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState, Mark};
use super::geometry::PageblockId;
use super::migrate::{Effort, Emptied};
use super::page_alloc::Mm;
use super::pageblock::BlockFlags;
use super::placement::Placement;
use super::zone::Zone;

/// Attempts at a candidate that the policy names, and at a range of the scan.
const ATTEMPTS: [u32; 2] = [2, 1];

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// `alloc_contig_pages` as a gigantic hugetlb request calls it: the candidates of the policy,
    /// then every aligned start, in zones from NORMAL downwards.
    pub(super) fn alloc_contig_block(
        &self,
        order: u8,
        cpu: CpuId,
        content: Content,
    ) -> Option<Frame> {
        let node = self.buddy.geometry.node_of_cpu(self.buddy.geometry.cpu(cpu));
        for id in &node.zonelist {
            let zone = self.buddy.zone(*id);
            if zone.kind.gigantic_obtainable()
                && let Some(frame) = self.contig_in_zone(zone, order, cpu)
            {
                self.hand_out_contig(zone, frame, order, content);
                return Some(frame);
            }
        }
        None
    }

    fn contig_in_zone(&self, zone: &Zone<F>, order: u8, cpu: CpuId) -> Option<Frame> {
        let mut candidates = Vec::new();
        {
            let _guard = self.buddy.lock(zone);
            P::contig_candidates(&self.buddy, zone, order, &mut candidates);
        }
        let first = u64::from(zone.start).next_multiple_of(1 << order);
        let scan = (first..u64::from(zone.end)).step_by(1 << order).map(|start| start as Frame);
        let candidates = candidates.into_iter().map(|start| (start, ATTEMPTS[0]));
        let mut starts = candidates.chain(scan.map(|start| (start, ATTEMPTS[1])));
        starts.find_map(|(start, attempts)| {
            (0..attempts).any(|_| self.empty_range(zone, start, order, cpu)).then_some(start)
        })
    }

    /// `alloc_contig_range`: makes every page of an aligned range free and takes it off all
    /// lists. The range is as it was, but for pages moved, if that fails.
    fn empty_range(&self, zone: &Zone<F>, start: Frame, order: u8, cpu: CpuId) -> bool {
        let range = u64::from(start)..u64::from(start) + (1 << order);
        if !self.buddy.range_may_move(zone, range.clone()) {
            return false;
        }
        let range = range.start as Frame..range.end as Frame;
        self.buddy.counters.contig_attempts.add(1);
        let blocks = self.buddy.blocks_touching(&range);
        self.isolate_pageblocks(zone, blocks.clone());
        let emptied = self.move_out(&range, cpu) && self.buddy.all_listed(&range);
        let _guard = self.buddy.lock(zone);
        if emptied {
            self.buddy.counters.contig_success.add(1);
            self.buddy.take_listed(zone, &range);
        }
        self.buddy.unisolate_pageblocks(zone, blocks);
        emptied
    }

    /// Isolates pageblocks and brings their cached and parked pages to the zone's lists.
    pub(super) fn isolate_pageblocks(
        &self,
        zone: &Zone<F>,
        blocks: impl Iterator<Item = PageblockId>,
    ) {
        {
            let _guard = self.buddy.lock(zone);
            blocks.for_each(|block| self.buddy.isolate_pageblock(zone, block));
        }
        self.cache.drain_zone(&self.buddy, zone);
        let _guard = self.buddy.lock(zone);
        self.buddy.flush_deferred(zone);
    }

    /// Moves every movable block of a range elsewhere. `false` at the first page that stays.
    pub(super) fn move_out(&self, range: &Range<Frame>, cpu: CpuId) -> bool {
        let mut frame = range.start;
        if self.buddy.frames.word(frame).marks().contains(Mark::TAIL) {
            // A block that reaches into the range is split: its other pages may stay.
            self.buddy.split_around(frame, 0);
        }
        while frame < range.end {
            let word = self.buddy.frames.word(frame);
            let pages = 1 << word.order();
            frame += match word.state() {
                FrameState::Buddy | FrameState::Pcp | FrameState::Isolated => pages,
                FrameState::FreeTail | FrameState::Absent => 1,
                FrameState::Reserved => return false,
                FrameState::Allocated => {
                    let Some(order) = self.buddy.movable_block(frame) else { return false };
                    let zone = Emptied::Zone;
                    if self.migrate_block(frame, order, cpu, zone, Effort::Reclaim) < pages {
                        return false;
                    }
                    pages
                }
            };
        }
        true
    }

    /// Marks a range that was taken off all lists as one allocated block.
    fn hand_out_contig(&self, zone: &Zone<F>, frame: Frame, order: u8, content: Content) {
        let buddy = &self.buddy;
        buddy.mark_allocated(frame, order, Migratetype::Unmovable, content, Mark::empty());
        for part in buddy.parts(frame, order) {
            buddy.shift(part, buddy.part_order(order), Content::Free, content);
        }
        let _guard = buddy.lock(zone);
        P::contig_changed(buddy, frame, order, true);
    }
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// The pageblocks that a range lies in.
    pub(super) fn blocks_touching(
        &self,
        range: &Range<Frame>,
    ) -> impl Iterator<Item = PageblockId> + Clone + use<F, P> {
        let order = self.geometry.pageblock_order;
        (range.start >> order..((range.end - 1) >> order) + 1).map(PageblockId)
    }

    /// `pfn_range_valid_contig` and `start_isolate_page_range`, before anything is changed: every
    /// page is there, in the zone, not reserved, not hugetlb, and no page is seen to be
    /// unmovable.
    fn range_may_move(&self, zone: &Zone<F>, range: Range<u64>) -> bool {
        if range.start < u64::from(zone.start) || range.end > u64::from(zone.end) {
            return false;
        }
        let range = range.start as Frame..range.end as Frame;
        self.blocks_touching(&range).all(|block| {
            let inside = self.geometry.block_start(block).max(range.start);
            self.geometry.in_zone(inside, zone.id)
                && self.blocks.has(block, BlockFlags::ONLINE)
                && !self.blocks.has(block, BlockFlags::ISOLATE)
                && self.blocks.own_type(block) != Migratetype::Cma
                && self.block_may_move(block, &range)
        })
    }

    /// `has_unmovable_pages`, inverted, for the part of a pageblock in a range.
    fn block_may_move(&self, block: PageblockId, range: &Range<Frame>) -> bool {
        let start = self.geometry.block_start(block);
        let end = (start + self.geometry.pageblock_pages()).min(range.end);
        (start.max(range.start)..end).all(|frame| {
            let word = self.frames.word(frame);
            match word.state() {
                FrameState::Absent | FrameState::Reserved => false,
                FrameState::Allocated => looks_movable(word.content(), word.order(), word.marks()),
                _ => true,
            }
        })
    }

    /// Whether every page of a range is on the zone's buddy lists.
    fn all_listed(&self, range: &Range<Frame>) -> bool {
        let mut frame = range.start;
        while frame < range.end {
            let word = self.frames.word(frame);
            if word.state() != FrameState::Buddy {
                return false;
            }
            frame += 1 << word.order();
        }
        frame == range.end
    }

    /// Takes every block of a range off its list; all of it is listed. The lock is held.
    fn take_listed(&self, zone: &Zone<F>, range: &Range<Frame>) {
        let mut frame = range.start;
        while frame < range.end {
            let word = self.frames.word(frame);
            self.del_from_list(zone, frame, word.order(), word.migratetype());
            zone.unaccount(1 << word.order(), word.migratetype());
            P::block_isolated(self, zone, frame, word.order());
            frame += 1 << word.order();
        }
    }
}

/// What isolation takes for movable: LRU pages, pinned or not, pages movable by their driver, and
/// order-0 slab pages, which have no reference.
fn looks_movable(content: Content, order: u8, marks: Mark) -> bool {
    let single = order == 0 && !marks.contains(Mark::TAIL);
    super::claim::looks_movable(content) || content == Content::Slab && single
}
