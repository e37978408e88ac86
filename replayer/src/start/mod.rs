//! What a policy track begins with.
//!
//! * `as-found`: each page where the kernel had it. Taint that is there stays until its pages are
//!   freed, whatever the policy.
//! * `from-boot`: what no allocator placed stays; the rest is placed by the policy through a
//!   seeded history ([`fill`]) that once drives free memory below 5 %.
//! * `from-boot-ideal`: the rest is placed on an empty machine. Any policy packs that perfectly,
//!   so it is a bound and no forecast.

pub mod fill;
pub mod memory;
pub mod survivors;

use fragscope_trace::machine::Machine;
use fragscope_trace::snapshot::Snapshot;

pub use fill::FillReport;

use crate::mm::allocator::{BuildError, PageAllocator};
use crate::mm::settings::Settings;
use crate::observe::{StartState, TrackKind};

/// One policy track to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackSpec {
    /// Whose policy.
    pub policy: TrackKind,
    /// What it begins with.
    pub start: StartState,
    /// Seed of its history; matters to start states from boot only.
    pub seed: u64,
    /// What its allocator is told.
    pub settings: Settings,
}

impl TrackSpec {
    /// A track with default settings that begins as found.
    #[must_use]
    pub fn as_found(policy: TrackKind) -> TrackSpec {
        let (start, seed) = (StartState::AsFound, 0);
        TrackSpec { policy, start, seed, settings: Settings::default() }
    }
}

/// An allocator in its start state.
///
/// # Errors
/// If the machine cannot be modelled.
pub fn build<A: PageAllocator>(
    spec: &TrackSpec,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<(A, FillReport), BuildError> {
    let allocator = A::build(machine, &spec.settings)?;
    let filler = spec.start == StartState::FromBoot;
    if spec.start == StartState::AsFound {
        allocator.load(snapshot);
        return Ok((allocator, FillReport::default()));
    }
    allocator.boot(snapshot);
    let report = fill::fill(&allocator, machine, snapshot, spec.seed, filler);
    Ok((allocator, report))
}

#[cfg(test)]
mod tests;
