//! The recording itself: machine, span, losses, and how far the kernel track can be trusted.

use fragscope_trace::event::TimeNs;
use fragscope_trace::header::EndReason;
use fragscope_trace::reader::Truncation;
use fragscope_trace::snapshot::SnapshotSource;
use serde::Serialize;

use crate::engine::observatory::Observatory;
use crate::kernel_track::anomalies::Anomalies;
use crate::kernel_track::fidelity::Fidelity;
use crate::observe::{Divergence, EventTotals};

/// The version of the kernel whose rules the stock model follows.
pub const MODEL_VERSION: (u32, u32) = (6, 18);

/// What was recorded, and what is known of its gaps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceReport {
    /// Host.
    pub hostname: String,
    /// Its kernel.
    pub kernel_release: String,
    /// Whether that kernel follows the rules of the stock model ([`MODEL_VERSION`]).
    pub kernel_is_models: bool,
    /// Program that recorded.
    pub recorder: String,
    /// Command that was recorded.
    pub command: Option<Vec<String>>,
    /// Wall-clock time at the start, since the Unix epoch.
    pub started_unix_ns: u64,
    /// From the opening snapshot to the last event.
    pub duration_ns: TimeNs,
    /// Memory given to the allocator at the end.
    pub managed_pages: u64,
    /// How the opening snapshot was read; `None` without one.
    pub opening_source: Option<SnapshotSource>,
    /// Why it ends; `None` if it was cut off.
    pub end_reason: Option<EndReason>,
    /// Where it was cut off.
    pub truncated: Option<Truncation>,
    /// Events by sort, and losses by cause.
    pub events: EventTotals,
    /// What the kernel track met and set right.
    pub anomalies: Anomalies,
    /// The kernel track against each later snapshot.
    pub fidelity: Vec<Fidelity>,
    /// The kernel track against the kernel's counters at the last check.
    pub kernel_divergence: Option<Divergence>,
    /// Most non-movable pages at any time.
    pub peak_unmovable_pages: u64,
}

impl TraceReport {
    /// The report of a replay that has ended.
    #[must_use]
    pub fn new(
        observatory: &Observatory,
        kernel_divergence: Option<Divergence>,
        truncated: Option<&Truncation>,
    ) -> TraceReport {
        let (header, machine) = (observatory.header(), observatory.machine());
        let kernel = observatory.kernel();
        let opened = observatory.opened_with();
        let began_ns = opened.map_or(header.started_ns, |snapshot| snapshot.end_ns);
        TraceReport {
            hostname: machine.hostname.clone(),
            kernel_release: machine.kernel_release.clone(),
            kernel_is_models: machine.kernel_version() == Some(MODEL_VERSION),
            recorder: header.recorder.clone(),
            command: header.command.clone(),
            started_unix_ns: header.started_unix_ns,
            duration_ns: observatory.time_ns().saturating_sub(began_ns),
            managed_pages: machine.managed_pages(),
            opening_source: opened.map(|snapshot| snapshot.source),
            end_reason: observatory.end().map(|end| end.reason.clone()),
            truncated: truncated.cloned(),
            events: kernel.events(),
            anomalies: kernel.anomalies().clone(),
            fidelity: observatory.fidelity().to_vec(),
            kernel_divergence,
            peak_unmovable_pages: kernel.peak_unmovable_pages(),
        }
    }
}
