//! Which tracks are replayed, and how many at once.

use std::io::Read;

use fragscope_trace::frame::Frame;
use fragscope_trace::reader::{ReadError, TraceReader};
use thiserror::Error;

use super::report::Comparison;
use super::trace_report::TraceReport;
use super::track_report::{Asked1g, TrackReport};
use crate::engine::backfill::Backfill;
use crate::engine::drive::{DriveError, drive, untraced};
use crate::engine::observatory::{Observatory, ReplayError};
use crate::engine::retype::Retype;
use crate::engine::worker::PolicySample;
use crate::mm::settings::Settings;
use crate::mm::spb::event::Recorder;
use crate::observe::{Sample, StartState, TrackKind};
use crate::start::TrackSpec;

/// A comparison that could not be made.
#[derive(Debug, Error)]
pub enum CompareError {
    /// The trace could not be read or replayed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A policy was asked for and the trace has no snapshot to begin with.
    #[error(
        "the trace has no snapshot, so it is not known what memory held when it began and no \
         policy can be replayed; `run --policy kernel` and `info` show what its events tell"
    )]
    NoSnapshot,
    /// No allocation has such a maker.
    #[error(
        "no allocation in the trace has {0:?} in its process or kernel stack; contexts are \
         recorded for non-movable allocations only, and not for those of interrupts"
    )]
    NothingToRetype(String),
}

impl From<ReadError> for CompareError {
    fn from(error: ReadError) -> CompareError {
        DriveError::from(error).into()
    }
}

impl From<ReplayError> for CompareError {
    fn from(error: ReplayError) -> CompareError {
        DriveError::from(error).into()
    }
}

/// What to replay.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The policy tracks; the kernel's own is always there.
    pub tracks: Vec<TrackSpec>,
    /// Tracks at once, at least 1. Each takes 16 bytes a page frame and a thread; the result does
    /// not depend on it.
    pub at_once: usize,
    /// Puts untraced allocations back, which takes one more pass over the trace.
    pub backfill: bool,
    /// Also shows free memory at the end as files of the kernel would.
    pub files: bool,
    /// 1 GiB pages to ask each policy for at the end.
    pub ask_1g: u32,
    /// Makes allocations movable whose process or stack has this in a name.
    pub retype: Option<String>,
    /// Takes the tracepoints of all policy tracks.
    pub recorder: Option<Recorder>,
}

impl Plan {
    /// Both policies, as found and from boot with seeds 1 to `seeds`, and the bound.
    #[must_use]
    pub fn full(settings: &Settings, seeds: u64) -> Plan {
        let mut tracks = Vec::new();
        let mut add = |start, seed| {
            for policy in [TrackKind::Stock, TrackKind::Spb] {
                let settings = settings.clone();
                tracks.push(TrackSpec { policy, start, seed, settings });
            }
        };
        add(StartState::AsFound, 0);
        (1..=seeds).for_each(|seed| add(StartState::FromBoot, seed));
        add(StartState::FromBootIdeal, 1);
        Plan {
            tracks,
            at_once: at_once(),
            backfill: true,
            files: false,
            ask_1g: 0,
            retype: None,
            recorder: None,
        }
    }

    /// One policy alone.
    #[must_use]
    pub fn one(spec: TrackSpec) -> Plan {
        let tracks = if spec.policy == TrackKind::Kernel { Vec::new() } else { vec![spec] };
        Plan {
            tracks,
            at_once: 1,
            backfill: true,
            files: false,
            ask_1g: 0,
            retype: None,
            recorder: None,
        }
    }
}

/// As many tracks at once as there are processors.
pub(crate) fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Replays what the plan says; `open` gives the trace from its beginning, each time it is called.
///
/// # Errors
/// If the trace cannot be read or replayed.
pub fn compare<R: Read>(
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    plan: &Plan,
) -> Result<Comparison, CompareError> {
    let (trace, tracks) = reports(open, plan)?;
    Ok(Comparison::new(trace, tracks))
}

/// The recording, and each of its tracks: the kernel's, then those of the plan in its order.
///
/// # Errors
/// If the trace cannot be read or replayed.
pub fn reports<R: Read>(
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    plan: &Plan,
) -> Result<(TraceReport, Vec<TrackReport>), CompareError> {
    let backfill = if plan.backfill { untraced(&mut open()?)? } else { Backfill::default() };
    let retype = plan.retype.as_deref().map_or(Ok(Retype::default()), |t| found(&open, t))?;
    let mut groups: Vec<&[TrackSpec]> = plan.tracks.chunks(plan.at_once.max(1)).collect();
    if groups.is_empty() {
        groups.push(&[]);
    }
    let mut outcome: Option<(TraceReport, Vec<TrackReport>)> = None;
    for group in groups {
        let mut reader = open()?;
        let mut observatory = Observatory::new(reader.header(), group.to_vec())?;
        observatory.set_backfill(backfill.clone());
        observatory.set_retype(retype.clone());
        if let Some(recorder) = &plan.recorder {
            observatory.record_to(recorder.clone());
        }
        drive(&mut reader, &mut observatory)?;
        if observatory.opened_with().is_none() && !group.is_empty() {
            return Err(CompareError::NoSnapshot);
        }
        let policies = observatory.policy_samples()?;
        let sample = observatory.sample_with(&policies);
        let (_, tracks) = outcome.get_or_insert_with(|| {
            let divergence = sample.kernel_divergence;
            let trace = TraceReport::new(&observatory, divergence, reader.truncated());
            (trace, vec![kernel_report(&sample)])
        });
        let from = tracks.len();
        let asked = ask_1g(&mut observatory, plan.ask_1g)?;
        tracks.extend(policies.iter().map(|policy| policy_report(policy, &sample)));
        tracks[from..].iter_mut().zip(asked).for_each(|(t, a)| t.asked_1g = Some(a));
        if plan.files {
            let files = observatory.memory_files()?;
            tracks[from..].iter_mut().zip(files).for_each(|(t, f)| t.memory_files = Some(f));
        }
    }
    // There is at least one group.
    outcome.ok_or(CompareError::NoSnapshot)
}

/// Asks all tracks for 1 GiB pages, and what that took; nothing if none are wanted.
fn ask_1g(observatory: &mut Observatory, pages: u32) -> Result<Vec<Asked1g>, ReplayError> {
    if pages == 0 {
        return Ok(Vec::new());
    }
    let before = observatory.policy_samples()?;
    let got = observatory.ask_1g(pages)?;
    let after = observatory.policy_samples()?;
    let cost = before.iter().zip(&after).zip(got);
    Ok(cost.map(|((before, after), got)| Asked1g::new(pages, got, before, after)).collect())
}

/// A pass that looks for allocations to be made movable.
fn found<R: Read>(
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    text: &str,
) -> Result<Retype, CompareError> {
    let (mut reader, mut retype) = (open()?, Retype::new(text));
    while let Some(frame) = reader.next_frame()? {
        if let Frame::Events(batch) = frame {
            retype.note(&batch);
            reader.recycle(batch);
        }
    }
    if retype.is_empty() {
        return Err(CompareError::NothingToRetype(text.to_owned()));
    }
    Ok(retype)
}

fn kernel_report(sample: &Sample) -> TrackReport {
    // The kernel track is always the first of a running replay.
    TrackReport::new(&sample.tracks[0], &sample.events, sample.floor_1g)
}

fn policy_report(policy: &PolicySample, sample: &Sample) -> TrackReport {
    TrackReport::of_policy(policy, &sample.events, sample.floor_1g)
}
