//! The two scanners of compaction: movable pages from the bottom of a zone, free blocks from its
//! top.
//!
//! `stock-allocator` 4.3.

use fragscope_trace::page::Migratetype;

use super::cache::Cache;
use super::compact::{Caller, Goal, Priority};
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState};
use super::geometry::PageblockId;
use super::page_alloc::Mm;
use super::pageblock::BlockFlags;
use super::placement::Placement;
use super::zone::Zone;

/// `COMPACT_CLUSTER_MAX`: pages per round.
const COMPACT_CLUSTER_MAX: u32 = 32;

/// Blocks on their way out of their frames.
#[derive(Debug, Default)]
pub(super) struct Batch {
    blocks: [(Frame, u8); COMPACT_CLUSTER_MAX as usize],
    len: usize,
    pages: u32,
}

impl Batch {
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    fn is_full(&self) -> bool {
        self.pages >= COMPACT_CLUSTER_MAX || self.len == self.blocks.len()
    }

    fn push(&mut self, frame: Frame, order: u8) {
        self.blocks[self.len] = (frame, order);
        self.len += 1;
        self.pages += 1 << order;
    }

    /// Forgets the blocks from `frame` on.
    fn drop_from(&mut self, frame: Frame) {
        while self.len > 0 && self.blocks[self.len - 1].0 >= frame {
            self.len -= 1;
            self.pages -= 1 << self.blocks[self.len].1;
        }
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Frame, u8)> + use<> {
        let taken = std::mem::take(self);
        taken.blocks.into_iter().take(taken.len)
    }
}

/// What a look at the next source pageblock gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sources {
    /// Blocks to move.
    Found,
    /// Nothing here; there is more to scan.
    Scanned,
    /// The scanner reached the other one or the end of the zone.
    End,
}

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// `isolate_migratepages`: from one pageblock, or the rest of it.
    pub(super) fn isolate_sources(
        &self,
        zone: &Zone<F>,
        goal: &Goal,
        batch: &mut Batch,
    ) -> Sources {
        let state = &zone.compaction;
        let geometry = &self.buddy.geometry;
        let at = state.migrate_pfn.get();
        let here = geometry.pageblock(at);
        let block = P::next_source(&self.buddy, zone, here);
        let start = if block == here { at } else { geometry.block_start(block) };
        if start >= state.free_pfn.get() || start >= zone.end {
            return Sources::End;
        }
        let end = geometry.block_start(PageblockId(block.0 + 1)).min(zone.end);
        if !self.is_source(zone, goal, block) {
            state.migrate_pfn.set(end);
            return Sources::Scanned;
        }
        let reached = self.scan_block(goal, start, end, batch);
        state.migrate_pfn.set(reached);
        if batch.len > 0 {
            return Sources::Found;
        }
        let whole = start == geometry.block_in_zone(block).start && reached == end;
        if whole && !goal.ignores_hints() {
            self.buddy.blocks.set(block, BlockFlags::SKIP);
        }
        Sources::Scanned
    }

    /// Whether the migration scanner looks into a pageblock.
    fn is_source(&self, zone: &Zone<F>, goal: &Goal, block: PageblockId) -> bool {
        let blocks = &self.buddy.blocks;
        let start = self.buddy.geometry.block_start(block);
        if !self.buddy.geometry.in_zone(start, zone.id) || !blocks.has(block, BlockFlags::ONLINE) {
            return false;
        }
        if !goal.ignores_hints() && blocks.has(block, BlockFlags::SKIP) {
            return false;
        }
        if goal.priority != Priority::Async || goal.caller != Caller::Direct {
            return true;
        }
        let kind = blocks.migratetype(block);
        match goal.migratetype {
            Migratetype::Movable => matches!(kind, Migratetype::Movable | Migratetype::Cma),
            other => kind == other,
        }
    }

    /// `isolate_migratepages_block`: collects movable blocks until the batch is full. An
    /// asynchronous direct run gives up an aligned chunk of the wanted order at its first page
    /// that cannot move. Returns where the next look begins.
    fn scan_block(&self, goal: &Goal, start: Frame, end: Frame, batch: &mut Batch) -> Frame {
        let gives_up = goal.priority == Priority::Async && goal.caller == Caller::Direct;
        let chunk = 1 << goal.order;
        let mut frame = start;
        while frame < end && !batch.is_full() {
            let (pages, movable) = self.look_at(frame, goal);
            if let Some(order) = movable {
                batch.push(frame, order);
            } else if gives_up && self.stands_in_the_way(frame) {
                let first = frame / chunk * chunk;
                batch.drop_from(first);
                frame = (first + chunk).min(end);
                continue;
            }
            frame += pages;
        }
        self.buddy.counters.compact_migrate_scanned.add(u64::from(frame.min(end) - start));
        frame.min(end)
    }

    /// How far the block at a frame reaches, and its order if it can move. Blocks of the wanted
    /// order and more are left alone.
    fn look_at(&self, frame: Frame, goal: &Goal) -> (u32, Option<u8>) {
        let word = self.buddy.frames.word(frame);
        match word.state() {
            FrameState::Buddy | FrameState::Pcp | FrameState::Isolated => (1 << word.order(), None),
            FrameState::Allocated => {
                let limit = goal.order.min(self.buddy.geometry.pageblock_order);
                let movable = self.buddy.movable_block(frame);
                let small = movable.filter(|order| *order < limit);
                (1 << word.order(), small)
            }
            _ => (1, None),
        }
    }

    fn stands_in_the_way(&self, frame: Frame) -> bool {
        let state = self.buddy.frames.word(frame).state();
        matches!(state, FrameState::Allocated | FrameState::Reserved | FrameState::Absent)
    }

    /// `isolate_freepages`: takes free blocks from pageblocks downwards until `pages` are
    /// isolated or the scanners meet.
    pub(super) fn isolate_targets(&self, zone: &Zone<F>, goal: &Goal, pages: u32) {
        let state = &zone.compaction;
        let geometry = &self.buddy.geometry;
        let low = geometry.pageblock(state.migrate_pfn.get().max(zone.start + 1) - 1);
        self.isolate_preferred(zone, goal, pages, low);
        while state.isolated_pages.get() < pages {
            let free = state.free_pfn.get();
            let block = geometry.pageblock(free.max(1) - 1);
            if block <= low || free <= zone.start {
                return;
            }
            let start = geometry.block_start(block).max(zone.start);
            if !self.is_target(zone, goal, block) {
                state.free_pfn.set(start);
                continue;
            }
            if !self.take_targets(zone, block, pages) {
                return;
            }
            if state.isolated_pages.get() < pages {
                state.free_pfn.set(start);
            }
        }
    }

    /// Isolates the targets that the policy prefers, as far as they lie above the pageblock where
    /// the migration scanner is, so that nothing is moved twice.
    fn isolate_preferred(&self, zone: &Zone<F>, goal: &Goal, pages: u32, low: PageblockId) {
        let buddy = &self.buddy;
        let (state, limit) = (&zone.compaction, goal.order.min(buddy.geometry.pageblock_order));
        let _guard = buddy.lock(zone);
        let mut preferred = Vec::new();
        P::preferred_targets(buddy, zone, limit, pages, &mut preferred);
        for frame in preferred {
            let order = buddy.frames.word(frame).order();
            if state.isolated_pages.get() >= pages
                || buddy.pageblock(frame) > low && !buddy.isolate_free_block(zone, frame, order)
            {
                return;
            }
            if buddy.pageblock(frame) > low {
                buddy.frames.push_tail(state.list(order), frame);
                state.isolated_pages.add(1 << order);
            }
        }
    }

    /// `suitable_migration_target`
    fn is_target(&self, zone: &Zone<F>, goal: &Goal, block: PageblockId) -> bool {
        let buddy = &self.buddy;
        let start = buddy.geometry.block_start(block);
        if !buddy.geometry.in_zone(start, zone.id)
            || !buddy.blocks.has(block, BlockFlags::ONLINE)
            || !goal.ignores_hints() && buddy.blocks.has(block, BlockFlags::SKIP)
        {
            return false;
        }
        let word = buddy.frames.word(start);
        let limit = match goal.caller {
            Caller::Proactive => buddy.geometry.pageblock_order,
            _ => goal.order,
        };
        if word.state() == FrameState::Buddy && word.order() >= limit {
            return false;
        }
        let kind = buddy.blocks.migratetype(block);
        let movable = matches!(kind, Migratetype::Movable | Migratetype::Cma);
        (movable || goal.ignores_hints()) && P::is_target(buddy, zone, block)
    }

    /// `isolate_freepages_block`: takes the free blocks of one pageblock. `false` if the
    /// watermark allows no more.
    fn take_targets(&self, zone: &Zone<F>, block: PageblockId, pages: u32) -> bool {
        let buddy = &self.buddy;
        let range = buddy.geometry.block_in_zone(block);
        let before = zone.compaction.isolated_pages.get();
        let _guard = buddy.lock(zone);
        let mut frame = range.start;
        while frame < range.end {
            let word = buddy.frames.word(frame);
            buddy.counters.compact_free_scanned.add(1);
            if word.state() != FrameState::Buddy {
                frame += 1;
                continue;
            }
            if !buddy.isolate_free_block(zone, frame, word.order()) {
                return false;
            }
            buddy.frames.push_tail(zone.compaction.list(word.order()), frame);
            zone.compaction.isolated_pages.add(1 << word.order());
            if zone.compaction.isolated_pages.get() >= pages {
                return true;
            }
            frame += 1 << word.order();
        }
        if zone.compaction.isolated_pages.get() == before {
            buddy.blocks.set(block, BlockFlags::SKIP);
        }
        true
    }
}
