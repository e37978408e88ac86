//! A sweep as Parquet and as a picture.

use std::path::Path;

use crate::export::ExportError;
use crate::export::names::json_name;
use crate::export::schema::{SWEEP_COUNTERS, SWEEP_RUNS};
use crate::export::table::TableWriter;
use crate::observe::StartState;
use crate::plot::bars;
use crate::plot::theme::Theme;
use crate::plot::{PlotError, png};
use crate::sweep::run::Run;
use crate::sweep::table::{grouped_runs, range};
use thiserror::Error;

/// A sweep that could not be written.
#[derive(Debug, Error)]
pub enum OutputError {
    /// Its tables.
    #[error(transparent)]
    Tables(#[from] ExportError),
    /// Its pictures.
    #[error(transparent)]
    Picture(#[from] PlotError),
    /// A file.
    #[error("writing the picture: {0}")]
    Write(#[from] std::io::Error),
}

/// Writes tables and pictures into `dir`, which exists.
///
/// # Errors
/// If a file cannot be written.
pub fn write(runs: &[Run], dir: &Path) -> Result<(), OutputError> {
    tables(runs, dir)?;
    let svg = picture(runs, Theme::Light)?;
    std::fs::write(dir.join("sweep.png"), png(&svg)?)?;
    std::fs::write(dir.join("sweep.svg"), svg)?;
    Ok(())
}

fn tables(runs: &[Run], dir: &Path) -> Result<(), ExportError> {
    let mut table = TableWriter::create(dir, &SWEEP_RUNS)?;
    let mut counters = TableWriter::create(dir, &SWEEP_COUNTERS)?;
    for (number, run) in runs.iter().enumerate() {
        let (number, track) = (number as u32, &run.track);
        table.push(&[
            number.into(),
            run.recording.as_str().into(),
            run.variant.as_str().into(),
            track.policy.name().into(),
            json_name(&track.start)?.as_str().into(),
            track.seed.into(),
            track.tainted_1g.min.into(),
            track.tainted_1g.max.into(),
            track.obtainable_1g.min.into(),
            track.obtainable_1g.max.into(),
            track.evacuable_1g.min.into(),
            track.evacuable_1g.max.into(),
            track.floor_1g.into(),
            track.unmovable_pages.into(),
            track.moved_pages.into(),
            track.reclaimed_pages.into(),
            track.refused.into(),
            track.dropped_pages.into(),
        ])?;
        for (counter, value) in track.counters.iter().filter(|(_, value)| **value > 0) {
            counters.push(&[number.into(), counter.as_str().into(), (*value).into()])?;
        }
    }
    table.finish()?;
    counters.finish()?;
    Ok(())
}

/// Tainted regions of every variant, from every start.
fn picture(runs: &[Run], theme: Theme) -> Result<String, PlotError> {
    let mut groups = Vec::new();
    for (start, title) in [(StartState::AsFound, "as found"), (StartState::FromBoot, "from boot")] {
        let bars = grouped_runs(runs, start).into_iter().map(|(name, group)| {
            let kind = group[0].track.policy;
            bars::Bar { name, kind, bounds: range(&group, |run| run.track.tainted_1g.min) }
        });
        groups.push((title, bars.collect::<Vec<_>>()));
    }
    groups.retain(|(_, bars)| !bars.is_empty());
    bars::draw("Tainted regions of 1 GiB", "Ranges are over recordings and seeds.", &groups, theme)
}
