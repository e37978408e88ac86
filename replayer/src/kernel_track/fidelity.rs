//! The kernel track against a later snapshot: which pages differ, why, and the corrections.

use std::collections::BTreeMap;
use std::ops::Range;

use fragscope_trace::event::{RepairSource, TimeNs};
use fragscope_trace::page::{Content, Pfn};
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole, SnapshotSource};
use serde::Serialize;

use super::KernelTrack;
use crate::engine::op::Op;
use crate::engine::read_times::{MARGIN_NS, ReadTimes};
use crate::mm::frames::Frame;

/// Why a page of the track differs from the snapshot, where that can be told. Each is an untraced
/// path or an uncertainty of the reading; what is left is unexplained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceCause {
    /// The snapshot could not tell what the page holds, or nothing was known before.
    Unknown,
    /// The page had events while its part of the snapshot was read.
    ReadingWindow,
    /// An unmovable order-0 page without an allocation event: bulk allocation (kernel stacks and
    /// other vmalloc memory, network buffers).
    BulkAllocation,
    /// A movable page without an allocation event in a trace with compaction: its target.
    CompactionTarget,
    /// Taken by a contiguous allocation.
    ContiguousAllocation,
    /// Memory that arrived or left without an event.
    MemorySize,
    /// At most as many pages as events were lost since the snapshot before.
    LostEvents,
    /// The page was read after tracing had ended.
    AfterTracing,
    /// Nothing explains it.
    Unexplained,
}

/// How a comparison went. Counts are pages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fidelity {
    /// Why the snapshot was taken.
    pub role: SnapshotRole,
    /// How it was read.
    pub source: SnapshotSource,
    /// When its reading ended.
    pub time_ns: TimeNs,
    /// Pages that either side has and that had no event after they were read.
    pub compared_pages: u64,
    /// Pages that had events after they were read: the track knows them better.
    pub newer_pages: u64,
    /// The track has them free, the snapshot does not.
    pub missed_alloc_pages: u64,
    /// The track has them allocated, the snapshot free.
    pub missed_free_pages: u64,
    /// One side has them absent or reserved, the other not.
    pub presence_pages: u64,
    /// One side does not know.
    pub unknown_pages: u64,
    /// All pages that differ in use.
    pub raw_difference_pages: u64,
    /// Of compared pages.
    pub raw_difference_ratio: f64,
    /// Pages that differ, by cause; together [`Fidelity::raw_difference_pages`].
    pub difference_pages: BTreeMap<DifferenceCause, u64>,
    /// Differing pages by what the snapshot says they hold.
    pub difference_contents: BTreeMap<Content, u64>,
    /// Those that nothing explains.
    pub unexplained_pages: u64,
    /// Of compared pages.
    pub unexplained_ratio: f64,
    /// Same use, but the snapshot tells the content better.
    pub refined_pages: u64,
    /// Of these, from movable to not or back.
    pub reclassified_pages: u64,
}

impl Fidelity {
    fn new(snapshot: &Snapshot) -> Fidelity {
        Fidelity {
            role: snapshot.role,
            source: snapshot.source,
            time_ns: snapshot.end_ns,
            compared_pages: 0,
            newer_pages: 0,
            missed_alloc_pages: 0,
            missed_free_pages: 0,
            presence_pages: 0,
            unknown_pages: 0,
            raw_difference_pages: 0,
            raw_difference_ratio: 0.0,
            difference_pages: BTreeMap::new(),
            difference_contents: BTreeMap::new(),
            unexplained_pages: 0,
            unexplained_ratio: 0.0,
            refined_pages: 0,
            reclassified_pages: 0,
        }
    }

    fn add(&mut self, cause: DifferenceCause, old: Content, new: Content, pages: u64) {
        *self.difference_pages.entry(cause).or_default() += pages;
        *self.difference_contents.entry(new).or_default() += pages;
        let part = match (use_of(old), use_of(new)) {
            (Use::Unknown, _) | (_, Use::Unknown) => &mut self.unknown_pages,
            (Use::Free, Use::Allocated) => &mut self.missed_alloc_pages,
            (Use::Allocated, Use::Free) => &mut self.missed_free_pages,
            _ => &mut self.presence_pages,
        };
        *part += pages;
    }

    fn close(&mut self) {
        self.raw_difference_pages = self.difference_pages.values().sum();
        let unexplained = self.difference_pages.get(&DifferenceCause::Unexplained);
        self.unexplained_pages = unexplained.copied().unwrap_or(0);
        let ratio = |pages: u64| pages as f64 / self.compared_pages.max(1) as f64;
        (self.raw_difference_ratio, self.unexplained_ratio) =
            (ratio(self.raw_difference_pages), ratio(self.unexplained_pages));
    }
}

/// What two states of a page are compared by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Absent,
    Reserved,
    Free,
    Allocated,
    Unknown,
}

fn use_of(content: Content) -> Use {
    match content {
        Content::Absent => Use::Absent,
        Content::Reserved => Use::Reserved,
        Content::Unknown => Use::Unknown,
        c if c.is_free() => Use::Free,
        _ => Use::Allocated,
    }
}

/// Frames whose state and standing towards the reading are the same.
struct Piece {
    frames: Range<Frame>,
    old: Content,
    new: Content,
    order: u8,
    touched: Touched,
    read_ns: TimeNs,
}

/// When pages had their last event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touched {
    Before,
    /// While they were read: either side may be right.
    During,
    After,
}

impl KernelTrack {
    /// Compares with a snapshot whose reading is over, and corrects the track (and, through
    /// operations, the policies) where it differs. `traced_until_ns` is when tracing stopped, if
    /// it did; `lost_events` are the losses since the snapshot before.
    pub fn compare(
        &mut self,
        snapshot: &Snapshot,
        traced_until_ns: Option<TimeNs>,
        lost_events: u64,
        ops: &mut Vec<Op>,
    ) -> Fidelity {
        let times = ReadTimes::new(snapshot);
        let mut fidelity = Fidelity::new(snapshot);
        let mut lost_left = lost_events;
        let mut pieces = Vec::new();
        for run in &snapshot.runs {
            self.pieces(run, &times, &mut pieces);
            for piece in pieces.drain(..) {
                let pages = piece.frames.len() as u64;
                if piece.touched == Touched::After {
                    fidelity.newer_pages += pages;
                    continue;
                }
                let both_absent = piece.old == Content::Absent && piece.new == Content::Absent;
                fidelity.compared_pages += if both_absent { 0 } else { pages };
                if use_of(piece.old) != use_of(piece.new) {
                    let mut cause = self.cause_of(&piece, traced_until_ns);
                    if cause == DifferenceCause::Unexplained && lost_left >= pages {
                        lost_left -= pages;
                        cause = DifferenceCause::LostEvents;
                    }
                    fidelity.add(cause, piece.old, piece.new, pages);
                }
                if piece.touched == Touched::Before {
                    self.adopt(piece, snapshot.end_ns, &mut fidelity, ops);
                }
            }
        }
        self.types.load(snapshot, self.pages.geometry());
        self.machine = snapshot.machine.clone();
        self.counted.begin(snapshot.end_ns);
        fidelity.close();
        fidelity
    }

    /// Takes over what the snapshot says of pages that had no event since it was read. What it
    /// does not know is left as it is.
    fn adopt(&mut self, piece: Piece, time_ns: TimeNs, fidelity: &mut Fidelity, ops: &mut Vec<Op>) {
        if piece.new == Content::Unknown {
            return;
        }
        if self.keeps_unmatched() && piece.new.is_free() {
            // An untraced allocation of these pages came after the reading.
            self.pages.touch(piece.frames.clone(), self.pages.tick(piece.read_ns));
        }
        let done = self.correct(piece.frames, piece.new, time_ns, ops);
        self.anomalies.repair(RepairSource::Snapshot, done.misjudged());
        self.anomalies.refined_pages += done.refined;
        self.anomalies.reclassified_pages += done.reclassified;
        fidelity.refined_pages += done.refined;
        fidelity.reclassified_pages += done.reclassified;
    }

    /// Cuts a run of the snapshot where the track's state changes, or the time of its pages' last
    /// event.
    fn pieces(&self, run: &PageRun, times: &ReadTimes, into: &mut Vec<Piece>) {
        let frames = self.pages.clip(run.range());
        let mut at = frames.start;
        while at < frames.end {
            let (begin_ns, read_ns) = times.of(Pfn(u64::from(at)));
            let block_end = (at | (self.pages.geometry().pageblock_pages() - 1)) + 1;
            let during = self.pages.tick(begin_ns.saturating_sub(MARGIN_NS))
                ..=self.pages.tick(read_ns.saturating_add(MARGIN_NS));
            let standing = |f: Frame| {
                let touched = match self.pages.touched(f) {
                    tick if tick < *during.start() => Touched::Before,
                    tick if tick > *during.end() => Touched::After,
                    _ => Touched::During,
                };
                (self.pages.state(f).content(), touched)
            };
            let (old, touched) = standing(at);
            let limit = block_end.min(frames.end);
            let same = (at..limit).take_while(|f| standing(*f) == (old, touched)).count() as u32;
            let (new, order) = (run.content, run.order);
            if self.pages.geometry().zone_of(at).is_some() {
                into.push(Piece { frames: at..at + same, old, new, order, touched, read_ns });
            }
            at += same;
        }
    }

    fn cause_of(&self, piece: &Piece, traced_until_ns: Option<TimeNs>) -> DifferenceCause {
        let (old, new) = (use_of(piece.old), use_of(piece.new));
        let untraced = old == Use::Free && new == Use::Allocated;
        let first = Pfn(u64::from(piece.frames.start));
        if old == Use::Unknown || new == Use::Unknown {
            DifferenceCause::Unknown
        } else if piece.touched == Touched::During {
            DifferenceCause::ReadingWindow
        } else if [old, new].iter().any(|u| matches!(u, Use::Absent | Use::Reserved)) {
            DifferenceCause::MemorySize
        } else if piece.new == Content::Gigantic
            || self.contiguous.iter().any(|range| range.contains(first))
        {
            DifferenceCause::ContiguousAllocation
        } else if untraced && piece.new == Content::Kernel && piece.order == 0 {
            DifferenceCause::BulkAllocation
        } else if untraced && piece.new.is_movable() && self.counters.contains_key("compactions") {
            DifferenceCause::CompactionTarget
        } else if traced_until_ns.is_some_and(|until| piece.read_ns > until) {
            DifferenceCause::AfterTracing
        } else {
            DifferenceCause::Unexplained
        }
    }
}
