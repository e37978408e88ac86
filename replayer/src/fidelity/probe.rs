//! Real 1 GiB pages against the prediction.
//!
//! The prediction is the observatory's for the closing snapshot. Of the regions that hold free
//! and movable pages only, as many are predicted as fit together
//! ([`RegionTotals::obtainable_1g`]), in the order in which the kernel looks for them: zones from
//! the highest to the lowest, addresses ascending.

use std::collections::BTreeSet;

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Pfn, REGION_PAGES};
use fragscope_trace::region::{Bounds, RegionCensus, RegionState, RegionTotals};
use serde::Serialize;

/// Pages that the kernel gave, and those that it was predicted to give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeComparison {
    /// First frames of the 1 GiB pages that the kernel gave.
    pub granted_pfns: Vec<Pfn>,
    /// How many were predicted, with unknown pages counted both ways.
    pub predicted_1g: Bounds,
    /// First frames of the regions predicted.
    pub predicted_pfns: Vec<Pfn>,
    /// Predicted and not given.
    pub wrongly_obtainable_pfns: Vec<Pfn>,
    /// Given although the region was held to be unobtainable by itself.
    pub wrongly_unobtainable_pfns: Vec<Pfn>,
}

impl ProbeComparison {
    /// Compares the pages granted with the prediction for these regions of `machine`.
    #[must_use]
    pub fn new(machine: &Machine, regions: &[RegionCensus], granted: &[Pfn]) -> ProbeComparison {
        let totals = RegionTotals::new(machine, regions);
        let candidates = candidates(machine, regions);
        let together = totals.obtainable_1g.min as usize;
        let predicted: BTreeSet<Pfn> = candidates.iter().take(together).copied().collect();
        let possible: BTreeSet<Pfn> = candidates.into_iter().collect();
        let granted: BTreeSet<Pfn> = granted.iter().copied().collect();
        ProbeComparison {
            predicted_1g: totals.obtainable_1g,
            wrongly_obtainable_pfns: predicted.difference(&granted).copied().collect(),
            wrongly_unobtainable_pfns: granted.difference(&possible).copied().collect(),
            predicted_pfns: predicted.into_iter().collect(),
            granted_pfns: granted.into_iter().collect(),
        }
    }
}

/// Starts of the regions that are obtainable by themselves, in the kernel's order.
fn candidates(machine: &Machine, regions: &[RegionCensus]) -> Vec<Pfn> {
    let fits = |region: &&RegionCensus| {
        region.obtainable
            && region.span_pages == REGION_PAGES
            && matches!(region.state(), RegionState::Free | RegionState::Evacuable)
    };
    let mut found: Vec<_> = regions.iter().filter(fits).collect();
    let zone = |region: &RegionCensus| {
        let zone = machine.zones.get(usize::from(region.zone));
        zone.map(|zone| (zone.node, std::cmp::Reverse(zone.kind)))
    };
    found.sort_by_key(|region| (zone(region), region.start));
    found.into_iter().map(|region| region.start).collect()
}

#[cfg(test)]
mod tests {
    use fragscope_trace::page::Content;
    use fragscope_trace::region::regions_of;

    use super::*;
    use crate::testing::machine;

    /// Four regions: free, evacuable, tainted in the lower zone; evacuable in the upper one.
    #[test]
    fn what_is_wrong_is_named() {
        let machine = machine(&[3 * REGION_PAGES, REGION_PAGES]);
        let mut regions = regions_of(&machine);
        let mut fill = |index: usize, content: Content, pages: u32| {
            let region = &mut regions[index].pages;
            region[Content::Absent.index()] = 0;
            region[content.index()] = pages;
            region[Content::Free.index()] += REGION_PAGES as u32 - pages;
        };
        fill(0, Content::Anon, 0);
        fill(1, Content::Anon, 1000);
        fill(2, Content::Slab, 1);
        fill(3, Content::File, 5);
        let pfn = |region: u64| Pfn(region * REGION_PAGES);
        let right = ProbeComparison::new(&machine, &regions, &[pfn(3), pfn(0), pfn(1)]);
        assert_eq!(right.predicted_pfns, [pfn(0), pfn(1), pfn(3)]);
        assert!(right.wrongly_obtainable_pfns.is_empty());
        assert!(right.wrongly_unobtainable_pfns.is_empty());
        let wrong = ProbeComparison::new(&machine, &regions, &[pfn(3), pfn(2)]);
        assert_eq!(wrong.wrongly_obtainable_pfns, [pfn(0), pfn(1)]);
        assert_eq!(wrong.wrongly_unobtainable_pfns, [pfn(2)]);
    }
}
