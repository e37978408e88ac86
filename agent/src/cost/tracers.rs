//! The ways of tracing whose cost is compared, each at work as long as its [`Running`] lives.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fragscope_ebpf::record::{KIND_ALLOC, KIND_FREE};
use fragscope_trace::header::TraceMode;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::CostOptions;
use crate::bpf::tracer::{Tracer, TracerOptions};
use crate::live::tick::thread_cpu_ns;

/// Between two looks at the rings, as a recording does it under load.
const PAUSE: Duration = Duration::from_millis(1);
/// How long perf may take to begin.
const PERF_BEGINS: Duration = Duration::from_secs(10);
/// The tracepoints that all of them listen to.
const EVENTS: &[&str] = &["kmem:mm_page_alloc", "kmem:mm_page_free"];
/// Those that full mode listens to where programs can't attach to functions.
const EVENTS_AND_LRU: &[&str] =
    &["kmem:mm_page_alloc", "kmem:mm_page_free", "pagemap:mm_lru_insertion"];
/// ftrace's buffer for each CPU, in KiB. It is overwritten and never read: the cheapest that ftrace
/// can be.
const FTRACE_BUFFER_KIB: &str = "4096";

/// A way of tracing page allocations and frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// As `record` does it: a record of every event, read while it goes on.
    Full,
    /// As `record --mode count` does it: counters by region.
    Count,
    /// Programs that do nothing: what the kernel takes to run any, and so the least that a way with
    /// programs can cost.
    Floor,
    /// Both tracepoints in an instance of ftrace, read by nobody.
    Ftrace,
    /// `perf record` of both tracepoints on all CPUs, written to nowhere.
    Perf,
    /// As [`Way::Ftrace`], with LRU insertions, if full mode listens to those.
    FtraceLru,
    /// As [`Way::Perf`], with LRU insertions, if full mode listens to those.
    PerfLru,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 7] =
        [Way::Full, Way::Count, Way::Floor, Way::Ftrace, Way::Perf, Way::FtraceLru, Way::PerfLru];

    /// Whether it is there to be compared with a full mode that listens to LRU insertions, too.
    pub(super) fn is_with_lru(self) -> bool {
        matches!(self, Way::FtraceLru | Way::PerfLru)
    }

    /// What ftrace and perf are told to trace.
    fn events(self) -> &'static [&'static str] {
        if self.is_with_lru() { EVENTS_AND_LRU } else { EVENTS }
    }
}

/// Why a way did not begin.
#[derive(Debug)]
pub(super) enum StartError {
    /// This host does not have it.
    Unavailable(String),
    /// Somebody asked to stop meanwhile.
    Interrupted,
}

fn unavailable(why: impl Into<String>) -> StartError {
    StartError::Unavailable(why.into())
}

/// What a reader did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    /// CPU time of its thread.
    pub(super) cpu_ns: u64,
    /// Events read.
    pub(super) events: u64,
    /// Events that found no room.
    pub(super) lost: u64,
}

/// A way at work. Dropping it ends it.
pub(super) enum Running {
    Full(Reader),
    /// Held for its drop.
    Unread {
        _tracer: Box<Tracer>,
    },
    /// Held for its drop.
    Ftrace {
        _instance: Instance,
    },
    /// Held for its drop.
    Perf {
        _perf: Perf,
    },
}

impl Running {
    /// Begins; when this returns, events are traced.
    pub(super) fn start(
        way: Way,
        options: &CostOptions,
        stop: &AtomicBool,
    ) -> Result<Running, StartError> {
        match way {
            Way::Full => {
                let tracer = attach(&options.tracer)?;
                let reader = Reader::start(tracer);
                Ok(Running::Full(reader.map_err(|error| unavailable(error.to_string()))?))
            }
            Way::Count | Way::Floor => {
                let (mode, empty) = (TraceMode::Count, way == Way::Floor);
                let options = TracerOptions { mode, empty, ..options.tracer.clone() };
                Ok(Running::Unread { _tracer: Box::new(attach(&options)?) })
            }
            Way::Ftrace | Way::FtraceLru => {
                Ok(Running::Ftrace { _instance: Instance::start(way.events())? })
            }
            Way::Perf | Way::PerfLru => {
                Ok(Running::Perf { _perf: Perf::start(way.events(), stop)? })
            }
        }
    }

    /// Whether it listens to LRU insertions.
    pub(super) fn hears_lru(&self) -> bool {
        matches!(self, Running::Full(reader) if reader.hears_lru)
    }

    /// Ends it, and tells what its reader did if it is ours.
    pub(super) fn finish(&mut self) -> Option<Read> {
        match self {
            Running::Full(reader) => reader.finish(),
            Running::Unread { .. } | Running::Ftrace { .. } | Running::Perf { .. } => None,
        }
    }
}

fn attach(options: &TracerOptions) -> Result<Tracer, StartError> {
    Tracer::attach(options).map_err(|error| unavailable(error.to_string()))
}

/// The thread that empties the tracer's rings.
pub(super) struct Reader {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Read>>,
    hears_lru: bool,
}

impl Reader {
    fn start(tracer: Tracer) -> io::Result<Reader> {
        let over = Arc::new(AtomicBool::new(false));
        let of_thread = Arc::clone(&over);
        let hears_lru = tracer.hears_lru();
        let reader = std::thread::Builder::new().name("reader".to_owned());
        let thread = reader.spawn(move || read(tracer, &of_thread))?;
        Ok(Reader { over, thread: Some(thread), hears_lru })
    }

    fn finish(&mut self) -> Option<Read> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Turns records into events until it is over, and then what is left.
fn read(mut tracer: Tracer, over: &AtomicBool) -> Read {
    let (begin, mut events) = (thread_cpu_ns(), 0);
    while !over.load(Ordering::Relaxed) {
        events += drain(&mut tracer);
        std::thread::sleep(PAUSE);
    }
    tracer.detach();
    events += drain(&mut tracer);
    let cpu_ns = thread_cpu_ns() - begin;
    let shape = tracer.channel.shape();
    let rings = (0..shape.cpus).flat_map(|cpu| [(cpu, KIND_ALLOC), (cpu, KIND_FREE)]);
    let lost = rings.map(|(cpu, kind)| tracer.channel.counters(cpu, kind).lost_full).sum();
    Read { cpu_ns, events, lost }
}

fn drain(tracer: &mut Tracer) -> u64 {
    let (mut events, dialect) = (0, &tracer.dialect);
    tracer.channel.drain(|cpu, record| {
        events += u64::from(std::hint::black_box(dialect.page_event(cpu, record)).is_some());
    });
    tracer.drain_sides(|record| {
        std::hint::black_box(record);
    });
    events
}

/// An instance of ftrace with some events on. Dropping it removes it.
pub(super) struct Instance {
    path: PathBuf,
    events: &'static [&'static str],
}

impl Instance {
    fn start(events: &'static [&'static str]) -> Result<Instance, StartError> {
        let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let instances = places.map(|place| Path::new(place).join("instances"));
        let instances = instances.iter().find(|path| path.is_dir());
        let instances = instances.ok_or_else(|| {
            unavailable("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing")
        })?;
        let path = instances.join(format!("fragscope-cost-{}", std::process::id()));
        fs::create_dir(&path)
            .map_err(|error| unavailable(format!("{}: {error}", path.display())))?;
        let instance = Instance { path, events };
        instance.write("buffer_size_kb", FTRACE_BUFFER_KIB)?;
        for event in events {
            instance.write(&format!("events/{}/enable", event.replace(':', "/")), "1")?;
        }
        Ok(instance)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), StartError> {
        let path = self.path.join(file);
        fs::write(&path, value).map_err(|error| unavailable(format!("{}: {error}", path.display())))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for event in self.events {
            let _ = self.write(&format!("events/{}/enable", event.replace(':', "/")), "0");
        }
        if let Err(error) = fs::remove_dir(&self.path) {
            log::warn!("{} stays: {error}", self.path.display());
        }
    }
}

/// `perf record` at work. Dropping it ends it.
pub(super) struct Perf {
    child: Child,
    events: usize,
}

impl Perf {
    fn start(events: &[&str], stop: &AtomicBool) -> Result<Perf, StartError> {
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--all-cpus", "--output=/dev/null"]);
        for event in events {
            command.arg("--event").arg(event);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| unavailable(format!("perf: {error}")))?;
        let mut perf = Perf { child, events: events.len() };
        perf.wait_until_it_records(stop)?;
        Ok(perf)
    }

    /// perf records when it sleeps over its open events.
    fn wait_until_it_records(&mut self, stop: &AtomicBool) -> Result<(), StartError> {
        let begun = Instant::now();
        while begun.elapsed() < PERF_BEGINS {
            if stop.load(Ordering::Relaxed) {
                return Err(StartError::Interrupted);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(unavailable(format!("perf record ended at once, with {status}")));
            }
            if self.waits_for_events() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(unavailable(format!("perf record did not begin within {PERF_BEGINS:?}")))
    }

    fn waits_for_events(&self) -> bool {
        let of = |file: &str| PathBuf::from(format!("/proc/{}/{file}", self.child.id()));
        let fds = fs::read_dir(of("fd")).into_iter().flatten().flatten();
        let is_event = |fd: &fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("perf_event"))
        };
        let sleeps = fs::read_to_string(of("wchan")).is_ok_and(|at| at.contains("poll"));
        sleeps && fds.filter(is_event).count() >= self.events
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::INT);
        }
        if let Err(error) = self.child.wait() {
            log::warn!("perf: {error}");
        }
    }
}
