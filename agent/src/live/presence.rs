//! Which pages had not been given to the allocator at the last snapshot, and which were since.

use fragscope_trace::event::{RepairSource, SideKind};
use fragscope_trace::machine::Zone;
use fragscope_trace::page::{Content, Pfn, PfnRange};
use fragscope_trace::snapshot::{PageRun, Snapshot};

use crate::snapshot::grow::without;

/// The absent pages of the last snapshot, without those that were found to have memory since.
#[derive(Debug, Default)]
pub struct Presence {
    /// Ascending, with all that no zone spanned; `None` before the first snapshot.
    absent: Option<Vec<PfnRange>>,
    zones: Vec<Zone>,
}

impl Presence {
    /// Takes `snapshot` as the state that holds, and gives a `Grow` for each range that the one
    /// before had absent and this one has not.
    pub fn update(&mut self, snapshot: &Snapshot) -> Vec<SideKind> {
        let present = snapshot.runs.iter().filter(|run| run.content != Content::Absent);
        let present: Vec<PfnRange> = present.map(PageRun::range).collect();
        let now = without(PfnRange { start: Pfn(0), end: Pfn(u64::MAX) }, &present);
        self.zones.clone_from(&snapshot.machine.zones);
        let before = self.absent.replace(now).unwrap_or_default();
        let now = self.absent.as_deref().unwrap_or_default();
        let mut grown = Vec::new();
        for range in before {
            for part in without(range, now) {
                grown.extend(self.grow(part));
            }
        }
        grown
    }

    /// Gives a `Grow` for each part of the ascending `ranges` that was absent until now. `zones` are
    /// those of the moment: new memory may lie in none that was there before.
    pub fn found(&mut self, ranges: &[PfnRange], zones: Vec<Zone>) -> Vec<SideKind> {
        self.zones = zones;
        let before = self.absent.take().unwrap_or_default();
        let left = before.iter().flat_map(|absent| without(*absent, ranges)).collect::<Vec<_>>();
        let new = before.iter().flat_map(|absent| without(*absent, &left));
        let grown = new.filter_map(|range| self.grow(range)).collect();
        self.absent = Some(left);
        grown
    }

    fn grow(&self, range: PfnRange) -> Option<SideKind> {
        let zone = self.zones.iter().find(|zone| zone.span().contains(range.start))?;
        let source = RepairSource::ManagedGrowth;
        Some(SideKind::Grow { node: zone.node, zone: zone.kind as u8, range, source })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fragscope_trace::page::Pfn;
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> PfnRange {
        PfnRange { start: Pfn(start), end: Pfn(end) }
    }

    /// Ranges with gaps between them.
    fn ranges() -> impl Strategy<Value = Vec<PfnRange>> {
        prop::collection::vec((1u64..9, 1u64..9), 0..12).prop_map(|gaps| {
            let mut at = 0;
            let next = |(gap, len)| {
                let next = range(at + gap, at + gap + len);
                at = next.end.0;
                next
            };
            gaps.into_iter().map(next).collect()
        })
    }

    fn pages(ranges: &[PfnRange]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|range| range.raw()).collect()
    }

    proptest! {
        /// Whatever is found, and how often: each page grows once, and only if it was absent.
        #[test]
        fn found_pages_grow_once(absent in ranges(), finds in prop::collection::vec(ranges(), 0..4)) {
            let zones = crate::snapshot::synthetic::machine(1 << 18).zones;
            let mut left = pages(&absent);
            let mut presence = Presence { absent: Some(absent), zones: Vec::new() };
            for found in finds {
                let grown: Vec<PfnRange> = presence.found(&found, zones.clone()).into_iter().map(|kind| match kind {
                    SideKind::Grow { range, .. } => range,
                    other => panic!("{other:?}"),
                }).collect();
                let found = pages(&found);
                prop_assert_eq!(pages(&grown), &left & &found);
                left = &left - &found;
                prop_assert_eq!(pages(presence.absent.as_ref().unwrap()), left.clone());
            }
        }
    }
}
