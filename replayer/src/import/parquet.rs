//! An export as a trace again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use fragscope_trace::event::{EventBatch, PageEvent, SideEvent, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::{End, Header};
use fragscope_trace::page::{CpuId, MAX_EVENT_ORDER, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::{FreeList, PageRun, Snapshot};
use fragscope_trace::writer::TraceWriter;
use polars::prelude::{
    DataFrame, ParquetReader, PolarsError, PolarsResult, SerReader, StringChunked,
};
use serde::de::DeserializeOwned;

use super::{ImportError, Imported};
use crate::export::names::{Named, tags_of};
use crate::export::schema::{
    EVENTS, SIDES, SNAPSHOT_LISTS, SNAPSHOT_PAGEBLOCKS, SNAPSHOT_RUNS, SNAPSHOTS, TRACE, Table,
};
use crate::export::table::data_type;

/// Rows read at once.
pub(super) const CHUNK_ROWS: usize = 1 << 20;

/// Makes a trace from the tables in `dir`.
///
/// # Errors
/// If a table is missing or not what the schema says, or the output fails.
pub fn import<W: Write>(dir: &Path, out: W) -> Result<Imported, ImportError> {
    let trace = Chunk::all(dir, &TRACE)?;
    let header: Header = trace.json("header", 0)?;
    let mut merge = Merge {
        writer: TraceWriter::new(out, &header)?,
        sides: Sides::open(dir)?,
        snapshots: snapshots(dir)?.into_iter().peekable(),
        imported: Imported::default(),
    };
    let mut events = TableReader::open(dir, &EVENTS)?;
    let mut previous_ns = header.started_ns;
    while let Some(chunk) = events.next_chunk()? {
        merge.pages(&page_events(&chunk, &mut previous_ns)?, false)?;
    }
    merge.pages(&[], true)?;
    if let Some(((page, _), _)) = merge.snapshots.next() {
        return Err(trace.fault("position of a snapshot", &page.to_string(), "one in the trace"));
    }
    let Merge { mut writer, mut imported, .. } = merge;
    if let Some(end) = trace.maybe_json::<End>("end", 0)? {
        writer.end(&end)?;
    }
    if let Some(cut) = trace.text("truncated")?.get(0) {
        imported.inferred.push(format!("the exported trace was {cut}; this one ends there too"));
    }
    Ok(imported)
}

/// Puts page events, rare events and snapshots back into one order.
struct Merge<W: Write> {
    writer: TraceWriter<W>,
    sides: Sides,
    snapshots: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    imported: Imported,
}

impl<W: Write> Merge<W> {
    /// Writes the next page events with all that stands between them. Rare events after the last
    /// of them wait for the next call, unless there is none.
    fn pages(&mut self, pages: &[PageEvent], last: bool) -> Result<(), ImportError> {
        let mut pages = pages;
        loop {
            let from = self.imported.events;
            let end = from + pages.len() as u64;
            let stop = self.snapshots.peek().map(|(at, _)| *at).filter(|(page, _)| *page <= end);
            let sides_at_end = if last { u64::MAX } else { 0 };
            let (until, sides_there) = stop.unwrap_or((end, sides_at_end));
            let taken = until.saturating_sub(from) as usize;
            let mut batch = EventBatch { pages: pages[..taken].to_vec(), sides: Vec::new() };
            self.sides.take(&mut batch, from, sides_there)?;
            self.imported.events += taken as u64;
            self.imported.side_events += batch.sides.len() as u64;
            self.writer.events(&batch)?;
            pages = &pages[taken..];
            if stop.is_none() {
                return Ok(());
            }
            if let Some((_, snapshot)) = self.snapshots.next() {
                self.writer.snapshot(&snapshot)?;
                self.imported.snapshots += 1;
            }
        }
    }
}

/// Calls of polars under way whose panics become errors.
static GUARDED: AtomicUsize = AtomicUsize::new(0);

/// Has a panic that becomes an error print nothing, in whichever thread of polars it happens. For
/// programs: it changes the process's panic hook.
pub fn quieten_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if GUARDED.load(Ordering::Relaxed) == 0 {
            usual(panic);
        }
    }));
}

/// Runs something of polars whose input is not to be trusted: of some damaged files it does not
/// say that they are damaged but panics.
pub(super) fn guarded<T>(act: impl FnOnce() -> PolarsResult<T>) -> PolarsResult<T> {
    GUARDED.fetch_add(1, Ordering::Relaxed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
    GUARDED.fetch_sub(1, Ordering::Relaxed);
    let damaged = || {
        PolarsError::ComputeError(
            "the file is damaged, or has columns of a type that is not read".into(),
        )
    };
    outcome.unwrap_or_else(|_| Err(damaged()))
}

/// Reads a table in pieces.
struct TableReader {
    path: PathBuf,
    table: &'static Table,
    rows: usize,
    next: usize,
}

impl TableReader {
    fn open(dir: &Path, table: &'static Table) -> Result<TableReader, ImportError> {
        let path = dir.join(table.file_name());
        let mut reader = TableReader { path, table, rows: 0, next: 0 };
        let mut file = ParquetReader::new(reader.file()?);
        let schema = guarded(|| file.schema()).map_err(|source| reader.polars(source))?;
        for column in table.columns {
            let found = schema
                .get(column.name)
                .map(|field| polars::prelude::DataType::from_arrow_dtype(field.dtype()));
            if found.as_ref() != Some(&data_type(column.kind)) {
                return Err(ImportError::Table {
                    file: table.file_name(),
                    what: format!("column {}", column.name),
                    found: found.map_or("nothing".to_owned(), |dtype| dtype.to_string()),
                    expected: column.kind.name().to_owned(),
                });
            }
        }
        reader.rows = guarded(|| file.num_rows()).map_err(|source| reader.polars(source))?;
        Ok(reader)
    }

    fn file(&self) -> Result<File, ImportError> {
        let path = self.path.clone();
        File::open(&path).map_err(|source| ImportError::Open { path, source })
    }

    fn polars(&self, source: PolarsError) -> ImportError {
        ImportError::Polars { file: self.table.file_name(), source }
    }

    fn next_chunk(&mut self) -> Result<Option<Chunk>, ImportError> {
        if self.next >= self.rows {
            return Ok(None);
        }
        let names = self.table.columns.iter().map(|column| column.name.to_owned()).collect();
        let file = self.file()?;
        let read = || {
            ParquetReader::new(file)
                .with_columns(Some(names))
                .with_slice(Some((self.next, CHUNK_ROWS)))
                .finish()
        };
        let frame = guarded(read).map_err(|source| self.polars(source))?;
        self.next += frame.height().max(1);
        Ok(Some(Chunk { table: self.table, frame }))
    }
}

/// Some rows of a table.
struct Chunk {
    table: &'static Table,
    frame: DataFrame,
}

impl Chunk {
    /// A table that is small enough to be read as a whole.
    fn all(dir: &Path, table: &'static Table) -> Result<Chunk, ImportError> {
        let mut reader = TableReader::open(dir, table)?;
        let mut whole = match reader.next_chunk()? {
            Some(chunk) => chunk,
            None => Chunk { table, frame: DataFrame::empty() },
        };
        while let Some(more) = reader.next_chunk()? {
            let grown = whole.frame.vstack_mut(&more.frame).map(|_| ());
            whole.polars(grown)?;
        }
        Ok(whole)
    }

    fn polars<T>(&self, result: PolarsResult<T>) -> Result<T, ImportError> {
        let file = self.table.file_name();
        result.map_err(|source| ImportError::Polars { file, source })
    }

    fn fault(&self, what: &str, found: &str, expected: &str) -> ImportError {
        let file = self.table.file_name();
        let (what, found, expected) = (what.to_owned(), found.to_owned(), expected.to_owned());
        ImportError::Table { file, what, found, expected }
    }

    /// A column of numbers without gaps.
    fn numbers(&self, name: &'static str) -> Result<Vec<u64>, ImportError> {
        let optional = self.maybe_numbers(name)?;
        let missing = || self.fault(name, "null", "a number in every row");
        optional.into_iter().map(|value| value.ok_or_else(missing)).collect()
    }

    fn maybe_numbers(&self, name: &'static str) -> Result<Vec<Option<u64>>, ImportError> {
        if self.frame.height() == 0 {
            return Ok(Vec::new());
        }
        let column = self.polars(self.frame.column(name))?;
        if let Ok(values) = column.u64() {
            return Ok(values.iter().collect());
        }
        let values = self.polars(column.u32())?;
        Ok(values.iter().map(|value| value.map(u64::from)).collect())
    }

    fn text(&self, name: &'static str) -> Result<&StringChunked, ImportError> {
        let column = self.polars(self.frame.column(name))?;
        self.polars(column.str())
    }

    /// A column of names.
    fn named<T: Named>(&self, name: &'static str) -> Result<Vec<T>, ImportError> {
        if self.frame.height() == 0 {
            return Ok(Vec::new());
        }
        let value = |text: Option<&str>| {
            let text = text.unwrap_or("null");
            T::of_name(text).ok_or_else(|| self.fault(name, text, &T::names()))
        };
        self.text(name)?.iter().map(value).collect()
    }

    fn json<T: DeserializeOwned>(&self, name: &'static str, row: usize) -> Result<T, ImportError> {
        let missing = || self.fault(name, "nothing", "JSON");
        self.maybe_json(name, row)?.ok_or_else(missing)
    }

    fn maybe_json<T: DeserializeOwned>(
        &self,
        name: &'static str,
        row: usize,
    ) -> Result<Option<T>, ImportError> {
        if self.frame.height() <= row {
            return Err(self.fault("rows", &self.frame.height().to_string(), "one more"));
        }
        let Some(text) = self.text(name)?.get(row) else { return Ok(None) };
        let parsed = serde_json::from_str(text);
        parsed.map(Some).map_err(|error| self.fault(name, &error.to_string(), "JSON of its kind"))
    }
}

/// The page events of a chunk. `previous_ns` is the time of the event before it.
fn page_events(chunk: &Chunk, previous_ns: &mut TimeNs) -> Result<Vec<PageEvent>, ImportError> {
    let dt_ns = chunk.polars(chunk.frame.column("dt_ns").and_then(|column| column.i64()))?;
    let kinds = chunk.named("kind")?;
    let pfns = chunk.numbers("pfn")?;
    let orders = chunk.numbers("order")?;
    let cpus = chunk.numbers("cpu")?;
    let gfps = chunk.numbers("gfp")?;
    let types: Vec<Migratetype> = chunk.named("migratetype")?;
    let tags = chunk.text("tags")?;
    let mut events = Vec::with_capacity(kinds.len());
    for (row, (dt_ns, tags)) in dt_ns.iter().zip(tags.iter()).enumerate() {
        *previous_ns = previous_ns.wrapping_add(dt_ns.unwrap_or(0) as u64);
        let tags = tags.unwrap_or("");
        let tags = tags_of(tags).ok_or_else(|| {
            chunk.fault("tags", tags, "own, migration, late, inferred, or nothing")
        })?;
        let order = u8::try_from(orders[row]).ok().filter(|order| *order <= MAX_EVENT_ORDER);
        let order = order.ok_or_else(|| {
            chunk.fault("order", &orders[row].to_string(), &format!("0 to {MAX_EVENT_ORDER}"))
        })?;
        let cpu = u16::try_from(cpus[row])
            .map_err(|_| chunk.fault("cpu", &cpus[row].to_string(), "0 to 65535"))?;
        let gfp = Gfp::from_bits_retain(gfps[row] as u32);
        let (time_ns, pfn) = (*previous_ns, Pfn(pfns[row]));
        let event = PageEvent::new(kinds[row], time_ns, CpuId(cpu), pfn, order, types[row], gfp);
        events.push(event.tagged(tags));
    }
    Ok(events)
}

/// Rare events, in pieces.
struct Sides {
    reader: TableReader,
    chunk: Option<Chunk>,
    positions: Vec<u64>,
    row: usize,
    taken: u64,
}

impl Sides {
    fn open(dir: &Path) -> Result<Sides, ImportError> {
        let reader = TableReader::open(dir, &SIDES)?;
        Ok(Sides { reader, chunk: None, positions: Vec::new(), row: 0, taken: 0 })
    }

    /// Moves events into a batch whose first page event is number `from`: those between its page
    /// events, and those after the last as long as fewer than `limit` were taken altogether.
    fn take(&mut self, batch: &mut EventBatch, from: u64, limit: u64) -> Result<(), ImportError> {
        let until = from + batch.pages.len() as u64;
        while self.fetch()? {
            let position = self.positions[self.row];
            if position > until || position == until && self.taken >= limit {
                return Ok(());
            }
            let Some(chunk) = &self.chunk else { return Ok(()) };
            let at = position.checked_sub(from).ok_or_else(|| {
                chunk.fault("position", &position.to_string(), &format!("{from} or more"))
            })?;
            batch.sides.push((at as u32, side_event(chunk, self.row)?));
            self.row += 1;
            self.taken += 1;
        }
        Ok(())
    }

    /// Whether there is a row, reading on if need be.
    fn fetch(&mut self) -> Result<bool, ImportError> {
        while self.row >= self.positions.len() {
            let Some(chunk) = self.reader.next_chunk()? else { return Ok(false) };
            self.positions = chunk.numbers("position")?;
            self.chunk = Some(chunk);
            self.row = 0;
        }
        Ok(true)
    }
}

fn side_event(chunk: &Chunk, row: usize) -> Result<SideEvent, ImportError> {
    let time = chunk.polars(chunk.frame.column("time_ns").and_then(|column| column.u64()))?;
    let cpu = chunk.polars(chunk.frame.column("cpu").and_then(|column| column.u32()))?;
    Ok(SideEvent {
        time_ns: time.get(row).unwrap_or(0),
        cpu: cpu.get(row).map(|cpu| CpuId(cpu as u16)),
        kind: chunk.json("detail", row)?,
    })
}

/// A snapshot and the numbers of page and rare events before it.
type Placed = ((u64, u64), Snapshot);

fn snapshots(dir: &Path) -> Result<Vec<Placed>, ImportError> {
    let chunk = Chunk::all(dir, &SNAPSHOTS)?;
    let positions = chunk.numbers("position")?;
    let side_positions = chunk.numbers("side_position")?;
    let sources = chunk.named("source")?;
    let roles = chunk.named("role")?;
    let (begins, ends) = (chunk.numbers("begin_ns")?, chunk.numbers("end_ns")?);
    let mut snapshots = Vec::new();
    for row in 0..positions.len() {
        let snapshot = Snapshot {
            source: sources[row],
            role: roles[row],
            begin_ns: begins[row],
            end_ns: ends[row],
            machine: chunk.json("machine", row)?,
            chunks: chunk.json("chunks", row)?,
            runs: Vec::new(),
            pageblocks: Vec::new(),
            lists: Vec::new(),
            notes: chunk.json("notes", row)?,
        };
        snapshots.push(((positions[row], side_positions[row]), snapshot));
    }
    fill_runs(dir, &mut snapshots)?;
    fill_pageblocks(dir, &mut snapshots)?;
    fill_lists(dir, &mut snapshots)?;
    Ok(snapshots)
}

/// The snapshot that a row of one of its parts belongs to.
fn owner<'a>(
    chunk: &Chunk,
    snapshots: &'a mut [Placed],
    number: u64,
) -> Result<&'a mut Snapshot, ImportError> {
    let there = snapshots.len();
    let found = snapshots.get_mut(number as usize);
    let missing = || chunk.fault("snapshot", &number.to_string(), &format!("one of {there}"));
    found.map(|(_, snapshot)| snapshot).ok_or_else(missing)
}

fn fill_runs(dir: &Path, snapshots: &mut [Placed]) -> Result<(), ImportError> {
    let mut reader = TableReader::open(dir, &SNAPSHOT_RUNS)?;
    while let Some(chunk) = reader.next_chunk()? {
        let (numbers, starts) = (chunk.numbers("snapshot")?, chunk.numbers("start_pfn")?);
        let (pages, orders) = (chunk.numbers("pages")?, chunk.numbers("order")?);
        let (contents, types) = (chunk.named("content")?, chunk.named("migratetype")?);
        for row in 0..numbers.len() {
            owner(&chunk, snapshots, numbers[row])?.runs.push(PageRun {
                start: Pfn(starts[row]),
                pages: pages[row],
                content: contents[row],
                order: orders[row].min(u8::MAX.into()) as u8,
                migratetype: types[row],
            });
        }
    }
    Ok(())
}

fn fill_pageblocks(dir: &Path, snapshots: &mut [Placed]) -> Result<(), ImportError> {
    let mut reader = TableReader::open(dir, &SNAPSHOT_PAGEBLOCKS)?;
    while let Some(chunk) = reader.next_chunk()? {
        let numbers = chunk.numbers("snapshot")?;
        let (starts, ends) = (chunk.numbers("start_pfn")?, chunk.numbers("end_pfn")?);
        let types = chunk.named("migratetype")?;
        for row in 0..numbers.len() {
            let range = PfnRange { start: Pfn(starts[row]), end: Pfn(ends[row]) };
            owner(&chunk, snapshots, numbers[row])?.pageblocks.push((range, types[row]));
        }
    }
    Ok(())
}

fn fill_lists(dir: &Path, snapshots: &mut [Placed]) -> Result<(), ImportError> {
    let mut reader = TableReader::open(dir, &SNAPSHOT_LISTS)?;
    while let Some(chunk) = reader.next_chunk()? {
        let (numbers, lists) = (chunk.numbers("snapshot")?, chunk.numbers("list")?);
        let (zones, cpus) = (chunk.numbers("zone")?, chunk.maybe_numbers("cpu")?);
        let (orders, types) = (chunk.numbers("order")?, chunk.named("migratetype")?);
        let pfns = chunk.maybe_numbers("pfn")?;
        for row in 0..numbers.len() {
            let of_snapshot = &mut owner(&chunk, snapshots, numbers[row])?.lists;
            if of_snapshot.len() as u64 == lists[row] {
                of_snapshot.push(FreeList {
                    zone: zones[row] as u16,
                    cpu: cpus[row].map(|cpu| CpuId(cpu as u16)),
                    order: orders[row].min(u8::MAX.into()) as u8,
                    migratetype: types[row],
                    blocks: Vec::new(),
                });
            }
            let list = of_snapshot.last_mut().filter(|_| lists[row] < u64::from(u32::MAX));
            let Some(list) = list else {
                return Err(chunk.fault("list", &lists[row].to_string(), "ascending numbers"));
            };
            list.blocks.extend(pfns[row].map(Pfn));
        }
    }
    Ok(())
}
