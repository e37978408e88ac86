//! One host's replay: frames in, news out.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, panic, thread};

use fragscope_replay::engine::observatory::{Observatory, ReplayError, Stage};
use fragscope_trace::event::TimeNs;
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
/// Prefix of the workers' thread names; a panic there is shown, not fatal.
pub const THREAD_PREFIX: &str = "replay-";

/// How a host is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Start states of the policy tracks.
    pub starts: Starts,
    /// Time of the trace between samples, in nanoseconds.
    pub sample_every_ns: u64,
    /// Whether the newest part of the trace is kept, to be saved.
    pub keeps: bool,
}

/// Time of a recording between samples: the history keeps as many as it has room for.
const RECORDED_SAMPLE_NS: u64 = 100_000_000;
/// Time of a live host between samples.
const LIVE_SAMPLE_NS: u64 = 500_000_000;

impl Settings {
    /// What the command line asks for, for a live host or a recording.
    #[must_use]
    pub fn new(starts: Starts, live: bool) -> Settings {
        let sample_every_ns = if live { LIVE_SAMPLE_NS } else { RECORDED_SAMPLE_NS };
        Settings { starts, sample_every_ns, keeps: live }
    }
}

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
    next_sample_ns: TimeNs,
    streaming: bool,
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
                    self.feed(&frame, source.progress())?;
                    if let Frame::Events(batch) = frame {
                        source.recycle(batch);
                    }
                }
                Arrival::Nothing => self.outbox.flush()?,
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
        let mut tracks = Observatory::new(header, self.settings.starts.tracks(&header.machine))?;
        tracks.watch_blocks();
        self.replay = Some(Replay { tracks, next_sample_ns: 0, streaming: false });
        self.keeper = None;
        if self.settings.keeps {
            let kept =
                Keeper::new(header, keep::BYTES_MAX).map_err(|e| Stop::Failed(e.to_string()))?;
            self.keeper = Some(kept);
        }
        tracing::info!(host = header.machine.hostname, "a trace begins");
        let since = self.epoch.elapsed();
        self.outbox.send(Update::Header(Arc::new(header.clone())))?;
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

    fn feed(&mut self, frame: &Frame, progress: Option<f64>) -> Result<(), Stop> {
        let Some(replay) = &mut self.replay else {
            return Ok(());
        };
        if let Frame::Snapshot(snapshot) = frame {
            self.outbox
                .send(Update::Snapshot(note(snapshot), Arc::new(snapshot.machine.clone())))?;
        }
        replay.tracks.feed(frame)?;
        if matches!(replay.tracks.stage(), Stage::WaitingForSnapshot | Stage::WaitingForEvents) {
            return Ok(());
        }
        if let Frame::End(end) = frame {
            self.outbox.send(Update::End(Arc::new((**end).clone())))?;
        }
        if !replay.streaming {
            // Tracks that begin from boot take seconds to build; the kernel's is there at once.
            let kernel_only = replay.tracks.sample_with(&[]);
            replay.streaming = true;
            self.outbox.send(Update::Sample(Arc::new(kernel_only)))?;
            self.outbox.send(Update::Phase(Phase::Streaming))?;
        }
        if replay.tracks.time_ns() >= replay.next_sample_ns {
            replay.next_sample_ns = replay.tracks.time_ns() + self.settings.sample_every_ns;
            self.sample(progress)?;
        }
        Ok(())
    }

    fn sample(&mut self, progress: Option<f64>) -> Result<(), Stop> {
        let Some(replay) = &mut self.replay else {
            return Ok(());
        };
        let sample = replay.tracks.sample()?;
        let taints = replay.tracks.take_taints();
        let releases = replay.tracks.take_releases();
        let blocks = replay.tracks.take_block_changes();
        if !taints.is_empty() {
            self.outbox.send(Update::Taints(taints))?;
        }
        if !releases.is_empty() {
            self.outbox.send(Update::Releases(releases))?;
        }
        self.outbox.send(Update::Blocks(sample.time_ns, blocks))?;
        self.outbox.send(Update::Sample(Arc::new(sample)))?;
        if let Some(share) = progress {
            self.outbox.send(Update::Progress(share))?;
        }
        Ok(())
    }

    /// The trace is over: a last sample, and how it ended.
    fn finish(&mut self, note: Option<String>) -> Result<(), Stop> {
        if let Some(replay) = &mut self.replay {
            replay.tracks.finish()?;
        }
        self.sample(Some(1.0))?;
        self.outbox.send(Update::Phase(Phase::Ended { note }))?;
        Ok(())
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
