//! The payload of an events frame.
//!
//! Page events are stored by column. Kind, tags, order, migratetype and gfp flags of an event are
//! its *shape*; few shapes occur, so a frame has a dictionary of at most 256 and one byte an event.
//! Times are steps from the event before; a step back, which only a late event takes, wraps
//! around and becomes an exception of the column. Pfns are differences to the previous pfn of the
//! same CPU and kind, because a CPU takes neighbours in turn, and gives them back in turn.

use super::columns::{self, BLOCK, Column};
use super::sides;
use super::varint::{self, Input};
use super::{DecodeError, EncodeError};
use crate::event::{EventBatch, PageEvent, SideEvent};
use crate::gfp::Gfp;
use crate::page::{CpuId, MAX_EVENT_ORDER, Pfn};

/// Most page events of a frame, and most side events.
pub(crate) const MAX_EVENTS: usize = 1 << 16;
/// Most distinct shapes of a frame.
const MAX_SHAPES: usize = 256;
/// Bytes of a shape in the dictionary.
const SHAPE_BYTES: usize = 6;

/// What tells page events apart beside time, cpu and pfn.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    packed: (u8, u8),
    gfp: Gfp,
}

impl Shape {
    fn of(event: &PageEvent) -> Shape {
        Shape { packed: event.packed(), gfp: event.gfp }
    }

    /// All of it in one number, which is never `u64::MAX`.
    fn key(self) -> u64 {
        u64::from(self.gfp.bits()) << 16 | u64::from(self.packed.0) << 8 | u64::from(self.packed.1)
    }
}

/// The dictionary of shapes while a frame is encoded: an open hash table.
struct Shapes {
    slots: Box<[(u64, u8); Shapes::SLOTS]>,
    list: Vec<Shape>,
}

impl Shapes {
    const SLOTS: usize = 1024;
    const VACANT: u64 = u64::MAX;

    fn new() -> Shapes {
        Shapes { slots: Box::new([(Shapes::VACANT, 0); Shapes::SLOTS]), list: Vec::new() }
    }

    fn clear(&mut self) {
        self.slots.fill((Shapes::VACANT, 0));
        self.list.clear();
    }

    /// The number of `shape`, new or not; `None` when the dictionary is full.
    #[inline]
    fn number(&mut self, shape: Shape) -> Option<u8> {
        let key = shape.key();
        let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize;
        loop {
            match self.slots[at] {
                (found, number) if found == key => return Some(number),
                (Shapes::VACANT, _) => return self.add(at, shape),
                _ => at = (at + 1) % Shapes::SLOTS,
            }
        }
    }

    #[cold]
    fn add(&mut self, at: usize, shape: Shape) -> Option<u8> {
        let number = u8::try_from(self.list.len()).ok()?;
        self.slots[at] = (shape.key(), number);
        self.list.push(shape);
        Some(number)
    }
}

/// The previous pfn by CPU and kind of event.
///
/// CPUs share a slot modulo 64: two CPUs that do only predict worse.
struct Predictor {
    last: [u64; 512],
}

impl Predictor {
    fn new() -> Predictor {
        Predictor { last: [0; 512] }
    }

    #[inline]
    fn slot(&mut self, cpu: CpuId, packed: (u8, u8)) -> &mut u64 {
        &mut self.last[usize::from(cpu.0 % 64) << 3 | usize::from(packed.0 & 7)]
    }
}

/// Encodes events; keeps its memory from frame to frame.
pub(crate) struct Encoder {
    shapes: Shapes,
    numbers: Vec<u8>,
    values: Vec<u64>,
    sides: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder {
            shapes: Shapes::new(),
            numbers: Vec::new(),
            values: Vec::new(),
            sides: Vec::new(),
        }
    }

    /// Appends one frame's payload with as many events as fit, and returns the number of page
    /// events and of side events taken. The positions of `sides` count from `before`, the number
    /// of page events of the batch that went before `pages`.
    pub(crate) fn encode(
        &mut self,
        pages: &[PageEvent],
        sides: &[(u32, SideEvent)],
        before: usize,
        out: &mut Vec<u8>,
    ) -> Result<(usize, usize), EncodeError> {
        let mut count = self.number_shapes(&pages[..pages.len().min(MAX_EVENTS)])?;
        let base = base_time(pages, sides);
        let mut writer = sides::Encoder::new(&mut self.sides, base);
        for (at, side) in sides {
            let at = *at as usize - before;
            if at > count {
                break;
            }
            if writer.is_full() {
                count = at;
                break;
            }
            writer.push(at, side, &pages[..count])?;
        }
        let side_count = writer.count();
        varint::put(out, count as u64);
        varint::put(out, side_count as u64);
        out.extend(base.to_le_bytes());
        if count > 0 {
            self.put_pages(&pages[..count], base, out);
        }
        out.extend(&self.sides);
        Ok((count, side_count))
    }

    /// Numbers the shapes of `pages` as far as the dictionary reaches; returns how far.
    fn number_shapes(&mut self, pages: &[PageEvent]) -> Result<usize, EncodeError> {
        self.shapes.clear();
        self.numbers.clear();
        for event in pages {
            match self.shapes.number(Shape::of(event)) {
                Some(number) => self.numbers.push(number),
                None => break,
            }
        }
        let orders = self.shapes.list.iter().map(|shape| shape.packed.1 & 31);
        EncodeError::check_order(orders.max().unwrap_or(0))?;
        Ok(self.numbers.len())
    }

    fn put_pages(&mut self, pages: &[PageEvent], base: u64, out: &mut Vec<u8>) {
        out.push((self.shapes.list.len() - 1) as u8);
        for shape in &self.shapes.list {
            out.extend([shape.packed.0, shape.packed.1]);
            out.extend(shape.gfp.bits().to_le_bytes());
        }
        out.extend(&self.numbers[..pages.len()]);
        self.put_column(pages.iter().map(|e| u64::from(e.cpu.0)), out);
        let mut last = base;
        let times = pages.iter().map(|e| {
            let step = e.time_ns.wrapping_sub(last);
            last = e.time_ns;
            step
        });
        self.put_column(times, out);
        let mut predictor = Predictor::new();
        let pfns = pages.iter().map(|e| {
            let slot = predictor.slot(e.cpu, e.packed());
            let coded = varint::zigzag(*slot, e.pfn.0);
            *slot = e.pfn.0;
            coded
        });
        self.put_column(pfns, out);
    }

    fn put_column(&mut self, values: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
        self.values.clear();
        self.values.extend(values);
        columns::encode(&self.values, out);
    }
}

/// The time that the first difference counts from: the first event's.
fn base_time(pages: &[PageEvent], sides: &[(u32, SideEvent)]) -> u64 {
    let side = sides.first().map_or(0, |(_, side)| side.time_ns);
    pages.first().map_or(side, |e| e.time_ns)
}

/// Decodes an events payload into `batch`, which is empty. Side events of unknown kinds are
/// counted in `unknown`.
pub(crate) fn decode(
    bytes: &[u8],
    batch: &mut EventBatch,
    unknown: &mut sides::Unknown,
) -> Result<(), DecodeError> {
    let mut input = Input::new(bytes);
    let count = input.up_to("number of page events", MAX_EVENTS as u64)? as usize;
    let side_count = input.up_to("number of side events", MAX_EVENTS as u64)? as usize;
    let base = take_base(&mut input)?;
    if count > 0 {
        decode_pages(&mut input, count, base, &mut batch.pages)?;
    }
    sides::decode(&mut input, side_count, base, batch, unknown)?;
    input.finish("events payload")
}

fn take_base(input: &mut Input<'_>) -> Result<u64, DecodeError> {
    let mut base = [0; 8];
    base.copy_from_slice(input.take("base time", 8)?);
    Ok(u64::from_le_bytes(base))
}

fn decode_pages(
    input: &mut Input<'_>,
    count: usize,
    base: u64,
    pages: &mut Vec<PageEvent>,
) -> Result<(), DecodeError> {
    let shapes = take_shapes(input)?;
    let numbers = input.take("shape numbers", count)?;
    let largest = numbers.iter().copied().max().unwrap_or(0);
    if usize::from(largest) >= shapes.len() {
        let limit = shapes.len() as u64 - 1;
        return Err(DecodeError::Limit { what: "shape number", found: largest.into(), limit });
    }
    let mut cpus = Column::take(input, "cpus", count)?;
    let mut times = Column::take(input, "times", count)?;
    let mut pfns = Column::take(input, "pfns", count)?;
    let mut predictor = Predictor::new();
    let mut time = base;
    let mut cpu_block = [0; BLOCK];
    let mut time_block = [0; BLOCK];
    let mut pfn_block = [0; BLOCK];
    pages.reserve(count);
    for (index, numbers) in numbers.chunks(BLOCK).enumerate() {
        let (from, len) = (index * BLOCK, numbers.len());
        cpus.fill(from, &mut cpu_block[..len]);
        times.fill(from, &mut time_block[..len]);
        pfns.fill(from, &mut pfn_block[..len]);
        if cpu_block[..len].iter().any(|cpu| *cpu > u64::from(u16::MAX)) {
            return Err(DecodeError::value("cpu", "more than 65535"));
        }
        let values = cpu_block.iter().zip(&time_block).zip(&pfn_block);
        pages.extend(numbers.iter().zip(values).map(|(number, ((cpu, step), pfn_coded))| {
            let mut event = shapes[usize::from(*number)];
            time = time.wrapping_add(*step);
            event.time_ns = time;
            event.cpu = CpuId(*cpu as u16);
            let slot = predictor.slot(event.cpu, event.packed());
            *slot = varint::unzigzag(*slot, *pfn_coded);
            event.pfn = Pfn(*slot);
            event
        }));
    }
    Ok(())
}

/// The dictionary as events without time, place and pfn.
fn take_shapes(input: &mut Input<'_>) -> Result<Vec<PageEvent>, DecodeError> {
    let count = usize::from(input.byte("number of shapes")?) + 1;
    const _: () = assert!(MAX_SHAPES == 1 << u8::BITS);
    let bytes = input.take("shapes", count * SHAPE_BYTES)?;
    bytes.chunks_exact(SHAPE_BYTES).map(shape_event).collect()
}

fn shape_event(bytes: &[u8]) -> Result<PageEvent, DecodeError> {
    let gfp = Gfp::from_bits_retain(u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]));
    let event = PageEvent::from_packed(0, CpuId(0), Pfn(0), gfp, (bytes[0], bytes[1]))
        .filter(|event| event.order() <= MAX_EVENT_ORDER);
    event.ok_or_else(|| DecodeError::value("shape", format!("no event has {bytes:02x?}")))
}
