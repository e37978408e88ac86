//! Snapshots for a session, by the best means that this host has.

use std::time::Instant;

use fragscope_trace::snapshot::{Snapshot, SnapshotRole};

use crate::live::TakeSnapshot;
use crate::machine::read_machine;
use crate::snapshot::{Limits, kpageflags};

/// Takes snapshots for a session.
#[must_use]
pub fn taker() -> TakeSnapshot {
    Box::new(|role, deadline| take(role, deadline).map_err(|error| format!("{error:#}")))
}

fn take(role: SnapshotRole, deadline: Instant) -> anyhow::Result<Snapshot> {
    let limits = Limits { deadline: Some(deadline), ..Limits::default() };
    Ok(kpageflags::take(read_machine()?, role, &limits)?)
}
