//! Page events counted by region instead of recorded one by one.
//!
//! One mmapable array holds the counters. Each CPU has elements of its own, so additions need no
//! atomics where programs do not nest; every counter has one writer.
//!
//! ```text
//! element   cpu * elements + region / 8
//! byte      region % 8 * 512  +  class * 128  +  order * 4
//! ```
//!
//! Counters are 32 bits wide and wrap around: the reader looks often enough and adds differences.
//! A counter by order says how many events and, shifted by the order, how many pages: one addition
//! for both.

/// log2 of the pages of a region: an aligned GiB of physical memory.
pub const REGION_SHIFT: u32 = 18;

/// An unmovable allocation.
pub const CLASS_UNMOVABLE: u32 = 0;
/// A movable allocation.
pub const CLASS_MOVABLE: u32 = 1;
/// A reclaimable allocation.
pub const CLASS_RECLAIMABLE: u32 = 2;
/// A free, which names no type.
pub const CLASS_FREED: u32 = 3;
/// Classes.
pub const CLASSES: u32 = 4;
/// Orders.
pub const ORDERS: u32 = 32;

/// Bytes of an element of the array.
pub const ELEMENT_BYTES: usize = 4096;
/// log2 of the regions in an element.
pub const ELEMENT_SHIFT: u32 = 3;
/// Bytes of a region's counters.
pub const REGION_BYTES: usize = ELEMENT_BYTES >> ELEMENT_SHIFT;
/// Counters of a region.
pub const REGION_COUNTERS: usize = REGION_BYTES / size_of::<u32>();

const _: () = assert!(REGION_COUNTERS == (CLASSES * ORDERS) as usize);

/// Places behind the regions of memory: pages outside them (memory added since the start, or
/// addresses that are no struct page), then requests that failed.
pub const EXTRA_PLACES: u32 = 2;

/// Elements for each CPU with so many regions of memory.
#[must_use]
pub const fn elements(regions: u32) -> u32 {
    (regions + EXTRA_PLACES).div_ceil(1 << ELEMENT_SHIFT)
}

/// Byte of a counter in its element.
#[must_use]
#[inline(always)]
pub const fn offset(place: u32, class: u32, order: u32) -> u32 {
    let region = (place & ((1 << ELEMENT_SHIFT) - 1)) * REGION_BYTES as u32;
    region + ((class & (CLASSES - 1)) * ORDERS + (order & (ORDERS - 1))) * size_of::<u32>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_an_element_has_its_own_place() {
        let mut seen = std::collections::BTreeSet::new();
        for place in 0..1 << ELEMENT_SHIFT {
            for class in 0..CLASSES {
                for order in 0..ORDERS {
                    assert!(seen.insert(offset(place, class, order)));
                }
            }
        }
        assert_eq!(seen.last(), Some(&(ELEMENT_BYTES as u32 - 4)));
        assert_eq!(seen.len() * 4, ELEMENT_BYTES);
    }

    #[test]
    fn elements_hold_the_extra_places() {
        assert_eq!((elements(0), elements(6), elements(7)), (1, 1, 2));
    }
}
