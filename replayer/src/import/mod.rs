//! Import: other formats as a trace.
//!
//! * [`parquet`] (feature `analysis`): what [`crate::export`] wrote, back to the same trace;
//! * [`columns`] (feature `analysis`): a table of page events alone, with few columns;
//! * [`text`]: what `perf script` and ftrace print about `kmem` events. Such text has neither
//!   geometry nor a snapshot, and such a table has none either; [`bare`] makes a trace of such
//!   events, and [`infer`] makes both of them and says so.

pub mod bare;
#[cfg(feature = "analysis")]
pub mod columns;
pub mod infer;
#[cfg(feature = "analysis")]
pub mod parquet;
pub mod text;

use std::path::PathBuf;

use fragscope_trace::reader::ReadError;
use fragscope_trace::writer::WriteError;
use serde::Serialize;
use thiserror::Error;

use crate::synth::SynthError;

/// An import that failed.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("reading {}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Text cannot be read.
    #[error("reading the text after line {line}: {source}")]
    Text {
        /// Lines read.
        line: u64,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text has no event.
    #[error(
        "no kmem:mm_page_alloc or kmem:mm_page_free event in {lines} lines; expected what `perf script` or ftrace prints"
    )]
    NoEvents {
        /// Lines read.
        lines: u64,
    },
    /// Parquet cannot be read.
    #[cfg(feature = "analysis")]
    #[error("reading {file}: {source}")]
    Polars {
        /// Which file.
        file: String,
        /// What polars says.
        source: polars::prelude::PolarsError,
    },
    /// A table is not what it should be.
    #[error("{file}: {what}: found {found}, expected {expected}")]
    Table {
        /// Which file.
        file: String,
        /// What was looked at.
        what: String,
        /// What it is.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// The machine cannot be inferred.
    #[error(transparent)]
    Machine(#[from] SynthError),
    /// The trace whose machine is to be used cannot be read.
    #[error(transparent)]
    Like(#[from] ReadError),
    /// The trace could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Page events.
    pub events: u64,
    /// Rare events.
    pub side_events: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Lines that are no event this program knows.
    pub other_lines: u64,
    /// Lines that name an event and cannot be read.
    pub malformed_lines: u64,
    /// What was missing, and what stands in its place.
    pub inferred: Vec<String>,
}
