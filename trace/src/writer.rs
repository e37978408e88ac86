//! Writing a trace, frame by frame.
//!
//! Each frame goes out in one `write_all`, so that a file that stops growing at any time is cut
//! within one frame at most. A header frame followed by frames from any later place is a trace,
//! because no frame but the parts of a snapshot needs another: a socket that is joined late
//! sends the header it kept and goes on.

use std::io::{self, Cursor, Write};

use serde::Serialize;
use thiserror::Error;
use zstd::bulk::Compressor;

use crate::codec::{EncodeError, events, snapshot};
use crate::event::EventBatch;
use crate::frame::{FrameKind, HEAD_BYTES, Head, MAX_PAYLOAD_BYTES, Storage};
use crate::header::{End, Header};
use crate::rules;
use crate::snapshot::Snapshot;

/// zstd level that [`TraceWriter::new`] uses. Level 3 saves 1 to 3 % of the bytes and takes 30 % more
/// instructions, which the recorded host would pay.
pub const DEFAULT_LEVEL: i32 = 1;

/// Why a trace could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The output failed. The trace ends here: part of a frame may have been written.
    #[error("writing the trace at byte {at}: {source}")]
    Io {
        /// Bytes of whole frames before.
        at: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The value has no place in a trace; nothing of it was written, unless it was a batch whose
    /// earlier events were.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The trace was ended, or its output failed before.
    #[error("the trace is closed: it was ended, or an earlier write failed")]
    Closed,
}

impl From<serde_json::Error> for WriteError {
    fn from(error: serde_json::Error) -> WriteError {
        EncodeError::Json(error.to_string()).into()
    }
}

/// Writes a trace to `W`. Not buffered beyond one frame: no `BufWriter` is needed.
pub struct TraceWriter<W: Write> {
    sink: FrameSink<W>,
    events: events::Encoder,
    payload: Vec<u8>,
}

impl<W: Write> TraceWriter<W> {
    /// Begins a trace with its header.
    pub fn new(out: W, header: &Header) -> Result<TraceWriter<W>, WriteError> {
        TraceWriter::with_level(out, header, DEFAULT_LEVEL)
    }

    /// The same with another zstd level (negative is faster, 19 is smallest).
    pub fn with_level(out: W, header: &Header, level: i32) -> Result<TraceWriter<W>, WriteError> {
        rules::check_machine(&header.machine).map_err(EncodeError::from)?;
        let compressor =
            Compressor::new(level).map_err(|source| WriteError::Io { at: 0, source })?;
        let sink = FrameSink { out, compressor, frame: Vec::new(), written: 0, closed: false };
        let mut writer = TraceWriter { sink, events: events::Encoder::new(), payload: Vec::new() };
        writer.json(FrameKind::Header, header)?;
        Ok(writer)
    }

    /// Writes a batch, as several frames if it is large. An empty batch writes nothing.
    pub fn events(&mut self, batch: &EventBatch) -> Result<(), WriteError> {
        check_positions(batch)?;
        let (mut page, mut side) = (0, 0);
        while page < batch.pages.len() || side < batch.sides.len() {
            self.payload.clear();
            let (pages, sides) = (&batch.pages[page..], &batch.sides[side..]);
            let taken = self.events.encode(pages, sides, page, &mut self.payload)?;
            self.sink.emit(FrameKind::Events, &mut self.payload)?;
            page += taken.0;
            side += taken.1;
        }
        Ok(())
    }

    /// Writes a snapshot, as several frames.
    pub fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        rules::check_snapshot(snapshot).map_err(EncodeError::from)?;
        let sink = &mut self.sink;
        snapshot::encode(snapshot, &mut self.payload, |kind, payload| sink.emit(kind, payload))
    }

    /// Ends the trace and flushes. Nothing can be written afterwards.
    pub fn end(&mut self, end: &End) -> Result<(), WriteError> {
        self.json(FrameKind::End, end)?;
        self.sink.closed = true;
        self.flush_out()
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.sink.closed { Err(WriteError::Closed) } else { self.flush_out() }
    }

    fn flush_out(&mut self) -> Result<(), WriteError> {
        let at = self.sink.written;
        self.sink.out.flush().map_err(|source| WriteError::Io { at, source })
    }

    fn json(&mut self, kind: FrameKind, value: &impl Serialize) -> Result<(), WriteError> {
        self.payload.clear();
        serde_json::to_writer(&mut self.payload, value)?;
        self.sink.emit(kind, &mut self.payload)
    }

    /// Bytes written so far, all of them whole frames.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.sink.written
    }

    /// The output, for instance to take the frames out of a `Vec<u8>`.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.sink.out
    }

    /// Gives the output back.
    pub fn into_inner(self) -> W {
        self.sink.out
    }
}

fn check_positions(batch: &EventBatch) -> Result<(), EncodeError> {
    let mut from = 0;
    for (index, (at, _)) in batch.sides.iter().enumerate() {
        let (at, to) = (*at, batch.pages.len());
        if at < from || at as usize > to {
            return Err(EncodeError::Position { index, at, from, to });
        }
        from = at;
    }
    Ok(())
}

/// Turns payloads into frames.
struct FrameSink<W> {
    out: W,
    compressor: Compressor<'static>,
    frame: Vec<u8>,
    written: u64,
    closed: bool,
}

impl<W: Write> FrameSink<W> {
    /// Writes one frame and empties `payload`.
    fn emit(&mut self, kind: FrameKind, payload: &mut Vec<u8>) -> Result<(), WriteError> {
        if self.closed {
            return Err(WriteError::Closed);
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(EncodeError::LongFrame { what: kind, bytes: payload.len() }.into());
        }
        self.assemble(kind, payload);
        payload.clear();
        if let Err(source) = self.out.write_all(&self.frame) {
            self.closed = true;
            return Err(WriteError::Io { at: self.written, source });
        }
        self.written += self.frame.len() as u64;
        Ok(())
    }

    /// Puts head and payload into `self.frame`; the payload compressed, unless it is smaller as
    /// it is.
    fn assemble(&mut self, kind: FrameKind, payload: &[u8]) {
        self.frame.clear();
        self.frame.resize(HEAD_BYTES, 0);
        self.frame.reserve(zstd::zstd_safe::compress_bound(payload.len()));
        let mut behind_head = Cursor::new(&mut self.frame);
        behind_head.set_position(HEAD_BYTES as u64);
        let packed = self.compressor.compress_to_buffer(payload, &mut behind_head);
        let storage = if packed.is_ok_and(|bytes| bytes < payload.len()) {
            Storage::Zstd
        } else {
            self.frame.truncate(HEAD_BYTES);
            self.frame.extend(payload);
            Storage::Plain
        };
        let stored = &self.frame[HEAD_BYTES..];
        let head = Head {
            kind: kind as u8,
            storage: storage as u8,
            stored_bytes: stored.len() as u32,
            plain_bytes: payload.len() as u32,
            payload_crc: crc32fast::hash(stored),
        };
        self.frame[..HEAD_BYTES].copy_from_slice(&head.to_bytes());
    }
}
