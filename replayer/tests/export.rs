//! What is exported comes back as it was.

#![cfg(feature = "analysis")]

use std::io::Read;
use std::path::Path;

use fragscope_replay::export::{Plan, export};
use fragscope_replay::import::ImportError;
use fragscope_replay::import::parquet::import;
use fragscope_replay::observe::TrackKind;
use fragscope_replay::start::TrackSpec;
use fragscope_replay::synth::generate;
use fragscope_replay::synth::presets::preset;
use fragscope_trace::event::EventRef;
use fragscope_trace::frame::Frame;
use fragscope_trace::reader::TraceReader;

/// Everything in a trace in its order, however it is cut into batches; as text, to be compared.
fn items<R: Read>(mut reader: TraceReader<R>) -> Vec<String> {
    let mut items = vec![format!("{:?}", reader.header())];
    while let Some(frame) = reader.next_frame().unwrap() {
        match frame {
            Frame::Events(batch) => items.extend(batch.iter().map(|event| match event {
                EventRef::Page(page) => format!("{page:?}"),
                EventRef::Side(side) => format!("{side:?}"),
            })),
            other => items.push(format!("{other:?}")),
        }
    }
    items
}

fn kernel_only() -> Plan {
    Plan { tracks: Vec::new(), interval_ns: 1_000_000_000 }
}

fn round_trip(trace: &[u8], plan: &Plan) {
    let dir = tempfile::tempdir().unwrap();
    let written = export(|| TraceReader::new(trace), dir.path(), plan, |_| {}).unwrap();
    let mut back = Vec::new();
    let imported = import(dir.path(), &mut back).unwrap();
    assert_eq!(imported.events, written.events);
    let before = items(TraceReader::new(trace).unwrap());
    let after = items(TraceReader::new(&back[..]).unwrap());
    assert_eq!(before.len(), after.len());
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before, after, "item {index}");
    }
    let per_event = written.event_bytes as f64 / written.events as f64;
    assert!(per_event <= 5.0, "{per_event} bytes an event");
}

fn small(duration_s: f64) -> Vec<u8> {
    let mut workload = preset("small", None).unwrap();
    workload.duration_s = duration_s;
    let mut trace = Vec::new();
    generate(&workload, 1, &mut trace, |_| {}).unwrap();
    trace
}

#[test]
fn a_recording_comes_back() {
    round_trip(fragscope_replay::bundled::recording(), &kernel_only());
}

/// More events than one row group holds, and replays beside them.
#[test]
fn a_synthetic_trace_comes_back() {
    let tracks = vec![TrackSpec::as_found(TrackKind::Stock)];
    round_trip(&small(12.0), &Plan { tracks, interval_ns: 500_000_000 });
}

#[test]
fn a_missing_or_foreign_table_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let trace = small(0.5);
    export(|| TraceReader::new(&trace[..]), dir.path(), &kernel_only(), |_| {}).unwrap();
    let said = |dir: &Path| -> ImportError { import(dir, Vec::new()).unwrap_err() };
    let swap = |from: &str, to: &str| {
        std::fs::copy(dir.path().join(from), dir.path().join(to)).unwrap();
    };
    swap("zones.parquet", "sides.parquet");
    let error = said(dir.path()).to_string();
    assert!(error.contains("sides.parquet") && error.contains("expected UInt64"), "{error}");
    std::fs::remove_file(dir.path().join("events.parquet")).unwrap();
    std::fs::remove_file(dir.path().join("sides.parquet")).unwrap();
    assert!(said(dir.path()).to_string().contains("sides.parquet"));
}
