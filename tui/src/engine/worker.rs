//! One host's replay: frames in, news out.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, panic, thread};

use fragscope_replay::engine::observatory::{Observatory, ReplayError, Stage};
use fragscope_replay::engine::sampled::Sampled;
use fragscope_replay::observe::Sample;
use fragscope_replay::start::memory;
use fragscope_trace::event::{EventBatch, TimeNs};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::Header;
use fragscope_trace::snapshot::Snapshot;

use super::keep::{self, Keeper};
use super::outbox::{Gone, Outbox};
use crate::cli::Starts;
use crate::conn::phase::Phase;
use crate::conn::source::{Arrival, Source};
use crate::epoch::Epoch;
use crate::format::{bytes, span};
use crate::state::host::{SnapshotNote, Update};

/// How long a worker waits for a frame before it looks after other things.
const PATIENCE: Duration = Duration::from_millis(100);
/// What reads a recording, and the tracks that it starts, are this much less urgent than the
/// screen, which would wait for a turn on a busy machine.
const READING_NICENESS: i32 = 5;
/// Prefix of the workers' thread names; a panic there is shown, not fatal.
pub const THREAD_PREFIX: &str = "replay-";

/// How a host is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Start states of the policy tracks.
    pub starts: Starts,
    /// Whether events come as they happen: nobody waits then, and the newest part of the trace is
    /// kept, to be saved.
    pub live: bool,
}

/// Time between samples of a live host, and of the first minute of a recording.
const LIVE_SAMPLE_NS: u64 = 500_000_000;
const RECORDED_SAMPLE_NS: u64 = 100_000_000;
/// How long samples of a recording are so close; after that there is one a second.
const FINE_NS: u64 = 60_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Time between looks at tracks that a recording waits for.
const BUILDING_POLL: Duration = Duration::from_millis(2);
/// Samples of a recording that tracks may owe before it is read on.
const ASKED_MAX: usize = 4;

/// Why a worker ends.
enum Stop {
    /// Nobody listens.
    Gone,
    /// The replay can't go on.
    Failed(String),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Stop {
        Stop::Gone
    }
}

impl From<ReplayError> for Stop {
    fn from(error: ReplayError) -> Stop {
        Stop::Failed(format!("the replay failed: {error}"))
    }
}

/// Starts a host's worker.
///
/// # Errors
/// If there can't be a thread.
pub fn spawn(
    mut source: Box<dyn Source>,
    settings: Settings,
    outbox: Outbox,
    controls: Receiver<Control>,
    epoch: Epoch,
) -> io::Result<JoinHandle<()>> {
    let name = format!("{THREAD_PREFIX}{}", outbox.host().0);
    thread::Builder::new().name(name).spawn(move || {
        if !settings.live
            && let Err(error) = rustix::process::nice(READING_NICENESS)
        {
            tracing::warn!("reading is as urgent as the screen: {error}");
        }
        let mut worker = Worker { settings, outbox, controls, epoch, replay: None, keeper: None };
        let run = || worker.run(source.as_mut());
        let ended = panic::catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(Stop::Failed("the replay failed: internal error".to_owned())));
        if let Err(Stop::Failed(why)) = ended {
            tracing::error!("{why}");
            // Whether anybody still listens makes no difference here.
            let _ = worker.outbox.send(Update::Phase(Phase::Failed { why }));
        }
    })
}

/// What the screen may ask of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Write what is kept of the trace to this new file.
    Save(PathBuf),
}

struct Worker {
    settings: Settings,
    outbox: Outbox,
    controls: Receiver<Control>,
    epoch: Epoch,
    replay: Option<Replay>,
    /// The newest part of a live trace.
    keeper: Option<Keeper>,
}

/// The replay of the trace at hand.
struct Replay {
    tracks: Observatory,
    sampled: Sampled,
    fine_until_ns: TimeNs,
    streaming: bool,
    /// What the screen was last told about tracks that are being built.
    building: bool,
}

impl Replay {
    /// Samples fall on whole seconds of the wall clock, as times are typed.
    fn new(header: &Header, settings: &Settings) -> Result<Replay, ReplayError> {
        let mut tracks = Observatory::new(header, settings.starts.tracks(header))?;
        tracks.watch_blocks();
        let second_ns = header.started_ns.saturating_sub(header.started_unix_ns % SECOND_NS);
        let every_ns = if settings.live { LIVE_SAMPLE_NS } else { RECORDED_SAMPLE_NS };
        let sampled = Sampled::new(second_ns, every_ns);
        let fine_until_ns = header.started_ns.saturating_add(FINE_NS);
        Ok(Replay { tracks, sampled, fine_until_ns, streaming: false, building: false })
    }

    /// Takes the next events, asking for samples at their times, and sends those that come.
    fn events(
        &mut self,
        batch: EventBatch,
        live: bool,
        outbox: &mut Outbox,
    ) -> Result<EventBatch, Stop> {
        if !live && self.tracks.time_ns() >= self.fine_until_ns {
            self.sampled.widen(SECOND_NS);
        }
        let streaming = &mut self.streaming;
        let batch = self.sampled.feed_events(batch, &mut self.tracks, |tracks, time_ns| {
            begin_streaming(streaming, tracks, live, outbox)?;
            ask(tracks, time_ns, live)?;
            settle(tracks, live, outbox)
        })?;
        begin_streaming(streaming, &mut self.tracks, live, outbox)?;
        Ok(batch)
    }
}

/// Shows the kernel's track as soon as it stands: policy tracks take a while to be built. A
/// recording waits for them then, so that what is seen of it does not depend on how long it takes.
fn begin_streaming(
    streaming: &mut bool,
    tracks: &mut Observatory,
    live: bool,
    outbox: &mut Outbox,
) -> Result<(), Stop> {
    if *streaming || is_opening(tracks) {
        return Ok(());
    }
    *streaming = true;
    outbox.send(Update::Sample(Arc::new(tracks.sample_with(&[]))))?;
    outbox.send(Update::Phase(Phase::Streaming))?;
    if !live {
        outbox.send(Update::Building(true))?;
        while tracks.is_building()? {
            thread::sleep(BUILDING_POLL);
        }
        outbox.send(Update::Building(false))?;
    }
    Ok(())
}

fn is_opening(tracks: &Observatory) -> bool {
    matches!(tracks.stage(), Stage::WaitingForSnapshot | Stage::WaitingForEvents)
}

/// Asks for a sample; not of a live host that still owes one, whose events would have to wait.
fn ask(tracks: &mut Observatory, time_ns: TimeNs, live: bool) -> Result<(), ReplayError> {
    if is_opening(tracks) || (live && tracks.asked() > 0) { Ok(()) } else { tracks.ask(time_ns) }
}

impl Worker {
    fn run(&mut self, source: &mut dyn Source) -> Result<(), Stop> {
        loop {
            while let Ok(Control::Save(path)) = self.controls.try_recv() {
                self.save(&path)?;
            }
            match source.next(PATIENCE) {
                Arrival::Frame(Frame::Header(header)) => self.begin(&header)?,
                Arrival::Frame(frame) => {
                    self.keep(&frame);
                    if let Some(batch) = self.feed(frame)? {
                        source.recycle(batch);
                    }
                    self.settle(source.progress())?;
                }
                Arrival::Nothing => {
                    self.settle(source.progress())?;
                    self.outbox.flush()?;
                }
                Arrival::Phase(phase) => {
                    tracing::info!(?phase, "the connection has changed");
                    self.outbox.send(Update::Phase(phase))?;
                }
                Arrival::Over(note) => return self.finish(note),
                Arrival::Failed(why) => return Err(Stop::Failed(why)),
            }
        }
    }

    fn begin(&mut self, header: &Header) -> Result<(), Stop> {
        self.replay = Some(Replay::new(header, &self.settings)?);
        self.keeper = None;
        if self.settings.live {
            let kept =
                Keeper::new(header, keep::BYTES_MAX).map_err(|e| Stop::Failed(e.to_string()))?;
            self.keeper = Some(kept);
        }
        tracing::info!(host = header.machine.hostname, "a trace begins");
        let since = self.epoch.elapsed();
        self.outbox.send(Update::Header(Arc::new(header.clone())))?;
        let left_out = self.settings.starts.left_out(&header.machine, memory::available_bytes());
        // Where there is nothing to replay nothing is left out of it.
        let left_out = left_out.filter(|_| header.mode.is_full());
        self.outbox.send(Update::LeftOut(left_out))?;
        self.outbox.send(Update::Phase(Phase::WaitingForSnapshot { since }))?;
        Ok(())
    }

    /// Keeps a frame of a live trace. What cannot be written is kept no further.
    fn keep(&mut self, frame: &Frame) {
        if let Some(Err(error)) = self.keeper.as_mut().map(|k| k.keep(frame)) {
            tracing::warn!("a frame can't be kept, the trace can't be saved: {error}");
            self.keeper = None;
        }
    }

    fn save(&mut self, path: &Path) -> Result<(), Gone> {
        let saved = match &self.keeper {
            Some(keeper) => keeper.save(path).map_err(|e| format!("{e:#}")),
            None => Err("nothing of this trace is kept".to_owned()),
        };
        let text = match saved {
            Ok(saved) => {
                let length = span(saved.span_ns as f64 / 1e9);
                format!("written: {} ({length}, {})", path.display(), bytes(saved.bytes))
            }
            Err(why) => why,
        };
        self.outbox.send(Update::Notice(text))
    }

    /// Takes a frame; gives the emptied batch of an events frame back.
    fn feed(&mut self, frame: Frame) -> Result<Option<EventBatch>, Stop> {
        let Some(replay) = &mut self.replay else {
            return Ok(None);
        };
        let batch = match frame {
            Frame::Events(batch) => {
                Some(replay.events(batch, self.settings.live, &mut self.outbox)?)
            }
            frame => {
                replay.tracks.feed(&frame)?;
                if let Some(update) = news_of(frame) {
                    self.outbox.send(update)?;
                }
                None
            }
        };
        Ok(batch)
    }

    /// Sends what has come since the last frame, and how far a recording is read.
    fn settle(&mut self, progress: Option<f64>) -> Result<(), Stop> {
        if let Some(replay) = &mut self.replay {
            settle(&mut replay.tracks, self.settings.live, &mut self.outbox)?;
            let building = replay.tracks.is_building()?;
            if building != std::mem::replace(&mut replay.building, building) {
                self.outbox.send(Update::Building(building))?;
                // Where no event follows, these tracks would not be seen.
                let time_ns = replay.tracks.time_ns();
                ask(&mut replay.tracks, time_ns, self.settings.live)?;
            }
        }
        if let Some(share) = progress {
            self.outbox.send(Update::Progress(share))?;
        }
        Ok(())
    }

    /// The trace is over: a last sample, and how it ended.
    fn finish(&mut self, note: Option<String>) -> Result<(), Stop> {
        if let Some(Replay { tracks, .. }) = &mut self.replay {
            tracks.finish()?;
            while let Some(sample) = tracks.answered(true)? {
                send_sample(&mut self.outbox, tracks, sample)?;
            }
            let last = tracks.sample()?;
            send_sample(&mut self.outbox, tracks, last)?;
            self.outbox.send(Update::Progress(1.0))?;
        }
        self.outbox.send(Update::Phase(Phase::Ended { note }))?;
        Ok(())
    }
}

/// Sends the samples that were asked for and have come. A recording's tracks may owe some; with
/// more, they are waited for.
fn settle(tracks: &mut Observatory, live: bool, outbox: &mut Outbox) -> Result<(), Stop> {
    while let Some(sample) = tracks.answered(!live && tracks.asked() > ASKED_MAX)? {
        send_sample(outbox, tracks, sample)?;
    }
    Ok(())
}

/// Sends a sample after what belongs to its time.
fn send_sample(outbox: &mut Outbox, tracks: &mut Observatory, sample: Sample) -> Result<(), Gone> {
    let taints = tracks.take_taints_until(sample.time_ns);
    if !taints.is_empty() {
        outbox.send(Update::Taints(taints))?;
    }
    let releases = tracks.take_releases();
    if !releases.is_empty() {
        outbox.send(Update::Releases(releases))?;
    }
    outbox.send(Update::Blocks(sample.time_ns, tracks.take_block_changes()))?;
    outbox.send(Update::Sample(Arc::new(sample)))
}

/// What the screen is told of a frame that was fed.
fn news_of(frame: Frame) -> Option<Update> {
    match frame {
        Frame::Snapshot(snapshot) => {
            Some(Update::Snapshot(note(&snapshot), Arc::new(snapshot.machine)))
        }
        Frame::End(end) => Some(Update::End(Arc::new(*end))),
        Frame::Header(_) | Frame::Events(_) => None,
    }
}

fn note(snapshot: &Snapshot) -> SnapshotNote {
    SnapshotNote {
        time_ns: snapshot.end_ns,
        role: snapshot.role,
        source: snapshot.source,
        notes: snapshot.notes.clone(),
    }
}
