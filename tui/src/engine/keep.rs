//! What is kept of a live trace, to be saved: its newest frames, from a snapshot on.
//!
//! Kept encoded, so that a minute of a busy host takes some megabytes. A saved file is a trace
//! like any other: the header of the live one, and everything since a snapshot was begun.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fragscope_trace::event::TimeNs;
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{End, EndReason, Header, Totals};
use fragscope_trace::writer::{TraceWriter, WriteError};

/// Bytes that are kept of a live host.
pub const BYTES_MAX: usize = 64 << 20;
/// zstd level: faster than that of recordings, for larger frames.
const LEVEL: i32 = -3;

/// One encoded frame.
struct Kept {
    bytes: Vec<u8>,
    /// When a snapshot was begun; `None` for events.
    snapshot_ns: Option<TimeNs>,
    /// Time of the youngest event; of a snapshot, its end.
    last_ns: TimeNs,
}

/// The newest part of a live trace.
pub struct Keeper {
    header: Header,
    writer: TraceWriter<Vec<u8>>,
    frames: VecDeque<Kept>,
    bytes: usize,
    bytes_max: usize,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of the file.
    pub bytes: u64,
    /// Time from the snapshot that it begins with to its last event.
    pub span_ns: TimeNs,
}

impl Keeper {
    /// Keeps at most about `bytes_max` of a trace that begins with this header: exceeded only
    /// while there is a single snapshot, and then at most twofold.
    ///
    /// # Errors
    /// If there can't be such a trace.
    pub fn new(header: &Header, bytes_max: usize) -> Result<Keeper, WriteError> {
        let mut writer = TraceWriter::with_level(Vec::new(), header, LEVEL)?;
        writer.get_mut().clear();
        let frames = VecDeque::new();
        Ok(Keeper { header: header.clone(), writer, frames, bytes: 0, bytes_max })
    }

    /// Keeps a frame.
    ///
    /// # Errors
    /// If it can't be written in a trace.
    pub fn keep(&mut self, frame: &Frame) -> Result<(), WriteError> {
        let (snapshot_ns, last_ns) = match frame {
            Frame::Events(batch) => {
                self.writer.events(batch)?;
                (None, batch.last_time_ns().unwrap_or(0))
            }
            Frame::Snapshot(snapshot) => {
                self.writer.snapshot(snapshot)?;
                (Some(snapshot.begin_ns), snapshot.end_ns)
            }
            Frame::Header(_) | Frame::End(_) => return Ok(()),
        };
        let bytes = self.writer.get_mut().as_slice().into();
        self.writer.get_mut().clear();
        self.bytes += Vec::len(&bytes);
        self.frames.push_back(Kept { bytes, snapshot_ns, last_ns });
        while self.bytes > self.bytes_max && self.forget() {}
        if self.bytes > self.bytes_max.saturating_mul(2) {
            self.frames.clear();
            self.bytes = 0;
        }
        Ok(())
    }

    /// Drops everything before the second snapshot. Returns whether there is one.
    fn forget(&mut self) -> bool {
        let mut snapshots = self.frames.iter().filter_map(|f| f.snapshot_ns);
        let (_, Some(second_ns)) = (snapshots.next(), snapshots.next()) else {
            return false;
        };
        let from = self.frames.partition_point(|f| f.last_ns < second_ns);
        let dropped: usize = self.frames.drain(..from).map(|f| f.bytes.len()).sum();
        self.bytes -= dropped;
        dropped > 0
    }

    /// Writes what is kept to a new file, for its owner alone.
    ///
    /// # Errors
    /// If there is no snapshot to begin with, the file exists, or can't be written.
    pub fn save(&self, path: &Path) -> Result<Saved> {
        let Some(begun_ns) = self.frames.iter().find_map(|f| f.snapshot_ns) else {
            bail!("there is nothing to save before the next snapshot");
        };
        let name = path.display();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(path).with_context(|| format!("cannot create {name}"))?;
        let write = || -> Result<Saved> {
            let mut writer = TraceWriter::new(BufWriter::new(file), &self.header)?;
            let frames = self.frames.iter().map(|f| &f.bytes);
            let mut bytes = 0;
            for frame in frames {
                writer.get_mut().write_all(frame)?;
                bytes += frame.len() as u64;
            }
            let time_ns = self.frames.iter().map(|f| f.last_ns).max().unwrap_or(begun_ns);
            writer.end(&End {
                reason: EndReason::Interrupted,
                time_ns,
                closing_snapshot: false,
                totals: Totals::default(),
            })?;
            let bytes = bytes + writer.bytes_written();
            Ok(Saved { bytes, span_ns: time_ns.saturating_sub(begun_ns) })
        };
        write().with_context(|| format!("cannot write {name}"))
    }
}
