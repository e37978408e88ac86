//! The comparison: tracks with the same policy and start state in one row, with ranges.

use fragscope_trace::region::Bounds;
use serde::Serialize;

use super::trace_report::TraceReport;
use super::track_report::TrackReport;
use crate::observe::{StartState, TrackKind};
use crate::verdict::{Verdict, verdicts};

/// What `compare --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The recording.
    pub trace: TraceReport,
    /// No policy can taint fewer regions.
    pub floor_1g: u64,
    /// Tracks by start state, then policy; the kernel's first.
    pub tracks: Vec<TrackComparison>,
    /// What follows, for each start state.
    pub verdicts: Vec<Verdict>,
}

/// One policy from one start state. Ranges are over the runs; where a run itself leaves a figure
/// open, over both ends of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackComparison {
    /// Whose placement.
    pub policy: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// Seeds of the runs, where something was drawn.
    pub seeds: Vec<u64>,
    /// See [`TrackReport::free_1g`]; so for all that follow.
    pub free_1g: Bounds,
    /// Each by itself.
    pub evacuable_1g: Bounds,
    /// Together.
    pub obtainable_1g: Bounds,
    /// With non-movable pages.
    pub tainted_1g: Bounds,
    /// By at most 512 pages.
    pub nearly_clean_1g: Bounds,
    /// No policy can taint fewer.
    pub floor_1g: u64,
    /// By has-bits.
    pub has_bit_tainted_1g: Option<Bounds>,
    /// By pageblock type.
    pub block_type_tainted_1g: Option<Bounds>,
    /// Free pages.
    pub free_pages: Bounds,
    /// Non-movable pages.
    pub unmovable_pages: Bounds,
    /// Events given.
    pub events_replayed: u64,
    /// Frees of what was not there.
    pub unmatched_frees: Bounds,
    /// Requests refused.
    pub refused: Bounds,
    /// Pages not placed.
    pub dropped_pages: Bounds,
    /// Pages migrated.
    pub moved_pages: Bounds,
    /// Pages reclaimed.
    pub reclaimed_pages: Bounds,
    /// Events lost.
    pub lost_events: u64,
    /// Each run.
    pub runs: Vec<TrackReport>,
}

impl Comparison {
    /// Groups tracks, and draws the verdicts.
    #[must_use]
    pub fn new(trace: TraceReport, mut reports: Vec<TrackReport>) -> Comparison {
        let is_policy = |report: &TrackReport| report.policy != TrackKind::Kernel;
        reports.sort_by_key(|r| (is_policy(r), r.start, r.policy, r.seed));
        let same = |a: &TrackReport, b: &TrackReport| (a.policy, a.start) == (b.policy, b.start);
        let tracks: Vec<_> = reports.chunk_by(same).filter_map(TrackComparison::new).collect();
        let floor_1g = tracks.first().map_or(0, |track| track.floor_1g);
        let verdicts = verdicts(&trace, &tracks);
        Comparison { trace, floor_1g, tracks, verdicts }
    }

    /// The track of a policy from a start state.
    #[must_use]
    pub fn track(&self, policy: TrackKind, start: StartState) -> Option<&TrackComparison> {
        find(&self.tracks, policy, start)
    }
}

/// The track of a policy from a start state.
#[must_use]
pub fn find(
    tracks: &[TrackComparison],
    policy: TrackKind,
    start: StartState,
) -> Option<&TrackComparison> {
    tracks.iter().find(|track| (track.policy, track.start) == (policy, start))
}

impl TrackComparison {
    /// The row of runs that differ in their seed only; `None` for no run.
    #[must_use]
    pub fn new(runs: &[TrackReport]) -> Option<TrackComparison> {
        let first = runs.first()?;
        let range = |of: &dyn Fn(&TrackReport) -> Bounds| {
            let all = || runs.iter().map(of);
            Bounds {
                min: all().map(|b| b.min).min().unwrap_or(0),
                max: all().map(|b| b.max).max().unwrap_or(0),
            }
        };
        let count = |of: fn(&TrackReport) -> u64| range(&|run| exactly(of(run)));
        let known = |of: fn(&TrackReport) -> Option<u64>| {
            of(first).map(|_| range(&|run| exactly(of(run).unwrap_or(0))))
        };
        Some(TrackComparison {
            policy: first.policy,
            start: first.start,
            seeds: runs.iter().filter_map(|run| run.seed).collect(),
            free_1g: range(&|run| run.free_1g),
            evacuable_1g: range(&|run| run.evacuable_1g),
            obtainable_1g: range(&|run| run.obtainable_1g),
            tainted_1g: range(&|run| run.tainted_1g),
            nearly_clean_1g: count(|run| run.nearly_clean_1g),
            floor_1g: first.floor_1g,
            has_bit_tainted_1g: known(|run| run.has_bit_tainted_1g),
            block_type_tainted_1g: known(|run| run.block_type_tainted_1g),
            free_pages: count(|run| run.free_pages),
            unmovable_pages: count(|run| run.unmovable_pages),
            events_replayed: first.events_replayed,
            unmatched_frees: count(|run| run.unmatched_frees),
            refused: count(|run| run.refused),
            dropped_pages: count(|run| run.dropped_pages),
            moved_pages: count(|run| run.moved_pages),
            reclaimed_pages: count(|run| run.reclaimed_pages),
            lost_events: first.lost_events,
            runs: runs.to_vec(),
        })
    }

    /// Range of a named counter over the runs.
    #[must_use]
    pub fn counter(&self, name: &str) -> Bounds {
        let of = |run: &TrackReport| run.counters.get(name).copied().unwrap_or(0);
        let min = self.runs.iter().map(of).min().unwrap_or(0);
        let max = self.runs.iter().map(of).max().unwrap_or(0);
        Bounds { min, max }
    }

    /// Range over the runs of the share of requests of orders above 0 that were served in one
    /// block, in thousandths; `None` where there was none.
    #[must_use]
    pub fn high_order_success_permille(&self) -> Option<Bounds> {
        let of = |run: &TrackReport| {
            let high = || run.orders.iter().filter(|(order, _)| **order > 0).map(|(_, o)| o);
            let (served, asked) =
                (high().map(|o| o.served).sum::<u64>(), high().map(|o| o.requests).sum::<u64>());
            (served * 1000).checked_div(asked)
        };
        let shares: Option<Vec<u64>> = self.runs.iter().map(of).collect();
        let shares = shares?;
        Some(Bounds { min: *shares.iter().min()?, max: *shares.iter().max()? })
    }
}

fn exactly(count: u64) -> Bounds {
    Bounds { min: count, max: count }
}
