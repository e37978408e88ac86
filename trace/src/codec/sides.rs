//! Side events in an events payload.
//!
//! Each is its position, time, cpu, length, and then `length` bytes of postcard: the number of
//! its kind and its fields. A reader that does not know the number skips the length.

use std::collections::BTreeMap;

use super::events::MAX_EVENTS;
use super::varint::{self, Input};
use super::{DecodeError, EncodeError};
use crate::event::{EventBatch, PageEvent, SideEvent, SideKind};
use crate::page::{CpuId, MAX_EVENT_ORDER};

/// Largest kind and fields of one side event.
pub(crate) const MAX_SIDE_BYTES: usize = 1 << 20;
/// A frame that has this many bytes of side events takes no more.
const FULL_BYTES: usize = 1 << 20;
/// Most bytes of all side events of a frame: one more than full, and that one as long as may be.
const MAX_BYTES: u64 = (FULL_BYTES + MAX_SIDE_BYTES + 64) as u64;
/// Largest number that a kind will ever have; it bounds the list of unknown ones.
const MAX_KIND: u64 = u16::MAX as u64;
/// Fewest bytes of a side event: five of one byte.
const MIN_BYTES: usize = 5;

/// Side events of kinds that this program does not know: how many of each number.
pub(crate) type Unknown = BTreeMap<u64, u64>;

/// Appends side events to a buffer.
pub(crate) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    base: u64,
    count: usize,
    /// Position of the event before.
    last: usize,
}

impl<'a> Encoder<'a> {
    /// Empties `out` and writes to it.
    pub(crate) fn new(out: &'a mut Vec<u8>, base: u64) -> Encoder<'a> {
        out.clear();
        Encoder { out, base, count: 0, last: 0 }
    }

    /// Events taken.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether the frame should take no more.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() >= FULL_BYTES || self.count == MAX_EVENTS
    }

    /// Appends an event that comes after `at` of `pages`.
    pub(crate) fn push(
        &mut self,
        at: usize,
        side: &SideEvent,
        pages: &[PageEvent],
    ) -> Result<(), EncodeError> {
        EncodeError::check_order(order_of(&side.kind).unwrap_or(0))?;
        let kind = postcard::to_allocvec(&side.kind)?;
        if kind.len() > MAX_SIDE_BYTES {
            let kind_name = side.kind.name();
            return Err(EncodeError::LongSide { kind: kind_name, bytes: kind.len() });
        }
        varint::put(self.out, (at - self.last) as u64);
        varint::put(self.out, varint::zigzag(reference(pages, at, self.base), side.time_ns));
        varint::put(self.out, side.cpu.map_or(0, |cpu| u64::from(cpu.0) + 1));
        varint::put(self.out, kind.len() as u64);
        self.out.extend(kind);
        self.last = at;
        self.count += 1;
        Ok(())
    }
}

/// The time that a side event's counts from: that of the page event just before it, whose
/// companion it often is.
fn reference(pages: &[PageEvent], at: usize, base: u64) -> u64 {
    at.checked_sub(1).and_then(|i| pages.get(i)).map_or(base, |e| e.time_ns)
}

/// Decodes `count` side events behind the pages of `batch`.
pub(crate) fn decode(
    input: &mut Input<'_>,
    count: usize,
    base: u64,
    batch: &mut EventBatch,
    unknown: &mut Unknown,
) -> Result<(), DecodeError> {
    let (needed, left) = ((count * MIN_BYTES) as u64, input.left() as u64);
    if needed > left {
        return Err(DecodeError::Short { what: "side events", needed, left });
    }
    if left > MAX_BYTES {
        let (found, limit) = (left, MAX_BYTES);
        return Err(DecodeError::Limit { what: "bytes of side events", found, limit });
    }
    let mut at = 0u64;
    for _ in 0..count {
        at = at.saturating_add(input.varint("position of a side event")?);
        let found = at;
        let limit = batch.pages.len() as u64;
        if found > limit {
            return Err(DecodeError::Limit { what: "position of a side event", found, limit });
        }
        let coded = input.varint("time of a side event")?;
        let time_ns = varint::unzigzag(reference(&batch.pages, at as usize, base), coded);
        let cpu = take_cpu(input)?;
        let length = input.up_to("length of a side event", MAX_SIDE_BYTES as u64)? as usize;
        let fields = input.take("side event", length)?;
        match decode_kind(fields)? {
            Ok(kind) => batch.sides.push((at as u32, SideEvent { time_ns, cpu, kind })),
            Err(number) => *unknown.entry(number).or_default() += 1,
        }
    }
    Ok(())
}

fn take_cpu(input: &mut Input<'_>) -> Result<Option<CpuId>, DecodeError> {
    let cpu = input.up_to("cpu of a side event", 1 << 16)?;
    Ok(cpu.checked_sub(1).map(|cpu| CpuId(cpu as u16)))
}

/// The kind, or the number of an unknown one.
fn decode_kind(fields: &[u8]) -> Result<Result<SideKind, u64>, DecodeError> {
    let number = Input::new(fields).up_to("kind of a side event", MAX_KIND)?;
    if number >= SideKind::COUNT {
        return Ok(Err(number));
    }
    let bad = |reason: String| DecodeError::value("side event", reason);
    let (kind, rest) = postcard::take_from_bytes(fields)
        .map_err(|error| bad(format!("kind {number}: {error}")))?;
    Input::new(rest).finish("side event")?;
    match order_of(&kind) {
        Some(order) if order > MAX_EVENT_ORDER => {
            Err(bad(format!("order {order}, expected at most {MAX_EVENT_ORDER}")))
        }
        _ => Ok(Ok(kind)),
    }
}

/// The largest order that a kind carries.
fn order_of(kind: &SideKind) -> Option<u8> {
    match kind {
        SideKind::Move { order, .. } | SideKind::Context { order, .. } => Some(*order),
        SideKind::ExtFrag { alloc_order, fallback_order, .. } => {
            Some(*alloc_order.max(fallback_order))
        }
        SideKind::RegionCounts { regions, .. } => {
            let allocs = regions.iter().flat_map(|r| &r.allocs).map(|c| c.order);
            let frees = regions.iter().flat_map(|r| &r.frees).map(|c| c.order);
            allocs.chain(frees).max()
        }
        _ => None,
    }
}
