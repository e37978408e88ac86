//! A recording that a guest made, and what must hold of every one.

use std::ops::Range;

use fragscope_trace::event::{LossCause, PageEvent, SideEvent, SideKind, TimeNs};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{End, Header};
use fragscope_trace::page::PfnRange;
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::{Snapshot, SnapshotSource};
use serde_json::Value;

use crate::model::{Differences, differences};
use crate::qemu::Results;

/// What `/proc` and the snapshot may differ by, as a part of the zone, beside what events explain: free
/// pages that were held by nobody's list, and the kernel's own lag in counting. The live tests, which
/// run in the guests, too, look twice.
const MARGIN_PART: u64 = 50;

/// Events for each that the kernel may skip, because it interrupts the program that would tell it.
const EVENTS_PER_SKIPPED: u64 = 10_000;

/// Frames in ten thousand that events may leave unexplained.
const UNEXPLAINED_PER_10_000: u64 = 1;

/// A whole recording.
pub(crate) struct Recording {
    pub(crate) header: Header,
    pub(crate) pages: Vec<PageEvent>,
    pub(crate) sides: Vec<SideEvent>,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) end: End,
    summary: Value,
}

impl Recording {
    /// Reads `NAME.fst` and the summary that the recorder printed.
    pub(crate) fn read(results: &Results, name: &str) -> Recording {
        results.assert_succeeded(name);
        let mut reader = TraceReader::new(results.bytes(&format!("{name}.fst"))).unwrap();
        let header = reader.header().clone();
        let (mut pages, mut sides, mut snapshots, mut end) = (vec![], vec![], vec![], None);
        while let Some(frame) = reader.next_frame().unwrap() {
            match frame {
                Frame::Header(_) => panic!("a second header"),
                Frame::Snapshot(snapshot) => snapshots.push(*snapshot),
                Frame::Events(batch) => {
                    pages.extend(batch.pages);
                    sides.extend(batch.sides.into_iter().map(|(_, side)| side));
                }
                Frame::End(last) => end = Some(*last),
            }
        }
        assert!(reader.truncated().is_none(), "{:?}", reader.truncated());
        let end = end.expect("a recording that ended in order");
        let summary = serde_json::from_str(&results.text(&format!("{name}.out"))).unwrap();
        Recording { header, pages, sides, snapshots, end, summary }
    }

    /// What holds on every kernel and under every load: nothing is lost but what the kernel skipped in
    /// interrupts, every other event is there, both snapshots come from struct pages and agree with
    /// `/proc`.
    pub(crate) fn check(&self, series: &str) {
        let release = &self.header.machine.kernel_release;
        assert!(release.starts_with(&format!("{series}.")), "{release}");
        let totals = &self.end.totals;
        let skipped = totals.lost.get(&LossCause::Reentry).copied().unwrap_or(0);
        assert_eq!(totals.lost_events(), skipped, "{totals:?}");
        assert!(skipped * EVENTS_PER_SKIPPED <= totals.events, "{totals:?}");
        let sum = |field: &str| -> u64 {
            let counts = self.summary[field].as_object().unwrap();
            counts.values().map(|count| count.as_u64().unwrap()).sum()
        };
        assert_eq!(sum("emitted"), sum("delivered") + skipped, "{}", self.summary);
        assert_eq!(totals.events as usize, self.pages.len() + self.sides.len());
        assert_eq!(self.snapshots.len(), 2, "{}", self.summary);
        self.snapshots.iter().for_each(|snapshot| self.check_snapshot(snapshot));
    }

    /// Pages of all free lists and per-CPU lists against `/proc/zoneinfo`, zone by zone.
    fn check_snapshot(&self, snapshot: &Snapshot) {
        assert_eq!(snapshot.source, SnapshotSource::StructPages, "{:?}", snapshot.notes);
        for (index, zone) in snapshot.machine.zones.iter().enumerate() {
            let lists = snapshot.lists.iter().filter(|list| usize::from(list.zone) == index);
            let listed: u64 = lists.map(|list| (list.blocks.len() as u64) << list.order).sum();
            let (label, shown) = (zone.label(), zone.free_pages + zone.pcp_pages());
            let meanwhile = self.pages_touched(zone.span(), snapshot.begin_ns..snapshot.end_ns);
            println!("  {label}: {listed} pages on lists, {shown} shown, {meanwhile} meanwhile");
            let margin = zone.managed_pages / MARGIN_PART + 64 + meanwhile;
            assert!(listed.abs_diff(shown) <= margin, "{label}: {listed}, {shown}");
        }
        let spanned: u64 = snapshot.machine.zones.iter().map(|zone| zone.spanned_pages).sum();
        assert_eq!(snapshot.totals().iter().sum::<u64>(), spanned);
        let no_types = |note: &&String| note.contains("table of pageblock types");
        assert_eq!(snapshot.notes.iter().find(no_types), None);
    }

    /// Pages that events of this time name.
    fn pages_touched(&self, span: PfnRange, time: Range<TimeNs>) -> u64 {
        let inside = |e: &&PageEvent| time.contains(&e.time_ns) && span.contains(e.pfn);
        self.pages.iter().filter(inside).map(|event| event.pages()).sum()
    }

    /// Rare events of one sort.
    pub(crate) fn count(&self, is_it: impl Fn(&SideKind) -> bool) -> usize {
        self.sides.iter().filter(|side| is_it(&side.kind)).count()
    }

    /// What the events do not explain between the first and the last snapshot.
    fn differences(&self) -> Differences {
        let [opening, .., closing] = &self.snapshots[..] else { panic!("two snapshots") };
        differences(opening, &self.pages, &self.sides, closing)
    }

    /// The events explain what the closing snapshot shows, but for a few frames.
    pub(crate) fn check_differences(&self) {
        let found = self.differences();
        println!("  {found:?}");
        let unexplained = found.not_seen_allocated + found.not_seen_freed;
        assert!(unexplained * 10_000 <= found.compared * UNEXPLAINED_PER_10_000, "{found:?}");
    }

    /// Allocations with a stack that has names.
    pub(crate) fn named_stacks(&self) -> usize {
        let has_names = |frames: &[String]| frames.iter().filter(|f| f.contains("+0x")).count() > 2;
        self.count(|kind| matches!(kind, SideKind::Stack { frames, .. } if has_names(frames)))
    }
}
