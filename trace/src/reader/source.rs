//! Cuts an input into whole frames, checked and decompressed.

use std::io::Read;

use zstd::bulk::Decompressor;

use super::{Hex, ReadError, Truncation, damaged, name_of};
use crate::frame::{HEAD_BYTES, Head, HeadError, MAGIC, MAX_PAYLOAD_BYTES, Storage};

/// What came from the input.
pub(super) enum Fetched {
    /// A whole frame at this offset.
    Frame { at: u64, head: Head },
    /// The input's end.
    Cut(Truncation),
}

/// Cuts the input into frames, whole or not at all.
pub(super) struct FrameSource<R> {
    pub(super) input: R,
    /// Offset of the current frame.
    pub(super) at: u64,
    /// Bytes of the current frame that have arrived.
    bytes: Vec<u8>,
    decompressor: Decompressor<'static>,
    plain: Vec<u8>,
}

impl<R: Read> FrameSource<R> {
    pub(super) fn new(input: R) -> Result<FrameSource<R>, ReadError> {
        let decompressor = Decompressor::new().map_err(|source| ReadError::Io { at: 0, source })?;
        Ok(FrameSource { input, at: 0, bytes: Vec::new(), decompressor, plain: Vec::new() })
    }

    /// Reads the rest of the current frame and checks its head and checksum.
    pub(super) fn fetch(&mut self) -> Result<Fetched, ReadError> {
        self.fill(HEAD_BYTES)?;
        let Some(head) = self.bytes.first_chunk::<HEAD_BYTES>() else {
            return self.cut_head();
        };
        let head = Head::parse(head).map_err(|error| self.bad_head(error))?;
        let whole = HEAD_BYTES + head.stored_bytes as usize;
        self.fill(whole)?;
        if self.bytes.len() < whole {
            let (found, wanted) = (self.bytes.len() - HEAD_BYTES, head.stored_bytes);
            let what = format!("{} with {found} of {wanted} payload bytes", name_of(head.kind));
            return Ok(Fetched::Cut(Truncation { at: self.at, what }));
        }
        if crc32fast::hash(&self.bytes[HEAD_BYTES..]) != head.payload_crc {
            return Err(damaged(self.at, head.kind, "its checksum does not match"));
        }
        Ok(Fetched::Frame { at: self.at, head })
    }

    /// Reads until the frame has `wanted` bytes or the input ends.
    fn fill(&mut self, wanted: usize) -> Result<(), ReadError> {
        let missing = wanted.saturating_sub(self.bytes.len()) as u64;
        let outcome = self.input.by_ref().take(missing).read_to_end(&mut self.bytes);
        let at = self.at + self.bytes.len() as u64;
        outcome.map(|_| ()).map_err(|source| ReadError::Io { at, source })
    }

    /// The input ended within a head, or between frames.
    fn cut_head(&self) -> Result<Fetched, ReadError> {
        let found = self.bytes.len();
        if self.bytes[..found.min(4)] != MAGIC[..found.min(4)] {
            return Err(self.bad_magic());
        }
        let what = match found {
            0 if self.at == 0 => "it is empty".to_owned(),
            0 => "the end frame is missing".to_owned(),
            found => format!("head of a frame with {found} of {HEAD_BYTES} bytes"),
        };
        Ok(Fetched::Cut(Truncation { at: self.at, what }))
    }

    fn bad_head(&self, error: HeadError) -> ReadError {
        let head = |reason: String| ReadError::Damaged {
            at: self.at,
            what: "head of the frame".into(),
            reason,
        };
        match error {
            HeadError::Magic(_) => self.bad_magic(),
            HeadError::Version(found) => ReadError::Version { found, at: self.at },
            HeadError::Checksum => head("its checksum does not match".into()),
            HeadError::Length(bytes) => {
                head(format!("length {bytes}, expected at most {MAX_PAYLOAD_BYTES}"))
            }
        }
    }

    fn bad_magic(&self) -> ReadError {
        let found = &self.bytes[..self.bytes.len().min(MAGIC.len())];
        if self.at == 0 {
            return ReadError::NotATrace { found: found.to_vec() };
        }
        let reason = format!("expected magic {}, found {}", Hex(&MAGIC), Hex(found));
        ReadError::Damaged { at: self.at, what: "head of the frame".into(), reason }
    }

    /// The payload of the frame just fetched.
    pub(super) fn payload(&mut self, at: u64, head: Head) -> Result<&[u8], ReadError> {
        let stored = &self.bytes[HEAD_BYTES..];
        let plain_bytes = head.plain_bytes as usize;
        if head.storage == Storage::Plain as u8 {
            return if stored.len() == plain_bytes {
                Ok(stored)
            } else {
                Err(damaged(at, head.kind, "its lengths differ, but it is not compressed"))
            };
        }
        if head.storage != Storage::Zstd as u8 {
            let reason = format!("storage {}, expected 0 (plain) or 1 (zstd)", head.storage);
            return Err(damaged(at, head.kind, reason));
        }
        self.plain.clear();
        self.plain.reserve(plain_bytes);
        match self.decompressor.decompress_to_buffer(stored, &mut self.plain) {
            Ok(found) if found == plain_bytes => Ok(&self.plain),
            Ok(found) => {
                let reason = format!("{found} bytes decompressed, expected {plain_bytes}");
                Err(damaged(at, head.kind, reason))
            }
            Err(error) => Err(damaged(at, head.kind, error.to_string())),
        }
    }

    /// Goes on behind the current frame.
    pub(super) fn consume(&mut self) {
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
    }
}
