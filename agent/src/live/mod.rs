//! A tracing session inside this process: threads, queues, and a stream of frames.
//!
//! ```text
//! rings -> collector -> queue -> director -> bounded channel of frames -> consumer
//!                                   ^
//!                                scanner (snapshots)
//! ```
//!
//! * [`collector`]: drains the rings every 1 to 5 ms, merges, accounts for losses. It never waits
//!   for anybody: what finds no room in the queue is dropped and counted ([`queue`], [`ledger`]).
//! * [`director`]: puts header, snapshots, events and the end into one order of frames.
//! * [`budget`]: when to count events instead of recording them; [`tally`]: what was handed over.
//! * [`stacks`], [`tick`], [`presence`]: symbolised stacks, the events of each second, memory that
//!   was added; [`names`]: what is said of names; [`suspend`], [`clock`]: time.
//!
//! **Own pages.** What this process allocates is really used, so it is traced like everything
//! else, and tagged. The allocation program compares the current process with this one; the
//! free program looks the page up in the byte map, so that a free is own if and only if its
//! allocation was, whoever frees it (writeback, for instance).

pub mod budget;
pub mod cgroups;
pub mod clock;
pub mod collector;
pub mod director;
pub mod ledger;
pub mod names;
pub mod presence;
pub mod queue;
mod scanner;
pub mod stacks;
pub mod suspend;
pub mod tally;
pub mod tick;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use fragscope_trace::event::{PageEvent, SideKind};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{EndReason, Header, TraceMode};
use fragscope_trace::page::REGION_PAGES;
use thiserror::Error;

use self::budget::{Budgets, COUNT_EVERY, divide_memory};
use self::collector::{Collector, Request};
use self::director::{Director, LastWork, LiveReport, Order, State};
use self::names::Names;
use self::queue::{Recycler, queue};
use self::scanner::Scanner;
pub use self::scanner::{HostScanner, TakeSnapshot};
use crate::bpf::clock::now_ns;
use crate::bpf::tracer::{AttachError, Tracer, TracerOptions};
use crate::machine::{self, read_machine};
use crate::privileges::{Sandbox, spawn};
use crate::proc::ProcError;

/// Frames that may wait for the consumer; events wait in the queue before.
const FRAMES_WAITING: usize = 4;
/// Priority of the draining thread, as a nice value: it must run before a ring is full.
const COLLECTOR_NICE: i32 = -10;

/// What a snapshot may take of any host, and more for each GiB: several times what it takes a quiet
/// one (25 ms per GiB on 6.18).
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
const SNAPSHOT_TIMEOUT_PER_GIB: Duration = Duration::from_millis(250);

fn snapshot_timeout(managed_pages: u64) -> Duration {
    SNAPSHOT_TIMEOUT + SNAPSHOT_TIMEOUT_PER_GIB.saturating_mul(gib(managed_pages))
}

/// What the closing snapshot may take of somebody who waits for the end: four times what it takes a
/// quiet host, and some seconds.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSING_TIMEOUT_PER_GIB: Duration = Duration::from_millis(100);

/// Time that a closing snapshot may take where nobody says so, on a host of so many pages of 4 KiB.
#[must_use]
pub fn closing_timeout(managed_pages: u64) -> Duration {
    CLOSING_TIMEOUT + CLOSING_TIMEOUT_PER_GIB.saturating_mul(gib(managed_pages))
}

fn gib(pages: u64) -> u32 {
    u32::try_from(pages.div_ceil(REGION_PAGES)).unwrap_or(u32::MAX)
}

/// How a session runs.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// What is traced.
    pub tracer: TracerOptions,
    /// Longest time that an event waits in a batch.
    pub flush: Duration,
    /// Events that may wait for the consumer; each takes 24 bytes.
    pub queue_events: usize,
    /// Time between snapshots in the middle; none are taken without.
    pub snapshot_every: Option<Duration>,
    /// Time that each snapshot but the closing one may take; if not said, it goes by the host's
    /// memory.
    pub snapshot_timeout: Option<Duration>,
    /// The command being recorded, for the header. Left out unless names are kept.
    pub command: Option<Vec<String>>,
    /// What is said of the names of processes and cgroups.
    pub names: Names,
    /// What the session's threads are confined by.
    pub sandbox: Option<Arc<Sandbox>>,
    /// Memory of the rings and the queue together, which then says how large each is.
    pub memory: Option<u64>,
    /// What the session may use; beyond it events are counted instead of recorded.
    pub budgets: Budgets,
    /// Time between two readings of the counters by region, where events are counted.
    pub count_every: Duration,
}

impl Default for LiveOptions {
    fn default() -> LiveOptions {
        LiveOptions {
            tracer: TracerOptions { contexts_per_second: 1000, ..TracerOptions::default() },
            flush: Duration::from_millis(50),
            queue_events: 2 << 20,
            snapshot_every: None,
            snapshot_timeout: None,
            command: None,
            names: Names::Keep,
            sandbox: None,
            memory: None,
            budgets: Budgets::default(),
            count_every: COUNT_EVERY,
        }
    }
}

/// Why a session can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Tracing is impossible.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The host can't be described.
    #[error(transparent)]
    Machine(#[from] ProcError),
    /// The clock is not the kernel's.
    #[error(transparent)]
    Clock(#[from] clock::OtherTime),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// A running session.
///
/// Frames come from [`LiveAgent::frames`]: a header, the opening snapshot, events, more snapshots,
/// and after [`LiveAgent::stop`] an end. A consumer that does not keep up loses events, which are
/// counted as `SlowConsumer`; it is never waited for. Dropping the session abandons it.
#[derive(Debug)]
pub struct LiveAgent {
    frames: Receiver<Frame>,
    header: Header,
    recycler: Recycler,
    orders: Sender<Order>,
    requests: Sender<Request>,
    snapshot_timeout: Duration,
    director: JoinHandle<Option<LiveReport>>,
}

impl LiveAgent {
    /// Attaches the tracer and starts the threads. `take` makes the snapshots; without it there
    /// are none.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(
        mut options: LiveOptions,
        take: Option<TakeSnapshot>,
    ) -> Result<LiveAgent, StartError> {
        clock::check()?;
        let sandbox = options.sandbox.as_ref();
        let scanner = take.map(|host| Scanner::start(host, sandbox)).transpose()?;
        options.tracer.may_shed |= options.budgets.any();
        let mode = options.tracer.mode;
        if let Some(bytes) = options.memory {
            let rings = u64::from(options.tracer.rings(machine::possible_cpus()));
            let shares = divide_memory(bytes, rings, size_of::<PageEvent>() as u64);
            options.tracer.ring_bytes = Some(shares.ring_bytes);
            options.queue_events = shares.queue_events;
        }
        let tracer = Tracer::attach(&options.tracer)?;
        let command = options.command.filter(|_| options.names.are_kept());
        let header = header(&tracer, command, mode)?;
        let clock = tracer.clock.clone();
        let (page_map, taint_map) = (Arc::clone(&tracer.page_map), Arc::clone(&tracer.taint_map));
        let (sender, batches, recycler) = queue(options.queue_events);
        let (requests, asked) = unbounded();
        let (grown_tx, grown) = bounded(1);
        let (resync_tx, resync) = bounded(1);
        let (frames_tx, frames) = bounded(FRAMES_WAITING);
        let (orders, ordered) = unbounded();
        let collector = Collector {
            tracer,
            requests: asked,
            queue: sender,
            grown: grown_tx,
            resync: resync_tx,
            flush: options.flush,
            names: options.names,
            mode,
            budgets: options.budgets,
            count_every: options.count_every,
            scanning_cpu_ns: scanner.as_ref().map(Scanner::cpu_ns).unwrap_or_default(),
        };
        let snapshot_timeout = options
            .snapshot_timeout
            .unwrap_or_else(|| snapshot_timeout(header.machine.managed_pages()));
        let director = Director {
            header: header.clone(),
            frames: frames_tx,
            orders: ordered,
            batches,
            recycler: recycler.clone(),
            requests: requests.clone(),
            grown,
            resync,
            scanner,
            clock,
            page_map,
            taint_map,
            snapshot_every: options.snapshot_every,
            snapshot_timeout,
            state: State::default(),
        };
        spawn("collector", Some(COLLECTOR_NICE), sandbox, move || collector.run())?;
        let director = spawn("director", None, sandbox, move || director.run())?;
        Ok(LiveAgent { frames, header, recycler, orders, requests, snapshot_timeout, director })
    }

    /// The stream.
    #[must_use]
    pub fn frames(&self) -> &Receiver<Frame> {
        &self.frames
    }

    /// The stream's first frame.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where emptied batches should go, so that their memory is used again.
    #[must_use]
    pub fn recycler(&self) -> Recycler {
        self.recycler.clone()
    }

    /// What the session can be told from other threads.
    #[must_use]
    pub fn control(&self) -> Control {
        Control {
            orders: self.orders.clone(),
            requests: self.requests.clone(),
            snapshot_timeout: self.snapshot_timeout,
        }
    }

    /// Waits for the end of the session; the consumer must have taken (or dropped) all frames.
    #[must_use]
    pub fn join(self) -> Option<LiveReport> {
        let LiveAgent { frames, director, orders, .. } = self;
        drop(frames);
        let report = director.join().ok().flatten();
        // Until now: nobody left to give orders is an order by itself.
        drop(orders);
        report
    }

    /// The same, at most for `time`; then the threads are left to themselves.
    #[must_use]
    pub fn join_within(self, time: Duration) -> Option<LiveReport> {
        let until = Instant::now() + time;
        while !self.director.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.director.is_finished() { self.join() } else { None }
    }
}

/// Orders to a session. None of them waits.
#[derive(Clone, Debug)]
pub struct Control {
    orders: Sender<Order>,
    requests: Sender<Request>,
    snapshot_timeout: Duration,
}

impl Control {
    /// What any snapshot of this session may take.
    #[must_use]
    pub fn snapshot_timeout(&self) -> Duration {
        self.snapshot_timeout
    }

    /// Ends the session in order: with `closing_within`, a closing snapshot that may take this
    /// long; then the last events and the end.
    pub fn stop(&self, reason: EndReason, closing_within: Option<Duration>) {
        // A session that has ended needs no order.
        let _ = self.orders.send(Order::Stop { reason, closing_within });
    }

    /// Has `work` done when the session ends in order, after the closing snapshot and the last
    /// event; what it gives becomes the trace's last events. Until it is done the session does
    /// not end, whatever is ordered. Dropped undone if the session is abandoned before.
    pub fn at_the_end(&self, work: impl FnOnce() -> Vec<SideKind> + Send + 'static) {
        let _ = self.orders.send(Order::AtTheEnd(LastWork(Box::new(work))));
    }

    /// Ends the session at once, within some tens of milliseconds.
    pub fn abandon(&self, reason: EndReason) {
        let _ = self.orders.send(Order::Abandon { reason });
    }

    /// Asks for a snapshot now.
    pub fn snapshot(&self) {
        let _ = self.orders.send(Order::Snapshot);
    }

    /// Puts a note into the trace.
    pub fn mark(&self, text: String) {
        let _ = self.requests.send(Request::Mark(text));
    }

    /// Stops the reading of rings for `time`. Events are lost if the rings are too small for what
    /// happens meanwhile, and counted.
    pub fn stall(&self, time: Duration) {
        let _ = self.requests.send(Request::Stall(time));
    }
}

fn header(
    tracer: &Tracer,
    command: Option<Vec<String>>,
    mode: TraceMode,
) -> Result<Header, ProcError> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Header {
        recorder: concat!("fragscope-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
        started_unix_ns: since_epoch.as_nanos() as u64,
        started_ns: now_ns(),
        machine: read_machine()?,
        capabilities: tracer.capabilities.clone(),
        command,
        mode,
    })
}
