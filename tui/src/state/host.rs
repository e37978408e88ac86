//! One traced host: everything that is known of it, and the moment of it that is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use fragscope_replay::observe::{
    BlockChanges, Release, Sample, StartState, TaintEvent, TrackKind, TrackSample,
};
use fragscope_trace::event::TimeNs;
use fragscope_trace::header::{End, Header};
use fragscope_trace::machine::Machine;
use fragscope_trace::page::Pfn;
use fragscope_trace::snapshot::{SnapshotRole, SnapshotSource};

use super::blocks::BlockHistory;
use super::clock::WallClock;
use super::cursor::{Cursor, Position};
use super::history::{History, Point, Thinning};
use super::pace::Pace;
use super::rates::{self, Interval};
use crate::conn::phase::{Origin, Phase};

/// Most taint events kept; older ones are dropped and counted.
pub const TAINTS_MAX: usize = 20_000;

/// What a snapshot was, without its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotNote {
    /// When it was finished.
    pub time_ns: TimeNs,
    /// Why it was taken.
    pub role: SnapshotRole,
    /// How it was read.
    pub source: SnapshotSource,
    /// Remarks of the recorder.
    pub notes: Vec<String>,
}

/// News of one host.
#[derive(Clone, Debug)]
pub enum Update {
    /// The connection changed.
    Phase(Phase),
    /// A trace began. Times of an earlier trace of the same host mean nothing any more.
    Header(Arc<Header>),
    /// A snapshot was applied; the geometry is that of its time.
    Snapshot(SnapshotNote, Arc<Machine>),
    /// The tracks at one time.
    Sample(Arc<Sample>),
    /// Whether policy tracks are still being brought to their start state.
    Building(bool),
    /// Why from-boot tracks are left out of the replay, if they are.
    LeftOut(Option<String>),
    /// Pageblocks that changed up to a time.
    Blocks(TimeNs, Vec<BlockChanges>),
    /// Regions turned tainted or clean.
    Taints(Vec<TaintEvent>),
    /// Pages that taint no longer what they tainted.
    Releases(Vec<Release>),
    /// Share of a recording that is read, 0..1.
    Progress(f64),
    /// The trace was closed in order.
    End(Arc<End>),
    /// An answer to something the user asked of the worker.
    Notice(String),
}

/// A host and its data.
#[derive(Clone, Debug)]
pub struct Host {
    /// What the user called it: a path, an address, or nothing for this host.
    pub label: String,
    /// Where its trace comes from.
    pub origin: Origin,
    /// Why the origin is not the one that was wanted, if so.
    pub fallback: Option<String>,
    /// How the connection stands.
    pub phase: Phase,
    /// Whether policy tracks are still being brought to their start state.
    pub building: bool,
    /// Why from-boot tracks are left out, if they are.
    pub left_out: Option<String>,
    /// Beginning of the trace.
    pub header: Option<Arc<Header>>,
    /// Geometry by the last snapshot (or the header).
    pub machine: Option<Arc<Machine>>,
    /// Translates the trace's times.
    pub clock: Option<WallClock>,
    /// Samples that are kept.
    pub history: History,
    /// Pageblocks over the same time.
    pub blocks: BlockHistory,
    /// Taint events, ascending by time.
    pub taints: Vec<TaintEvent>,
    /// When the page of a kernel track's taint event was released, by the event's time and page.
    pub released: BTreeMap<(TimeNs, Pfn), TimeNs>,
    /// Taint events no longer kept.
    pub taints_dropped: u64,
    /// Snapshots seen.
    pub snapshots: Vec<SnapshotNote>,
    /// Share of a recording that is read.
    pub progress: Option<f64>,
    /// How fast it is read.
    pub pace: Pace,
    /// End of the trace.
    pub end: Option<Arc<End>>,
    /// The moment wanted. What is shown of it follows with [`Host::refresh`].
    pub cursor: Cursor,
    /// The sample shown, and the one that rates are taken from.
    shown: Option<Arc<Sample>>,
    before: Option<Arc<Sample>>,
    /// The pageblocks are those of the connection before.
    blocks_stale: bool,
}

impl Host {
    /// A host of which nothing is known yet.
    #[must_use]
    pub fn new(label: impl Into<String>, origin: Origin) -> Host {
        let thinning = if origin.is_live() { Thinning::Older } else { Thinning::Even };
        Host {
            label: label.into(),
            origin,
            fallback: None,
            phase: Phase::Opening { since: std::time::Duration::ZERO },
            building: false,
            left_out: None,
            header: None,
            machine: None,
            clock: None,
            history: History::new(thinning),
            blocks: BlockHistory::default(),
            taints: Vec::new(),
            released: BTreeMap::new(),
            taints_dropped: 0,
            snapshots: Vec::new(),
            progress: None,
            pace: Pace::default(),
            end: None,
            cursor: Cursor::default(),
            shown: None,
            before: None,
            blocks_stale: false,
        }
    }

    /// Takes in news.
    pub fn update(&mut self, update: Update) {
        match update {
            Update::Phase(phase) => self.phase = phase,
            Update::Header(header) => self.begin(header),
            Update::Snapshot(note, machine) => {
                self.snapshots.push(note);
                self.machine = Some(machine);
            }
            Update::Sample(sample) => self.history.push(sample),
            Update::Building(building) => self.building = building,
            Update::LeftOut(why) => self.left_out = why,
            Update::Blocks(time_ns, changes) => {
                // Those of a new trace are told anew.
                if std::mem::take(&mut self.blocks_stale) {
                    self.blocks.clear();
                }
                self.blocks.push(time_ns, changes);
            }
            Update::Taints(taints) => self.add_taints(taints),
            Update::Releases(releases) => {
                let key = |r: &Release| ((r.tainted_ns, r.pfn), r.time_ns);
                self.released.extend(releases.iter().map(key));
            }
            Update::Progress(share) => self.progress = Some(share),
            Update::End(end) => self.end = Some(end),
            // The screen's, not the host's.
            Update::Notice(_) => {}
        }
    }

    fn begin(&mut self, header: Arc<Header>) {
        let clock = WallClock::new(header.started_unix_ns, header.started_ns);
        // After a reconnection the host's clock runs on; after a reboot it began anew.
        let rebooted = self.clock.as_ref().is_some_and(|before| !before.agrees_with(&clock));
        self.clock = Some(clock);
        self.machine = Some(Arc::new(header.machine.clone()));
        self.blocks_stale = true;
        if rebooted {
            self.history.clear();
            self.taints.clear();
            self.released.clear();
        }
        self.snapshots.clear();
        self.end = None;
        self.header = Some(header);
    }

    fn add_taints(&mut self, taints: Vec<TaintEvent>) {
        self.taints.extend(taints);
        let excess = self.taints.len().saturating_sub(TAINTS_MAX);
        if excess > 0 {
            // Half at once, so that the cost of moving the rest is spread thin.
            let drop = excess.max(TAINTS_MAX / 2);
            self.taints.drain(..drop);
            self.taints_dropped += drop as u64;
            let oldest = self.taints.first().map_or(0, |e| e.time_ns);
            self.released.retain(|(tainted_ns, _), _| *tainted_ns >= oldest);
        }
    }

    /// Name for the header: the traced machine's, else the label.
    #[must_use]
    pub fn name(&self) -> &str {
        self.machine.as_ref().map_or(self.label.as_str(), |m| m.hostname.as_str())
    }

    /// First and last time that are kept.
    #[must_use]
    pub fn range(&self) -> Option<(TimeNs, TimeNs)> {
        Some((self.history.oldest()?.time_ns, self.history.newest()?.time_ns))
    }

    /// Looks up what the cursor asks for. To be called after what moves it or adds samples.
    pub fn refresh(&mut self) {
        let index = self.wanted_index();
        let time_ns = |index: usize| self.history.points()[index].time_ns;
        let is_there = |sample: &Option<Arc<Sample>>, index: Option<usize>| {
            sample.as_ref().map(|s| s.time_ns) == index.map(time_ns)
        };
        // The newest may have been replaced by a better one of the same time.
        let newest = self.history.points().len().checked_sub(1);
        if !is_there(&self.shown, index) || index == newest {
            self.shown = index.and_then(|i| self.history.sample(i));
        }
        let before = index.and_then(|i| rates::before(self.history.points(), i));
        if !is_there(&self.before, before) {
            self.before = before.and_then(|i| self.history.sample(i));
        }
    }

    /// Position in the history of the sample that the cursor asks for.
    fn wanted_index(&self) -> Option<usize> {
        self.history.index_at(self.cursor.time_ns(self.range()?))
    }

    /// The sample shown.
    #[must_use]
    pub fn shown(&self) -> Option<&Arc<Sample>> {
        self.shown.as_ref()
    }

    /// The interval for rates at the moment shown.
    #[must_use]
    pub fn interval(&self) -> Option<Interval<'_>> {
        Some(Interval { before: self.before.as_ref()?, now: self.shown.as_ref()? })
    }

    /// Whether what is shown may no longer be so: the connection is broken, or was made anew and
    /// has told nothing yet.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let anew = matches!(self.phase, Phase::Opening { .. } | Phase::WaitingForSnapshot { .. });
        self.phase.is_stale() || (anew && self.shown().is_some())
    }

    /// Whether new samples are still to come.
    #[must_use]
    pub fn is_growing(&self) -> bool {
        self.phase.is_growing()
    }

    /// Whether a recording is still being read: what lies behind the last sample may come.
    #[must_use]
    pub fn is_being_read(&self) -> bool {
        self.is_growing() && !self.origin.is_live()
    }

    /// The moment wanted, where a recording is not read so far yet.
    #[must_use]
    pub fn awaited(&self) -> Option<TimeNs> {
        let (_, newest_ns) = self.range()?;
        match self.cursor.position {
            Position::At(time_ns) if self.is_being_read() && time_ns > newest_ns => Some(time_ns),
            _ => None,
        }
    }

    /// Time from the beginning of the trace to the moment shown, in seconds.
    #[must_use]
    pub fn watched_seconds(&self) -> f64 {
        let from = self.header.as_ref().map_or(0, |h| h.started_ns);
        self.shown().map_or(0.0, |s| s.time_ns.saturating_sub(from) as f64 / 1e9)
    }

    /// Time of the newest sample after the first, in seconds.
    #[must_use]
    pub fn kept_seconds(&self) -> f64 {
        self.range().map_or(0.0, |(from, to)| (to - from) as f64 / 1e9)
    }

    /// Goes one sample back (`-1`) or on (`1`) and stays there.
    pub fn step(&mut self, by: isize) {
        let (Some(range), Some(index)) = (self.range(), self.wanted_index()) else {
            return;
        };
        let last = self.history.points().len() - 1;
        let to = index.saturating_add_signed(by).min(last);
        self.cursor.seek(self.history.points()[to].time_ns, range);
    }

    /// Goes to a time and stays there. In a recording that is not read so far, the last sample is
    /// shown until the time comes.
    pub fn seek(&mut self, time_ns: TimeNs) {
        if let Some((oldest_ns, newest_ns)) = self.range() {
            let last_ns = if self.is_being_read() { TimeNs::MAX } else { newest_ns };
            self.cursor.seek(time_ns, (oldest_ns, last_ns));
        }
    }

    /// Goes back or on by a time and stays there.
    pub fn shift_ns(&mut self, by: i64) {
        if let Some(range) = self.range() {
            let now = self.cursor.time_ns(range);
            self.cursor.seek(now.saturating_add_signed(by), range);
        }
    }

    /// Goes to the sample that first shows the next (or previous) taint of the kernel track.
    /// Returns whether there is one.
    pub fn seek_taint(&mut self, forward: bool) -> bool {
        let Some(index) = self.wanted_index() else {
            return false;
        };
        let points = self.history.points();
        let shown = points[index].time_ns;
        let shown_from = index.checked_sub(1).map_or(0, |i| points[i].time_ns);
        let mut wanted = self.taints.iter().filter(|e| e.tainted && e.track == TrackKind::Kernel);
        let found = if forward {
            wanted.find(|e| e.time_ns > shown)
        } else {
            wanted.rfind(|e| e.time_ns <= shown_from)
        };
        let (Some(event), Some(range)) = (found, self.range()) else {
            return false;
        };
        let after = points.partition_point(|p| p.time_ns < event.time_ns);
        let Some(time_ns) = points.get(after).map(|p| p.time_ns) else {
            return false;
        };
        self.cursor.seek(time_ns, range);
        true
    }
}

impl Host {
    /// Goes to the first sample at which fewer 1 GiB pages could be had under the kernel than at
    /// the beginning. Returns whether there is one.
    pub fn seek_first_loss(&mut self) -> bool {
        let had =
            |p: &Point| p.figures(TrackKind::Kernel, StartState::AsFound).map(|f| f.obtainable_1g);
        let points = self.history.points();
        let first = points.iter().find_map(had);
        let loss = points.iter().find(|p| had(p) < first && had(p).is_some());
        let (Some(time_ns), Some(range)) = (loss.map(|p| p.time_ns), self.range()) else {
            return false;
        };
        self.cursor.seek(time_ns, range);
        true
    }
}

/// The tracks to show for a start state, in the order of [`TrackKind::ALL`], each with its
/// position in the sample. The kernel track has only one start.
pub fn tracks_of(
    sample: &Sample,
    start: StartState,
) -> impl Iterator<Item = (usize, &TrackSample)> {
    TrackKind::ALL
        .into_iter()
        .filter_map(move |kind| track_index(sample, kind, start))
        .map(move |index| (index, &sample.tracks[index]))
}

/// Position of a track in a sample; that of the as-found one where this start is not replayed.
#[must_use]
pub fn track_index(sample: &Sample, kind: TrackKind, start: StartState) -> Option<usize> {
    let with = |wanted: Option<StartState>| {
        let fits = |t: &TrackSample| t.kind == kind && wanted.is_none_or(|w| t.start == w);
        sample.tracks.iter().position(fits)
    };
    with(Some(start)).or_else(|| with(None))
}
