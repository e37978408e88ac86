//! The state of every page frame of a host at (nearly) one time.

use serde::{Deserialize, Serialize};

use crate::event::TimeNs;
use crate::machine::Machine;
use crate::page::{Content, CpuId, Migratetype, Pfn, PfnRange};

/// How a snapshot was read, from richest to poorest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotSource {
    /// struct pages copied through a BPF program: exact free lists and per-CPU lists.
    StructPages,
    /// `/proc/kpageflags`: per-CPU pages look like kernel pages, free orders are rebuilt.
    #[serde(rename = "kpageflags")]
    KpageFlags,
    /// The `superpageblocks` debugfs file of a patched kernel: counts, no pages.
    Debugfs,
    /// Made by a generator.
    Synthetic,
}

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotRole {
    /// At the start of a recording, after tracing began.
    Opening,
    /// In its middle.
    Interval,
    /// At its end, after tracing ended.
    Closing,
    /// By itself.
    Standalone,
}

/// A stretch of page frames in the same state.
///
/// Blocks of the same state, order and type that follow each other form one run: a run of 16
/// pages of order 2 is four blocks. A run's `pages` is a multiple of `1 << order`, and its start
/// is aligned to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// First frame.
    pub start: Pfn,
    /// Number of frames, at least 1.
    pub pages: u64,
    /// What they hold.
    pub content: Content,
    /// Order of each block (compound or buddy), 0 where unknown.
    pub order: u8,
    /// For free blocks, the type of the list they are on; for others, the pageblock's type where
    /// known, else what the content suggests.
    pub migratetype: Migratetype,
}

impl PageRun {
    /// The frames.
    #[must_use]
    pub fn range(&self) -> PfnRange {
        PfnRange::new(self.start, self.pages)
    }
}

/// Blocks of one list, in list order (head first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeList {
    /// Position in [`Machine::zones`].
    pub zone: u16,
    /// Whose list; `None` for the zone's buddy list.
    pub cpu: Option<CpuId>,
    /// Order of its blocks.
    pub order: u8,
    /// Type of the list. Of the two order-9 per-CPU lists the one for movable pages is `Movable`
    /// and the other `Unmovable`.
    pub migratetype: Migratetype,
    /// First frames of the blocks.
    pub blocks: Vec<Pfn>,
}

/// When a stretch of frames was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkTime {
    /// The frames.
    pub range: PfnRange,
    /// The clock just before the copy.
    pub begin_ns: TimeNs,
    /// The clock just after it. An event of these frames before `begin_ns` is contained in the
    /// state, one after `end_ns` is not, and one between wins over the state.
    pub end_ns: TimeNs,
}

/// The state of a host's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// How it was read.
    pub source: SnapshotSource,
    /// Why.
    pub role: SnapshotRole,
    /// Clock at its start.
    pub begin_ns: TimeNs,
    /// Clock at its end.
    pub end_ns: TimeNs,
    /// The host at that time.
    pub machine: Machine,
    /// Read times of its parts, ascending by range.
    pub chunks: Vec<ChunkTime>,
    /// All frames that any zone spans, ascending, without gaps inside a span.
    pub runs: Vec<PageRun>,
    /// Types of pageblocks, one run per stretch of equal types, ascending. Empty if not known.
    pub pageblocks: Vec<(PfnRange, Migratetype)>,
    /// Exact list order, where the source knows it (empty otherwise).
    pub lists: Vec<FreeList>,
    /// Why some pages are `Unknown`, or other remarks, for people.
    pub notes: Vec<String>,
}

impl Snapshot {
    /// Pages of each content, by [`Content::index`].
    #[must_use]
    pub fn totals(&self) -> [u64; Content::COUNT] {
        let mut totals = [0; Content::COUNT];
        for run in &self.runs {
            totals[run.content.index()] += run.pages;
        }
        totals
    }
}
