//! The state of every page frame of this host.
//!
//! * [`StructPages`](struct_pages::StructPages): struct pages copied through a BPF program, with
//!   exact free lists and per-CPU lists;
//! * [`kpageflags`]: `/proc/kpageflags`, where BPF cannot be used.

mod classify;
pub mod grow;
pub mod kernel;
pub mod kpageflags;
pub(crate) mod layout;
mod lists;
mod pageblocks;
pub mod report;
mod resolve;
mod runs;
mod scan;
mod sections;
pub mod source;
pub mod struct_pages;
#[cfg(test)]
pub(crate) mod synthetic;
mod zones;

use std::time::{Duration, Instant};

use fragscope_trace::machine::Zone;
use fragscope_trace::page::PfnRange;
use thiserror::Error;

use self::kernel::{KernelError, ReadError};
use crate::bpf::calibrate::CalibrateError;
use crate::bpf::clock::EventClock;
use crate::btf::BtfError;
use crate::proc::ProcError;

/// Frames that are read at once: 256 MiB of memory, two sections.
pub const CHUNK_PAGES: u64 = 1 << 16;

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// A file of `/proc` or `/sys` is unusable.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// `/proc/kpageflags` cannot be read.
    #[error("cannot read /proc/kpageflags: {0} (needs root and CONFIG_PROC_PAGE_MONITOR)")]
    KpageFlags(std::io::Error),
    /// The kernel's types are not known.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The array of struct pages was not found.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// Kernel memory cannot be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A structure of the kernel is not where it was.
    #[error("kernel memory at {address:#x} can't be read (errno {errno})")]
    Unmapped {
        /// Where.
        address: u64,
        /// Why.
        errno: i64,
    },
    /// BTF and the tracepoints contradict each other.
    #[error("a struct page has {btf} bytes by BTF, but {calibrated} by its addresses")]
    PageSize {
        /// Distance of struct pages as tracepoints show it.
        calibrated: u64,
        /// `sizeof(struct page)`.
        btf: u64,
    },
    /// Time was up.
    #[error("the snapshot was not finished in time: {done_pages} of {all_pages} pages were read")]
    Deadline {
        /// Pages read.
        done_pages: u64,
        /// Pages that zones span.
        all_pages: u64,
    },
}

impl From<ReadError> for SnapshotError {
    /// Where single reads may fail, the reader deals with it; what comes here cannot be read
    /// at all.
    fn from(error: ReadError) -> SnapshotError {
        match error {
            ReadError::Kernel(error) => SnapshotError::Kernel(error),
            ReadError::Unmapped { address, errno } => SnapshotError::Unmapped { address, errno },
        }
    }
}

/// Bounds on the reading of a snapshot, and the clock that tells when each part was read.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Pause after each chunk of [`CHUNK_PAGES`], to leave a large host's CPUs to others.
    pub pause: Duration,
    /// Of the events beside which the snapshot is to stand.
    pub clock: EventClock,
}

impl Limits {
    /// No snapshot may take longer than `time` from now.
    #[must_use]
    pub fn within(time: Duration) -> Limits {
        Limits { deadline: Instant::now().checked_add(time), ..Limits::default() }
    }

    /// Called between chunks.
    fn between_chunks(&self, done_pages: u64, all_pages: u64) -> Result<(), SnapshotError> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(SnapshotError::Deadline { done_pages, all_pages });
        }
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        Ok(())
    }
}

/// The frames that any zone spans, ascending; zones that touch or overlap become one.
fn spans(zones: &[Zone]) -> Vec<PfnRange> {
    let mut spans: Vec<PfnRange> = zones.iter().map(Zone::span).collect();
    spans.sort_unstable_by_key(|s| s.start);
    let mut merged: Vec<PfnRange> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

/// The aligned chunks of `range`, clipped to it.
fn chunks(range: PfnRange, chunk_pages: u64) -> impl Iterator<Item = PfnRange> {
    let first = range.start.0 / chunk_pages;
    let last = range.end.0.div_ceil(chunk_pages);
    (first..last).filter_map(move |n| {
        PfnRange::new(fragscope_trace::page::Pfn(n * chunk_pages), chunk_pages).intersect(range)
    })
}
