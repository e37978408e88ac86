//! The replays of a sweep: for every recording and every point of the grid, the policy from every
//! start, and stock beside it once.

use std::io::Read;

use fragscope_trace::reader::{ReadError, TraceReader};
use serde::Serialize;

use super::Variant;
use crate::compare::passes::{CompareError, Plan, reports};
use crate::compare::track_report::TrackReport;
use crate::mm::settings::Settings;
use crate::observe::{StartState, TrackKind};
use crate::start::TrackSpec;

/// One replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// The recording.
    pub recording: String,
    /// What its settings are; `defaults` for stock, which most settings do not concern.
    pub variant: String,
    /// Its figures.
    #[serde(flatten)]
    pub track: TrackReport,
}

/// What to replay of one recording.
#[derive(Clone, Debug)]
pub struct SweepPlan {
    /// Points of the grid.
    pub variants: Vec<Variant>,
    /// Seeds of the start from boot; none leaves only the start as found.
    pub seeds: u64,
    /// Tracks at once, at least 1.
    pub at_once: usize,
}

impl SweepPlan {
    /// Name and track of every replay.
    fn tracks(&self) -> Vec<(String, TrackSpec)> {
        let starts: Vec<(StartState, u64)> = std::iter::once((StartState::AsFound, 0))
            .chain((1..=self.seeds).map(|seed| (StartState::FromBoot, seed)))
            .collect();
        let of = |name: &str, policy, settings: &Settings| -> Vec<(String, TrackSpec)> {
            let spec =
                |&(start, seed)| TrackSpec { policy, start, seed, settings: settings.clone() };
            starts.iter().map(|start| (name.to_owned(), spec(start))).collect()
        };
        let mut tracks = of("defaults", TrackKind::Stock, &Settings::default());
        for variant in &self.variants {
            tracks.extend(of(&variant.name(), TrackKind::Spb, &variant.settings));
        }
        tracks
    }
}

/// Replays one recording.
///
/// # Errors
/// If it cannot be read or replayed.
pub fn run<R: Read>(
    recording: &str,
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    plan: &SweepPlan,
) -> Result<Vec<Run>, CompareError> {
    let (names, tracks): (Vec<String>, Vec<TrackSpec>) = plan.tracks().into_iter().unzip();
    let plan = Plan {
        tracks,
        at_once: plan.at_once,
        backfill: true,
        files: false,
        ask_1g: 0,
        retype: None,
        recorder: None,
    };
    let (_, reports) = reports(open, &plan)?;
    // The kernel's own track comes first and has no settings.
    let runs = names.into_iter().zip(reports.into_iter().skip(1));
    Ok(runs
        .map(|(variant, track)| Run { recording: recording.to_owned(), variant, track })
        .collect())
}
