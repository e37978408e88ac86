//! Count mode: what the counters say of a storm, and that nothing else is told.

use fragscope_trace::event::{CountedPlace, RegionCount, SideKind};
use fragscope_trace::header::TraceMode;
use fragscope_trace::page::Migratetype;
use fragscope_trace::snapshot::SnapshotRole;
use serde_json::Value;

use crate::common::{Trace, agent, storm_command, trace_path, turn};

/// Rounds and MiB of the storm, and its pages.
const STORM: (usize, usize) = (4, 64);
const STORM_PAGES: u64 = 4 * (64 << 8);

#[test]
fn storm_for_counters() {
    crate::common::storm_if_asked();
}

fn counts(trace: &Trace) -> Vec<&RegionCount> {
    let regions = trace.sides.iter().filter_map(|side| match &side.kind {
        SideKind::RegionCounts { regions, .. } => Some(regions),
        _ => None,
    });
    regions.flatten().collect()
}

#[test]
fn a_storm_is_counted_and_not_recorded() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args([
        "record",
        "--json",
        "--close-timeout",
        "60s",
        "--mode",
        "count",
        "--count-every",
        "200ms",
    ]);
    storm_command(
        command.arg("--output").arg(&path),
        "count::storm_for_counters",
        STORM.0,
        STORM.1,
    );
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();

    let trace = Trace::read(&path);
    assert_eq!(trace.header.mode, TraceMode::Count);
    assert!(trace.pages.is_empty(), "{} page events", trace.pages.len());
    assert_eq!(trace.snapshots.first(), Some(&SnapshotRole::Opening));
    assert_eq!(trace.snapshots.last(), Some(&SnapshotRole::Closing));
    let counts = counts(&trace);
    let missed = summary["lost_events"].as_u64().unwrap();
    let movable: u64 = counts.iter().map(|c| c.alloc_pages(|t| t == Migratetype::Movable)).sum();
    let freed: u64 = counts.iter().map(|c| c.free_pages()).sum();
    assert!(movable + missed >= STORM_PAGES, "{movable} pages allocated, {summary}");
    assert!(freed + missed >= STORM_PAGES, "{freed} pages freed, {summary}");
    let end_gib = trace.header.machine.end_pfn().0.div_ceil(1 << 18);
    for count in counts {
        match count.place {
            CountedPlace::Region(region) => assert!(u64::from(region) < end_gib, "{count:?}"),
            CountedPlace::Failed => assert!(count.frees.is_empty(), "{count:?}"),
            CountedPlace::Outside => panic!("{count:?}"),
        }
    }
    let emitted = |kind: &str| summary["emitted"][kind].as_u64().unwrap();
    let totals = trace.end.unwrap().totals;
    assert_eq!(
        emitted("alloc") + emitted("free"),
        totals.counted_allocs + totals.counted_frees + missed,
        "{summary}"
    );
}
