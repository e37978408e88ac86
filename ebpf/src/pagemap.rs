//! One byte for each page frame: what the tracer last knew of the block that begins there.
//!
//! Programs write it with plain stores: events of one page are ordered, and every page has a byte
//! of its own. User space may seed it from a snapshot, but only bytes that are [`UNTOUCHED`].

/// Frames in one element of the map.
pub const MAP_PAGE_FRAMES: u64 = 4096;
/// log2 of [`MAP_PAGE_FRAMES`].
pub const MAP_PAGE_SHIFT: u32 = MAP_PAGE_FRAMES.trailing_zeros();

/// No event and no snapshot named this frame as the first of a block.
pub const UNTOUCHED: u8 = 0;
/// A block that begins here was allocated; its order is in the low five bits.
pub const ALLOCATED: u8 = 0x80;
/// With [`ALLOCATED`]: the tracing process allocated it.
pub const OWN: u8 = 0x40;
/// A block that began here was freed.
pub const FREED: u8 = 0x20;
/// With [`FREED`]: the free program saw this very free, and the one that runs after it has not
/// looked yet.
pub const SEEN: u8 = 0x40;
/// The order of an allocated block.
pub const ORDER_MASK: u8 = 0x1f;
