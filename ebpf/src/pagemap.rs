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
/// A block that begins here was allocated; its order is in the low five bits, unless it is
/// [`SINGLE`].
pub const ALLOCATED: u8 = 0x80;
/// With [`ALLOCATED`]: the tracing process allocated it.
pub const OWN: u8 = 0x40;
/// With [`ALLOCATED`]: a block of order 0, and in the low five bits is who allocated it: see [`tag`].
pub const SINGLE: u8 = 0x20;
/// A block that began here was freed, and in the low five bits is who freed it: see [`tag`].
pub const FREED: u8 = 0x20;
/// With [`FREED`]: the free program saw this very free, and the one that runs after it has not
/// looked yet.
pub const SEEN: u8 = 0x40;
/// The low five bits.
const LOW: u8 = 0x1f;
/// Instead of a [`tag`]: a CPU without one, or not known.
pub const NOBODY: u8 = LOW;

/// The tag of a CPU. Those beyond the first 31 have none.
#[must_use]
#[inline(always)]
pub const fn tag(cpu: u32) -> u8 {
    if cpu < NOBODY as u32 { cpu as u8 } else { NOBODY }
}

/// The state of a block that was just allocated.
#[must_use]
#[inline(always)]
pub const fn allocated(order: u32, own: bool, tag: u8) -> u8 {
    let own = if own { OWN } else { 0 };
    let of_whom = order == 0 && tag != NOBODY;
    ALLOCATED | own | if of_whom { SINGLE | tag } else { order as u8 & LOW }
}

/// The order of an allocated block.
#[must_use]
#[inline(always)]
pub const fn order_of(state: u8) -> u8 {
    if state & SINGLE == 0 { state & LOW } else { 0 }
}

/// Whether the tracing process allocated the block in this state.
#[must_use]
#[inline(always)]
pub const fn is_own(state: u8) -> bool {
    state & (ALLOCATED | OWN) == ALLOCATED | OWN
}

/// Whether the page was allocated, as a single one, by the CPU with this tag.
#[must_use]
#[inline(always)]
pub const fn is_allocated_by(state: u8, tag: u8) -> bool {
    tag != NOBODY && state & !OWN == ALLOCATED | SINGLE | tag
}

/// Whether the page was freed by the CPU with this tag.
#[must_use]
#[inline(always)]
pub const fn is_freed_by(state: u8, tag: u8) -> bool {
    tag != NOBODY && state & !SEEN == FREED | tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_tells_what_was_put_in() {
        for (order, own, cpu) in [0, 1, 9, 18].into_iter().flat_map(|order| {
            [false, true].into_iter().flat_map(move |own| (0..40).map(move |cpu| (order, own, cpu)))
        }) {
            let tag_of = tag(cpu);
            let state = allocated(order, own, tag_of);
            assert_eq!((u32::from(order_of(state)), is_own(state)), (order, own));
            for other in 0..40 {
                let same = order == 0 && cpu < 31 && other == cpu;
                assert_eq!(is_allocated_by(state, tag(other)), same, "{order} {cpu} {other}");
                assert!(!is_freed_by(state, tag(other)));
                for seen in [0, SEEN] {
                    let freed = FREED | seen | tag_of;
                    assert_eq!(is_freed_by(freed, tag(other)), cpu < 31 && other == cpu);
                    assert!(!is_allocated_by(freed, tag(other)) && !is_own(freed));
                }
            }
        }
        assert!(!is_allocated_by(UNTOUCHED, 0) && !is_freed_by(UNTOUCHED, 0));
    }
}
