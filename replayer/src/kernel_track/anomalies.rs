//! What did not fit: counts of everything the events alone could not explain.

use std::collections::BTreeMap;

use fragscope_trace::event::RepairSource;
use serde::Serialize;

/// Counts by order of a block.
pub type ByOrder = BTreeMap<u8, u64>;

/// What the kernel track met and set right. Cumulative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Anomalies {
    /// Free events with pages that were thought free, by order.
    pub unmatched_frees: ByOrder,
    /// Their pages that were thought free.
    pub unmatched_free_pages: u64,
    /// Of these, pages freed while a compaction ran in their zone (its leftovers look like that).
    pub unmatched_free_pages_in_compaction: u64,
    /// Alloc events with pages that were thought allocated, by order.
    pub unmatched_allocs: ByOrder,
    /// Their pages that were thought allocated.
    pub unmatched_alloc_pages: u64,
    /// Pages of unknown content whose first event told what they were.
    pub resolved_unknown_pages: u64,
    /// Pages that events named although they were thought absent.
    pub grown_by_event_pages: u64,
    /// Pages reserved at boot that were freed.
    pub released_reserved_pages: u64,
    /// Pages whose allocation was deduced from their untraced free and put back in its place.
    pub backfilled_pages: u64,
    /// Blocks moved to a place that was thought free.
    pub moves_into_free_blocks: u64,
    /// Pages set right, by how it was noticed.
    pub repaired_pages: BTreeMap<RepairSource, u64>,
    /// Pages whose content a snapshot told better than their allocation.
    pub refined_pages: u64,
    /// Of these, pages that turned from movable to not, or back.
    pub reclassified_pages: u64,
    /// Events that the opening snapshot contains already.
    pub contained_events: u64,
    /// Events during the reading of the opening snapshot that repeat what it says.
    pub raced_events: u64,
    /// Events of pages outside every zone.
    pub outside_events: u64,
}

impl Anomalies {
    /// Pages of [`Anomalies::repaired_pages`], all sources.
    #[must_use]
    pub fn repaired_pages_total(&self) -> u64 {
        self.repaired_pages.values().sum()
    }

    /// Counts a repair.
    pub fn repair(&mut self, source: RepairSource, pages: u64) {
        if pages > 0 {
            *self.repaired_pages.entry(source).or_default() += pages;
        }
    }

    /// As named counters, for surfaces that show any track's.
    pub fn collect(&self, into: &mut BTreeMap<String, u64>) {
        let mut put = |name: &str, value: u64| {
            into.insert(name.to_owned(), value);
        };
        put("unmatched_frees", self.unmatched_frees.values().sum());
        put("unmatched_free_pages", self.unmatched_free_pages);
        put("unmatched_free_pages_in_compaction", self.unmatched_free_pages_in_compaction);
        put("unmatched_allocs", self.unmatched_allocs.values().sum());
        put("unmatched_alloc_pages", self.unmatched_alloc_pages);
        put("resolved_unknown_pages", self.resolved_unknown_pages);
        put("grown_by_event_pages", self.grown_by_event_pages);
        put("released_reserved_pages", self.released_reserved_pages);
        put("backfilled_pages", self.backfilled_pages);
        put("moves_into_free_blocks", self.moves_into_free_blocks);
        put("repaired_pages", self.repaired_pages_total());
        put("refined_pages", self.refined_pages);
        put("reclassified_pages", self.reclassified_pages);
        put("contained_events", self.contained_events);
        put("raced_events", self.raced_events);
        put("outside_events", self.outside_events);
    }
}

/// Adds one to the count of an order.
pub fn count_order(counts: &mut ByOrder, order: u8) {
    *counts.entry(order).or_default() += 1;
}
