//! Events that arrive before the opening snapshot is known to be complete.

use std::sync::Arc;

use fragscope_trace::event::{EventBatch, TimeNs};
use fragscope_trace::snapshot::Snapshot;

use super::read_times::ReadTimes;

/// Most events that are held: 192 MiB. A trace with more events before its first snapshot is
/// taken to have none.
const HELD_EVENTS_MAX: usize = 8 << 20;

/// What a trace must show before a replay can begin.
#[derive(Debug, Default)]
pub struct Opening {
    held: Vec<EventBatch>,
    held_events: usize,
    latest_ns: TimeNs,
    snapshot: Option<Arc<Snapshot>>,
}

impl Opening {
    /// Keeps a batch for later.
    pub fn hold(&mut self, batch: &EventBatch) {
        self.held_events += batch.len();
        self.latest_ns = self.latest_ns.max(batch.last_time_ns().unwrap_or(0));
        self.held.push(batch.clone());
    }

    /// The first snapshot. A second one before the first is over is left to the caller.
    pub fn set_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(Arc::new(snapshot));
    }

    /// Whether a snapshot has arrived.
    #[must_use]
    pub fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether nothing is gained by waiting: events younger than the snapshot have arrived, or
    /// more events than can be held.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let over = |snapshot: &Arc<Snapshot>| ReadTimes::new(snapshot).over_ns();
        let over = self.snapshot.as_ref().is_some_and(|s| self.latest_ns > over(s));
        over || self.held_events > HELD_EVENTS_MAX
    }

    /// The snapshot, if there is one, and the events held so far.
    #[must_use]
    pub fn into_parts(self) -> (Option<Arc<Snapshot>>, Vec<EventBatch>) {
        (self.snapshot, self.held)
    }
}
