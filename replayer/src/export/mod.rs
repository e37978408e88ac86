//! Export: a trace and the results of its replay as Parquet.
//!
//! [`schema`] declares the tables; `SCHEMA.md` is made from it. Everything streams: the memory of
//! an export does not grow with the length of the trace.

mod events;
pub mod names;
mod result_tables;
pub mod schema;
pub(crate) mod spb_events;
pub(crate) mod table;
mod trace_tables;

use std::io::Read;
use std::path::{Path, PathBuf};

use fragscope_trace::event::TimeNs;
use fragscope_trace::frame::Frame;
use fragscope_trace::reader::{ReadError, TraceReader};
use polars::prelude::PolarsError;
use serde::Serialize;
use thiserror::Error;

use self::result_tables::ResultTables;
use self::trace_tables::TraceTables;
use crate::engine::drive::{DriveError, untraced};
use crate::engine::observatory::{Observatory, ReplayError};
use crate::engine::sampled::Sampled;
use crate::start::TrackSpec;

/// An export that failed. What was written until then is incomplete.
#[derive(Debug, Error)]
pub enum ExportError {
    /// A file cannot be made.
    #[error("creating {}: {source}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The trace cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The trace cannot be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The pass that looks for untraced allocations failed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// Parquet could not be written.
    #[error("writing Parquet: {0}")]
    Polars(#[from] PolarsError),
    /// A value cannot be spelled out.
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A row does not fit its table: a fault of the export.
    #[error("table {table}, column {column}: {fault}")]
    Row {
        /// Which table.
        table: &'static str,
        /// Which column.
        column: &'static str,
        /// What is wrong.
        fault: &'static str,
    },
}

/// What to replay beside the trace's own tables.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tracks beside the kernel's.
    pub tracks: Vec<TrackSpec>,
    /// Virtual time between samples.
    pub interval_ns: TimeNs,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Written {
    /// Page events.
    pub events: u64,
    /// Size of their table.
    pub event_bytes: u64,
    /// Samples of all tracks.
    pub samples: u64,
    /// Taint events of all tracks.
    pub taints: u64,
    /// Size of all files.
    pub bytes: u64,
}

/// Exports a trace into `dir`, which exists; `open` gives the trace from its beginning. `progress`
/// is told the bytes of it that were read.
///
/// # Errors
/// If the trace cannot be read or replayed, or a file cannot be written.
pub fn export<R: Read>(
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    dir: &Path,
    plan: &Plan,
    mut progress: impl FnMut(u64),
) -> Result<Written, ExportError> {
    let backfill = untraced(&mut open()?)?;
    let mut reader = open()?;
    let header = reader.header().clone();
    let mut trace = TraceTables::create(dir, &header)?;
    let mut results = ResultTables::create(dir)?;
    let mut observatory = Observatory::new(&header, plan.tracks.clone())?;
    observatory.set_backfill(backfill);
    let mut sampled = Sampled::new(header.started_ns, plan.interval_ns);
    let mut end = None;
    while let Some(frame) = reader.next_frame()? {
        trace.frame(&frame)?;
        if let Frame::End(last) = &frame {
            end = Some((**last).clone());
        }
        sampled.feed(frame, &mut observatory, |tracks, _| results.look(tracks).map(|_| ()))?;
        progress(reader.position());
    }
    observatory.finish()?;
    let last = results.look(&mut observatory)?;
    results.costs(&last)?;
    let truncated = reader.truncated().map(ToString::to_string);
    let mut written = trace.finish(end.as_ref(), truncated.as_deref())?;
    results.finish(&mut written)?;
    Ok(written)
}
