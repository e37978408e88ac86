//! Export: a trace and the results of its replay as Parquet.
//!
//! [`schema`] declares the tables; `SCHEMA.md` is made from it. Everything streams: the memory of
//! an export does not grow with the length of the trace.

mod events;
pub mod names;
mod result_tables;
pub(crate) mod sampling;
pub mod schema;
pub(crate) mod table;
mod trace_tables;

use std::io::Read;
use std::path::{Path, PathBuf};

use fragscope_trace::event::TimeNs;
use fragscope_trace::frame::Frame;
use fragscope_trace::header::End;
use fragscope_trace::reader::{ReadError, TraceReader};
use polars::prelude::PolarsError;
use serde::Serialize;
use thiserror::Error;

use self::result_tables::ResultTables;
use self::sampling::cut_before;
use self::trace_tables::TraceTables;
use crate::engine::observatory::{Observatory, ReplayError};
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

/// Exports a trace into `dir`, which exists. `progress` is told the virtual time reached.
///
/// # Errors
/// If the trace cannot be read or replayed, or a file cannot be written.
pub fn export<R: Read>(
    reader: &mut TraceReader<R>,
    dir: &Path,
    plan: &Plan,
    mut progress: impl FnMut(TimeNs),
) -> Result<Written, ExportError> {
    let header = reader.header().clone();
    let mut export = Export {
        trace: TraceTables::create(dir, &header)?,
        results: ResultTables::create(dir)?,
        observatory: Observatory::new(&header, plan.tracks.clone())?,
        interval_ns: plan.interval_ns.max(1),
        next_ns: header.started_ns + plan.interval_ns.max(1),
        samples: 0,
        taints: 0,
    };
    let mut end = None;
    while let Some(frame) = reader.next_frame()? {
        if let Frame::End(last) = &frame {
            end = Some((**last).clone());
        }
        export.frame(frame)?;
        progress(export.observatory.time_ns());
    }
    let truncated = reader.truncated().map(ToString::to_string);
    export.finish(end.as_ref(), truncated.as_deref())
}

struct Export {
    trace: TraceTables,
    results: ResultTables,
    observatory: Observatory,
    interval_ns: TimeNs,
    next_ns: TimeNs,
    samples: u64,
    taints: u64,
}

impl Export {
    fn frame(&mut self, frame: Frame) -> Result<(), ExportError> {
        match frame {
            Frame::Snapshot(snapshot) => {
                self.trace.snapshot(&snapshot)?;
                self.observatory.feed(&Frame::Snapshot(snapshot))?;
            }
            Frame::Events(mut batch) => {
                self.trace.batch(&batch)?;
                while let Some(part) = cut_before(&mut batch, self.next_ns) {
                    self.observatory.feed(&Frame::Events(part))?;
                    self.sample()?;
                    let first_ns = batch.pages.first().map_or(self.next_ns, |event| event.time_ns);
                    let steps = first_ns.saturating_sub(self.next_ns) / self.interval_ns + 1;
                    self.next_ns += steps * self.interval_ns;
                }
                self.observatory.feed(&Frame::Events(batch))?;
            }
            frame => self.observatory.feed(&frame)?,
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<(), ExportError> {
        let sample = self.observatory.sample()?;
        self.samples += 1;
        self.results.sample(&sample)?;
        let taints = self.observatory.take_taints();
        self.taints += taints.len() as u64;
        self.results.taints(&taints)
    }

    fn finish(
        mut self,
        end: Option<&End>,
        truncated: Option<&str>,
    ) -> Result<Written, ExportError> {
        self.observatory.finish()?;
        self.sample()?;
        let last = self.observatory.sample()?;
        self.results.costs(&last)?;
        let mut written = self.trace.finish(end, truncated)?;
        written.bytes += self.results.finish()?;
        written.samples = self.samples;
        written.taints = self.taints;
        Ok(written)
    }
}
