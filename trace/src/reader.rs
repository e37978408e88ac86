//! Reading a trace, frame by frame, from a file, a pipe or a socket.
//!
//! The reader allocates as bytes arrive and never more than [`Limits`] allow, whatever lengths
//! and counts the bytes claim. It does not buffer ahead: after a frame it has consumed exactly
//! that frame.

mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use serde::Serialize;
use thiserror::Error;

use self::source::{Fetched, FrameSource};
use crate::codec::snapshot::Assembly;
use crate::codec::{DecodeError, events};
use crate::event::EventBatch;
use crate::frame::{FORMAT_VERSION, Frame, FrameKind, MAGIC};
use crate::header::Header;
use crate::rules;
use crate::snapshot::Snapshot;

/// Why a trace cannot be read (further).
#[derive(Debug, Error)]
pub enum ReadError {
    /// The input failed. After `WouldBlock` and `TimedOut` reading may be tried again: no byte
    /// is lost.
    #[error("reading the trace at byte {at}: {source}")]
    Io {
        /// Bytes read so far.
        at: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The input ends within the header, or is empty.
    #[error("no whole header of a fragscope trace: {0}")]
    NoHeader(Truncation),
    /// The first bytes are not those of a trace.
    #[error("not a fragscope trace: expected magic {}, found {}", Hex(&MAGIC), Hex(found))]
    NotATrace {
        /// The bytes found, four at most.
        found: Vec<u8>,
    },
    /// Another version of the format.
    #[error("trace format version {found}; this program reads {FORMAT_VERSION}")]
    Version {
        /// The version found.
        found: u16,
        /// Offset of the frame.
        at: u64,
    },
    /// A frame stands where it cannot.
    #[error("found a frame of kind {found} at byte {at}; expected {expected}")]
    Order {
        /// Offset of the frame.
        at: u64,
        /// What it is.
        found: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// Bytes are damaged or were never right.
    #[error("the {what} at byte {at} is damaged: {reason}")]
    Damaged {
        /// Offset of the frame.
        at: u64,
        /// What kind of frame it is, as far as that is known.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Reading went on after an error.
    #[error("the trace cannot be read from byte {at} on, as reported before")]
    Unreadable {
        /// Offset of the frame that could not be read.
        at: u64,
    },
}

/// Bytes as `f5 46 53 54`.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { " " })?;
        }
        if self.0.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

/// Where and how a trace was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Truncation {
    /// Bytes that were read completely: the offset of the first that belongs to nothing whole.
    pub at: u64,
    /// What is incomplete or missing.
    pub what: String,
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut off at byte {}: {}", self.at, self.what)
    }
}

/// How much a reader may allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory for the items of one snapshot. The default of 16 GiB holds 350 million runs.
    pub snapshot_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { snapshot_bytes: 16 << 30 }
    }
}

/// What a reader passed over because it does not know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Frames by the number of their kind.
    pub frames: BTreeMap<u8, u64>,
    /// Side events by the number of their kind.
    pub side_events: BTreeMap<u64, u64>,
}

impl Skipped {
    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.side_events.is_empty()
    }
}

/// Whether there is more to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The end frame or the end of the input was seen.
    Over,
    /// An error was reported.
    Failed,
}

/// Reads a trace from `R`. Short reads and interruptions are no errors; no `BufReader` is needed.
pub struct TraceReader<R> {
    source: FrameSource<R>,
    header: Header,
    limits: Limits,
    state: State,
    /// A snapshot that was begun, and where.
    assembly: Option<(u64, Assembly)>,
    truncated: Option<Truncation>,
    skipped: Skipped,
    spare: EventBatch,
}

impl<R: Read> TraceReader<R> {
    /// Opens a trace: reads its header. On a socket with a timeout, set that afterwards.
    pub fn new(input: R) -> Result<TraceReader<R>, ReadError> {
        TraceReader::with_limits(input, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(input: R, limits: Limits) -> Result<TraceReader<R>, ReadError> {
        let mut source = FrameSource::new(input)?;
        let header = match source.fetch()? {
            Fetched::Cut(cut) => return Err(ReadError::NoHeader(cut)),
            Fetched::Frame { at, head } => {
                let Some(FrameKind::Header) = FrameKind::from_number(head.kind) else {
                    let (found, expected) = (kind_name(head.kind), "the header of a trace");
                    return Err(ReadError::Order { at, found, expected });
                };
                let header: Header = from_json(source.payload(at, head)?)
                    .map_err(|error| damaged(at, head.kind, error.to_string()))?;
                check(rules::check_machine(&header.machine))
                    .map_err(|error| damaged(at, head.kind, error.to_string()))?;
                header
            }
        };
        source.consume();
        Ok(TraceReader {
            source,
            header,
            limits,
            state: State::Open,
            assembly: None,
            truncated: None,
            skipped: Skipped::default(),
            spare: EventBatch::default(),
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame but the header; `None` at the end. A trace that was cut off ends too; then
    /// [`TraceReader::truncated`] says where.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            match self.state {
                State::Over => return Ok(None),
                State::Failed => return Err(ReadError::Unreadable { at: self.source.at }),
                State::Open => {}
            }
            match self.step() {
                Ok(None) => {}
                Ok(Some(frame)) => return Ok(Some(frame)),
                Err(error) => {
                    if !may_retry(&error) {
                        self.state = State::Failed;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Reads one stored frame. `None` if it yields no value by itself.
    fn step(&mut self) -> Result<Option<Frame>, ReadError> {
        let (at, head) = match self.source.fetch()? {
            Fetched::Frame { at, head } => (at, head),
            Fetched::Cut(cut) => {
                self.cut(cut);
                return Ok(None);
            }
        };
        let Some(kind) = FrameKind::from_number(head.kind) else {
            *self.skipped.frames.entry(head.kind).or_default() += 1;
            self.source.consume();
            return Ok(None);
        };
        self.check_place(at, kind)?;
        let payload = self.source.payload(at, head)?;
        let decoded = match kind {
            FrameKind::Events => {
                let mut batch = std::mem::take(&mut self.spare);
                batch.clear();
                events::decode(payload, &mut batch, &mut self.skipped.side_events)
                    .map(|()| Some(Frame::Events(batch)))
            }
            FrameKind::End => from_json(payload).map(|end| Some(Frame::End(Box::new(end)))),
            _ => snapshot_step(&mut self.assembly, self.limits, (at, kind), payload)
                .map(|whole| whole.map(|snapshot| Frame::Snapshot(Box::new(snapshot)))),
        };
        let frame = decoded.map_err(|error| damaged(at, head.kind, error.to_string()))?;
        self.source.consume();
        if kind == FrameKind::End {
            self.state = State::Over;
        }
        Ok(frame)
    }

    /// Refuses a frame that cannot come now.
    fn check_place(&self, at: u64, kind: FrameKind) -> Result<(), ReadError> {
        let part = matches!(
            kind,
            FrameKind::SnapshotChunks
                | FrameKind::SnapshotRuns
                | FrameKind::SnapshotPageblocks
                | FrameKind::SnapshotLists
                | FrameKind::SnapshotEnd
        );
        let expected = match (kind, &self.assembly) {
            (FrameKind::Header, _) => "no second header",
            (_, Some(_)) if !part => "a part or the end of the snapshot before it",
            (_, None) if part => "the beginning of a snapshot before it",
            _ => return Ok(()),
        };
        Err(ReadError::Order { at, found: kind.to_string(), expected })
    }

    fn cut(&mut self, cut: Truncation) {
        self.state = State::Over;
        self.truncated = Some(match self.assembly.take() {
            Some((at, _)) => Truncation { at, what: format!("snapshot incomplete, {}", cut.what) },
            None => cut,
        });
    }

    /// Where the trace was cut off, if it was; known when [`TraceReader::next_frame`] has
    /// returned `None`.
    #[must_use]
    pub fn truncated(&self) -> Option<&Truncation> {
        self.truncated.as_ref()
    }

    /// What was passed over so far.
    #[must_use]
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Bytes of whole frames read so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.source.at
    }

    /// Takes a batch back, so that its memory serves the next.
    pub fn recycle(&mut self, batch: EventBatch) {
        self.spare = batch;
    }

    /// Gives the input back.
    pub fn into_inner(self) -> R {
        self.source.input
    }
}

/// Feeds one frame of a snapshot; the snapshot when that was the last.
fn snapshot_step(
    assembly: &mut Option<(u64, Assembly)>,
    limits: Limits,
    (at, kind): (u64, FrameKind),
    payload: &[u8],
) -> Result<Option<Snapshot>, DecodeError> {
    match (kind, assembly.as_mut()) {
        (FrameKind::SnapshotBegin, _) => {
            *assembly = Some((at, Assembly::begin(payload, limits.snapshot_bytes)?));
        }
        (FrameKind::SnapshotEnd, _) => {
            if let Some((_, whole)) = assembly.take() {
                let snapshot = whole.end(payload)?;
                check(rules::check_snapshot(&snapshot))?;
                return Ok(Some(snapshot));
            }
        }
        (_, Some((_, assembly))) => assembly.add(kind, payload)?,
        (_, None) => {}
    }
    Ok(None)
}

fn from_json<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(payload).map_err(|error| DecodeError::value("JSON", error.to_string()))
}

fn check(outcome: Result<(), rules::Broken>) -> Result<(), DecodeError> {
    outcome.map_err(|broken| DecodeError::value("rule", broken.to_string()))
}

fn damaged(at: u64, kind: u8, reason: impl Into<String>) -> ReadError {
    ReadError::Damaged { at, what: name_of(kind), reason: reason.into() }
}

fn kind_name(kind: u8) -> String {
    FrameKind::from_number(kind).map_or_else(|| kind.to_string(), |kind| kind.to_string())
}

fn name_of(kind: u8) -> String {
    FrameKind::from_number(kind)
        .map_or_else(|| format!("frame of kind {kind}"), |kind| format!("{kind} frame"))
}

fn may_retry(error: &ReadError) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error, ReadError::Io { source, .. } if matches!(source.kind(), WouldBlock | TimedOut))
}
