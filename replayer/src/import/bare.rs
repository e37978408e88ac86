//! A trace made of events alone: what their source does not say is inferred.

use std::io::Write;

use fragscope_trace::event::{EventBatch, EventRef, PageEventKind};
use fragscope_trace::header::{End, EndReason, Header, Totals, TraceMode};
use fragscope_trace::machine::Machine;
use fragscope_trace::snapshot::Snapshot;
use fragscope_trace::writer::TraceWriter;

use super::infer::Inference;
use super::{ImportError, Imported};

/// What is known about the traced host beside its events.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its geometry, from another trace of it.
    pub machine: Option<Machine>,
    /// Its RAM in bytes, to infer the geometry from.
    pub memory_bytes: Option<u64>,
    /// Its memory below 4 GiB.
    pub low_bytes: Option<u64>,
    /// Its state before the first event.
    pub snapshot: Option<Snapshot>,
}

/// Writes a trace of events that are in order, behind an opening state that is inferred.
pub(super) fn write<W: Write>(
    events: &EventBatch,
    known: &Known,
    mut imported: Imported,
    out: W,
) -> Result<Imported, ImportError> {
    let inference = Inference::new(events, known, &mut imported.inferred)?;
    let started_ns = events.iter().next().map_or(0, EventRef::time_ns);
    let header = Header {
        recorder: format!("fragscope-replay import {}", env!("CARGO_PKG_VERSION")),
        started_unix_ns: 0,
        started_ns,
        machine: inference.machine,
        capabilities: Vec::new(),
        command: None,
        mode: TraceMode::Full,
    };
    let mut writer = TraceWriter::new(out, &header)?;
    writer.snapshot(&inference.snapshot)?;
    writer.events(events)?;
    imported.snapshots = 1;
    imported.events = events.pages.len() as u64;
    imported.side_events = events.sides.len() as u64;
    let of = |kind| events.pages.iter().filter(|e| e.kind() == kind).count() as u64;
    let totals = Totals {
        events: events.len() as u64,
        allocs: of(PageEventKind::Alloc),
        frees: of(PageEventKind::Free),
        late_events: 0,
        ..Totals::default()
    };
    let time_ns = events.last_time_ns().unwrap_or(started_ns);
    let reason = EndReason::Generated;
    writer.end(&End { reason, time_ns, closing_snapshot: false, totals })?;
    Ok(imported)
}
