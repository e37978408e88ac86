//! Where compaction stands in each zone: scanner positions and deferral.
//!
//! `stock-allocator` 4.2 (deferral) and 4.3 (cached positions).

use super::flavour::{Flavour, Word};
use super::frames::{Frame, ListId};
use super::geometry::ZoneSpan;

/// Largest `compact_defer_shift`.
const MAX_DEFER_SHIFT: u32 = 6;

/// Compaction state of one zone.
#[derive(Debug)]
pub struct ZoneCompaction<F: Flavour> {
    /// One run at a time.
    pub lock: F::Lock,
    /// First list head for isolated free blocks, one per order.
    first_list: u32,
    start: Frame,
    end: Frame,
    /// Where the migration scanner goes on.
    pub migrate_pfn: F::U32,
    /// Where the free scanner goes on: the frame above the next pageblock to look at.
    pub free_pfn: F::U32,
    considered: F::U32,
    defer_shift: F::U32,
    order_failed: F::U32,
    /// `compact_blockskip_flush`: a full cycle ended, the skip bits may go.
    pub flush_skip: F::U32,
    /// Pages on the lists of isolated blocks.
    pub isolated_pages: F::U32,
}

impl<F: Flavour> ZoneCompaction<F> {
    /// A zone that was never compacted.
    pub fn new(span: &ZoneSpan, first_list: u32) -> ZoneCompaction<F> {
        let fresh: ZoneCompaction<F> = ZoneCompaction {
            lock: F::Lock::default(),
            first_list,
            start: span.start,
            end: span.end,
            migrate_pfn: F::U32::default(),
            free_pfn: F::U32::default(),
            considered: F::U32::default(),
            defer_shift: F::U32::default(),
            order_failed: F::U32::default(),
            flush_skip: F::U32::default(),
            isolated_pages: F::U32::default(),
        };
        fresh.reset_positions();
        // No order has failed yet: nothing is deferred.
        fresh.order_failed.set(u32::MAX);
        fresh
    }

    /// The list of isolated blocks of one order.
    pub fn list(&self, order: u8) -> ListId {
        ListId(self.first_list + u32::from(order))
    }

    /// Sends both scanners back to the ends of the zone.
    pub fn reset_positions(&self) {
        self.migrate_pfn.set(self.start);
        self.free_pfn.set(self.end);
    }

    /// The migration scanner found no more: the scanners have met.
    pub(super) fn meet(&self) {
        self.migrate_pfn.set(self.free_pfn.get());
    }

    /// `compaction_deferred`: whether an attempt is put off after earlier failures.
    pub fn deferred(&self, order: u8) -> bool {
        if u32::from(order) < self.order_failed.get() {
            return false;
        }
        let limit = 1 << self.defer_shift.get();
        let considered = (self.considered.get() + 1).min(limit);
        self.considered.set(considered);
        considered < limit
    }

    /// `defer_compaction`: an attempt failed.
    pub fn defer(&self, order: u8) {
        self.considered.set(0);
        self.defer_shift.set((self.defer_shift.get() + 1).min(MAX_DEFER_SHIFT));
        self.order_failed.set(self.order_failed.get().min(u32::from(order)));
    }

    /// `compaction_defer_reset`: an attempt made a block (`success`), or the request was served.
    pub fn defer_reset(&self, order: u8, success: bool) {
        if success {
            self.considered.set(0);
            self.defer_shift.set(0);
        }
        if u32::from(order) >= self.order_failed.get() {
            self.order_failed.set(u32::from(order) + 1);
        }
    }

    /// `compaction_restarting`: after the longest deferral everything is scanned again.
    pub fn restarting(&self, order: u8) -> bool {
        u32::from(order) >= self.order_failed.get()
            && self.defer_shift.get() == MAX_DEFER_SHIFT
            && self.considered.get() >= 1 << MAX_DEFER_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;
    use fragscope_trace::machine::ZoneKind;

    fn zone() -> ZoneCompaction<Up> {
        ZoneCompaction::new(&ZoneSpan { node: 0, kind: ZoneKind::Normal, start: 0, end: 8 }, 0)
    }

    /// After n failures in a row every 2^n-th attempt runs, n at most 6.
    #[test]
    fn failures_put_attempts_off() {
        let zone = zone();
        for (failures, attempts) in [(1, 2), (2, 4), (3, 8), (6, 64), (9, 64)] {
            zone.defer_reset(9, true);
            (0..failures).for_each(|_| zone.defer(4));
            let skipped = (0..).take_while(|_| zone.deferred(4)).count();
            assert_eq!(skipped + 1, attempts, "after {failures} failures");
        }
        assert!(!zone.deferred(3), "a smaller order has not failed");
    }

    #[test]
    fn success_ends_the_deferral() {
        let zone = zone();
        zone.defer(4);
        zone.defer_reset(4, true);
        assert!(!zone.deferred(4));
    }
}
