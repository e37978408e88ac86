//! The draining thread: rings to batches, in order, with every loss on record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use fragscope_ebpf::record::{KIND_ALLOC, KIND_FREE};
use fragscope_ebpf::side::SIDE_NESTED_FREE;
use fragscope_trace::event::{EventBatch, LossCause, RegionCount, SideEvent, SideKind, TimeNs};
use fragscope_trace::header::TraceMode;
use fragscope_trace::page::CpuId;

use super::budget::{Budgets, Shedder, Turn, Used};
use super::cgroups::Cgroups;
use super::ledger::Ledger;
use super::names::Names;
use super::queue::BatchSender;
use super::stacks::Stacks;
use super::tick::{Growth, Ticker, own_cpu_ns};
use crate::bpf::clock::now_ns;
use crate::bpf::tracer::Tracer;
use crate::merge::Merger;

/// Events younger than this wait for slower ones.
const HOLD_BACK: Duration = Duration::from_millis(5);
/// Pauses between passes: with rings filling, and at rest.
const PAUSE_BUSY: Duration = Duration::from_millis(1);
const PAUSE_IDLE: Duration = Duration::from_millis(5);
/// Fill of a ring from which on passes follow each other quickly.
const BUSY_PERMILLE: u32 = 50;
/// Fill from which on there is no pause at all.
const FLOOD_PERMILLE: u32 = 300;
/// Between two looks at the kernel's counters.
const TICK: Duration = Duration::from_secs(1);
/// A free that its program missed is told when its page is allocated again, which is soon, as a
/// rule: the last freed are the first taken.
const MISS_PATIENCE: Duration = Duration::from_secs(10);
/// Page events in a batch, at most.
const BATCH_EVENTS: usize = 1 << 16;
/// Pause while events are only counted, at most: orders come meanwhile, but what is held back must
/// go out.
const PAUSE_COUNTING: Duration = Duration::from_millis(100);
/// Regions in one event: far below the largest that a trace takes.
const REGIONS_IN_EVENT: usize = 1024;
/// Rare events that may wait in a batch that finds no room in the queue.
const SIDES_HELD: usize = 10_000;
/// How long programs may still be running after they were detached.
const SETTLE: Duration = Duration::from_millis(50);

/// What the collector can be asked.
#[derive(Debug)]
pub enum Request {
    /// Put a note into the trace.
    Mark(String),
    /// Detach, deliver what is left to the last event, and finish.
    Finish,
    /// Deliver what is there and finish at once.
    Abandon,
    /// Stop reading for this long (for tests: this is how a ring overflows).
    Stall(Duration),
}

/// The last word of the collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorReport {
    /// When tracing stopped.
    pub stopped_ns: TimeNs,
    /// Page events that the kernel offered, by `fragscope_ebpf::record::KIND_*`. Counted by the
    /// programs apart from what they delivered; with [`Request::Finish`] it equals delivered +
    /// lost.
    pub emitted: Vec<u64>,
    /// Events that did not reach the trace.
    pub lost: BTreeMap<(LossCause, Option<CpuId>), u64>,
}

/// The state of the draining thread.
pub(super) struct Collector {
    pub(super) tracer: Tracer,
    pub(super) requests: Receiver<Request>,
    pub(super) queue: BatchSender<CollectorReport>,
    /// Told when a zone has grown.
    pub(super) grown: Sender<()>,
    /// Told when events are recorded again that were counted only.
    pub(super) resync: Sender<()>,
    /// Longest time that an event waits in a batch.
    pub(super) flush: Duration,
    /// What is said of names.
    pub(super) names: Names,
    /// Whether events are recorded, or only counted.
    pub(super) mode: TraceMode,
    pub(super) budgets: Budgets,
    /// Time between two readings of the counters by region.
    pub(super) count_every: Duration,
    /// CPU time that snapshots have taken: no budget's matter.
    pub(super) scanning_cpu_ns: Arc<AtomicU64>,
}

/// Working state, apart from the ends of channels.
struct Work {
    merger: Merger,
    batch: EventBatch,
    ledger: Ledger,
    stacks: Stacks,
    cgroups: Cgroups,
    ticker: Ticker,
    shedder: Shedder,
    ring_peak_permille: u32,
    ticked_ns: TimeNs,
    flushed_ns: TimeNs,
    counted_ns: TimeNs,
}

impl Collector {
    /// Runs until asked to finish, or until nobody can ask any more.
    pub(super) fn run(mut self) {
        let started = now_ns();
        let mut work = Work {
            merger: Merger::default(),
            batch: self.queue.empty_batch(),
            ledger: Ledger::new(started),
            stacks: Stacks::default(),
            cgroups: Cgroups::of_host(),
            ticker: Ticker::new(),
            shedder: Shedder::new(self.budgets, started),
            ring_peak_permille: 0,
            ticked_ns: started,
            flushed_ns: started,
            counted_ns: started,
        };
        let mut pause = PAUSE_BUSY;
        let complete = loop {
            match self.requests.recv_timeout(pause) {
                Ok(Request::Mark(text)) => work.mark(text, self.tracer.clock.moment()),
                Ok(Request::Stall(time)) => std::thread::sleep(time),
                Ok(Request::Finish) => break true,
                Ok(Request::Abandon) | Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            pause = self.pass(&mut work);
        };
        if complete {
            self.settle(&mut work);
        } else {
            self.tracer.detach_in_background();
        }
        self.finish(work);
    }

    /// One look at all rings. Returns how long to wait before the next.
    fn pass(&mut self, work: &mut Work) -> Duration {
        // The clock before the rings: what they hold back now is younger than this.
        let now = self.tracer.clock.moment();
        let fill = self.drain(work, now);
        self.keep_budgets(work, now);
        let counts = !self.mode.is_full() || work.shedder.is_shedding();
        if counts && now.saturating_sub(work.counted_ns) >= self.count_every.as_nanos() as u64 {
            self.count(work, now);
        }
        if now.saturating_sub(work.ticked_ns) >= TICK.as_nanos() as u64 {
            let patience = if self.mode.is_full() { MISS_PATIENCE } else { Duration::ZERO };
            self.tick(work, patience, now);
        }
        work.merger.release(now.saturating_sub(HOLD_BACK.as_nanos() as u64), &mut work.batch);
        let due = now.saturating_sub(work.flushed_ns) >= self.flush.as_nanos() as u64;
        if due || work.batch.pages.len() >= BATCH_EVENTS {
            self.send(work, now);
        }
        if !self.mode.is_full() {
            return self.until_counting(work, now);
        }
        match fill {
            FLOOD_PERMILLE.. => Duration::ZERO,
            BUSY_PERMILLE.. => PAUSE_BUSY,
            _ => PAUSE_IDLE,
        }
    }

    /// Nothing fills up where events are only counted: the thread sleeps until it has to look.
    fn until_counting(&self, work: &Work, now: TimeNs) -> Duration {
        let since = Duration::from_nanos(now.saturating_sub(work.counted_ns));
        self.count_every.saturating_sub(since).clamp(PAUSE_IDLE, PAUSE_COUNTING)
    }

    /// Turns to counting when a budget is spent, and back to recording in time.
    fn keep_budgets(&mut self, work: &mut Work, now: TimeNs) {
        if !self.budgets.any() {
            return;
        }
        let kinds = self.tracer.channel.shape().kinds;
        let scanning = self.scanning_cpu_ns.load(Ordering::Relaxed);
        let cpu_ns = match self.budgets.cpu_permille {
            Some(_) => own_cpu_ns().saturating_sub(scanning),
            None => 0,
        };
        let events = work.ledger.emitted(kinds).iter().sum();
        let Some(turn) = work.shedder.look(now, Used { events, cpu_ns }) else { return };
        let kind = match turn {
            Turn::Shed(kind) => {
                self.tracer.shed(true);
                work.counted_ns = now;
                kind
            }
            Turn::Record(kind) => {
                self.tracer.shed(false);
                self.count(work, now);
                // One notice is enough until it is taken.
                let _ = self.resync.try_send(());
                kind
            }
        };
        work.merger.push_side(SideEvent { time_ns: now, cpu: None, kind });
    }

    /// Puts what was counted by region since the last time into the trace.
    fn count(&mut self, work: &mut Work, now: TimeNs) {
        let Some(counters) = &mut self.tracer.counters else { return };
        let since_ns = std::mem::replace(&mut work.counted_ns, now);
        let counted = counters.take();
        if !self.mode.is_full() {
            let sum = |of: fn(&RegionCount) -> u64| counted.iter().map(of).sum();
            work.ledger.count(KIND_ALLOC, sum(RegionCount::alloc_events));
            work.ledger.count(KIND_FREE, sum(RegionCount::free_events));
        }
        for part in counted.chunks(REGIONS_IN_EVENT) {
            let kind = SideKind::RegionCounts { since_ns, regions: part.to_vec() };
            work.merger.push_side(SideEvent { time_ns: now, cpu: None, kind });
        }
    }

    fn drain(&mut self, work: &mut Work, now: TimeNs) -> u32 {
        let Work { merger, ledger, stacks, cgroups, .. } = work;
        let dialect = &self.tracer.dialect;
        let mut bad: BTreeMap<CpuId, u64> = BTreeMap::new();
        let fill = self.tracer.channel.drain(|cpu, record| match dialect.page_event(cpu, record) {
            Some(event) => merger.push_page(event),
            None => *bad.entry(cpu).or_default() += 1,
        });
        let mut lose = |event| merger.push_side(event);
        for (cpu, count) in bad {
            ledger.enter(LossCause::BadRecord, Some(cpu), count, now, now, &mut lose);
        }
        ledger.look_at_rings(&self.tracer.channel, now, lose);
        self.drain_sides(merger, ledger, stacks, cgroups);
        work.ring_peak_permille = work.ring_peak_permille.max(fill);
        fill
    }

    fn drain_sides(
        &mut self,
        merger: &mut Merger,
        ledger: &mut Ledger,
        stacks: &mut Stacks,
        cgroups: &mut Cgroups,
    ) {
        let mut records = Vec::new();
        self.tracer.drain_sides(|record| records.push(record));
        for record in records {
            let is_caught = record.kind == SIDE_NESTED_FREE;
            if is_caught && !ledger.catch_free(|| self.tracer.misses()) {
                continue;
            }
            if let Some(event) = self.tracer.dialect.page_event_of_side(&record) {
                merger.push_page(event);
            }
            let Some(mut event) = self.tracer.dialect.side_event(&record) else { continue };
            let stack = stacks.resolve(&self.tracer.stacks, &mut event);
            let cgroup = cgroups.resolve(&event);
            for side in [stack, cgroup, Some(event)].into_iter().flatten() {
                if let Some(kind) = self.names.admit(side.kind) {
                    merger.push_side(SideEvent { kind, ..side });
                }
            }
        }
    }

    fn tick(&mut self, work: &mut Work, patience: Duration, now: TimeNs) {
        let Work { merger, ledger, ticker, .. } = work;
        let peak = std::mem::take(&mut work.ring_peak_permille);
        ledger.look_at_rest(&self.tracer, patience, now, |event| merger.push_side(event));
        if ticker.tick(now, peak, |event| merger.push_side(event)) == Growth::Grown {
            // One notice is enough until it is taken.
            let _ = self.grown.try_send(());
        }
        self.tracer.flush_log();
        work.ticked_ns = now;
    }

    /// Hands the batch on. Without room its page events are dropped and counted.
    fn send(&mut self, work: &mut Work, now: TimeNs) {
        work.flushed_ns = now;
        if work.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut work.batch, self.queue.empty_batch());
        if let Err(mut refused) = self.queue.try_send(batch) {
            work.shed(&mut refused, now);
            work.batch = refused;
        }
    }

    /// Detaches and reads on until every event that a program began with has come out of it.
    fn settle(&mut self, work: &mut Work) {
        self.tracer.detach();
        let detached = now_ns();
        loop {
            let before = work.events_seen(&self.tracer);
            self.pass(work);
            let waited = now_ns().saturating_sub(detached);
            if waited >= SETTLE.as_nanos() as u64 && before == work.events_seen(&self.tracer) {
                return;
            }
            std::thread::sleep(PAUSE_BUSY);
        }
    }

    fn finish(mut self, mut work: Work) {
        let now = now_ns();
        self.drain(&mut work, now);
        self.count(&mut work, now);
        self.tick(&mut work, Duration::ZERO, now);
        work.merger.release(TimeNs::MAX, &mut work.batch);
        self.send(&mut work, now);
        let kinds = self.tracer.channel.shape().kinds;
        let report = CollectorReport {
            stopped_ns: now,
            emitted: work.ledger.emitted(kinds),
            lost: work.ledger.totals().clone(),
        };
        self.queue.finish(report);
    }
}

impl Work {
    fn mark(&mut self, text: String, time_ns: TimeNs) {
        let kind = SideKind::Mark { text };
        self.merger.push_side(SideEvent { time_ns, cpu: None, kind });
    }

    /// Counts the page events of a batch that found no room, and forgets them. Its rare events
    /// stay, as far as they are few: they tell of losses, too.
    fn shed(&mut self, batch: &mut EventBatch, now: TimeNs) {
        let since = batch.pages.first().map_or(now, |e| e.time_ns);
        let mut count = batch.pages.len() as u64;
        batch.pages.clear();
        if batch.sides.len() > SIDES_HELD {
            count += batch.sides.len() as u64;
            batch.sides.clear();
        }
        for (at, _) in &mut batch.sides {
            *at = 0;
        }
        let mut report = |event| self.merger.push_side(event);
        self.ledger.enter(LossCause::SlowConsumer, None, count, since, now, &mut report);
    }

    /// Events that programs began with so far.
    fn events_seen(&self, tracer: &Tracer) -> u64 {
        self.ledger.emitted(tracer.channel.shape().kinds).iter().sum()
    }
}
