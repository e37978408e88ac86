//! Tables of other programs become traces; damaged and foreign ones are refused in words.

#![cfg(feature = "analysis")]

use std::path::Path;

use fragscope_replay::export::{Plan, export};
use fragscope_replay::import::bare::Known;
use fragscope_replay::import::{ImportError, Imported, columns, parquet};
use fragscope_replay::synth::generate;
use fragscope_replay::synth::presets::preset;
use fragscope_trace::event::PageEvent;
use fragscope_trace::frame::Frame;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{CpuId, Pfn};
use fragscope_trace::reader::TraceReader;
use polars::prelude::{Column, DataFrame, ParquetWriter};
use proptest::prelude::*;

fn known() -> Known {
    Known { memory_bytes: Some(4 << 30), low_bytes: Some(3 << 30), ..Known::default() }
}

/// The columns of three events, in the types that other programs like to use.
fn columns_of_three() -> Vec<Column> {
    vec![
        Column::new("time_ns".into(), [1_000i64, 2_000, 3_000]),
        Column::new("kind".into(), ["alloc", "alloc", "free"]),
        Column::new("pfn".into(), [0x1000i64, 0x2000, 0x1000]),
        Column::new("order".into(), [0i32, 3, 0]),
        Column::new("migratetype".into(), ["movable", "unmovable", "unmovable"]),
    ]
}

fn write(path: &Path, columns: Vec<Column>) {
    let mut frame = DataFrame::new_infer_height(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    ParquetWriter::new(file).finish(&mut frame).unwrap();
}

fn import(columns: Vec<Column>) -> Result<(Imported, Vec<PageEvent>), ImportError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.parquet");
    write(&path, columns);
    let mut trace = Vec::new();
    let imported = columns::import(&path, &known(), &mut trace)?;
    let mut reader = TraceReader::new(&trace[..]).unwrap();
    let mut events = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        if let Frame::Events(batch) = frame {
            events.extend(batch.pages);
        }
    }
    Ok((imported, events))
}

#[test]
fn the_least_columns_make_a_trace_that_says_what_was_missing() {
    let (imported, events) = import(columns_of_three()).unwrap();
    let expected = [
        PageEvent::alloc(1_000, CpuId(0), Pfn(0x1000), 0, Gfp::HIGHUSER_MOVABLE),
        PageEvent::alloc(2_000, CpuId(0), Pfn(0x2000), 3, Gfp::KERNEL),
        PageEvent::free(3_000, CpuId(0), Pfn(0x1000), 0),
    ];
    assert_eq!(events, expected);
    let said = imported.inferred.join("\n");
    for word in ["no column cpu", "no column gfp", "geometry", "opening state"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn steps_of_time_and_flags_do_as_well() {
    let mut columns = columns_of_three();
    columns[0] = Column::new("dt_ns".into(), [1_000i64, 1_000, 1_000]);
    columns[4] = Column::new(
        "gfp".into(),
        [Gfp::HIGHUSER_MOVABLE.bits(), Gfp::KERNEL.bits(), Gfp::empty().bits()],
    );
    columns.push(Column::new("cpu".into(), [0i32, 1, 1]));
    let (_, events) = import(columns).unwrap();
    assert_eq!(events[1], PageEvent::alloc(2_000, CpuId(1), Pfn(0x2000), 3, Gfp::KERNEL));
    assert_eq!(events[2].time_ns, 3_000);
}

#[test]
fn rows_out_of_order_are_sorted_and_that_is_said() {
    let mut columns = columns_of_three();
    columns[0] = Column::new("time_ns".into(), [2_000u64, 1_000, 3_000]);
    let (imported, events) = import(columns).unwrap();
    assert_eq!(events[0].pfn, Pfn(0x2000));
    assert!(imported.inferred.iter().any(|said| said.contains("order of time")));
}

#[test]
fn a_missing_column_is_named() {
    for missing in 0..5 {
        let mut columns = columns_of_three();
        let name = columns.remove(missing).name().to_string();
        let said = import(columns).unwrap_err().to_string();
        assert!(said.contains(&format!("`{name}`")) && said.contains("found "), "{said}");
    }
}

#[test]
fn impossible_values_are_named() {
    let refused = |column: Column, expected: &str| {
        let mut columns = columns_of_three();
        let at = columns.iter().position(|known| known.name() == column.name()).unwrap();
        columns[at] = column;
        let said = import(columns).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    };
    refused(Column::new("pfn".into(), ["a", "b", "c"]), "whole-number type");
    refused(Column::new("pfn".into(), [1.5, 2.5, 3.5]), "whole-number type");
    refused(Column::new("pfn".into(), [-1i64, 2, 3]), "conversion");
    refused(Column::new("pfn".into(), [u64::MAX, 2, 3]), "at most");
    refused(Column::new("pfn".into(), [None, Some(2i64), Some(3)]), "null");
    refused(Column::new("order".into(), [0u32, 40, 0]), "at most");
    refused(Column::new("time_ns".into(), [u64::MAX, 0, 0]), "at most");
    refused(Column::new("kind".into(), ["alloc", "malloc", "free"]), "alloc_failed");
    refused(Column::new("kind".into(), [1i64, 2, 3]), "kind");
    refused(Column::new("migratetype".into(), ["movable", "stuck", "movable"]), "high_atomic");
}

#[test]
fn no_rows_are_no_trace() {
    let none = columns_of_three().into_iter().map(|column| column.slice(0, 0)).collect();
    assert!(import(none).unwrap_err().to_string().contains("one page event"));
}

/// Every byte of a small file set wrong, which makes lengths and counts of rows huge among other
/// things: the import ends, in words or with some trace.
#[test]
fn any_damaged_byte_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, damaged) = (dir.path().join("whole.parquet"), dir.path().join("damaged.parquet"));
    write(&whole, columns_of_three());
    let bytes = std::fs::read(&whole).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut worse = bytes.clone();
        worse[at] ^= [0xff, 0x7f, 0x80, 0x0e][at % 4];
        std::fs::write(&damaged, worse).unwrap();
        refused += usize::from(columns::import(&damaged, &known(), Vec::new()).is_err());
    }
    assert!(refused > bytes.len() / 3, "{refused} of {}", bytes.len());
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.parquet");
    write(&path, columns_of_three());
    let bytes = std::fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let said = columns::import(&path, &known(), Vec::new()).unwrap_err().to_string();
        assert!(said.contains("cut.parquet"), "{said}");
    }
}

const TABLES: [&str; 7] = [
    "trace",
    "events",
    "sides",
    "snapshots",
    "snapshot_runs",
    "snapshot_pageblocks",
    "snapshot_lists",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The same for the tables of an export.
    #[test]
    fn a_damaged_export_is_survived(
        table in 0..TABLES.len(), at in 0.0..1.0f64, from_end in any::<bool>(), flip in 1u8.., cut in any::<bool>(),
    ) {
        let dir = exported();
        let copy = tempfile::tempdir().unwrap();
        for table in TABLES {
            let name = format!("{table}.parquet");
            std::fs::copy(dir.join(&name), copy.path().join(&name)).unwrap();
        }
        let path = copy.path().join(format!("{}.parquet", TABLES[table]));
        let mut bytes = std::fs::read(&path).unwrap();
        // Half of all in the last kilobytes, where the lengths are.
        let reach = if from_end { bytes.len().min(2_000) } else { bytes.len() };
        let index = bytes.len() - 1 - (at * reach as f64) as usize;
        if cut { bytes.truncate(index) } else { bytes[index] ^= flip }
        std::fs::write(&path, bytes).unwrap();
        let outcome = parquet::import(copy.path(), Vec::new());
        prop_assert!(!cut || outcome.is_err());
    }
}

/// The export of a short synthetic trace, made once.
fn exported() -> &'static Path {
    static DIR: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    DIR.get_or_init(|| {
        let mut workload = preset("small", Some(1 << 30)).unwrap();
        workload.duration_s = 0.05;
        let mut trace = Vec::new();
        generate(&workload, 1, &mut trace, |_| {}).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { tracks: Vec::new(), interval_ns: 1_000_000_000 };
        export(|| TraceReader::new(&trace[..]), dir.path(), &plan, |_| {}).unwrap();
        dir
    })
    .path()
}
