//! Events of a span of time as numbers by place, type and order.

use serde::{Deserialize, Serialize};

use crate::page::{MAX_EVENT_ORDER, Migratetype};

/// What a [`RegionCount`] counts the events of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedPlace {
    /// An aligned GiB of physical memory, by number: pfn >> 18. Zones are not told apart.
    Region(u32),
    /// Pages outside the memory that was known when counting began.
    Outside,
    /// No page: requests that failed.
    Failed,
}

/// Page events of one place in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCount {
    /// Where.
    pub place: CountedPlace,
    /// Allocations by the type and order requested; none that is 0.
    pub allocs: Vec<TypeOrderCount>,
    /// Frees by order. They name no type.
    pub frees: Vec<OrderCount>,
}

impl RegionCount {
    /// Allocations.
    #[must_use]
    pub fn alloc_events(&self) -> u64 {
        saturating_sum(self.allocs.iter().map(|c| c.count))
    }

    /// Frees.
    #[must_use]
    pub fn free_events(&self) -> u64 {
        saturating_sum(self.frees.iter().map(|c| c.count))
    }

    /// Pages allocated for requests of types for which `wanted` holds.
    #[must_use]
    pub fn alloc_pages(&self, wanted: impl Fn(Migratetype) -> bool) -> u64 {
        let counts = self.allocs.iter().filter(|c| wanted(c.migratetype));
        saturating_sum(counts.map(|c| c.count.saturating_mul(1 << c.order.min(MAX_EVENT_ORDER))))
    }

    /// Pages freed.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        let pages = |c: &OrderCount| c.count.saturating_mul(1 << c.order.min(MAX_EVENT_ORDER));
        saturating_sum(self.frees.iter().map(pages))
    }
}

fn saturating_sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Events of one type and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeOrderCount {
    /// Type requested.
    pub migratetype: Migratetype,
    /// log2 of the pages of each.
    pub order: u8,
    /// How many.
    pub count: u64,
}

/// Events of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCount {
    /// log2 of the pages of each.
    pub order: u8,
    /// How many.
    pub count: u64,
}
