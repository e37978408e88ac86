//! Frames: the one unit of files, pipes and sockets.
//!
//! A frame is a head of [`HEAD_BYTES`] bytes and a payload. The head's first six bytes (magic and
//! version) never change, so that any program can name the version it cannot read. `FORMAT.md`
//! has the layout byte by byte.

use std::fmt;

use crate::event::EventBatch;
use crate::header::{End, Header};
use crate::snapshot::Snapshot;

/// The first bytes of every frame, hence of every trace.
pub const MAGIC: [u8; 4] = [0xf5, b'F', b'S', b'T'];
/// The version this program writes, and the only one it reads.
pub const FORMAT_VERSION: u16 = 1;
/// Bytes in a frame's head.
pub const HEAD_BYTES: usize = 24;
/// Largest payload of any frame, before and after compression.
pub const MAX_PAYLOAD_BYTES: usize = 32 << 20;

/// One decoded part of a trace. A trace is one `Header`, then the others in any order.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Always first.
    Header(Box<Header>),
    /// A state of the machine.
    Snapshot(Box<Snapshot>),
    /// A run of events.
    Events(EventBatch),
    /// Always last, unless the trace was cut off.
    End(Box<End>),
}

/// What a frame's payload holds. Kinds with other numbers are skipped by readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A [`Header`] as JSON.
    Header = 1,
    /// An [`End`] as JSON.
    End = 2,
    /// An [`EventBatch`] of at most 65,536 page events.
    Events = 3,
    /// Begins a snapshot: its small parts as JSON.
    SnapshotBegin = 4,
    /// Page runs of the snapshot that was begun.
    SnapshotRuns = 5,
    /// Read times of its chunks.
    SnapshotChunks = 6,
    /// Types of its pageblocks.
    SnapshotPageblocks = 7,
    /// Blocks of its free lists.
    SnapshotLists = 8,
    /// Ends it, with the number of items of each part.
    SnapshotEnd = 9,
}

impl FrameKind {
    /// All kinds, by number.
    pub const ALL: [FrameKind; 9] = [
        FrameKind::Header,
        FrameKind::End,
        FrameKind::Events,
        FrameKind::SnapshotBegin,
        FrameKind::SnapshotRuns,
        FrameKind::SnapshotChunks,
        FrameKind::SnapshotPageblocks,
        FrameKind::SnapshotLists,
        FrameKind::SnapshotEnd,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<FrameKind> {
        Self::ALL.into_iter().find(|k| *k as u8 == number)
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FrameKind::Header => "header",
            FrameKind::End => "end",
            FrameKind::Events => "events",
            FrameKind::SnapshotBegin => "snapshot-begin",
            FrameKind::SnapshotRuns => "snapshot-runs",
            FrameKind::SnapshotChunks => "snapshot-chunks",
            FrameKind::SnapshotPageblocks => "snapshot-pageblocks",
            FrameKind::SnapshotLists => "snapshot-lists",
            FrameKind::SnapshotEnd => "snapshot-end",
        })
    }
}

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Storage {
    /// As it is.
    Plain = 0,
    /// As one zstd frame.
    Zstd = 1,
}

/// A frame's head, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// A [`FrameKind`], or one that is not known.
    pub(crate) kind: u8,
    /// A [`Storage`], or one that is not known.
    pub(crate) storage: u8,
    /// Payload bytes as stored; at most [`MAX_PAYLOAD_BYTES`].
    pub(crate) stored_bytes: u32,
    /// Payload bytes after decompression; at most [`MAX_PAYLOAD_BYTES`].
    pub(crate) plain_bytes: u32,
    /// CRC-32 of the payload as stored.
    pub(crate) payload_crc: u32,
}

/// Why 24 bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// The magic is another.
    Magic([u8; 4]),
    /// A version that this program does not read.
    Version(u16),
    /// The checksum of the head itself is wrong.
    Checksum,
    /// A length beyond the limit.
    Length(u32),
}

impl Head {
    /// The bytes of the head.
    pub(crate) fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[6] = self.kind;
        bytes[7] = self.storage;
        bytes[8..12].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.plain_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a head. The order of the checks matters: another version may lay out the rest
    /// differently, and lengths mean nothing before the checksum holds.
    pub(crate) fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<Head, HeadError> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic != MAGIC {
            return Err(HeadError::Magic(magic));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != FORMAT_VERSION {
            return Err(HeadError::Version(version));
        }
        if word(20) != crc32fast::hash(&bytes[..20]) {
            return Err(HeadError::Checksum);
        }
        let head = Head {
            kind: bytes[6],
            storage: bytes[7],
            stored_bytes: word(8),
            plain_bytes: word(12),
            payload_crc: word(16),
        };
        match head.stored_bytes.max(head.plain_bytes) {
            longest if longest as usize > MAX_PAYLOAD_BYTES => Err(HeadError::Length(longest)),
            _ => Ok(head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head =
        Head { kind: 3, storage: 1, stored_bytes: 10, plain_bytes: 20, payload_crc: 0xdead_beef };

    #[test]
    fn a_head_comes_back() {
        assert_eq!(Head::parse(&HEAD.to_bytes()), Ok(HEAD));
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_noticed() {
        for bit in 0..HEAD_BYTES * 8 {
            let mut bytes = HEAD.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused() {
        let long = MAX_PAYLOAD_BYTES as u32 + 1;
        for head in [Head { stored_bytes: long, ..HEAD }, Head { plain_bytes: long, ..HEAD }] {
            assert_eq!(Head::parse(&head.to_bytes()), Err(HeadError::Length(long)));
        }
    }
}
