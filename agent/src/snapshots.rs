//! Snapshots for a session, by the best means that this host has.

use std::time::Duration;

use crate::live::TakeSnapshot;
use crate::snapshot::source::{Snapshotter, SourceChoice};
use crate::snapshot::{Limits, SnapshotError};

/// Takes snapshots for a session. Opened here, before tracing starts, so that the preparations do
/// not show in the trace.
///
/// # Errors
/// None with today's sources: where struct pages can't be read, `/proc/kpageflags` is tried for
/// each snapshot anew.
pub fn taker() -> Result<TakeSnapshot, SnapshotError> {
    let mut snapshotter = Snapshotter::open(SourceChoice::Auto, None)?;
    Ok(Box::new(move |role, deadline| {
        let limits = Limits { deadline: Some(deadline), pause: Duration::ZERO };
        snapshotter.take(role, &limits).map_err(|error| error.to_string())
    }))
}
