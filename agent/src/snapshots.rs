//! Snapshots for a session, by the best means that this host has.

use fragscope_trace::page::PfnRange;
use fragscope_trace::snapshot::{Snapshot, SnapshotRole};

use crate::live::{HostScanner, TakeSnapshot};
use crate::snapshot::grow::Absences;
use crate::snapshot::source::{Snapshotter, SourceChoice};
use crate::snapshot::{Limits, SnapshotError};

/// Takes snapshots for a session. Opened here, before tracing starts, so that the preparations do
/// not show in the trace.
///
/// # Errors
/// None with today's sources: where struct pages can't be read, `/proc/kpageflags` is tried for
/// each snapshot anew.
pub fn taker() -> Result<TakeSnapshot, SnapshotError> {
    let snapshotter = Snapshotter::open(SourceChoice::Auto, None)?;
    Ok(Box::new(Taker { snapshotter, absences: Absences::default() }))
}

/// The source, and which frames had no memory at the last snapshot.
struct Taker {
    snapshotter: Snapshotter,
    absences: Absences,
}

impl HostScanner for Taker {
    fn take(&mut self, role: SnapshotRole, limits: &Limits) -> Result<Snapshot, String> {
        let snapshot = self.snapshotter.take(role, limits).map_err(|error| error.to_string())?;
        self.absences = Absences::of(&snapshot);
        Ok(snapshot)
    }

    fn grown(&mut self) -> Result<Vec<PfnRange>, String> {
        self.snapshotter.grown(&mut self.absences).map_err(|error| error.to_string())
    }
}
