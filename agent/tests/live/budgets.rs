//! What a recording may use: what is beyond is counted, and said.

use std::path::Path;

use fragscope_trace::event::{Budget, LossCause, SideKind};
use fragscope_trace::header::{EndReason, TraceMode};
use fragscope_trace::snapshot::SnapshotRole;
use serde_json::Value;

use crate::common::{Trace, agent, storm_command, trace_path, turn};

#[test]
fn storm_for_budgets() {
    crate::common::storm_if_asked();
}

/// Records a storm; the summary.
fn record(path: &Path, more: &[&str], rounds: usize, mib: usize) -> Value {
    let mut command = agent();
    command.args(["record", "--json", "--close-timeout", "60s", "--output"]).arg(path).args(more);
    storm_command(&mut command, "budgets::storm_for_budgets", rounds, mib);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"))
}

/// Bytes that hold some snapshots of this host, and rounds of a storm whose events do not fit beside
/// them.
fn small_file(path: &Path) -> (u64, usize) {
    /// Fewer than the events of a round take.
    const ROUND_BYTES: u64 = 200_000;
    let without_load = record(path, &[], 0, 0)["trace_bytes"].as_u64().unwrap();
    std::fs::remove_file(path).unwrap();
    let bytes = (5 * without_load).next_multiple_of(1 << 20);
    (bytes, (bytes / ROUND_BYTES) as usize)
}

fn accounts(summary: &Value) -> (u64, u64) {
    let sum = |name: &str| {
        summary[name].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>()
    };
    (sum("emitted"), sum("delivered") + summary["lost_events"].as_u64().unwrap())
}

#[test]
fn events_beyond_the_rate_are_counted_by_region() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let summary = record(&path, &["--max-events-per-second", "5000"], 4, 64);
    let (emitted, told) = accounts(&summary);
    assert_eq!(emitted, told, "{summary}");
    let trace = Trace::read(&path);
    assert_eq!(trace.header.mode, TraceMode::Full);
    let totals = trace.end.unwrap().totals;
    let shed = totals.lost[&LossCause::RateLimit];
    assert!(shed > 4 * (64 << 8), "{summary}");
    assert_eq!(totals.counted_allocs + totals.counted_frees, shed, "{summary}");
    let turns: Vec<bool> = trace
        .sides
        .iter()
        .filter_map(|side| match side.kind {
            SideKind::Shed { budget: Budget::EventsPerSecond, begin, limit: 5000, .. } => {
                Some(begin)
            }
            _ => None,
        })
        .collect();
    assert!(turns.first() == Some(&true), "{turns:?}");
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    // What was not recorded is known again by a snapshot of the time after; at the end by the
    // closing one.
    assert!(turns.len() < 2 || trace.snapshots.len() > 1, "{turns:?} {:?}", trace.snapshots);
}

#[test]
fn a_file_of_limited_size_ends_in_order() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let (limit, rounds) = small_file(&path);
    let summary = record(&path, &["--max-size", &limit.to_string()], rounds, 256);
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes <= limit, "{bytes}");
    assert_eq!(summary["trace_bytes"], bytes);
    let trace = Trace::read(&path);
    assert_eq!(trace.end.unwrap().reason, EndReason::SizeLimit, "{summary}");
    assert_eq!(trace.snapshots.last(), Some(&SnapshotRole::Closing));
}

#[test]
fn each_file_of_a_rotation_is_a_trace() {
    let Some(_turn) = turn() else { return };
    let (dir, path) = trace_path();
    let (limit, rounds) = small_file(&path);
    let more = ["--max-size", &limit.to_string(), "--rotate", "--keep-files", "3"];
    let summary = record(&path, &more, rounds, 256);
    let files = summary["files"].as_u64().unwrap();
    assert!(files >= 2, "{summary}");
    let mut names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len() as u64, files.min(3), "{names:?}");
    assert_eq!(names.last().unwrap(), &format!("trace.{files:04}.fst"));
    let mut expected = None;
    for name in &names {
        assert!(expected.as_ref().is_none_or(|next| next == name), "{expected:?}, not {name}");
        let file = dir.path().join(name);
        assert!(std::fs::metadata(&file).unwrap().len() <= limit, "{name}");
        let trace = Trace::read(&file);
        assert_eq!(trace.snapshots.first(), Some(&SnapshotRole::Opening), "{name}");
        let mut told = std::collections::HashSet::from([0]);
        for side in &trace.sides {
            match &side.kind {
                SideKind::Stack { id, .. } => assert!(told.insert(*id), "{name}: {id} again"),
                SideKind::Context { stack, .. } => assert!(told.contains(stack), "{name}: {stack}"),
                _ => {}
            }
        }
        let end = trace.end.unwrap();
        assert_eq!(end.totals.events as usize, trace.pages.len() + trace.sides.len(), "{name}");
        expected = match end.reason {
            EndReason::Continued { next } => Some(next),
            _ => None,
        };
    }
    assert_eq!(expected, None, "the last file continues nowhere");
}

#[test]
fn a_file_too_small_for_a_snapshot_is_refused_in_words() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--max-size", "64KiB", "--duration", "5s", "--output"]).arg(&path);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("--max-size must be"), "{text}");
}
