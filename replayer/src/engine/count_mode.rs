//! Traces of count mode: the kernel's track follows counters, and nothing else can be had.

use fragscope_trace::event::{
    CountedPlace, EventBatch, OrderCount, RegionCount, SideKind, TimeNs, TypeOrderCount,
};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{Header, TraceMode};
use fragscope_trace::page::{Content, Migratetype};
use fragscope_trace::snapshot::SnapshotRole;

use super::observatory::{Observatory, ReplayError};
use super::sampled::Sampled;
use crate::observe::{Sample, TrackKind};
use crate::start::TrackSpec;
use crate::testing::{header, machine, side, snapshot};

const PAGES: u64 = 8192;

fn counting() -> Header {
    Header { mode: TraceMode::Count, ..header(&machine(&[PAGES])) }
}

/// Movable pages allocated and pages freed within the second that ends at `time_ns`.
fn counts(time_ns: TimeNs, allocated: u64, freed: u64) -> Frame {
    let (migratetype, order) = (Migratetype::Movable, 0);
    let regions = vec![RegionCount {
        place: CountedPlace::Region(0),
        allocs: vec![TypeOrderCount { migratetype, order, count: allocated }],
        frees: vec![OrderCount { order, count: freed }],
    }];
    let mut batch = EventBatch::default();
    let since_ns = time_ns - 1_000_000_000;
    batch.push_side(side(time_ns, SideKind::RegionCounts { since_ns, regions }));
    Frame::Events(batch)
}

fn free_pages(sample: &Sample) -> u64 {
    sample.tracks[0].totals.free_pages
}

#[test]
fn policies_are_refused() {
    let specs = vec![TrackSpec::as_found(TrackKind::Stock)];
    let refused = Observatory::new(&counting(), specs).unwrap_err();
    assert_eq!(refused, ReplayError::Counted);
    assert!(Observatory::new(&counting(), Vec::new()).is_ok());
}

#[test]
fn samples_follow_counters_and_snapshots() {
    let header = counting();
    let mut tracks = Observatory::new(&header, Vec::new()).unwrap();
    let mut sampled = Sampled::new(0, 1_000_000_000);
    let half = |pfn| if pfn < PAGES / 2 { Content::Free } else { Content::Anon };
    let opening = snapshot(&header.machine, SnapshotRole::Opening, 500_000_000, half);
    let later = snapshot(&header.machine, SnapshotRole::Interval, 3_500_000_000, |_| Content::Free);
    let frames = [
        Frame::Snapshot(Box::new(opening)),
        counts(1_500_000_000, 100, 0),
        counts(2_500_000_000, 100, 50),
        counts(3_500_000_000, 0, 0),
        Frame::Snapshot(Box::new(later)),
        counts(4_500_000_000, 10, 0),
    ];
    let mut samples = Vec::new();
    for frame in frames {
        sampled
            .feed(frame, &mut tracks, |tracks, _| -> Result<(), ReplayError> {
                samples.push(tracks.sample()?);
                Ok(())
            })
            .unwrap();
    }
    tracks.finish().unwrap();
    samples.push(tracks.sample().unwrap());
    let half = PAGES / 2;
    let opened: Vec<u64> =
        samples.iter().filter(|s| !s.tracks.is_empty()).map(free_pages).collect();
    assert_eq!(opened, [half - 100, half - 150, PAGES, PAGES - 10]);
    let last = samples.last().unwrap();
    assert_eq!((last.events.allocs, last.events.frees), (210, 50));
    assert!(tracks.fidelity().is_empty(), "a snapshot is the truth here, not a check");
}
