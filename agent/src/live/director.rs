//! The thread that makes one trace of batches and snapshots.
//!
//! Order of frames: the header; the opening snapshot; then events, the oldest from before that
//! snapshot began. A later snapshot stands where its scan began: events of the scan's own time
//! follow it, the closing one's too, and each chunk of a snapshot says when it was read. Tracing
//! goes on until the closing scan is over, so that nothing falls between. Last of all comes what is
//! done when tracing has stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select, tick};
use fragscope_trace::event::{EventBatch, LossCause, PageEventKind, SideEvent, SideKind, TimeNs};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{End, EndReason, Header, Totals};
use fragscope_trace::snapshot::{Snapshot, SnapshotRole};

use super::collector::{CollectorReport, Request};
use super::presence::Presence;
use super::queue::{BatchReceiver, Item, Recycler};
use super::scanner::{Look, Scanner, Seen};
use super::tally::Tally;
use crate::bpf::clock::{EventClock, now_ns};
use crate::bpf::pagemap::PageMap;
use crate::bpf::taint::TaintMap;
use crate::machine::read_zones;
use crate::snapshot::Limits;

/// Time for everything after an order to abandon.
const ABANDON_TIME: Duration = Duration::from_millis(35);
/// More time for the last frame alone. It is used only where the consumer is at work on a frame
/// before; how long to wait for that is the consumer's business.
const LAST_FRAME_PATIENCE: Duration = Duration::from_millis(400);
/// Time that looking for new memory may take.
const GROWTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Work for the very end of a session; see [`Control::at_the_end`](super::Control::at_the_end).
pub(super) struct LastWork(pub(super) Box<dyn FnOnce() -> Vec<SideKind> + Send>);

impl std::fmt::Debug for LastWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LastWork")
    }
}

/// What the director can be told.
#[derive(Debug)]
pub(super) enum Order {
    /// Take a snapshot now.
    Snapshot,
    /// Take the closing snapshot within the time given (none: take none), stop, and end.
    Stop { reason: EndReason, closing_within: Option<Duration> },
    /// Do this after the last event, if the session ends in order.
    AtTheEnd(LastWork),
    /// End at once.
    Abandon { reason: EndReason },
}

/// What became of a session.
#[derive(Clone, Debug)]
pub struct LiveReport {
    /// The last frame.
    pub end: End,
    /// Events delivered, by [`PageEventKind`].
    pub delivered: [u64; PageEventKind::ALL.len()],
    /// The collector's accounts.
    pub collector: CollectorReport,
    /// Snapshots delivered.
    pub snapshots: u64,
    /// Why snapshots are missing.
    pub snapshot_errors: Vec<String>,
}

/// Working state of the thread.
pub(super) struct Director {
    pub(super) header: Header,
    pub(super) frames: Sender<Frame>,
    pub(super) orders: Receiver<Order>,
    pub(super) batches: BatchReceiver<CollectorReport>,
    pub(super) recycler: Recycler,
    pub(super) requests: Sender<Request>,
    pub(super) grown: Receiver<()>,
    /// Told when events are recorded again that were counted only.
    pub(super) resync: Receiver<()>,
    pub(super) scanner: Option<Scanner>,
    pub(super) clock: EventClock,
    pub(super) page_map: Arc<PageMap>,
    pub(super) taint_map: Arc<TaintMap>,
    pub(super) snapshot_every: Option<Duration>,
    pub(super) snapshot_timeout: Duration,
    pub(super) state: State,
}

/// What changes while the director runs.
#[derive(Default)]
pub(super) struct State {
    /// Stop or abandon, once ordered.
    ending: Option<Order>,
    last_work: Option<LastWork>,
    /// After this nobody waits for anything any more.
    abandon_at: Option<Instant>,
    tally: Tally,
    /// Events that nobody took before the time was up.
    unsent: u64,
    presence: Presence,
    snapshots: u64,
    snapshot_errors: Vec<String>,
    collector: Option<CollectorReport>,
}

impl Director {
    /// Runs until the trace has ended.
    pub(super) fn run(mut self) -> LiveReport {
        self.send(Frame::Header(Box::new(self.header.clone())));
        self.scan(SnapshotRole::Opening, self.snapshot_timeout);
        self.forward_until_ordered();
        let closing = self.close();
        self.drain_collector();
        self.do_last_work();
        self.end(closing)
    }

    fn forward_until_ordered(&mut self) {
        let every = self.snapshot_every.map_or_else(never, tick);
        let (orders, grown) = (self.orders.clone(), self.grown.clone());
        let resync = self.resync.clone();
        let batches = self.batches.channel().clone();
        while self.state.ending.is_none() && self.state.collector.is_none() {
            select! {
                recv(orders) -> order => self.obey(order.ok()),
                recv(batches) -> item => self.accept(item.ok()),
                recv(every) -> _ => self.scan_interval(),
                recv(grown) -> _ => self.look_for_growth(),
                recv(resync) -> _ => self.scan_interval(),
            }
        }
    }

    /// An order; nobody left to give one is an order to abandon.
    fn obey(&mut self, order: Option<Order>) {
        let gone = || Order::Abandon { reason: EndReason::Terminated };
        match order.unwrap_or_else(gone) {
            Order::Snapshot => self.scan_interval(),
            Order::Stop { reason, closing_within } => {
                let stop = Order::Stop { reason, closing_within };
                self.state.ending.get_or_insert(stop);
            }
            Order::AtTheEnd(work) => self.state.last_work = Some(work),
            abandon @ Order::Abandon { .. } => {
                self.state.abandon_at.get_or_insert_with(|| Instant::now() + ABANDON_TIME);
                self.state.ending = Some(abandon);
            }
        }
    }

    fn accept(&mut self, item: Option<Item<CollectorReport>>) {
        let Some(item) = item else {
            // The collector is gone without a word: it panicked.
            self.state.collector = Some(CollectorReport::default());
            return;
        };
        self.batches.received(&item);
        match item {
            Item::Batch(batch) => self.send_batch(batch),
            Item::Last(report) => self.state.collector = Some(report),
        }
    }

    fn send_batch(&mut self, batch: EventBatch) {
        let tally = Tally::of(&batch);
        if self.send(Frame::Events(batch)) {
            self.state.tally.add(&tally);
        } else {
            self.state.unsent += tally.totals.events;
        }
    }

    /// Hands a frame over, however long the consumer takes, unless told to abandon. Returns
    /// whether it was taken.
    fn send(&mut self, frame: Frame) -> bool {
        let mut frame = Some(frame);
        let (frames, orders) = (self.frames.clone(), self.orders.clone());
        loop {
            let give_up = self.state.abandon_at.map_or_else(never, crossbeam_channel::at);
            // Without this an order that was obeyed already would be looked for again and again.
            let orders = if self.state.abandon_at.is_some() { &never() } else { &orders };
            select! {
                send(frames, frame.take().unwrap_or(Frame::Events(EventBatch::default()))) -> sent => {
                    if sent.is_err() {
                        // Nobody listens any more.
                        self.obey(None);
                    }
                    return sent.is_ok();
                }
                recv(orders) -> order => self.obey_while_sending(order.ok()),
                recv(give_up) -> _ => {
                    if let Some(Frame::Events(batch)) = frame.take() {
                        self.recycler.recycle(batch);
                    }
                    return false;
                }
            }
        }
    }

    /// As [`Director::obey`], but a snapshot, which would send frames itself, is left out: the
    /// consumer is behind already.
    fn obey_while_sending(&mut self, order: Option<Order>) {
        if !matches!(order, Some(Order::Snapshot)) {
            self.obey(order);
        }
    }

    /// Takes a snapshot while the collector goes on, and hands it over. Returns whether it was.
    fn scan(&mut self, role: SnapshotRole, within: Duration) -> bool {
        let Some(scanner) = &mut self.scanner else { return false };
        let limits = Limits { clock: self.clock.clone(), ..Limits::within(within) };
        let number = scanner.request(Look::Snapshot(role, limits));
        match self.await_look(number, within) {
            Some(Ok(Seen::Snapshot(snapshot))) => self.send_snapshot(snapshot),
            Some(Err(error)) => self.note_failure(role, &error),
            Some(Ok(Seen::Grown(_))) | None => self.note_failure(role, "not finished in time"),
        }
    }

    fn scan_interval(&mut self) {
        self.scan(SnapshotRole::Interval, self.snapshot_timeout);
    }

    /// The scanner's answer, unless time is up or all is to be abandoned.
    fn await_look(&mut self, number: u64, within: Duration) -> Option<Result<Seen, String>> {
        let answers = self.scanner.as_ref()?.answers().clone();
        let orders = self.orders.clone();
        let mut deadline = Instant::now() + within;
        loop {
            if self.state.abandon_at.is_some() {
                return None;
            }
            select! {
                recv(answers) -> answer => match answer {
                    Ok((answered, result)) if answered == number => return Some(result),
                    Ok(_) => {}
                    Err(_) => return Some(Err("the scanning thread has died".to_owned())),
                },
                recv(orders) -> order => {
                    if let Some(Order::Stop { closing_within, .. }) = &order.as_ref().ok() {
                        let closing = closing_within.unwrap_or_default();
                        deadline = deadline.min(Instant::now() + closing);
                    }
                    self.obey_while_sending(order.ok());
                }
                recv(crossbeam_channel::at(deadline)) -> _ => return None,
            }
        }
    }

    fn send_snapshot(&mut self, snapshot: Box<Snapshot>) -> bool {
        self.page_map.seed(&snapshot);
        self.taint_map.refresh(&snapshot);
        let grown = self.state.presence.update(&snapshot);
        self.send_sides(grown, snapshot.begin_ns);
        let sent = self.send(Frame::Snapshot(snapshot));
        self.state.snapshots += u64::from(sent);
        sent
    }

    fn note_failure(&mut self, role: SnapshotRole, error: &str) -> bool {
        let error = format!("{role:?} snapshot: {error}").to_lowercase();
        log::warn!("{error}");
        self.state.snapshot_errors.push(error);
        false
    }

    /// A zone has grown: the frames that had no memory tell where.
    fn look_for_growth(&mut self) {
        let Some(scanner) = &mut self.scanner else { return };
        let number = scanner.request(Look::Growth);
        match self.await_look(number, GROWTH_TIMEOUT) {
            Some(Ok(Seen::Grown(ranges))) => match read_zones() {
                Ok(zones) => {
                    let grown = self.state.presence.found(&ranges, zones);
                    self.send_sides(grown, now_ns());
                }
                Err(error) => log::warn!("where memory has grown is not known: {error}"),
            },
            Some(Err(error)) => log::warn!("where memory has grown is not known: {error}"),
            Some(Ok(Seen::Snapshot(_))) | None => {}
        }
    }

    /// Hands over what others than the programs know, in a batch of its own.
    fn send_sides(&mut self, kinds: Vec<SideKind>, time_ns: TimeNs) {
        let mut batch = EventBatch::default();
        for kind in kinds {
            batch.push_side(SideEvent { time_ns, cpu: None, kind });
        }
        if !batch.is_empty() {
            self.send_batch(batch);
        }
    }

    /// Takes the closing snapshot if one was ordered, and tells the collector to end.
    fn close(&mut self) -> bool {
        let mut closing = false;
        if let Some(Order::Stop { closing_within: Some(within), .. }) = self.state.ending {
            self.flush_queue();
            closing = self.scan(SnapshotRole::Closing, within);
        }
        let request = match self.state.ending {
            Some(Order::Stop { .. }) => Request::Finish,
            _ => Request::Abandon,
        };
        // A collector that is gone has ended by itself.
        let _ = self.requests.send(request);
        closing
    }

    /// Hands over what is queued, so that a snapshot comes after it.
    fn flush_queue(&mut self) {
        let batches = self.batches.channel().clone();
        while let Ok(item) = batches.try_recv() {
            self.accept(Some(item));
        }
    }

    fn drain_collector(&mut self) {
        let batches = self.batches.channel().clone();
        while self.state.collector.is_none() {
            let give_up = self.state.abandon_at.map_or_else(never, crossbeam_channel::at);
            let orders =
                if self.state.abandon_at.is_some() { never() } else { self.orders.clone() };
            select! {
                recv(batches) -> item => self.accept(item.ok()),
                recv(orders) -> order => {
                    self.obey(order.ok());
                    let _ = self.requests.send(Request::Abandon);
                }
                recv(give_up) -> _ => return,
            }
        }
    }

    /// All events are handed over; what the last work tells follows them.
    fn do_last_work(&mut self) {
        let work = self.state.last_work.take();
        let Some(work) = work.filter(|_| matches!(self.state.ending, Some(Order::Stop { .. })))
        else {
            return;
        };
        let kinds = (work.0)();
        self.send_sides(kinds, now_ns());
    }

    fn end(mut self, closing_snapshot: bool) -> LiveReport {
        let collector = self.state.collector.take().unwrap_or_default();
        let reason = match self.state.ending.take() {
            Some(Order::Stop { reason, .. } | Order::Abandon { reason }) => reason,
            _ => EndReason::Failed { error: "the tracing thread ended by itself".to_owned() },
        };
        // The collector's accounts have also what it could tell nobody.
        let mut totals = Totals { lost: Default::default(), ..self.state.tally.totals.clone() };
        for ((cause, _), count) in &collector.lost {
            *totals.lost.entry(*cause).or_default() += count;
        }
        if self.state.unsent > 0 {
            *totals.lost.entry(LossCause::SlowConsumer).or_default() += self.state.unsent;
        }
        let time_ns = if collector.stopped_ns == 0 { now_ns() } else { collector.stopped_ns };
        let end = End { reason, time_ns, closing_snapshot, totals };
        if let Some(at) = &mut self.state.abandon_at {
            *at += LAST_FRAME_PATIENCE;
        }
        self.send(Frame::End(Box::new(end.clone())));
        LiveReport {
            end,
            delivered: self.state.tally.by_kind,
            collector,
            snapshots: self.state.snapshots,
            snapshot_errors: self.state.snapshot_errors,
        }
    }
}
