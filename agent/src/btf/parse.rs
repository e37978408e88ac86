//! The bytes of BTF: header, type records, and what follows each.
//!
//! Layout after the kernel's `Documentation/bpf/btf.rst`. Every length is checked here once, so
//! that the rest may slice the records it was given.

use std::ops::Range;

use super::BtfError;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 12;

/// Kinds of types, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Type 0, and everything without members or size: functions, variables, tags.
    Other,
    /// Integers and floats: `size_or_type` is a size.
    Sized,
    /// A pointer.
    Pointer,
    /// An array.
    Array,
    /// A struct.
    Struct,
    /// A union.
    Union,
    /// An enum of 32-bit values.
    Enum,
    /// An enum of 64-bit values.
    Enum64,
    /// Typedefs and qualifiers: `size_or_type` is the type behind.
    Alias,
}

/// One type.
#[derive(Clone, Copy, Debug)]
pub(super) struct TypeRecord {
    pub(super) kind: Kind,
    /// Offset in the string table.
    pub(super) name: u32,
    /// Size in bytes, or another type, by kind.
    pub(super) size_or_type: u32,
    /// Whether member offsets hold a bit-field size in their top byte, or enum values are signed.
    flag: bool,
    /// Where the part that depends on the kind begins and ends.
    tail: (usize, usize),
}

/// The part of an array's record that matters.
pub(super) struct Array {
    pub(super) element_type: u32,
    pub(super) elements: u32,
}

/// Iterator over (name, member).
pub(super) struct Members<'a> {
    words: std::slice::ChunksExact<'a, u8>,
    bit_fields: bool,
}

impl Iterator for Members<'_> {
    type Item = (u32, super::Member);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.words.next()?;
        let offset = word(bytes, 8);
        let bit_offset = if self.bit_fields { offset & 0x00ff_ffff } else { offset };
        Some((word(bytes, 0), super::Member { bit_offset, type_id: word(bytes, 4) }))
    }
}

impl TypeRecord {
    const VOID: TypeRecord =
        TypeRecord { kind: Kind::Other, name: 0, size_or_type: 0, flag: false, tail: (0, 0) };

    fn tail<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.tail.0..self.tail.1]
    }

    pub(super) fn members<'a>(&self, bytes: &'a [u8]) -> Members<'a> {
        let tail = match self.kind {
            Kind::Struct | Kind::Union => self.tail(bytes),
            _ => &[],
        };
        Members { words: tail.chunks_exact(12), bit_fields: self.flag }
    }

    pub(super) fn array(&self, bytes: &[u8]) -> Option<Array> {
        let tail = self.tail(bytes);
        let whole = self.kind == Kind::Array && tail.len() >= 12;
        whole.then(|| Array { element_type: word(tail, 0), elements: word(tail, 8) })
    }

    /// (name, value) of each enumerator.
    pub(super) fn enumerators<'a>(
        &self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (u32, i64)> + use<'a> {
        let wide = self.kind == Kind::Enum64;
        let signed = self.flag;
        self.tail(bytes).chunks_exact(if wide { 12 } else { 8 }).map(move |e| {
            let low = word(e, 4);
            let value = match (wide, signed) {
                (true, _) => (u64::from(word(e, 8)) << 32 | u64::from(low)) as i64,
                (false, true) => i64::from(low as i32),
                (false, false) => i64::from(low),
            };
            (word(e, 0), value)
        })
    }
}

/// The little-endian word at `at`; the caller has checked the length.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn need(what: &'static str, bytes: &[u8], at: usize, need: usize) -> Result<(), BtfError> {
    let have = bytes.len().saturating_sub(at);
    // Nothing can be had from behind the end, not even no bytes.
    if have < need || at > bytes.len() {
        return Err(BtfError::Truncated { what, at, need, have });
    }
    Ok(())
}

/// All types, the first being void, and where the strings are.
pub(super) fn tables(bytes: &[u8]) -> Result<(Vec<TypeRecord>, Range<usize>), BtfError> {
    need("the header", bytes, 0, HEADER_BYTES)?;
    let magic = u16::from_le_bytes([bytes[0], bytes[1]]);
    let version = bytes[2];
    if magic != MAGIC || version != 1 {
        return Err(BtfError::Header { magic, version });
    }
    let header = word(bytes, 4) as usize;
    let types = section("the types", bytes, header, word(bytes, 8), word(bytes, 12))?;
    let strings = section("the strings", bytes, header, word(bytes, 16), word(bytes, 20))?;
    Ok((records(&bytes[..types.end], types.start)?, strings))
}

fn section(
    what: &'static str,
    bytes: &[u8],
    header: usize,
    offset: u32,
    len: u32,
) -> Result<Range<usize>, BtfError> {
    // Offsets are 32 bits each, so their sum fits a usize of 64 bits.
    let start = header + offset as usize;
    need(what, bytes, start, len as usize)?;
    Ok(start..start + len as usize)
}

fn records(bytes: &[u8], start: usize) -> Result<Vec<TypeRecord>, BtfError> {
    let mut types = vec![TypeRecord::VOID];
    let mut at = start;
    while at < bytes.len() {
        let record = record(bytes, at, types.len() as u32)?;
        at = record.tail.1;
        types.push(record);
    }
    Ok(types)
}

fn record(bytes: &[u8], at: usize, id: u32) -> Result<TypeRecord, BtfError> {
    need("a type", bytes, at, RECORD_BYTES)?;
    let info = word(bytes, at + 4);
    let (number, vlen) = ((info >> 24 & 31) as u8, (info & 0xffff) as usize);
    let (kind, tail_bytes) =
        shape(number, vlen).ok_or(BtfError::UnknownKind { id, kind: number })?;
    let tail = at + RECORD_BYTES;
    need("the rest of a type", bytes, tail, tail_bytes)?;
    Ok(TypeRecord {
        kind,
        name: word(bytes, at),
        size_or_type: word(bytes, at + 8),
        flag: info >> 31 == 1,
        tail: (tail, tail + tail_bytes),
    })
}

/// What a kind means and how many bytes follow its record.
fn shape(number: u8, vlen: usize) -> Option<(Kind, usize)> {
    Some(match number {
        1 => (Kind::Sized, 4),           // INT
        2 => (Kind::Pointer, 0),         // PTR
        3 => (Kind::Array, 12),          // ARRAY
        4 => (Kind::Struct, 12 * vlen),  // STRUCT
        5 => (Kind::Union, 12 * vlen),   // UNION
        6 => (Kind::Enum, 8 * vlen),     // ENUM
        7 | 12 => (Kind::Other, 0),      // FWD, FUNC
        8..=11 | 18 => (Kind::Alias, 0), // TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
        13 => (Kind::Other, 8 * vlen),   // FUNC_PROTO
        14 | 17 => (Kind::Other, 4),     // VAR, DECL_TAG
        15 => (Kind::Other, 12 * vlen),  // DATASEC
        16 => (Kind::Sized, 0),          // FLOAT
        19 => (Kind::Enum64, 12 * vlen), // ENUM64
        _ => return None,
    })
}
