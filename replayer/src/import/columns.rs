//! A Parquet table of page events alone as a trace: what other tools may write with little.
//!
//! The columns are those of [`EVENTS`](crate::export::schema::EVENTS) with any whole-number type of 32 or 64 bits;
//! [`LEAST`] says which may be missing, and what then stands in their place is told.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use fragscope_trace::event::{EventBatch, PageEvent, PageEventKind, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{CpuId, MAX_EVENT_ORDER, Migratetype, Pfn};
use fragscope_trace::rules::MAX_PFN;
use polars::prelude::{
    Column, DataFrame, DataType, ParquetReader, PlSmallStr, PolarsError, SerReader, StringChunked,
};

use super::bare::{self, Known};
use super::parquet::{CHUNK_ROWS, guarded};
use super::{ImportError, Imported};
use crate::export::names::Named;

/// The least columns of a table of page events, for people.
pub const LEAST: &str = "`kind`, `pfn`, `order`; `time_ns` (CLOCK_MONOTONIC) or `dt_ns` (since the \
                         row before); `gfp` or `migratetype`";

const COLUMNS: [&str; 8] =
    ["time_ns", "dt_ns", "kind", "pfn", "order", "cpu", "gfp", "migratetype"];

/// Makes a trace of one table. All events are held in memory, because what a page was before the
/// trace shows only when it is freed.
///
/// # Errors
/// If the table lacks a column or has an impossible value, or the output fails.
pub fn import<W: Write>(path: &Path, known: &Known, out: W) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let table = EventTable::open(path, &mut imported.inferred)?;
    let mut pages = Vec::new();
    let (mut now_ns, mut row) = (0, 0);
    while row < table.rows {
        let frame = table.read(row)?;
        row += frame.height().max(1);
        table.events(&frame, &mut now_ns, &mut pages)?;
    }
    if pages.is_empty() {
        return Err(table.fault("rows", "none", "one page event or more"));
    }
    if !pages.is_sorted_by_key(|event| event.time_ns) {
        pages.sort_by_key(|event: &PageEvent| event.time_ns);
        imported.inferred.push("the rows were not in the order of time; now they are".into());
    }
    bare::write(&EventBatch { pages, sides: Vec::new() }, known, imported, out)
}

/// A file with such a table.
struct EventTable {
    path: PathBuf,
    columns: Vec<&'static str>,
    rows: usize,
}

impl EventTable {
    fn open(path: &Path, said: &mut Vec<String>) -> Result<EventTable, ImportError> {
        let mut table = EventTable { path: path.to_owned(), columns: Vec::new(), rows: 0 };
        let mut file = ParquetReader::new(table.file()?);
        let schema = table.polars(|| file.schema())?;
        table.rows = table.polars(|| file.num_rows())?;
        table.columns = COLUMNS.into_iter().filter(|name| schema.contains(name)).collect();
        let lacks = |either: &[&str]| !either.iter().any(|name| table.columns.contains(name));
        for either in
            [&["kind"][..], &["pfn"], &["order"], &["time_ns", "dt_ns"], &["gfp", "migratetype"]]
        {
            if lacks(either) {
                let found = schema.iter_names().map(PlSmallStr::as_str).collect::<Vec<_>>();
                return Err(table.fault("columns", &found.join(", "), LEAST));
            }
        }
        let mut infer = |column: &str, how: &str| {
            if lacks(&[column]) {
                said.push(format!("no column {column}: {how}"));
            }
        };
        infer("cpu", "all events count as of CPU 0");
        infer("gfp", "flags are the usual ones of each migratetype");
        infer("migratetype", "types are those that the flags ask for");
        Ok(table)
    }

    fn file(&self) -> Result<File, ImportError> {
        let path = self.path.clone();
        File::open(&path).map_err(|source| ImportError::Open { path, source })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn polars<T>(&self, act: impl FnOnce() -> Result<T, PolarsError>) -> Result<T, ImportError> {
        guarded(act).map_err(|source| ImportError::Polars { file: self.name(), source })
    }

    fn fault(&self, what: &str, found: &str, expected: &str) -> ImportError {
        let (what, found, expected) = (what.to_owned(), found.to_owned(), expected.to_owned());
        ImportError::Table { file: self.name(), what, found, expected }
    }

    /// Some rows, from `row` on.
    fn read(&self, row: usize) -> Result<DataFrame, ImportError> {
        let file = self.file()?;
        let names = self.columns.iter().map(|name| (*name).to_owned()).collect();
        self.polars(|| {
            ParquetReader::new(file)
                .with_columns(Some(names))
                .with_slice(Some((row, CHUNK_ROWS)))
                .finish()
        })
    }

    /// Appends the events of some rows. `now_ns` is the time of the event before them.
    fn events(
        &self,
        frame: &DataFrame,
        now_ns: &mut TimeNs,
        events: &mut Vec<PageEvent>,
    ) -> Result<(), ImportError> {
        let times = self.times(frame, now_ns)?;
        let kinds: Vec<PageEventKind> = self.names(frame, "kind")?;
        let pfns = self.numbers(frame, "pfn", MAX_PFN - 1)?;
        let orders = self.numbers(frame, "order", MAX_EVENT_ORDER.into())?;
        let cpus = self.optional(frame, "cpu", u16::MAX.into())?;
        let gfps = self.optional(frame, "gfp", u32::MAX.into())?;
        let types: Option<Vec<Migratetype>> =
            self.has("migratetype").then(|| self.names(frame, "migratetype")).transpose()?;
        for (row, kind) in kinds.into_iter().enumerate() {
            let of_type = types.as_ref().map(|types| types[row]);
            let gfp = match &gfps {
                Some(gfps) => Gfp::from_bits_retain(gfps[row] as u32),
                None if kind == PageEventKind::Free => Gfp::empty(),
                None => usual_gfp(of_type.unwrap_or(Migratetype::Unmovable)),
            };
            let of_type = of_type.unwrap_or_else(|| gfp.migratetype());
            let cpu = CpuId(cpus.as_ref().map_or(0, |cpus| cpus[row] as u16));
            let (pfn, order) = (Pfn(pfns[row]), orders[row] as u8);
            events.push(PageEvent::new(kind, times[row], cpu, pfn, order, of_type, gfp));
        }
        Ok(())
    }

    fn has(&self, column: &str) -> bool {
        self.columns.contains(&column)
    }

    fn times(&self, frame: &DataFrame, now_ns: &mut TimeNs) -> Result<Vec<TimeNs>, ImportError> {
        if self.has("time_ns") {
            return self.numbers(frame, "time_ns", TimeNs::MAX / 2);
        }
        let column = self.whole(frame, "dt_ns", &DataType::Int64)?;
        let steps = self.polars(|| column.i64().cloned())?;
        let step = |dt_ns: Option<i64>| {
            let dt_ns =
                dt_ns.ok_or_else(|| self.fault("dt_ns", "null", "a number in every row"))?;
            let sum = now_ns.checked_add_signed(dt_ns).filter(|ns| *ns <= TimeNs::MAX / 2);
            *now_ns = sum.ok_or_else(|| {
                self.fault("dt_ns", &dt_ns.to_string(), "times from 0 to 2^63 nanoseconds")
            })?;
            Ok(*now_ns)
        };
        steps.iter().map(step).collect()
    }

    /// A column of whole numbers of any width, as `to`.
    fn whole(&self, frame: &DataFrame, name: &str, to: &DataType) -> Result<Column, ImportError> {
        let column = self.polars(|| frame.column(name).cloned())?;
        if !column.dtype().is_integer() {
            return Err(self.fault(name, &column.dtype().to_string(), "a whole-number type"));
        }
        self.polars(|| column.strict_cast(to))
    }

    fn numbers(&self, frame: &DataFrame, name: &str, most: u64) -> Result<Vec<u64>, ImportError> {
        let column = self.whole(frame, name, &DataType::UInt64)?;
        let values = self.polars(|| column.u64().cloned())?;
        let value = |value: Option<u64>| {
            let value = value.ok_or_else(|| self.fault(name, "null", "a number in every row"))?;
            let fits = || self.fault(name, &value.to_string(), &format!("at most {most}"));
            (value <= most).then_some(value).ok_or_else(fits)
        };
        values.iter().map(value).collect()
    }

    fn optional(
        &self,
        frame: &DataFrame,
        name: &str,
        most: u64,
    ) -> Result<Option<Vec<u64>>, ImportError> {
        self.has(name).then(|| self.numbers(frame, name, most)).transpose()
    }

    fn names<T: Named>(&self, frame: &DataFrame, name: &str) -> Result<Vec<T>, ImportError> {
        let texts: StringChunked = self.polars(|| frame.column(name)?.str().cloned())?;
        let value = |text: Option<&str>| {
            let text = text.unwrap_or("null");
            T::of_name(text).ok_or_else(|| self.fault(name, text, &T::names()))
        };
        texts.iter().map(value).collect()
    }
}

/// Flags of a request of which only the type is known.
fn usual_gfp(of: Migratetype) -> Gfp {
    match of {
        Migratetype::Movable | Migratetype::Cma => Gfp::HIGHUSER_MOVABLE,
        Migratetype::Reclaimable => Gfp::KERNEL | Gfp::RECLAIMABLE,
        Migratetype::HighAtomic => Gfp::ATOMIC,
        Migratetype::Unmovable | Migratetype::Isolate => Gfp::KERNEL,
    }
}
