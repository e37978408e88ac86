//! Snapshots after the first, and the tracks at the time of each.

use std::sync::Arc;

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::Pfn;
use fragscope_trace::snapshot::Snapshot;

use super::read_times::ReadTimes;
use super::survey::Survey;
use crate::kernel_track::KernelTrack;
use crate::kernel_track::fidelity::Fidelity;
use crate::mm::fallbacks::Fallbacks;

/// The kernel, by a snapshot, and every track at that time.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The kernel track against the snapshot.
    pub fidelity: Fidelity,
    /// What the snapshot found.
    pub kernel: Survey,
    /// Memory given to the allocator by then.
    pub managed_pages: u64,
    /// The tracks in the middle of its reading.
    pub tracks: Tracks,
}

/// All tracks at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracks {
    /// Free pages of the kernel track, wherever cached.
    pub kernel_free_pages: u64,
    /// The kernel's fallbacks since the start: every region's first frame and counts.
    pub kernel_fallbacks: Vec<(Pfn, Fallbacks)>,
    /// Each policy track, in the order of the specs.
    pub policies: Vec<Survey>,
}

impl Tracks {
    /// The kernel track now, beside the surveys of the policies.
    #[must_use]
    pub fn new(kernel: &KernelTrack, policies: Vec<Survey>) -> Tracks {
        Tracks {
            kernel_free_pages: kernel.pages().free_pages(),
            kernel_fallbacks: kernel.fallbacks(),
            policies,
        }
    }
}

/// A snapshot to compare with once nothing it contains can still arrive.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) snapshot: Arc<Snapshot>,
    /// The tracks, once they were surveyed.
    pub(super) tracks: Option<Tracks>,
    /// When something is to be done: the survey if it is wanted, then the comparison.
    pub(super) next_ns: TimeNs,
    pub(super) over_ns: TimeNs,
}

impl Pending {
    /// A snapshot whose reading may not be over; `survey` says whether tracks are surveyed.
    pub(super) fn new(snapshot: Arc<Snapshot>, survey: bool) -> Pending {
        let over_ns = ReadTimes::new(&snapshot).over_ns();
        let next_ns = if survey { middle(&snapshot) } else { over_ns };
        Pending { snapshot, tracks: None, next_ns, over_ns }
    }
}

/// The middle of the reading of a snapshot's pages.
fn middle(snapshot: &Snapshot) -> TimeNs {
    let begin = snapshot.chunks.iter().map(|chunk| chunk.begin_ns).min();
    let end = snapshot.chunks.iter().map(|chunk| chunk.end_ns).max();
    let (begin, end) = (begin.unwrap_or(snapshot.begin_ns), end.unwrap_or(snapshot.end_ns));
    begin + end.saturating_sub(begin) / 2
}
