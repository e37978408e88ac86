//! Who runs compaction: waiting requests, and the background thread of each node.
//!
//! `stock-allocator` 2.7 (direct), 4.1 (proactive), 4.3 (after a boost).

use fragscope_trace::page::Migratetype;

use super::cache::Cache;
use super::compact::{Caller, Goal, Outcome, Priority};
use super::flags::AllocFlags;
use super::flavour::{Flavour, Word};
use super::fragindex::score_marks;
use super::page_alloc::{Context, Mm};
use super::placement::Placement;
use super::zone::Zone;

/// `COMPACT_MAX_DEFER_SHIFT`: without progress the proactive compactor waits so many times
/// longer (as a shift).
const DEFER_SHIFT: u32 = 6;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// `try_to_compact_pages`: the zones of a request in order, until one succeeds.
    pub(super) fn direct_compact(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
        priority: Priority,
    ) -> Outcome {
        let order = context.request.order;
        if order == 0 || !self.buddy.settings.compaction {
            return Outcome::Skipped;
        }
        self.buddy.counters.compact_stall.add(1);
        let goal = Goal {
            order,
            migratetype: context.migratetype,
            highest: context.highest,
            flags,
            priority,
            caller: Caller::Direct,
            cpu: context.request.cpu,
        };
        let mut best = Outcome::Skipped;
        for zone in self.zones(context) {
            let outcome = self.compact_for_request(zone, &goal);
            if outcome == Outcome::Success {
                return outcome;
            }
            if best == Outcome::Skipped || outcome == Outcome::Complete {
                best = outcome;
            }
        }
        best
    }

    fn compact_for_request(&self, zone: &Zone<F>, goal: &Goal) -> Outcome {
        let counters = &self.buddy.counters;
        if goal.priority < Priority::Full && zone.compaction.deferred(goal.order) {
            counters.compact_deferred.add(1);
            return Outcome::Deferred;
        }
        let outcome = self.compact_zone(zone, goal);
        match outcome {
            Outcome::Success => zone.compaction.defer_reset(goal.order, false),
            Outcome::Complete if goal.priority != Priority::Async => {
                zone.compaction.defer(goal.order);
            }
            Outcome::Skipped => counters.compact_skipped.add(1),
            _ => {}
        }
        outcome
    }

    /// `kcompactd_do_work` for one zone, woken for an order.
    pub(super) fn background_compact(&self, zone: &Zone<F>, order: u8) {
        if !self.buddy.settings.compaction || zone.compaction.deferred(order) {
            return;
        }
        self.buddy.counters.compact_daemon_wake.add(1);
        match self.compact_zone(zone, &self.background_goal(zone, order, Caller::Background)) {
            Outcome::Success => zone.compaction.defer_reset(order, false),
            Outcome::Complete => {
                self.cache.drain_zone(&self.buddy, zone);
                zone.compaction.defer(order);
            }
            Outcome::Skipped | Outcome::Deferred => {}
        }
    }

    fn background_goal(&self, zone: &Zone<F>, order: u8, caller: Caller) -> Goal {
        Goal {
            order,
            migratetype: Migratetype::Movable,
            highest: zone.kind,
            flags: AllocFlags::empty(),
            priority: Priority::SyncLight,
            caller,
            cpu: self.buddy.geometry.first_cpu_of(zone.node),
        }
    }

    /// The proactive part of `kcompactd`, once per interval: nodes whose score is above the high
    /// mark are compacted. A node where that did not help waits 64 intervals.
    pub(super) fn kcompactd_tick(&self) {
        let settings = &self.buddy.settings;
        if !settings.compaction || self.buddy.tunables.proactiveness == 0 {
            return;
        }
        for node in 0..self.buddy.geometry.nodes.len() {
            let wait = &self.proactive_wait[node];
            if wait.get() > 0 {
                wait.sub(1);
                continue;
            }
            let before = self.node_score(node);
            if before <= score_marks(self.buddy.tunables.proactiveness).1 {
                continue;
            }
            self.buddy.counters.compact_daemon_wake.add(1);
            self.compact_node(node);
            if self.node_score(node) >= before {
                wait.set(1 << DEFER_SHIFT);
            }
        }
    }

    fn zones_of(&self, node: usize) -> impl Iterator<Item = &Zone<F>> {
        self.buddy.zones.iter().filter(move |zone| usize::from(zone.node) == node)
    }

    /// `fragmentation_score_node`
    fn node_score(&self, node: usize) -> u64 {
        let present: u64 = self.zones_of(node).map(|zone| zone.present.get()).sum();
        let order = self.buddy.geometry.pageblock_order;
        self.zones_of(node).map(|zone| zone.weighted_score(order, present)).sum()
    }

    /// `compact_node`, proactive.
    fn compact_node(&self, node: usize) {
        let order = self.buddy.geometry.pageblock_order;
        for zone in self.zones_of(node).filter(|zone| zone.managed.get() > 0) {
            self.compact_zone(zone, &self.background_goal(zone, order, Caller::Proactive));
        }
    }
}
