//! Which pages had not been given to the allocator at the last snapshot, and which were since.

use fragscope_trace::event::{RepairSource, SideKind};
use fragscope_trace::page::{Content, PfnRange};
use fragscope_trace::snapshot::{PageRun, Snapshot};

/// The absent pages of the last snapshot.
#[derive(Debug, Default)]
pub struct Presence {
    /// Ascending; `None` before the first snapshot.
    absent: Option<Vec<PfnRange>>,
}

impl Presence {
    /// Takes `snapshot` as the state that holds, and gives a `Grow` for each range that the one
    /// before had absent and this one has not.
    pub fn update(&mut self, snapshot: &Snapshot) -> Vec<SideKind> {
        let now: Vec<PfnRange> = snapshot
            .runs
            .iter()
            .filter(|run| run.content == Content::Absent)
            .map(PageRun::range)
            .collect();
        let before = self.absent.replace(now).unwrap_or_default();
        let now = self.absent.as_deref().unwrap_or_default();
        let mut grown = Vec::new();
        for range in before {
            for part in without(range, now) {
                grown.extend(grow(snapshot, part));
            }
        }
        grown
    }
}

fn grow(snapshot: &Snapshot, range: PfnRange) -> Option<SideKind> {
    let zone = &snapshot.machine.zones[snapshot.machine.zone_of(range.start)?];
    let source = RepairSource::ManagedGrowth;
    Some(SideKind::Grow { node: zone.node, zone: zone.kind as u8, range, source })
}

/// The parts of `range` outside the ascending ranges `holes`.
fn without(range: PfnRange, holes: &[PfnRange]) -> Vec<PfnRange> {
    let first = holes.partition_point(|h| h.end <= range.start);
    let mut parts = Vec::new();
    let mut from = range.start;
    for hole in holes[first..].iter().take_while(|h| h.start < range.end) {
        if from < hole.start {
            parts.push(PfnRange { start: from, end: hole.start });
        }
        from = from.max(hole.end);
    }
    if from < range.end {
        parts.push(PfnRange { start: from, end: range.end });
    }
    parts
}

#[cfg(test)]
mod tests {
    use fragscope_trace::page::Pfn;
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> PfnRange {
        PfnRange { start: Pfn(start), end: Pfn(end) }
    }

    proptest! {
        /// Against page by page.
        #[test]
        fn parts_are_the_pages_outside_all_holes(
            (start, len) in (0u64..50, 0u64..50),
            gaps in prop::collection::vec((0u64..9, 1u64..9), 0..12),
        ) {
            let mut at = 0;
            let holes: Vec<_> = gaps.into_iter().map(|(gap, len)| {
                let hole = range(at + gap, at + gap + len);
                at = hole.end.0;
                hole
            }).collect();
            let whole = range(start, start + len);
            let parts: Vec<u64> =
                without(whole, &holes).into_iter().flat_map(PfnRange::raw).collect();
            let expected: Vec<u64> =
                whole.raw().filter(|p| !holes.iter().any(|h| h.contains(Pfn(*p)))).collect();
            prop_assert_eq!(parts, expected);
        }
    }
}
