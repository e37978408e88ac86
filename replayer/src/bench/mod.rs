//! How fast the parts of a replay are: `fragscope-replay bench`.
//!
//! Each part runs over the whole trace, batch by batch, and only its own work is timed, in CPU
//! time of the thread that does it: other programs do not count. The parts run in turn, as often
//! as asked, so that all of them meet the same machine; the median counts. Only the pipeline of
//! all tracks is timed by the clock on the wall, and by the CPU time of all its threads.
//!
//! [`growth`] measures policies on machines of several sizes; [`picture`] draws that.

pub mod growth;
pub mod picture;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Instant;

use fragscope_trace::event::EventBatch;
use fragscope_trace::frame::Frame;
use fragscope_trace::header::Header;
use fragscope_trace::reader::{ReadError, TraceReader};
use fragscope_trace::snapshot::Snapshot;
use fragscope_trace::writer::{TraceWriter, WriteError};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use thiserror::Error;

use crate::engine::drive::{DriveError, drive};
use crate::engine::observatory::{Observatory, ReplayError};
use crate::engine::op::Op;
use crate::engine::policy::{Identity, PolicyTrack};
use crate::kernel_track::{self, KernelTrack};
use crate::mm::allocator::{BuildError, PageAllocator};
use crate::mm::settings::{IndexKind, Settings};
use crate::mm::{SpbMm, StockMm};
use crate::observe::TrackKind;
use crate::start::{self, TrackSpec, memory};
use crate::synth::SynthError;

/// What cannot be measured.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The trace cannot be read or replayed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The trace cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A track cannot be built.
    #[error("this machine cannot be replayed: {0}")]
    Build(#[from] BuildError),
    /// The pipeline of all tracks ended early.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// What was read cannot be written again.
    #[error("writing the trace again: {0}")]
    Write(#[from] WriteError),
    /// A synthetic machine cannot be made.
    #[error(transparent)]
    Synth(#[from] SynthError),
    /// There is no snapshot, so policies have nothing to begin with.
    #[error(
        "the trace has no snapshot; expected one at its beginning, as `fragscope-agent record` writes"
    )]
    NoSnapshot,
    /// There is nothing to measure.
    #[error("the trace has no events")]
    NoEvents,
}

/// One figure of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
        Spread {
            median: at(values.len() / 2),
            low: at(0),
            high: at(values.len().saturating_sub(1)),
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Events of the trace.
    pub events: u64,
    /// How often each part ran.
    pub repeats: usize,
    /// Median of each part, in events per second. `pipeline` is kernel, stock and superpageblock
    /// tracks on a thread each with the reader, by the clock on the wall; all others by CPU time.
    pub events_per_second: BTreeMap<&'static str, f64>,
    /// The same with the spread of the runs.
    pub spread: BTreeMap<&'static str, Spread>,
    /// CPU time of the whole pipeline, all threads together, if it was measured.
    pub pipeline_cpu_ns_per_event: Option<f64>,
    /// Resident memory that each track took, per page frame that the machine's zones span.
    pub bytes_per_frame: BTreeMap<&'static str, f64>,
    /// Size of the frames that hold events, per event.
    pub bytes_per_event: f64,
}

/// A part of a replay that is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Reading events.
    Decode,
    /// Writing them.
    Encode,
    /// What the kernel did.
    Kernel,
    /// The stock allocator.
    Stock,
    /// The superpageblock allocator.
    Spb,
    /// The same with the bitmap index.
    #[value(name = "spb_bitmap")]
    SpbBitmap,
    /// Reader and all tracks, each on its own thread.
    Pipeline,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 7] = [
        Part::Decode,
        Part::Encode,
        Part::Kernel,
        Part::Stock,
        Part::Spb,
        Part::SpbBitmap,
        Part::Pipeline,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Part::Decode => "decode",
            Part::Encode => "encode",
            Part::Kernel => "kernel",
            Part::Stock => "stock",
            Part::Spb => "spb",
            Part::SpbBitmap => "spb_bitmap",
            Part::Pipeline => "pipeline",
        }
    }
}

/// What one run of a part took. Times are of the part's own clock.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    ns: u64,
    /// CPU time of all threads, of the pipeline only.
    all_cpu_ns: Option<u64>,
    /// Resident memory of a track.
    bytes: Option<u64>,
}

/// Measures `parts`, each `repeats` times (at least once), in turn. The tracks begin as found; the
/// superpageblock track with `settings` and once more with the bitmap index.
///
/// # Errors
/// [`BenchError`] says what stood in the way.
pub fn measure<R: Read>(
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    settings: &Settings,
    parts: &[Part],
    repeats: usize,
) -> Result<BenchReport, BenchError> {
    let trace = Trace::survey(&open)?;
    let mut seconds: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    let mut bytes_per_frame = BTreeMap::new();
    let (mut cpu_ns, repeats) = (Vec::new(), repeats.max(1));
    for _ in 0..repeats {
        for part in parts {
            let run = run(*part, open()?, &trace, settings)?;
            seconds.entry(part.name()).or_default().push(run.ns as f64 / 1e9);
            cpu_ns.extend(run.all_cpu_ns.map(|ns| ns as f64 / trace.events as f64));
            if let Some(bytes) = run.bytes {
                bytes_per_frame.insert(part.name(), bytes as f64 / trace.frames());
            }
        }
    }
    let rate = |seconds: Vec<f64>| {
        Spread::of(seconds.into_iter().map(|s| trace.events as f64 / s.max(1e-9)).collect())
    };
    let spread: BTreeMap<_, _> = seconds.into_iter().map(|(part, s)| (part, rate(s))).collect();
    Ok(BenchReport {
        events: trace.events,
        repeats,
        events_per_second: spread.iter().map(|(part, s)| (*part, s.median)).collect(),
        spread,
        pipeline_cpu_ns_per_event: (!cpu_ns.is_empty()).then(|| Spread::of(cpu_ns).median),
        bytes_per_frame,
        bytes_per_event: trace.event_bytes as f64 / trace.events as f64,
    })
}

fn run<R: Read>(
    part: Part,
    reader: TraceReader<R>,
    trace: &Trace,
    settings: &Settings,
) -> Result<Run, BenchError> {
    match part {
        Part::Decode => decode(reader),
        Part::Encode => encode(reader),
        Part::Kernel => kernel(reader, trace),
        Part::Stock => policy::<StockMm, R>(reader, trace, TrackKind::Stock, settings),
        Part::Spb => policy::<SpbMm, R>(reader, trace, TrackKind::Spb, settings),
        Part::SpbBitmap => {
            let bitmap = Settings { spb_index: IndexKind::Bitmap, ..settings.clone() };
            policy::<SpbMm, R>(reader, trace, TrackKind::Spb, &bitmap)
        }
        Part::Pipeline => pipeline(reader, settings),
    }
}

/// What must be known of a trace before its parts can be timed.
struct Trace {
    header: Header,
    snapshot: Box<Snapshot>,
    events: u64,
    event_bytes: u64,
}

impl Trace {
    fn survey<R: Read>(
        open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    ) -> Result<Trace, BenchError> {
        let mut reader = open()?;
        let header = reader.header().clone();
        let (mut opening, mut events, mut event_bytes) = (None, 0, 0);
        let mut at = reader.position();
        while let Some(frame) = reader.next_frame()? {
            match frame {
                Frame::Events(batch) => {
                    events += batch.len() as u64;
                    event_bytes += reader.position() - at;
                    reader.recycle(batch);
                }
                Frame::Snapshot(snapshot) => {
                    opening.get_or_insert(snapshot);
                }
                Frame::Header(_) | Frame::End(_) => {}
            }
            at = reader.position();
        }
        if events == 0 {
            return Err(BenchError::NoEvents);
        }
        let snapshot = opening.ok_or(BenchError::NoSnapshot)?;
        Ok(Trace { header, snapshot, events, event_bytes })
    }

    /// Page frames that the machine's zones span.
    fn frames(&self) -> f64 {
        let spans = self.snapshot.machine.zones.iter().map(|zone| zone.spanned_pages);
        spans.sum::<u64>().max(1) as f64
    }

    fn kernel_track(&self) -> Result<KernelTrack, BenchError> {
        let mut track = KernelTrack::new(&self.snapshot.machine, self.header.started_ns)?;
        track.open(&self.snapshot);
        Ok(track)
    }
}

/// Adds up the time of what it runs, by one clock. Units: ns.
struct Stopwatch {
    clock: ClockId,
    total_ns: u64,
}

impl Stopwatch {
    /// Of CPU time of this thread.
    fn of_thread() -> Stopwatch {
        Stopwatch { clock: ClockId::ThreadCPUTime, total_ns: 0 }
    }

    fn now(clock: ClockId) -> u64 {
        let now = clock_gettime(clock);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    /// Nothing but what is measured runs inside: tools that count by function (callgrind's
    /// `--toggle-collect`) know it by this function's name.
    #[inline(never)]
    fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Stopwatch::now(self.clock);
        let result = work();
        self.total_ns += Stopwatch::now(self.clock) - begin;
        result
    }
}

/// Resident memory of this process in bytes; 0 if the kernel does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn decode<R: Read>(mut reader: TraceReader<R>) -> Result<Run, BenchError> {
    let mut total_ns = 0;
    loop {
        let mut watch = Stopwatch::of_thread();
        match watch.run(|| reader.next_frame())? {
            // Snapshots are few and large, and not what is measured.
            Some(Frame::Events(batch)) => {
                total_ns += watch.total_ns;
                reader.recycle(batch);
            }
            Some(_) => {}
            None => return Ok(Run { ns: total_ns, ..Run::default() }),
        }
    }
}

fn encode<R: Read>(mut reader: TraceReader<R>) -> Result<Run, BenchError> {
    let mut writer = TraceWriter::new(io::sink(), reader.header())?;
    let mut watch = Stopwatch::of_thread();
    while let Some(frame) = reader.next_frame()? {
        if let Frame::Events(batch) = frame {
            watch.run(|| writer.events(&batch))?;
            reader.recycle(batch);
        }
    }
    Ok(Run { ns: watch.total_ns, ..Run::default() })
}

fn kernel<R: Read>(reader: TraceReader<R>, trace: &Trace) -> Result<Run, BenchError> {
    memory::check(&trace.snapshot, 0)?;
    let before = resident_bytes();
    let mut track = trace.kernel_track()?;
    let (mut watch, mut ops) = (Stopwatch::of_thread(), Vec::new());
    each_batch(reader, |batch| {
        ops.clear();
        watch.run(|| replay_kernel(&mut track, batch, &mut ops));
    })?;
    let bytes = resident_bytes().saturating_sub(before);
    Ok(Run { ns: watch.total_ns, bytes: Some(bytes), ..Run::default() })
}

fn policy<A: PageAllocator, R: Read>(
    reader: TraceReader<R>,
    trace: &Trace,
    kind: TrackKind,
    settings: &Settings,
) -> Result<Run, BenchError> {
    let spec = TrackSpec { settings: settings.clone(), ..TrackSpec::as_found(kind) };
    let machine = &trace.snapshot.machine;
    memory::check(&trace.snapshot, 1)?;
    let mut kernel = trace.kernel_track()?;
    let before = resident_bytes();
    let (allocator, _) = start::build::<A>(&spec, machine, &trace.snapshot)?;
    let identity = Identity { kind, start: spec.start };
    let mut track = PolicyTrack::new(identity, allocator, machine);
    let (mut watch, mut ops, mut bytes) = (Stopwatch::of_thread(), Vec::new(), 0);
    each_batch(reader, |batch| {
        ops.clear();
        replay_kernel(&mut kernel, batch, &mut ops);
        watch.run(|| track.replay(&ops));
        bytes = bytes.max(resident_bytes().saturating_sub(before));
    })?;
    Ok(Run { ns: watch.total_ns, bytes: Some(bytes), ..Run::default() })
}

fn replay_kernel(track: &mut KernelTrack, batch: &EventBatch, ops: &mut Vec<Op>) {
    for (pages, side) in batch.stretches() {
        for ahead in pages.chunks(kernel_track::AHEAD) {
            track.look_ahead(ahead);
            ahead.iter().for_each(|event| track.page_event(*event, ops));
        }
        if let Some(side) = side {
            track.side_event(side, ops);
        }
    }
}

fn each_batch<R: Read>(
    mut reader: TraceReader<R>,
    mut work: impl FnMut(&EventBatch),
) -> Result<(), ReadError> {
    while let Some(frame) = reader.next_frame()? {
        if let Frame::Events(batch) = frame {
            work(&batch);
            reader.recycle(batch);
        }
    }
    Ok(())
}

/// Time on the wall of reading and of all tracks together.
fn pipeline<R: Read>(mut reader: TraceReader<R>, settings: &Settings) -> Result<Run, BenchError> {
    let spec = |kind| TrackSpec { settings: settings.clone(), ..TrackSpec::as_found(kind) };
    let specs = [TrackKind::Stock, TrackKind::Spb].map(spec).into();
    let mut observatory = Observatory::new(reader.header(), specs)?;
    let mut cpu = Stopwatch { clock: ClockId::ProcessCPUTime, total_ns: 0 };
    let begin = Instant::now();
    cpu.run(|| {
        drive(&mut reader, &mut observatory)?;
        // Waits for the tracks.
        observatory.policy_samples().map_err(BenchError::from)
    })?;
    let ns = begin.elapsed().as_nanos() as u64;
    Ok(Run { ns, all_cpu_ns: Some(cpu.total_ns), bytes: None })
}
