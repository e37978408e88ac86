//! All tracks over one stream of frames.

use std::collections::VecDeque;
use std::sync::Arc;

use fragscope_trace::event::{EventBatch, PageEvent, SideEvent, SideKind, TimeNs};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{End, Header};
use fragscope_trace::machine::Machine;
use fragscope_trace::page::Pfn;
use fragscope_trace::region::floor_1g;
use fragscope_trace::snapshot::Snapshot;
use thiserror::Error;

use super::asked::Asked;
use super::backfill::Backfill;
use super::checkpoint::{Checkpoint, Pending, Tracks};
use super::op::Op;
use super::opening::Opening;
use super::retype::Retype;
use super::survey::Survey;
use super::taints::TaintLog;
use super::worker::{PolicySample, TrackError, Worker};
use crate::kernel_track::fidelity::Fidelity;
use crate::kernel_track::{self, KernelTrack, UnmatchedFree};
use crate::mm::allocator::{BuildError, MemoryFiles};
use crate::mm::spb::event::Recorder;
use crate::observe::{
    AgentCost, BlockChanges, Divergence, Release, Sample, StartState, TaintEvent, TrackKind,
};
use crate::start::{TrackSpec, memory};

/// Operations handed to the tracks at once.
const OPS_BATCH: usize = 1 << 15;

/// A replay that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// The machine cannot be modelled.
    #[error("this machine cannot be replayed: {0}")]
    Machine(#[from] BuildError),
    /// There is nothing for policies to do.
    #[error(
        "this trace was recorded in count mode: it has counters by GiB of memory and no events, so \
         that only the kernel's own track can be followed"
    )]
    Counted,
    /// A track ended early.
    #[error(transparent)]
    Track(#[from] TrackError),
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No snapshot yet: there is nothing to show.
    WaitingForSnapshot,
    /// A snapshot has arrived and events younger than it have not.
    WaitingForEvents,
    /// Tracks are running.
    Running,
    /// The trace is over.
    Ended,
}

/// The tracks of one trace.
#[derive(Debug)]
pub struct Observatory {
    header: Header,
    specs: Vec<TrackSpec>,
    stage: Stage,
    opening: Opening,
    opened_with: Option<Arc<Snapshot>>,
    kernel: KernelTrack,
    workers: Vec<Worker>,
    ops: Vec<Op>,
    backfill: Backfill,
    recorder: Option<Recorder>,
    retype: Retype,
    pending: Option<Pending>,
    lost_at_snapshot: u64,
    fidelity: Vec<Fidelity>,
    checkpoints: Option<Vec<Checkpoint>>,
    granted_1g: Option<Vec<Pfn>>,
    taints: TaintLog,
    kernel_divergence: Option<Divergence>,
    cost: Option<AgentCost>,
    cost_at_ns: TimeNs,
    time_ns: TimeNs,
    end: Option<End>,
    /// Whether pageblocks are watched.
    watches_blocks: bool,
    /// Changes of pageblocks that nobody has taken yet.
    block_changes: Vec<BlockChanges>,
    /// Samples that were asked for, in order.
    asked: VecDeque<Asked>,
}

impl Observatory {
    /// A replay of the trace that `header` begins, with the policy tracks of `specs` beside the
    /// kernel's.
    ///
    /// # Errors
    /// If the machine cannot be modelled, or there are `specs` and no events to replay.
    pub fn new(header: &Header, specs: Vec<TrackSpec>) -> Result<Observatory, ReplayError> {
        if !header.mode.is_full() && !specs.is_empty() {
            return Err(ReplayError::Counted);
        }
        Ok(Observatory {
            kernel: KernelTrack::new(&header.machine, header.started_ns)?,
            header: header.clone(),
            specs,
            stage: Stage::WaitingForSnapshot,
            opening: Opening::default(),
            opened_with: None,
            workers: Vec::new(),
            ops: Vec::new(),
            backfill: Backfill::default(),
            recorder: None,
            retype: Retype::default(),
            pending: None,
            lost_at_snapshot: 0,
            fidelity: Vec::new(),
            checkpoints: None,
            granted_1g: None,
            taints: TaintLog::default(),
            kernel_divergence: None,
            cost: None,
            cost_at_ns: header.started_ns,
            time_ns: header.started_ns,
            end: None,
            watches_blocks: false,
            block_changes: Vec::new(),
            asked: VecDeque::new(),
        })
    }

    /// Keeps track of pageblocks, for [`Observatory::take_block_changes`].
    pub fn watch_blocks(&mut self) {
        self.watches_blocks = true;
    }

    /// Pageblocks that changed from one sample to the next, up to the last; at first all. Empty
    /// unless they are watched.
    pub fn take_block_changes(&mut self) -> Vec<BlockChanges> {
        std::mem::take(&mut self.block_changes)
    }

    /// Puts untraced allocations back that a first pass over the trace found.
    pub fn set_backfill(&mut self, backfill: Backfill) {
        self.backfill = backfill;
    }

    /// Sends the tracepoints of the policy tracks that are to begin to `recorder`.
    pub fn record_to(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Makes allocations movable that a first pass over the trace found.
    pub fn set_retype(&mut self, retype: Retype) {
        self.retype = retype;
    }

    /// Keeps what a second pass needs, for [`Observatory::take_unmatched`].
    pub fn keep_unmatched(&mut self) {
        self.kernel.keep_unmatched();
    }

    /// Makes the recorder's own requests part of the workload, see [`KernelTrack::serve_own`].
    pub fn serve_own(&mut self) {
        self.kernel.serve_own();
    }

    /// Surveys all tracks at every later snapshot, for [`Observatory::checkpoints`].
    pub fn keep_checkpoints(&mut self) {
        self.checkpoints.get_or_insert_default();
    }

    /// The tracks beside each later snapshot so far, if they are kept.
    #[must_use]
    pub fn checkpoints(&self) -> &[Checkpoint] {
        self.checkpoints.as_deref().unwrap_or_default()
    }

    /// First frames of the real 1 GiB pages that the kernel gave at the end, if it was asked.
    #[must_use]
    pub fn granted_1g(&self) -> Option<&[Pfn]> {
        self.granted_1g.as_deref()
    }

    /// Frees that no traced allocation explains.
    pub fn take_unmatched(&mut self) -> Vec<UnmatchedFree> {
        self.kernel.take_unmatched()
    }

    /// What the trace says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The host, as the last snapshot described it.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        self.kernel.machine()
    }

    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The kernel track.
    #[must_use]
    pub fn kernel(&self) -> &KernelTrack {
        &self.kernel
    }

    /// Comparisons of the kernel track with the snapshots after the first.
    #[must_use]
    pub fn fidelity(&self) -> &[Fidelity] {
        &self.fidelity
    }

    /// The snapshot that the replay began with.
    #[must_use]
    pub fn opened_with(&self) -> Option<&Snapshot> {
        self.opened_with.as_deref()
    }

    /// The last frame, once it was seen.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Time of the youngest event so far.
    #[must_use]
    pub fn time_ns(&self) -> TimeNs {
        self.time_ns
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn feed(&mut self, frame: &Frame) -> Result<(), ReplayError> {
        match frame {
            // A second header (a stream that was joined anew) changes nothing that runs.
            Frame::Header(_) => Ok(()),
            Frame::Events(batch) => self.feed_events(batch),
            Frame::Snapshot(snapshot) => self.feed_snapshot(snapshot),
            Frame::End(end) => {
                self.end = Some((**end).clone());
                self.finish()
            }
        }
    }

    /// Says that no frame follows.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn finish(&mut self) -> Result<(), ReplayError> {
        self.open()?;
        self.settle_pending(self.end.as_ref().map(|end| end.time_ns))?;
        self.stage = Stage::Ended;
        self.flush()
    }

    /// Takes the next events.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn feed_events(&mut self, batch: &EventBatch) -> Result<(), ReplayError> {
        if self.is_opening() {
            self.opening.hold(batch);
            if self.opening.is_over() {
                self.open()?;
            } else if self.opening.has_snapshot() {
                self.stage = Stage::WaitingForEvents;
            }
            return Ok(());
        }
        self.replay(batch)
    }

    fn feed_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), ReplayError> {
        if self.is_opening() && !self.opening.has_snapshot() {
            self.opening.set_snapshot(snapshot.clone());
            self.stage = Stage::WaitingForEvents;
            return if self.opening.is_over() { self.open() } else { Ok(()) };
        }
        self.open()?;
        if !self.header.mode.is_full() {
            self.reload(snapshot);
            return Ok(());
        }
        self.settle_pending(None)?;
        let survey = self.checkpoints.is_some();
        self.pending = Some(Pending::new(Arc::new(snapshot.clone()), survey));
        self.attend_pending(self.time_ns)
    }

    /// Without events there is nothing to compare with a snapshot: it is the truth.
    fn reload(&mut self, snapshot: &Snapshot) {
        self.kernel.reload(snapshot);
        self.time_ns = self.time_ns.max(snapshot.end_ns);
        let of = Default::default();
        self.taints.note_kernel(&mut self.kernel, snapshot.end_ns, of, &mut self.ops);
        // No policy is to do anything for it.
        self.ops.clear();
    }

    fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::WaitingForSnapshot | Stage::WaitingForEvents)
    }

    /// Begins all tracks with what has arrived, if they have not begun.
    fn open(&mut self) -> Result<(), ReplayError> {
        if !self.is_opening() {
            return Ok(());
        }
        let (snapshot, held) = std::mem::take(&mut self.opening).into_parts();
        self.stage = Stage::Running;
        match snapshot {
            Some(snapshot) => self.open_with(snapshot)?,
            None => self.kernel.open_unknown(),
        }
        self.taints.begin(&self.kernel);
        for batch in held {
            self.replay(&batch)?;
        }
        Ok(())
    }

    fn open_with(&mut self, snapshot: Arc<Snapshot>) -> Result<(), ReplayError> {
        memory::check(&snapshot, self.specs.len())?;
        let (collects, serves_own) = (self.kernel.keeps_unmatched(), self.kernel.serves_own());
        self.kernel = KernelTrack::new(&snapshot.machine, self.header.started_ns)?;
        if collects {
            self.kernel.keep_unmatched();
        }
        if serves_own {
            self.kernel.serve_own();
        }
        self.kernel.open(&snapshot);
        let machine = Arc::new(snapshot.machine.clone());
        let recorder = self.recorder.clone();
        let spawn = |spec: TrackSpec| {
            Worker::spawn(spec, Arc::clone(&machine), Arc::clone(&snapshot), recorder.clone())
        };
        self.workers = std::mem::take(&mut self.specs).into_iter().map(spawn).collect();
        self.time_ns = self.time_ns.max(snapshot.end_ns);
        self.opened_with = Some(snapshot);
        Ok(())
    }

    fn replay(&mut self, batch: &EventBatch) -> Result<(), ReplayError> {
        let mut backfill = std::mem::take(&mut self.backfill);
        let merged = backfill.merge(batch);
        self.backfill = backfill;
        for (pages, side) in merged.stretches() {
            for ahead in pages.chunks(kernel_track::AHEAD) {
                self.kernel.look_ahead(ahead);
                for event in ahead {
                    self.page_event(event)?;
                }
            }
            self.time_ns = self.time_ns.max(pages.last().map_or(0, |event| event.time_ns));
            if let Some(side) = side {
                self.side_event(side);
            }
            if self.ops.len() >= OPS_BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }

    #[inline]
    fn page_event(&mut self, event: &PageEvent) -> Result<(), ReplayError> {
        self.attend_pending(event.time_ns)?;
        let from = self.ops.len();
        self.kernel.page_event(*event, &mut self.ops);
        self.retype.apply(event, &mut self.ops[from..]);
        let of = (event.order(), event.gfp);
        self.taints.note_kernel(&mut self.kernel, event.time_ns, of, &mut self.ops);
        Ok(())
    }

    fn side_event(&mut self, side: &SideEvent) {
        self.time_ns = self.time_ns.max(side.time_ns);
        self.taints.note_context(side);
        self.kernel.side_event(side, &mut self.ops);
        match &side.kind {
            SideKind::Check { free_pages, pcp_pages, managed_pages } => {
                let kernel_free = free_pages.iter().chain(pcp_pages).sum();
                let managed = managed_pages.iter().sum();
                let ours = self.kernel.free_pages();
                self.kernel_divergence = Some(Divergence::new(ours, kernel_free, managed));
            }
            SideKind::Probe1g { pages, .. } => self.granted_1g = Some(pages.clone()),
            SideKind::Cost { cpu_ns, rss_bytes, ring_peak_permille } => {
                let span = side.time_ns.saturating_sub(self.cost_at_ns).max(1);
                self.cost_at_ns = side.time_ns;
                self.cost = Some(AgentCost {
                    cpu_share: *cpu_ns as f64 / span as f64,
                    rss_bytes: *rss_bytes,
                    ring_peak: f64::from(*ring_peak_permille) / 1000.0,
                });
            }
            _ => {}
        }
        let of = Default::default();
        self.taints.note_kernel(&mut self.kernel, side.time_ns, of, &mut self.ops);
    }

    /// Does what the snapshot that waits asks for at this time.
    #[inline]
    fn attend_pending(&mut self, time_ns: TimeNs) -> Result<(), ReplayError> {
        while let Some(pending) = &self.pending
            && time_ns > pending.next_ns
        {
            if pending.next_ns < pending.over_ns {
                self.survey_pending()?;
            } else {
                self.settle_pending(None)?;
            }
        }
        Ok(())
    }

    /// Surveys all tracks beside the snapshot that waits, unless that was done.
    fn survey_pending(&mut self) -> Result<(), ReplayError> {
        self.flush()?;
        let time_ns = self.time_ns;
        let survey = |worker: &mut Worker| worker.survey(time_ns);
        let policies = self.workers.iter_mut().map(survey).collect::<Result<_, _>>()?;
        if let Some(pending) = &mut self.pending {
            pending.tracks.get_or_insert_with(|| Tracks::new(&self.kernel, policies));
            pending.next_ns = pending.over_ns;
        }
        Ok(())
    }

    /// Compares with the snapshot that waits, if any.
    fn settle_pending(&mut self, traced_until_ns: Option<TimeNs>) -> Result<(), ReplayError> {
        let unseen = self.pending.as_ref().is_some_and(|pending| pending.tracks.is_none());
        if self.checkpoints.is_some() && unseen {
            self.survey_pending()?;
        }
        let Some(Pending { snapshot, tracks, .. }) = self.pending.take() else { return Ok(()) };
        let lost = self.kernel.events().lost_events();
        let since = lost - self.lost_at_snapshot;
        self.lost_at_snapshot = lost;
        let fidelity = self.kernel.compare(&snapshot, traced_until_ns, since, &mut self.ops);
        if let (Some(checkpoints), Some(tracks)) = (&mut self.checkpoints, tracks) {
            let kernel = Survey::of_snapshot(&snapshot);
            let managed_pages = snapshot.machine.managed_pages();
            let fidelity = fidelity.clone();
            checkpoints.push(Checkpoint { fidelity, kernel, managed_pages, tracks });
        }
        self.fidelity.push(fidelity);
        let of = Default::default();
        self.taints.note_kernel(&mut self.kernel, snapshot.end_ns, of, &mut self.ops);
        Ok(())
    }

    /// Hands the operations so far to the policy tracks.
    fn flush(&mut self) -> Result<(), ReplayError> {
        if self.ops.is_empty() {
            return Ok(());
        }
        if self.workers.is_empty() {
            self.ops.clear();
            return Ok(());
        }
        let ops = Arc::new(std::mem::replace(&mut self.ops, Vec::with_capacity(OPS_BATCH)));
        for worker in &mut self.workers {
            worker.replay(&ops)?;
        }
        Ok(())
    }

    /// The policy tracks now, in the order of their specs.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn policy_samples(&mut self) -> Result<Vec<PolicySample>, ReplayError> {
        self.flush()?;
        let mut answers = Vec::new();
        for worker in &mut self.workers {
            answers.push(worker.ask(self.watches_blocks)?);
        }
        let mut samples = Vec::new();
        for (worker, answer) in self.workers.iter_mut().zip(answers) {
            samples.push(answer.recv().map_err(|_| worker.failure())?);
        }
        if self.watches_blocks && !self.is_opening() {
            self.block_changes.push(self.kernel.take_block_changes());
        }
        samples.iter_mut().for_each(|sample| self.absorb(sample));
        Ok(samples)
    }

    /// Takes what a track tells only once out of its sample.
    fn absorb(&mut self, sample: &mut PolicySample) {
        self.taints.append(&mut sample.taints);
        self.taints.note_placements(std::mem::take(&mut sample.placements));
        if self.watches_blocks {
            let (kind, start) = (sample.track.kind, sample.track.start);
            let blocks = std::mem::take(&mut sample.blocks);
            self.block_changes.push(BlockChanges { kind, start, blocks });
        }
    }

    /// Asks for a sample without waiting for it: [`Observatory::answered`] gives it. It is that of
    /// `time_ns`, up to which nothing more happens. Tracks whose start state is still being made are
    /// left out.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn ask(&mut self, time_ns: TimeNs) -> Result<(), ReplayError> {
        self.flush()?;
        let blocks = self.watches_blocks && !self.is_opening();
        let blocks = blocks.then(|| self.kernel.take_block_changes());
        let kernel = Sample { time_ns, ..self.sample_with(&[]) };
        self.asked.push_back(Asked::new(kernel, blocks, &mut self.workers)?);
        Ok(())
    }

    /// Samples that were asked for and not given yet.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    /// The first sample that was asked for, once all tracks have answered; `wait` for that or not.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn answered(&mut self, wait: bool) -> Result<Option<Sample>, ReplayError> {
        let Some(asked) = self.asked.front_mut() else { return Ok(None) };
        if !asked.poll(&mut self.workers, wait)? {
            return Ok(None);
        }
        let Some(asked) = self.asked.pop_front() else { return Ok(None) };
        let (kernel, blocks, mut policies) = asked.into_parts();
        self.block_changes.extend(blocks);
        policies.iter_mut().for_each(|policy| self.absorb(policy));
        Ok(Some(with_policies(kernel, &policies)))
    }

    /// Whether tracks are still being brought to their start state.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn is_building(&mut self) -> Result<bool, ReplayError> {
        for worker in &mut self.workers {
            if !worker.is_built()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Free memory of the policy tracks as files of the kernel would show it, in the order of
    /// their specs.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn memory_files(&mut self) -> Result<Vec<MemoryFiles>, ReplayError> {
        self.flush()?;
        let mut files = Vec::new();
        for worker in &mut self.workers {
            let answer = worker.ask_files()?;
            files.push(answer.recv().map_err(|_| worker.failure())?);
        }
        Ok(files)
    }

    /// Asks each policy track for 1 GiB pages, which it keeps. How many each got, in the order of
    /// their specs.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn ask_1g(&mut self, pages: u32) -> Result<Vec<u32>, ReplayError> {
        self.flush()?;
        let mut got = Vec::new();
        for worker in &mut self.workers {
            let answer = worker.ask_1g(pages)?;
            got.push(answer.recv().map_err(|_| worker.failure())?);
        }
        Ok(got)
    }

    /// Everything at this time. Before the opening snapshot there are no tracks.
    ///
    /// # Errors
    /// If a track cannot go on.
    pub fn sample(&mut self) -> Result<Sample, ReplayError> {
        let policies = self.policy_samples()?;
        Ok(self.sample_with(&policies))
    }

    /// The same from samples of the policy tracks that were taken just now.
    #[must_use]
    pub fn sample_with(&self, policies: &[PolicySample]) -> Sample {
        let tracks = if self.is_opening() { Vec::new() } else { vec![self.kernel.sample()] };
        let peak_unmovable_pages = self.kernel.peak_unmovable_pages();
        let kernel = Sample {
            time_ns: self.time_ns,
            tracks,
            events: self.kernel.events(),
            kernel_divergence: self.kernel_divergence,
            stock_divergence: None,
            peak_unmovable_pages,
            floor_1g: floor_1g(peak_unmovable_pages),
            cost: self.cost,
        };
        if self.is_opening() { kernel } else { with_policies(kernel, policies) }
    }

    /// Taint events of all tracks since the last call, by time. Those of policy tracks arrive
    /// with a sample.
    pub fn take_taints(&mut self) -> Vec<TaintEvent> {
        self.taints.take_until(TimeNs::MAX)
    }

    /// The same up to a time, that of a sample that was answered: what is younger is not known in
    /// all tracks yet.
    pub fn take_taints_until(&mut self, time_ns: TimeNs) -> Vec<TaintEvent> {
        self.taints.take_until(time_ns)
    }

    /// Pages of the kernel track since the last call that no longer taint what they tainted.
    pub fn take_releases(&mut self) -> Vec<Release> {
        self.taints.take_releases(&self.kernel)
    }
}

/// A sample of the kernel track, with the policy tracks of the same time.
fn with_policies(kernel: Sample, policies: &[PolicySample]) -> Sample {
    let stock = |p: &&PolicySample| {
        p.track.kind == TrackKind::Stock && p.track.start == StartState::AsFound
    };
    let stock_divergence = policies.iter().find(stock).and_then(|p| p.divergence);
    let mut tracks = kernel.tracks;
    tracks.extend(policies.iter().map(|p| p.track.clone()));
    tracks.sort_by_key(|track| (track.kind, track.start));
    Sample { tracks, stock_divergence, ..kernel }
}
