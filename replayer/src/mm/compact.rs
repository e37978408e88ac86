//! Compaction of one zone: what a run is after, when it ends, and the loop between its scanners.
//!
//! `stock-allocator` 4.2 (suitability) and 4.3 (run). The scanners are in [`super::scanner`].
//! Not modelled: the fast searches of free lists, which only shorten the scan, and capture, which
//! hands a fresh block to the waiting request a moment earlier.

use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, CpuId, Migratetype};

use super::cache::Cache;
use super::claim::should_try_claim;
use super::flags::{AllocFlags, Mark};
use super::flavour::{Flavour, Lock, Word};
use super::fragindex::score_marks;
use super::frames::{Frame, FrameWord};
use super::geometry::PageblockId;
use super::migrate::Emptied;
use super::page_alloc::Mm;
use super::pageblock::BlockFlags;
use super::pcp::COSTLY_ORDER;
use super::placement::Placement;
use super::request::FreeEntry;
use super::rmqueue::fallbacks;
use super::scanner::{Batch, Sources};
use super::watermark::Attempt;
use super::zone::Zone;
use super::zone_free::isolated_word;

/// How hard a run tries (`enum compact_priority`, hardest last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Asynchronous: only what costs nothing.
    Async,
    /// Waits for little.
    SyncLight,
    /// The whole zone, whatever the skip bits say.
    Full,
}

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A request that waits.
    Direct,
    /// The background thread, for an order.
    Background,
    /// The background thread, to lower the fragmentation score.
    Proactive,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A block of the order is there.
    Success,
    /// The scanners met.
    Complete,
    /// There was no chance to begin with.
    Skipped,
    /// Put off after earlier failures.
    Deferred,
}

/// What one run is after (`struct compact_control`).
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Order wanted; the pageblock order for a proactive run.
    pub order: u8,
    /// Type of the request.
    pub migratetype: Migratetype,
    /// Highest zone that may serve the request.
    pub highest: ZoneKind,
    /// Flags of the request, for the watermark.
    pub flags: AllocFlags,
    /// How hard to try.
    pub priority: Priority,
    /// Who runs it.
    pub caller: Caller,
    /// CPU whose lists take the freed pages.
    pub cpu: CpuId,
}

impl Goal {
    /// Whether skip bits and cached positions are ignored.
    pub(super) fn ignores_hints(&self) -> bool {
        self.priority == Priority::Full
    }
}

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// `compact_zone`
    pub fn compact_zone(&self, zone: &Zone<F>, goal: &Goal) -> Outcome {
        if goal.caller != Caller::Proactive
            && let Some(outcome) = self.not_worthwhile(zone, goal)
        {
            return outcome;
        }
        let Some(_guard) = zone.compaction.lock.try_guard() else { return Outcome::Skipped };
        let state = &zone.compaction;
        if state.restarting(goal.order) || state.flush_skip.get() != 0 {
            self.reset_skip_bits(zone);
        }
        if goal.ignores_hints() {
            state.reset_positions();
        }
        let outcome = self.run(zone, goal);
        self.release_isolated(zone, goal.cpu);
        outcome
    }

    /// `compaction_suit_allocation_order`: success if there is a block already, skipped if there
    /// is too little memory to work with or fragmentation is not the trouble.
    fn not_worthwhile(&self, zone: &Zone<F>, goal: &Goal) -> Option<Outcome> {
        let mark = zone.mark(goal.flags.mark());
        let attempt = Attempt { order: goal.order, highest: goal.highest, flags: goal.flags };
        let free = zone.free_pages.get();
        if zone.watermark_ok(&attempt, mark, free) {
            return Some(Outcome::Success);
        }
        if !self.suitable(zone, goal, mark, free) {
            return Some(Outcome::Skipped);
        }
        None
    }

    /// `compaction_suitable`: room for the pages on the move, and a request that fails for
    /// fragmentation. Runs for more than a costly order need room up to the low watermark.
    fn suitable(&self, zone: &Zone<F>, goal: &Goal, mark: u64, free: u64) -> bool {
        let costly = goal.order > COSTLY_ORDER;
        let mark = if costly { mark.max(zone.mark(Mark::Low)) } else { mark };
        let attempt = Attempt { order: 0, highest: goal.highest, flags: AllocFlags::CMA };
        if !zone.watermark_ok(&attempt, mark + (2 << goal.order), free) {
            return false;
        }
        let index = zone.contig_pages(goal.order).fragmentation_index(goal.order);
        let threshold = self.buddy.tunables.extfrag_threshold as i64;
        !costly || !(0..=threshold).contains(&index)
    }

    fn run(&self, zone: &Zone<F>, goal: &Goal) -> Outcome {
        let mut batch = Batch::default();
        loop {
            if let Some(outcome) = self.finished(zone, goal) {
                return outcome;
            }
            match self.isolate_sources(zone, goal, &mut batch) {
                Sources::Found => self.migrate_batch(zone, goal, &mut batch),
                Sources::Scanned => {}
                Sources::End => zone.compaction.meet(),
            }
        }
    }

    /// `compact_finished`
    fn finished(&self, zone: &Zone<F>, goal: &Goal) -> Option<Outcome> {
        let state = &zone.compaction;
        let block_order = self.buddy.geometry.pageblock_order;
        let (migrate, free) = (state.migrate_pfn.get(), state.free_pfn.get());
        if free >> block_order <= migrate >> block_order {
            state.reset_positions();
            if goal.caller == Caller::Direct {
                state.flush_skip.set(1);
            }
            return Some(Outcome::Complete);
        }
        // The rest of a pageblock is always finished, or it would be polluted at once.
        if migrate & (self.buddy.geometry.pageblock_pages() - 1) != 0 {
            return None;
        }
        let done = match goal.caller {
            Caller::Proactive => {
                let score = zone.contig_pages(block_order).external_fragmentation(block_order);
                score <= score_marks(self.buddy.tunables.proactiveness).0
            }
            _ => self.has_suitable_block(zone, goal),
        };
        done.then_some(Outcome::Success)
    }

    /// Whether a block of the order is on a list that the request can take it from.
    fn has_suitable_block(&self, zone: &Zone<F>, goal: &Goal) -> bool {
        let has = |migratetype| zone.orders(migratetype) >> goal.order != 0;
        if has(goal.migratetype) {
            return true;
        }
        if goal.migratetype == Migratetype::Movable && has(Migratetype::Cma) {
            return true;
        }
        let (block_order, grouping) =
            (self.buddy.geometry.pageblock_order, self.buddy.settings.grouping);
        (goal.order..=self.buddy.geometry.max_order).any(|order| {
            should_try_claim(order, goal.migratetype, block_order, grouping)
                && fallbacks(goal.migratetype).into_iter().any(|t| zone.blocks(order, t) > 0)
        })
    }

    /// `migrate_pages` for one batch: each block moves to one cut from the isolated free blocks.
    fn migrate_batch(&self, zone: &Zone<F>, goal: &Goal, batch: &mut Batch) {
        let wanted = batch.pages();
        for (source, order) in batch.drain() {
            let dest = self.isolated_target(zone, order).or_else(|| {
                self.isolate_targets(zone, goal, wanted);
                self.isolated_target(zone, order)
            });
            let Some(dest) = dest else { break };
            self.move_block(source, order, dest, Content::Isolated, Emptied::Cpu(goal.cpu));
        }
        let cpu = self.buddy.geometry.cpu(goal.cpu);
        self.cache.drain_cpu(&self.buddy, zone, cpu);
    }

    /// `compaction_alloc`: cuts a block from the smallest isolated one that is large enough.
    fn isolated_target(&self, zone: &Zone<F>, order: u8) -> Option<Frame> {
        let (buddy, state) = (&self.buddy, &zone.compaction);
        let found = (order..=buddy.geometry.max_order)
            .find(|o| buddy.frames.first(state.list(*o)).is_some())?;
        let frame = buddy.frames.first(state.list(found))?;
        buddy.frames.unlink(frame);
        for half in (order..found).rev() {
            let upper = frame + (1 << half);
            buddy.frames.set_word(upper, isolated_word(half));
            buddy.frames.push_head(state.list(half), upper);
        }
        buddy.frames.set_word(frame, FrameWord::free_tail());
        state.isolated_pages.sub(1 << order);
        Some(frame)
    }

    /// `release_free_list`: gives the unused isolated blocks back, by way of the CPU's lists.
    fn release_isolated(&self, zone: &Zone<F>, cpu: CpuId) {
        let (mut highest, mut pages) = (0, 0);
        for order in 0..=self.buddy.geometry.max_order {
            let list = zone.compaction.list(order);
            while let Some(frame) = self.buddy.frames.first(list) {
                self.buddy.frames.unlink(frame);
                self.buddy.frames.set_word(frame, FrameWord::free_tail());
                self.route_free(frame, order, cpu, Content::Isolated, FreeEntry::Normal);
                highest = highest.max(frame);
                pages += 1 << order;
            }
        }
        debug_assert_eq!(zone.compaction.isolated_pages.get(), pages, "isolated pages");
        zone.compaction.isolated_pages.set(0);
        let block_pages = self.buddy.geometry.pageblock_pages();
        let above = (highest / block_pages + 1) * block_pages;
        if pages > 0 && above > zone.compaction.free_pfn.get() {
            zone.compaction.free_pfn.set(above.min(zone.end));
        }
    }

    /// `__reset_isolation_suitable`
    fn reset_skip_bits(&self, zone: &Zone<F>) {
        let (first, last) = (self.buddy.pageblock(zone.start), self.buddy.pageblock(zone.end - 1));
        for block in (first.0..=last.0).map(PageblockId) {
            self.buddy.blocks.clear(block, BlockFlags::SKIP);
        }
        zone.compaction.flush_skip.set(0);
        zone.compaction.reset_positions();
    }
}
