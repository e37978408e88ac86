//! A policy track on a thread of its own.
//!
//! Operations reach it in order through a bounded queue, and so do the requests for samples: what
//! a sample shows depends on the operations before it and not on the speed of any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::Pfn;
use fragscope_trace::snapshot::Snapshot;

use super::op::Op;
use super::policy::{Identity, PolicyTrack};
use super::survey::Survey;
use super::tally::Tally;
use crate::mm::allocator::{BuildError, MemoryFiles, PageAllocator};
use crate::mm::free_path::Protocol;
use crate::mm::spb::event::Recorder;
use crate::mm::virtual_hold::Stranded;
use crate::mm::{SpbMm, StockMm};
use crate::observe::{
    BlockCensus, Divergence, Placement, StartState, TaintEvent, TrackKind, TrackSample,
};
use crate::start::{self, FillReport, TrackSpec};

/// Batches that may wait for a track before the reader waits for it.
const QUEUE_BATCHES: usize = 8;
/// The same for a track that is placed from the beginning, which takes a while: at most 8 M
/// operations (shared with other tracks that wait), 256 MiB.
const QUEUE_BATCHES_BUILDING: usize = 256;

/// One track at one time, with what only its owner knows.
#[derive(Clone, Debug)]
pub struct PolicySample {
    /// What every track shows.
    pub track: TrackSample,
    /// The seed of its fill-in history.
    pub seed: u64,
    /// What became of the requests.
    pub tally: Tally,
    /// How its start state came about.
    pub fill: FillReport,
    /// Its free pages against the kernel's at the last check.
    pub divergence: Option<Divergence>,
    /// How frees reach other owners of pageblocks; `None` where nobody owns any.
    pub free_path: Option<Protocol>,
    /// Pages on lock-free lists, since the track began.
    pub stranded: Stranded,
    /// Taint events since the sample before.
    pub taints: Vec<TaintEvent>,
    /// Where it put allocations that turned regions of the kernel tainted, by time and page.
    pub placements: Vec<((TimeNs, Pfn), Placement)>,
    /// Pageblocks that have changed since the sample before, if they were asked for.
    pub blocks: Vec<(u32, BlockCensus)>,
}

enum Message {
    Ops(Arc<Vec<Op>>),
    Sample { reply: SyncSender<PolicySample>, with_blocks: bool },
    Survey(TimeNs, SyncSender<Survey>),
    Files(SyncSender<MemoryFiles>),
    Ask1g(u32, SyncSender<u32>),
}

/// A track's thread.
#[derive(Debug)]
pub struct Worker {
    spec: TrackSpec,
    /// Taken when the worker is dropped, so that its thread ends.
    queue: Option<SyncSender<Message>>,
    /// Set once its start state stands.
    built: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), BuildError>>>,
}

/// A track ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// Its allocator could not be built.
    #[error("the {} track cannot be built: {error}", .track.name())]
    Build {
        /// Which track.
        track: TrackKind,
        /// Why.
        error: BuildError,
    },
    /// Its thread panicked: a bug in the allocator. The message is on standard error.
    #[error("the {} track failed; the message above says where", .0.name())]
    Panicked(TrackKind),
}

impl Worker {
    /// Begins a track in its start state. From then on its policy's tracepoints go to `recorder`.
    #[must_use]
    pub fn spawn(
        spec: TrackSpec,
        machine: Arc<Machine>,
        snapshot: Arc<Snapshot>,
        recorder: Option<Recorder>,
    ) -> Worker {
        let batches = match spec.start {
            StartState::AsFound => QUEUE_BATCHES,
            StartState::FromBoot | StartState::FromBootIdeal => QUEUE_BATCHES_BUILDING,
        };
        let (queue, inbox) = sync_channel(batches);
        let built = Arc::new(AtomicBool::new(false));
        let start = Start { spec: spec.clone(), machine, snapshot, recorder };
        let of_thread = Arc::clone(&built);
        let thread = std::thread::spawn(move || match start.spec.policy {
            TrackKind::Spb => serve::<SpbMm>(&start, &of_thread, &inbox),
            // The kernel's requests, placed anew, are what the stock model places.
            TrackKind::Stock | TrackKind::Kernel => serve::<StockMm>(&start, &of_thread, &inbox),
        });
        Worker { spec, queue: Some(queue), built, thread: Some(thread) }
    }

    /// Whether its start state stands. Before that, it answers nothing.
    ///
    /// # Errors
    /// If the track has ended.
    pub fn is_built(&mut self) -> Result<bool, TrackError> {
        let built = self.built.load(Ordering::Acquire);
        if !built && self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(self.failure());
        }
        Ok(built)
    }

    /// What the track is.
    #[must_use]
    pub fn spec(&self) -> &TrackSpec {
        &self.spec
    }

    /// Hands operations over; waits while the track is far behind.
    ///
    /// # Errors
    /// If the track has ended.
    pub fn replay(&mut self, ops: &Arc<Vec<Op>>) -> Result<(), TrackError> {
        self.send(Message::Ops(Arc::clone(ops)))
    }

    /// Asks for a sample, `with_blocks` if pageblocks are wanted; the answer comes when everything handed over before is replayed.
    ///
    /// # Errors
    /// If the track has ended.
    pub fn ask(&mut self, with_blocks: bool) -> Result<Receiver<PolicySample>, TrackError> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Sample { reply, with_blocks })?;
        Ok(answer)
    }

    /// Asks for a survey; as for [`Worker::ask`], it is of everything handed over before.
    ///
    /// # Errors
    /// If the track has ended.
    pub fn survey(&mut self, time_ns: TimeNs) -> Result<Survey, TrackError> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Survey(time_ns, reply))?;
        answer.recv().map_err(|_| self.failure())
    }

    /// Asks for the files that show free memory, as [`Worker::ask`] does for a sample.
    ///
    /// # Errors
    /// If the track has ended.
    pub fn ask_files(&mut self) -> Result<Receiver<MemoryFiles>, TrackError> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Files(reply))?;
        Ok(answer)
    }

    /// Asks the track's allocator for 1 GiB pages, which it keeps; the answer is how many it got.
    ///
    /// # Errors
    /// If the track has ended.
    pub fn ask_1g(&mut self, pages: u32) -> Result<Receiver<u32>, TrackError> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Ask1g(pages, reply))?;
        Ok(answer)
    }

    fn send(&mut self, message: Message) -> Result<(), TrackError> {
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(message).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Why the thread has ended although it should serve.
    pub fn failure(&mut self) -> TrackError {
        self.queue = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => TrackError::Build { track: self.spec.policy, error },
            _ => TrackError::Panicked(self.spec.policy),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the thread itself, and nobody waits for a result any more.
            let _ = thread.join();
        }
    }
}

/// What a track begins with.
struct Start {
    spec: TrackSpec,
    machine: Arc<Machine>,
    snapshot: Arc<Snapshot>,
    recorder: Option<Recorder>,
}

fn serve<A: PageAllocator>(
    start: &Start,
    built: &AtomicBool,
    inbox: &Receiver<Message>,
) -> Result<(), BuildError> {
    let Start { spec, machine, snapshot, recorder } = start;
    let (mut allocator, fill) = start::build::<A>(spec, machine, snapshot)?;
    if let Some(recorder) = recorder {
        allocator.record_to(recorder);
    }
    built.store(true, Ordering::Release);
    let identity = Identity { kind: spec.policy, start: spec.start };
    let mut track = PolicyTrack::new(identity, allocator, machine);
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Ops(ops) => track.replay(&ops),
            Message::Sample { reply, with_blocks } => {
                let sample = PolicySample {
                    track: track.sample(),
                    seed: spec.seed,
                    tally: track.tally().clone(),
                    fill: fill.clone(),
                    divergence: track.divergence(),
                    free_path: track.allocator().free_path(),
                    stranded: track.allocator().stranded(),
                    taints: track.take_taints(),
                    placements: track.take_placements(),
                    blocks: if with_blocks { track.take_blocks() } else { Vec::new() },
                };
                // Whoever asked may be gone.
                let _ = reply.send(sample);
            }
            Message::Survey(time_ns, reply) => {
                let order = machine.pageblock_order;
                // The same.
                let _ = reply.send(Survey::of_allocator(track.allocator(), order, time_ns));
            }
            Message::Files(reply) => {
                let _ = reply.send(track.allocator().memory_files());
            }
            Message::Ask1g(pages, reply) => {
                let _ = reply.send(track.ask_1g(pages));
            }
        }
    }
    Ok(())
}
