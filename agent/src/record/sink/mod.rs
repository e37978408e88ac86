//! Frames to bytes, and bytes to files that stay below a size.
//!
//! A frame is encoded before it is known which file takes it: where it would make the present one
//! too large, its events are left out and counted. So that this is rare, a snapshot (or the end) is
//! asked for in time: with it the file closes, and the next one begins. Each file is a trace by
//! itself: a header, a snapshot, and the stacks and cgroups that events in it refer to.

#[cfg(test)]
mod tests;

use std::io;
use std::time::{Duration, Instant};

use fragscope_agent::live::Control;
use fragscope_agent::live::tally::Tally;
use fragscope_trace::event::{EventBatch, LossCause, SideEvent, SideKind, TimeNs};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{End, EndReason, Header};
use fragscope_trace::snapshot::{Snapshot, SnapshotRole};
use fragscope_trace::writer::{TraceWriter, WriteError};

use crate::record::output::{Target, Written};

/// Bytes kept free for the last frames of a file.
const END_BYTES: u64 = 16 << 10;
/// A snapshot that was asked for and has not come in this time is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How large a file may become.
#[derive(Clone, Copy, Debug)]
pub(in crate::record) struct Limit {
    /// So many bytes, every frame included.
    pub(in crate::record) bytes: u64,
    /// Whether another file follows.
    pub(in crate::record) rotate: bool,
}

/// What the session should do for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::record) enum Wish {
    /// Nothing.
    None,
    /// A snapshot, with which the next file can begin.
    Snapshot,
    /// The end.
    Stop,
}

impl Wish {
    pub(in crate::record) fn tell(self, control: &Control) {
        match self {
            Wish::None => {}
            Wish::Snapshot => control.snapshot(),
            Wish::Stop => control.stop(EndReason::SizeLimit, Some(control.snapshot_timeout())),
        }
    }
}

/// The file that is being written.
#[derive(Debug, Default)]
struct Part {
    bytes: u64,
    events: u64,
    /// Counted only where there is a limit: else the session's own totals are the file's.
    tally: Tally,
    snapshot_bytes: u64,
    /// When a snapshot or the end was asked for.
    asked: Option<Instant>,
}

/// The writing thread's state. The encoder keeps its buffers, so that a long recording allocates no
/// memory of its own.
pub(in crate::record) struct Sink {
    target: Target,
    limit: Option<Limit>,
    with_snapshot: bool,
    encoder: Option<TraceWriter<Vec<u8>>>,
    header: Option<Header>,
    part: Part,
    /// Stacks and cgroups told so far, where further files need them.
    told: Vec<SideEvent>,
    has_begun: bool,
    /// Bytes and events in files that are closed.
    closed: (u64, u64),
    files: u64,
    /// Events left out, and those of them that a trace has not told of yet.
    left_out: u64,
    untold: u64,
    untold_since_ns: TimeNs,
}

impl Sink {
    pub(in crate::record) fn new(
        target: Target,
        limit: Option<Limit>,
        with_snapshot: bool,
    ) -> Sink {
        Sink {
            target,
            limit,
            with_snapshot,
            encoder: None,
            header: None,
            part: Part::default(),
            told: Vec::new(),
            has_begun: false,
            closed: (0, 0),
            files: 0,
            left_out: 0,
            untold: 0,
            untold_since_ns: 0,
        }
    }

    /// Whether the header, and the opening snapshot if there is to be one, are written.
    pub(in crate::record) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Writes a frame.
    pub(in crate::record) fn write(&mut self, frame: &Frame) -> Result<Wish, WriteError> {
        match frame {
            Frame::Header(header) => {
                self.begin_file(header)?;
                self.has_begun = !self.with_snapshot;
            }
            Frame::Snapshot(snapshot) => {
                self.snapshot(snapshot)?;
                self.has_begun = true;
            }
            Frame::Events(batch) => {
                self.remember(batch);
                self.events(batch)?;
                // Events come first only if the opening snapshot failed.
                self.has_begun = true;
            }
            Frame::End(end) => self.end(end)?,
        }
        Ok(self.wish())
    }

    /// What came of it all.
    pub(in crate::record) fn written(&self, result: Result<(), WriteError>) -> Written {
        Written {
            bytes: self.closed.0 + self.part.bytes,
            events: self.closed.1 + self.part.events,
            left_out: self.left_out,
            files: self.files,
            result,
        }
    }

    fn begin_file(&mut self, header: &Header) -> Result<(), WriteError> {
        self.encoder = Some(TraceWriter::new(Vec::new(), header)?);
        self.header = Some(header.clone());
        self.part = Part::default();
        self.files += 1;
        self.put()
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let bytes = self.encode(|encoder| encoder.snapshot(snapshot))?;
        let first = self.part.snapshot_bytes == 0;
        self.part.snapshot_bytes = bytes;
        if first {
            self.check_limit()?;
        }
        if self.limit.is_some_and(|l| l.rotate) && self.part.asked.is_some() {
            return self.go_on(snapshot);
        }
        if self.has_room() {
            return self.put();
        }
        log::info!("a snapshot has no room in the file");
        self.discard();
        Ok(())
    }

    /// Ends the present file with `snapshot`, and begins the next with it.
    fn go_on(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        self.discard();
        let mut snapshot = snapshot.clone();
        snapshot.role = SnapshotRole::Closing;
        self.encode(|encoder| encoder.snapshot(&snapshot))?;
        let closing_snapshot = self.has_room();
        if closing_snapshot {
            self.put()?;
        } else {
            self.discard();
        }
        let next = self.target.next_path().unwrap_or_default();
        let next = next.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reason = EndReason::Continued { next };
        let totals = self.part.tally.totals.clone();
        self.put_end(&End { reason, time_ns: snapshot.begin_ns, closing_snapshot, totals })?;
        self.target.go_on().map_err(|source| WriteError::Io { at: 0, source })?;
        self.closed.0 += self.part.bytes;
        self.closed.1 += self.part.events;
        let Some(mut header) = self.header.take() else { return Ok(()) };
        let later_ns = snapshot.begin_ns.saturating_sub(header.started_ns);
        header.started_ns += later_ns;
        header.started_unix_ns += later_ns;
        header.machine.clone_from(&snapshot.machine);
        self.begin_file(&header)?;
        snapshot.role = SnapshotRole::Opening;
        self.part.snapshot_bytes = self.encode(|encoder| encoder.snapshot(&snapshot))?;
        self.put()?;
        self.retell(snapshot.begin_ns)
    }

    /// What was told in files before, and what was left out of them.
    fn retell(&mut self, now_ns: TimeNs) -> Result<(), WriteError> {
        let mut batch = EventBatch::default();
        for event in &self.told {
            batch.push_side(SideEvent { time_ns: now_ns, ..event.clone() });
        }
        self.tell_left_out(now_ns, &mut batch);
        self.events(&batch)
    }

    fn tell_left_out(&mut self, now_ns: TimeNs, batch: &mut EventBatch) {
        let count = std::mem::take(&mut self.untold);
        if count > 0 {
            let (cause, since_ns) = (LossCause::RateLimit, self.untold_since_ns);
            let kind = SideKind::Lost { cpu: None, cause, count, since_ns };
            batch.push_side(SideEvent { time_ns: now_ns, cpu: None, kind });
        }
    }

    fn remember(&mut self, batch: &EventBatch) {
        if self.limit.is_some_and(|limit| limit.rotate) {
            let is_told = |side: &&SideEvent| {
                matches!(side.kind, SideKind::Stack { .. } | SideKind::Cgroup { .. })
            };
            self.told.extend(batch.sides.iter().map(|(_, side)| side).filter(is_told).cloned());
        }
    }

    fn events(&mut self, batch: &EventBatch) -> Result<(), WriteError> {
        self.encode(|encoder| encoder.events(batch))?;
        if self.has_room() {
            return self.put_events(batch);
        }
        self.discard();
        if self.untold == 0 {
            self.untold_since_ns = batch.pages.first().map_or(0, |event| event.time_ns);
        }
        self.untold += batch.len() as u64;
        self.left_out += batch.len() as u64;
        Ok(())
    }

    /// The session's end. Where some of its events are in other files or in none, its totals are
    /// not this file's.
    fn end(&mut self, end: &End) -> Result<(), WriteError> {
        let mut end = end.clone();
        if self.files > 1 || self.left_out > 0 {
            let mut batch = EventBatch::default();
            self.tell_left_out(end.time_ns, &mut batch);
            self.encode(|encoder| encoder.events(&batch))?;
            self.put_events(&batch)?;
            end.totals = self.part.tally.totals.clone();
        }
        self.put_end(&end)
    }

    /// Writes what is encoded, which is `batch`.
    fn put_events(&mut self, batch: &EventBatch) -> Result<(), WriteError> {
        self.put()?;
        self.part.events += batch.len() as u64;
        if self.limit.is_some() {
            self.part.tally.add(&Tally::of(batch));
        }
        Ok(())
    }

    fn put_end(&mut self, end: &End) -> Result<(), WriteError> {
        self.encode(|encoder| encoder.end(end))?;
        self.put()
    }

    /// Encodes, and gives the bytes that wait to be put or discarded.
    fn encode(
        &mut self,
        write: impl FnOnce(&mut TraceWriter<Vec<u8>>) -> Result<(), WriteError>,
    ) -> Result<u64, WriteError> {
        let Some(encoder) = &mut self.encoder else { return Ok(0) };
        write(encoder)?;
        Ok(encoder.get_mut().len() as u64)
    }

    /// Writes what is encoded.
    fn put(&mut self) -> Result<(), WriteError> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let at = self.closed.0 + self.part.bytes;
        let buffer = encoder.get_mut();
        self.target.write_all(buffer).map_err(|source| WriteError::Io { at, source })?;
        self.part.bytes += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    fn discard(&mut self) {
        if let Some(encoder) = &mut self.encoder {
            encoder.get_mut().clear();
        }
    }

    /// Whether what is encoded leaves room for the end.
    fn has_room(&mut self) -> bool {
        let waiting = self.encoder.as_mut().map_or(0, |encoder| encoder.get_mut().len() as u64);
        self.limit.is_none_or(|limit| self.part.bytes + waiting + END_BYTES <= limit.bytes)
    }

    /// Bytes from which on the end must come near: room for a snapshot twice the size of the last,
    /// and a quarter for the events until it has come.
    fn asking_at(limit: Limit, snapshot_bytes: u64) -> u64 {
        (limit.bytes - limit.bytes / 4).saturating_sub(2 * snapshot_bytes + END_BYTES)
    }

    /// A file that had to be asked to close as soon as it began would hold nothing.
    fn check_limit(&self) -> Result<(), WriteError> {
        let Some(limit) = self.limit else { return Ok(()) };
        let snapshot = self.part.snapshot_bytes;
        if Sink::asking_at(limit, snapshot) > self.part.bytes + snapshot {
            return Ok(());
        }
        let least = (4 * snapshot + self.part.bytes + END_BYTES) * 3 / 2;
        let text = format!(
            "a file of {} bytes is too small for this host, whose snapshots take {snapshot}: \
             --max-size must be {least} or more",
            limit.bytes
        );
        let source = io::Error::new(io::ErrorKind::FileTooLarge, text);
        Err(WriteError::Io { at: self.part.bytes, source })
    }

    fn wish(&mut self) -> Wish {
        let Some(limit) = self.limit else { return Wish::None };
        let recently = self.part.asked.is_some_and(|at| !limit.rotate || at.elapsed() < ASK_AGAIN);
        if recently || self.part.bytes < Sink::asking_at(limit, self.part.snapshot_bytes) {
            return Wish::None;
        }
        self.part.asked = Some(Instant::now());
        if limit.rotate { Wish::Snapshot } else { Wish::Stop }
    }
}
