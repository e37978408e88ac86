//! What stands at the beginning and at the end of a trace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{LossCause, TimeNs};
use crate::machine::Machine;

/// The first frame of every trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Program and version that wrote the trace.
    pub recorder: String,
    /// Wall-clock time at the start, nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// `CLOCK_MONOTONIC` at the same moment; event times count on this clock.
    pub started_ns: TimeNs,
    /// The host at the start.
    pub machine: Machine,
    /// What could be traced and what could not.
    pub capabilities: Vec<Capability>,
    /// Command that was recorded, if any.
    pub command: Option<Vec<String>>,
    /// What is told of page events.
    #[serde(default, skip_serializing_if = "TraceMode::is_full")]
    pub mode: TraceMode,
}

/// What a trace tells of page events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceMode {
    /// Every one.
    #[default]
    Full,
    /// Their numbers by region and interval (`RegionCounts`), and none of them by itself.
    Count,
}

impl TraceMode {
    /// Whether it is [`TraceMode::Full`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        *self == TraceMode::Full
    }
}

/// One thing that a recorder can use, found or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Short name, for example `raw_tracepoints` or `fentry`.
    pub name: String,
    /// Whether recording is impossible without it.
    pub required: bool,
    /// Whether it was found (and, in a trace header, used).
    pub available: bool,
    /// What was found, or why not.
    pub found: String,
    /// What is lost without it.
    pub lost_without: String,
    /// How to get it.
    pub remedy: String,
}

/// Why a trace ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The time asked for was over.
    Duration,
    /// The recorded command ended with this exit status (128 + signal if killed).
    CommandExited {
        /// As the shell would report it.
        status: i32,
    },
    /// SIGINT.
    Interrupted,
    /// SIGTERM, or a second SIGINT.
    Terminated,
    /// The file has the size that was allowed.
    SizeLimit,
    /// The recording goes on in another file.
    Continued {
        /// Its name.
        next: String,
    },
    /// The generator finished.
    Generated,
    /// The recorder failed.
    Failed {
        /// Why.
        error: String,
    },
}

/// Totals of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Page events and side events delivered.
    pub events: u64,
    /// Of these, allocations.
    pub allocs: u64,
    /// Of these, frees.
    pub frees: u64,
    /// Events tagged as the recorder's own.
    pub own_events: u64,
    /// Events tagged late.
    pub late_events: u64,
    /// Events that never reached the trace, by cause.
    pub lost: BTreeMap<LossCause, u64>,
    /// Allocations that were counted by region and not recorded, failed ones among them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counted_allocs: u64,
    /// Frees that were counted by region and not recorded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counted_frees: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Totals {
    /// Lost events of all causes.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.lost.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// The last frame of a trace that was closed in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// When tracing stopped.
    pub time_ns: TimeNs,
    /// Whether a closing snapshot precedes this frame.
    pub closing_snapshot: bool,
    /// Totals of the recording.
    pub totals: Totals,
}
