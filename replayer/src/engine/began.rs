//! What a track began with, to be told from what the recording did to it.

use std::collections::BTreeMap;

use fragscope_trace::machine::Machine;
use fragscope_trace::page::REGION_PAGES;
use fragscope_trace::region::{RegionCensus, RegionTotals};

/// A track's figures at its start, and the taint changes since.
#[derive(Debug, Default)]
pub struct Began {
    counters: BTreeMap<String, u64>,
    tainted_1g: u64,
    /// Regions that span a whole GiB, by position in the census.
    whole: Vec<bool>,
    taints_1g: u64,
    cleans_1g: u64,
}

impl Began {
    /// A track that begins now with these regions and counters.
    #[must_use]
    pub fn new(
        machine: &Machine,
        regions: &[RegionCensus],
        counters: BTreeMap<String, u64>,
    ) -> Began {
        Began {
            counters,
            tainted_1g: RegionTotals::new(machine, regions).tainted_1g.min,
            whole: regions.iter().map(|region| region.span_pages == REGION_PAGES).collect(),
            taints_1g: 0,
            cleans_1g: 0,
        }
    }

    /// Counts a region that turned tainted or clean. Regions that can never be one page do not
    /// count.
    pub fn note(&mut self, region: u32, tainted: bool) {
        if self.whole.get(region as usize).copied().unwrap_or(false) {
            *(if tainted { &mut self.taints_1g } else { &mut self.cleans_1g }) += 1;
        }
    }

    /// The growth of counters since the start, with `start_tainted_1g` (regions tainted at the
    /// start), `taints_1g` and `cleans_1g` (times that a region turned tainted, or clean, since).
    #[must_use]
    pub fn since(&self, mut counters: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        for (name, count) in &mut counters {
            *count = count.saturating_sub(self.counters.get(name).copied().unwrap_or(0));
        }
        counters.insert("start_tainted_1g".to_owned(), self.tainted_1g);
        counters.insert("taints_1g".to_owned(), self.taints_1g);
        counters.insert("cleans_1g".to_owned(), self.cleans_1g);
        counters
    }
}
