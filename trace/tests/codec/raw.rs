//! Frames as bytes, taken apart by `FORMAT.md` alone: a second opinion on the layout, and the
//! means to damage a trace behind its checksums.

/// Bytes of a head.
const HEAD: usize = 24;

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    /// The payload, decompressed.
    pub(crate) payload: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Takes a valid trace apart.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<RawFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(&bytes[..6], b"\xf5FST\x01\x00");
        let (stored, plain) = (word(bytes, 8), word(bytes, 12));
        let payload = match bytes[7] {
            0 => bytes[HEAD..HEAD + stored].to_vec(),
            _ => zstd::bulk::decompress(&bytes[HEAD..HEAD + stored], plain).unwrap(),
        };
        assert_eq!(payload.len(), plain);
        frames.push(RawFrame { kind: bytes[6], payload });
        bytes = &bytes[HEAD + stored..];
    }
    frames
}

/// Offsets of the frames of a valid trace, and its length.
pub(crate) fn offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = vec![0];
    while let Some(at) = offsets.last().copied().filter(|at| *at < bytes.len()) {
        offsets.push(at + HEAD + word(&bytes[at..], 8));
    }
    offsets
}

/// Puts frames together, uncompressed, with checksums that hold.
pub(crate) fn join(frames: &[RawFrame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let at = bytes.len();
        bytes.extend(b"\xf5FST\x01\x00");
        bytes.extend([frame.kind, 0]);
        let length = (frame.payload.len() as u32).to_le_bytes();
        bytes.extend([length, length, crc32fast::hash(&frame.payload).to_le_bytes()].concat());
        bytes.extend(crc32fast::hash(&bytes[at..at + 20]).to_le_bytes());
        bytes.extend(&frame.payload);
    }
    bytes
}

/// Recomputes the checksums of all frames as far as lengths lead to one.
pub(crate) fn fix_checksums(bytes: &mut [u8]) {
    let mut at = 0;
    while at + HEAD <= bytes.len() {
        let end = at.saturating_add(HEAD + word(bytes, at + 8)).min(bytes.len());
        let payload = crc32fast::hash(&bytes[at + HEAD..end]).to_le_bytes();
        bytes[at + 16..at + 20].copy_from_slice(&payload);
        let head = crc32fast::hash(&bytes[at..at + 20]).to_le_bytes();
        bytes[at + 20..at + 24].copy_from_slice(&head);
        at = end;
    }
}
