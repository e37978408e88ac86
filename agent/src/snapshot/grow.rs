//! Memory that reached the allocator since a snapshot.
//!
//! Neither hotplug nor lazy initialisation of memory has an event; only `managed` in
//! `/proc/zoneinfo` grows. A snapshot tells which frames had no memory then, so it is enough to
//! look at some of those again.

use fragscope_trace::machine::{Machine, Zone};
use fragscope_trace::page::{Content, Pfn, PfnRange};
use fragscope_trace::snapshot::Snapshot;

/// Memory arrives in sections (hotplug) or in larger stretches (lazy initialisation).
const UNIT_PAGES: u64 = 1 << 15;
/// Frames of a unit that are looked at to see whether it has changed at all.
const PROBES: u64 = 4;

/// Frames without memory, and how much each zone had given to its allocator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absences {
    /// Ascending; only frames that can have memory.
    ranges: Vec<PfnRange>,
    /// Frames that zones span, ascending: beyond them may be memory that is plugged in later.
    spanned: Vec<PfnRange>,
    /// (node, zone start) and `managed` of each zone.
    managed: Vec<((u16, Pfn), u64)>,
}

impl Absences {
    /// What a snapshot shows.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Absences {
        let machine = &snapshot.machine;
        let absent = snapshot.runs.iter().filter(|run| run.content == Content::Absent);
        let ranges = absent.flat_map(|run| parts_in_ram(machine, run.range())).collect();
        let spanned = super::spans(&machine.zones);
        Absences { ranges, spanned, managed: managed_of(&machine.zones) }
    }

    /// The frames without memory, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[PfnRange] {
        &self.ranges
    }

    /// Notes what zones have now; gives the frames without memory of those that have grown, or
    /// that are new.
    pub(crate) fn candidates(&mut self, zones: &[Zone]) -> Vec<PfnRange> {
        let before = std::mem::replace(&mut self.managed, managed_of(zones));
        let grown = |zone: &&Zone| {
            let key = (zone.node, zone.start_pfn);
            let old = before.iter().find(|(k, _)| *k == key).map_or(0, |(_, managed)| *managed);
            zone.managed_pages > old
        };
        let spans: Vec<PfnRange> = zones.iter().filter(grown).map(Zone::span).collect();
        let spanned = std::mem::replace(&mut self.spanned, super::spans(zones));
        let new = self.spanned.iter().flat_map(|span| without(*span, &spanned));
        self.ranges.extend(new);
        self.ranges.sort_unstable_by_key(|range| range.start);
        let part = |range: &PfnRange| -> Vec<PfnRange> {
            spans.iter().filter_map(|span| span.intersect(*range)).collect()
        };
        self.ranges.iter().flat_map(part).collect()
    }

    /// Takes out frames that have memory now.
    pub(crate) fn remove(&mut self, present: &[PfnRange]) {
        for taken in present {
            let cut = |range: &PfnRange| {
                let before = PfnRange { start: range.start, end: range.end.min(taken.start) };
                let after = PfnRange { start: range.start.max(taken.end), end: range.end };
                [before, after].into_iter().filter(|part| part.start < part.end)
            };
            self.ranges = self.ranges.iter().flat_map(cut).collect();
        }
    }
}

/// The parts of `range` outside the ascending ranges `holes`.
pub(crate) fn without(range: PfnRange, holes: &[PfnRange]) -> Vec<PfnRange> {
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

fn managed_of(zones: &[Zone]) -> Vec<((u16, Pfn), u64)> {
    zones.iter().map(|z| ((z.node, z.start_pfn), z.managed_pages)).collect()
}

fn parts_in_ram(machine: &Machine, range: PfnRange) -> Vec<PfnRange> {
    if machine.ram.is_empty() {
        return vec![range];
    }
    machine.ram.iter().filter_map(|ram| ram.intersect(range)).collect()
}

/// Frames among `candidates` that have memory now; `read` gives those of a range that do. All of
/// a unit is read only if one of a few of its frames has memory.
///
/// # Errors
/// Whatever `read` fails with.
pub(crate) fn find_present<E>(
    candidates: &[PfnRange],
    mut read: impl FnMut(PfnRange) -> Result<Vec<PfnRange>, E>,
) -> Result<Vec<PfnRange>, E> {
    let mut present: Vec<PfnRange> = Vec::new();
    for unit in candidates.iter().flat_map(|range| super::chunks(*range, UNIT_PAGES)) {
        let step = unit.pages().div_ceil(PROBES);
        let mut probes = (0..PROBES).map(|n| unit.start.offset(n * step).0.min(unit.end.0 - 1));
        let changed = probes
            .try_fold(false, |any, pfn| Ok(any || !read(PfnRange::new(Pfn(pfn), 1))?.is_empty()))?;
        if !changed {
            continue;
        }
        for range in read(unit)? {
            match present.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => present.push(range),
            }
        }
    }
    Ok(present)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use fragscope_trace::page::Migratetype;
    use fragscope_trace::snapshot::{PageRun, SnapshotRole, SnapshotSource};
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::synthetic;

    const UNITS: u64 = 12;

    fn unit(n: u64) -> PfnRange {
        PfnRange::new(Pfn(n * UNIT_PAGES), UNIT_PAGES)
    }

    fn absences(present: &[bool]) -> (Absences, Machine) {
        let machine = synthetic::machine(UNITS * UNIT_PAGES);
        let run = |(n, present): (u64, &bool)| PageRun {
            start: unit(n).start,
            pages: UNIT_PAGES,
            content: if *present { Content::Anon } else { Content::Absent },
            order: 0,
            migratetype: Migratetype::Movable,
        };
        let snapshot = Snapshot {
            source: SnapshotSource::StructPages,
            role: SnapshotRole::Opening,
            begin_ns: 0,
            end_ns: 0,
            machine: machine.clone(),
            chunks: Vec::new(),
            runs: (0..).zip(present).map(run).collect(),
            pageblocks: Vec::new(),
            lists: Vec::new(),
            notes: Vec::new(),
        };
        (Absences::of(&snapshot), machine)
    }

    proptest! {
        /// Whatever units arrive, each is found once, and no other memory is read.
        #[test]
        fn new_units_are_found_and_only_they_are_read(
            before in prop::collection::vec(any::<bool>(), UNITS as usize),
            arriving in prop::collection::vec(any::<bool>(), UNITS as usize),
        ) {
            let (mut absences, mut machine) = absences(&before);
            machine.zones[0].managed_pages += 1;
            let candidates = absences.candidates(&machine.zones);
            let now = |pfn: Pfn| {
                let n = (pfn.0 / UNIT_PAGES) as usize;
                before[n] || arriving[n]
            };
            let mut read = 0;
            let found = find_present(&candidates, |range| {
                read += usize::from(range.pages() > 1);
                Ok::<_, Infallible>(now(range.start).then_some(range).into_iter().collect())
            }).unwrap();
            let new = |n: &usize| arriving[*n] && !before[*n];
            prop_assert_eq!(read, (0..UNITS as usize).filter(new).count());
            for n in 0..UNITS {
                let inside = found.iter().filter(|r| r.contains(unit(n).start)).count();
                prop_assert_eq!(inside, usize::from(new(&(n as usize))));
            }
            absences.remove(&found);
            let left: u64 = absences.ranges().iter().map(|r| r.pages()).sum();
            let absent = (0..UNITS as usize).filter(|n| !before[*n] && !arriving[*n]).count();
            prop_assert_eq!(left, absent as u64 * UNIT_PAGES);
            prop_assert!(absences.candidates(&machine.zones).is_empty(), "nothing has grown since");
        }
    }

    #[test]
    fn a_zone_that_did_not_grow_is_not_looked_at() {
        let (mut absences, machine) = absences(&[false; UNITS as usize]);
        assert!(absences.candidates(&machine.zones).is_empty());
    }

    #[test]
    fn memory_in_the_middle_of_a_unit_is_cut_out() {
        let (mut absences, _) = absences(&[false; UNITS as usize]);
        absences.remove(&[PfnRange::new(Pfn(100), 50)]);
        let ranges: Vec<u64> = absences.ranges().iter().map(|r| r.pages()).collect();
        assert_eq!(ranges[..2], [100, UNIT_PAGES - 150]);
    }

    proptest! {
        /// Memory that is plugged in lies beyond what any zone spanned, often in a zone of its own.
        #[test]
        fn memory_beyond_all_zones_is_a_candidate_once(units in 1u64..4, node in 0u16..2) {
            let (mut absences, mut machine) = absences(&[true; UNITS as usize]);
            let plugged = PfnRange::new(unit(UNITS).start, units * UNIT_PAGES);
            let kind = fragscope_trace::machine::ZoneKind::Normal;
            machine.zones.push(Zone::new(node, kind, plugged));
            prop_assert_eq!(absences.candidates(&machine.zones), [plugged]);
            absences.remove(&[plugged]);
            prop_assert_eq!(absences.candidates(&machine.zones), []);
        }

        /// Against page by page.
        #[test]
        fn parts_are_the_pages_outside_all_holes(
            (start, len) in (0u64..50, 0u64..50),
            gaps in prop::collection::vec((0u64..9, 1u64..9), 0..12),
        ) {
            let mut at = 0;
            let holes: Vec<_> = gaps.into_iter().map(|(gap, len)| {
                let hole = PfnRange::new(Pfn(at + gap), len);
                at = hole.end.0;
                hole
            }).collect();
            let whole = PfnRange::new(Pfn(start), len);
            let parts: Vec<u64> =
                without(whole, &holes).into_iter().flat_map(PfnRange::raw).collect();
            let expected: Vec<u64> =
                whole.raw().filter(|p| !holes.iter().any(|h| h.contains(Pfn(*p)))).collect();
            prop_assert_eq!(parts, expected);
        }
    }
}
