//! What `fragscope-replay fidelity --json` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::measure::Measures;
use super::probe::ProbeComparison;
use super::verdict::{Criterion, criteria};
use crate::compare::trace_report::TraceReport;
use crate::kernel_track::fidelity::DifferenceCause;

/// The fidelity of one recording. The fields of [`Measures`] stand beside these: those of the
/// last snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FidelityReport {
    /// The recording, and the kernel track against each snapshot.
    pub trace: TraceReport,
    /// At the last snapshot.
    #[serde(flatten)]
    pub last: Measures,
    /// Frees of pages that were thought free.
    pub unmatched_frees: u64,
    /// Events that never reached the trace.
    pub lost_events: u64,
    /// Pages that later snapshots showed to differ from the events, by cause, all snapshots: the
    /// untraced paths, and what is uncertain or unexplained.
    pub untraced_pages: BTreeMap<DifferenceCause, u64>,
    /// Untraced allocations that were deduced from their frees and put back.
    pub backfilled_pages: u64,
    /// At every later snapshot.
    pub checkpoints: Vec<Measures>,
    /// Real 1 GiB pages at the end, where they were asked for.
    pub probe: Option<ProbeComparison>,
    /// What should hold, and whether it does.
    pub criteria: Vec<Criterion>,
    /// Whether all of them hold.
    pub holds: bool,
}

impl FidelityReport {
    /// The report of a recording with these measures, the last of which is `last`.
    #[must_use]
    pub fn new(
        trace: TraceReport,
        last: Measures,
        checkpoints: Vec<Measures>,
        probe: Option<ProbeComparison>,
    ) -> FidelityReport {
        let mut untraced_pages = BTreeMap::new();
        for fidelity in &trace.fidelity {
            for (cause, pages) in &fidelity.difference_pages {
                *untraced_pages.entry(*cause).or_default() += pages;
            }
        }
        let criteria = criteria(&checkpoints, &last, probe.as_ref());
        FidelityReport {
            unmatched_frees: trace.events.unmatched_frees,
            lost_events: trace.events.lost_events(),
            backfilled_pages: trace.anomalies.backfilled_pages,
            holds: criteria.iter().all(|criterion| criterion.holds),
            trace,
            last,
            untraced_pages,
            checkpoints,
            probe,
            criteria,
        }
    }
}
