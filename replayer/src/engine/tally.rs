//! What became of the workload's requests in one policy track.

use std::collections::BTreeMap;
use std::ops::Index;

use serde::Serialize;

use crate::mm::request::Refusal;

/// Requests of one order. Counts are requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OrderTally {
    /// That the kernel served.
    pub requests: u64,
    /// Of these, served in one block.
    pub served: u64,
    /// Declined by the policy although memory was there.
    pub refused_policy: u64,
    /// Refused for lack of memory.
    pub refused_no_memory: u64,
    /// Refused, and then served in order-0 pieces.
    pub in_pieces: u64,
    /// Refused, and given up.
    pub dropped: u64,
    /// That the kernel failed.
    pub kernel_failed: u64,
    /// Of these, that this policy would have served.
    pub would_succeed: u64,
}

/// Counts of one policy track, cumulative. Pages unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Allocations, frees and failed requests of the kernel that were replayed, in events.
    pub requests: u64,
    /// Placed for the workload.
    pub placed_pages: u64,
    /// Given back by the workload.
    pub freed_pages: u64,
    /// Of these, freed because the kernel used their pfn for something else: their free was not
    /// traced.
    pub stale_pages: u64,
    /// Free operations on pages that this track never placed (refused, the recorder's, deduced).
    pub unplaced_free_pages: u64,
    /// Frees of pages that this track had reclaimed before.
    pub reclaimed_free_pages: u64,
    /// Requested and not placed.
    pub dropped_pages: u64,
    /// Placed in pieces because a block was refused.
    pub piece_pages: u64,
    /// Renamed because the kernel migrated them.
    pub renamed_pages: u64,
    /// Frees that the allocator did not accept, in blocks: a bug, if not 0.
    pub rejected_frees: u64,
    /// Requests by order.
    pub orders: Orders,
}

/// Requests by order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders([OrderTally; 32]);

impl Index<u8> for Orders {
    type Output = OrderTally;

    fn index(&self, order: u8) -> &OrderTally {
        &self.0[usize::from(order)]
    }
}

impl Orders {
    /// Orders of which there were requests, served or failed; ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &OrderTally)> {
        let asked = |(_, tally): &(u8, &OrderTally)| **tally != OrderTally::default();
        (0..).zip(&self.0).filter(asked)
    }
}

impl Tally {
    /// Counts of one order, which is below 32.
    #[inline]
    pub fn order(&mut self, order: u8) -> &mut OrderTally {
        &mut self.orders.0[usize::from(order)]
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, order: u8, refusal: Refusal) {
        let tally = self.order(order);
        match refusal {
            Refusal::Policy => tally.refused_policy += 1,
            Refusal::NoMemory | Refusal::OrderTooLarge => tally.refused_no_memory += 1,
        }
    }

    /// Requests refused, of all orders and for all reasons.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.orders.iter().map(|(_, o)| o.refused_policy + o.refused_no_memory).sum()
    }

    /// Requests served, of all orders.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.orders.iter().map(|(_, o)| o.served).sum()
    }

    /// As named counters.
    pub fn collect(&self, into: &mut BTreeMap<String, u64>) {
        let mut put = |name: &str, value: u64| {
            into.insert(format!("replay_{name}"), value);
        };
        put("requests", self.requests);
        put("placed_pages", self.placed_pages);
        put("freed_pages", self.freed_pages);
        put("stale_pages", self.stale_pages);
        put("unplaced_free_pages", self.unplaced_free_pages);
        put("reclaimed_free_pages", self.reclaimed_free_pages);
        put("dropped_pages", self.dropped_pages);
        put("piece_pages", self.piece_pages);
        put("renamed_pages", self.renamed_pages);
        put("rejected_frees", self.rejected_frees);
        put("refused", self.refused());
        put("served", self.served());
    }
}
