//! Writing one table: rows are collected and go out as row groups.

use std::fs::File;
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column as Values, DataFrame, DataType, KeyValueMetadata, ParquetCompression, ParquetWriter,
    Schema, StatisticsOptions,
};

use super::ExportError;
use super::schema::{Kind, SCHEMA_VERSION, TABLE_KEY, Table, VERSION_KEY};

/// Rows of a row group, which bounds the memory of a writer.
const GROUP_ROWS: usize = 1 << 18;

/// One value of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    U32(u32),
    U64(u64),
    I64(i64),
    Text(&'a str),
    Bool(bool),
    Null,
}

impl From<u32> for Cell<'_> {
    fn from(value: u32) -> Self {
        Cell::U32(value)
    }
}
impl From<u64> for Cell<'_> {
    fn from(value: u64) -> Self {
        Cell::U64(value)
    }
}
impl From<i64> for Cell<'_> {
    fn from(value: i64) -> Self {
        Cell::I64(value)
    }
}
impl From<bool> for Cell<'_> {
    fn from(value: bool) -> Self {
        Cell::Bool(value)
    }
}
impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        Cell::Text(value)
    }
}
impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

/// The values of one column so far.
#[derive(Debug)]
enum Buffer {
    U32(Vec<Option<u32>>),
    U64(Vec<Option<u64>>),
    I64(Vec<Option<i64>>),
    F64(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
    Bool(Vec<Option<bool>>),
}

impl Buffer {
    fn new(kind: Kind) -> Buffer {
        match kind {
            Kind::U32 => Buffer::U32(Vec::new()),
            Kind::U64 => Buffer::U64(Vec::new()),
            Kind::I64 => Buffer::I64(Vec::new()),
            Kind::F64 => Buffer::F64(Vec::new()),
            Kind::Text => Buffer::Text(Vec::new()),
            Kind::Bool => Buffer::Bool(Vec::new()),
        }
    }

    /// Adds a value. A value of another type than the column's is a mistake in this program.
    fn push(&mut self, cell: Cell<'_>) -> Result<(), &'static str> {
        match (self, cell) {
            (Buffer::U32(v), Cell::U32(value)) => v.push(Some(value)),
            (Buffer::U64(v), Cell::U64(value)) => v.push(Some(value)),
            (Buffer::I64(v), Cell::I64(value)) => v.push(Some(value)),
            (Buffer::Text(v), Cell::Text(value)) => v.push(Some(value.to_owned())),
            (Buffer::Bool(v), Cell::Bool(value)) => v.push(Some(value)),
            (Buffer::U32(v), Cell::Null) => v.push(None),
            (Buffer::U64(v), Cell::Null) => v.push(None),
            (Buffer::I64(v), Cell::Null) => v.push(None),
            (Buffer::F64(v), Cell::Null) => v.push(None),
            (Buffer::Text(v), Cell::Null) => v.push(None),
            (Buffer::Bool(v), Cell::Null) => v.push(None),
            _ => return Err("a value of another type"),
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Values {
        let name = name.into();
        match self {
            Buffer::U32(v) => Values::new(name, std::mem::take(v)),
            Buffer::U64(v) => Values::new(name, std::mem::take(v)),
            Buffer::I64(v) => Values::new(name, std::mem::take(v)),
            Buffer::F64(v) => Values::new(name, std::mem::take(v)),
            Buffer::Text(v) => Values::new(name, std::mem::take(v)),
            Buffer::Bool(v) => Values::new(name, std::mem::take(v)),
        }
    }
}

/// The type of a column as polars knows it.
pub(crate) fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::U32 => DataType::UInt32,
        Kind::U64 => DataType::UInt64,
        Kind::I64 => DataType::Int64,
        Kind::F64 => DataType::Float64,
        Kind::Text => DataType::String,
        Kind::Bool => DataType::Boolean,
    }
}

/// Writes one table.
pub(crate) struct TableWriter {
    table: &'static Table,
    writer: BatchedWriter<File>,
    buffers: Vec<Buffer>,
    rows: usize,
}

impl TableWriter {
    /// Creates the table's file in `dir`.
    pub(crate) fn create(dir: &Path, table: &'static Table) -> Result<TableWriter, ExportError> {
        TableWriter::create_file(dir.join(table.file_name()), table)
    }

    /// Creates this file for the table.
    pub(crate) fn create_file(
        path: PathBuf,
        table: &'static Table,
    ) -> Result<TableWriter, ExportError> {
        let file = File::create(&path).map_err(|source| ExportError::Create { path, source })?;
        let columns = table.columns.iter().map(|c| (c.name.into(), data_type(c.kind)));
        let schema: Schema = columns.collect();
        let metadata = KeyValueMetadata::from_static(vec![
            (VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()),
            (TABLE_KEY.to_owned(), table.name.to_owned()),
        ]);
        let writer = ParquetWriter::new(file)
            .with_compression(ParquetCompression::Zstd(None))
            .with_statistics(StatisticsOptions::default())
            .with_key_value_metadata(Some(metadata))
            .batched(&schema)?;
        let buffers = table.columns.iter().map(|column| Buffer::new(column.kind)).collect();
        Ok(TableWriter { table, writer, buffers, rows: 0 })
    }

    /// Adds a row: one value for each column, in their order.
    pub(crate) fn push(&mut self, row: &[Cell<'_>]) -> Result<(), ExportError> {
        debug_assert_eq!(row.len(), self.buffers.len(), "{}", self.table.name);
        for ((buffer, cell), column) in self.buffers.iter_mut().zip(row).zip(self.table.columns) {
            buffer.push(*cell).map_err(|fault| ExportError::Row {
                table: self.table.name,
                column: column.name,
                fault,
            })?;
        }
        self.rows += 1;
        if self.rows < GROUP_ROWS { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let named = self.buffers.iter_mut().zip(self.table.columns);
        let columns = named.map(|(buffer, column)| buffer.take(column.name)).collect();
        let rows = std::mem::take(&mut self.rows);
        self.write(&DataFrame::new(rows, columns)?)
    }

    /// Writes rows as one row group.
    pub(super) fn write(&mut self, rows: &DataFrame) -> Result<(), ExportError> {
        Ok(self.writer.write_batch(rows)?)
    }

    /// Writes what is left and the end of the file. Returns its size in bytes.
    pub(crate) fn finish(mut self) -> Result<u64, ExportError> {
        if self.rows > 0 {
            self.flush()?;
        }
        Ok(self.writer.finish()?)
    }
}
