//! The passes over a recording: one that finds allocations without events, and one that replays
//! the stock track as found and surveys it at every later snapshot. Memory does not grow with the
//! recording's length, but for its untraced allocations and a survey for each snapshot.

use std::io::Read;

use fragscope_trace::page::Pfn;
use fragscope_trace::reader::{ReadError, TraceReader};
use thiserror::Error;

use super::measure::Measures;
use super::probe::ProbeComparison;
use super::report::FidelityReport;
use crate::compare::CompareError;
use crate::compare::trace_report::TraceReport;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::drive::{DriveError, drive, untraced};
use crate::engine::observatory::Observatory;
use crate::engine::survey::Survey;
use crate::mm::settings::Settings;
use crate::observe::TrackKind;
use crate::start::TrackSpec;

/// A recording whose fidelity cannot be measured.
#[derive(Debug, Error)]
pub enum StudyError {
    /// It could not be read or replayed, or does not say what memory held at its start.
    #[error(transparent)]
    Replay(#[from] CompareError),
    /// There is nothing to compare with.
    #[error(
        "the recording has no snapshot after the first, so there is no kernel state to compare \
         the model with; `fragscope-agent record` takes one at its end, and more with \
         --snapshot-every"
    )]
    NoLaterSnapshot,
}

impl<E: Into<DriveError>> From<E> for StudyError {
    fn from(error: E) -> StudyError {
        StudyError::Replay(CompareError::Drive(error.into()))
    }
}

/// Measures a recording; `open` gives it from its beginning, each time it is called. `granted` are
/// the 1 GiB pages that the kernel gave right after it, if that was tried and the recording does
/// not say so itself.
///
/// # Errors
/// If it cannot be read or replayed, or has fewer than two snapshots.
pub fn study<R: Read>(
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    settings: &Settings,
    granted: Option<&[Pfn]>,
) -> Result<FidelityReport, StudyError> {
    let backfill = untraced(&mut open()?)?;
    let mut reader = open()?;
    let spec = TrackSpec { settings: settings.clone(), ..TrackSpec::as_found(TrackKind::Stock) };
    let mut observatory = Observatory::new(reader.header(), vec![spec])?;
    observatory.set_backfill(backfill);
    observatory.keep_checkpoints();
    // The model is compared with a kernel that served the recorder, too.
    observatory.serve_own();
    drive(&mut reader, &mut observatory)?;
    let opening = observatory.opened_with().ok_or(CompareError::NoSnapshot);
    let start = Survey::of_snapshot(opening.map_err(StudyError::Replay)?);
    let measures = measures(&start, &observatory);
    let Some(last) = measures.last() else { return Err(StudyError::NoLaterSnapshot) };
    let trace = TraceReport::new(&observatory, None, reader.truncated());
    let closing = observatory.checkpoints().last();
    let probe = observatory.granted_1g().or(granted).zip(closing).map(|(granted, closing)| {
        ProbeComparison::new(observatory.machine(), &closing.kernel.regions, granted)
    });
    Ok(FidelityReport::new(trace, last.clone(), measures, probe))
}

fn measures(start: &Survey, observatory: &Observatory) -> Vec<Measures> {
    let of = |checkpoint: &Checkpoint| {
        let stock = checkpoint.tracks.policies.first()?;
        Some(Measures::new(start, checkpoint, stock, checkpoint.managed_pages))
    };
    observatory.checkpoints().iter().filter_map(of).collect()
}
