//! One byte for each region: whether a non-movable allocation was seen in it since user space last
//! knew it to be without. The first is always told with its maker, whatever the budget.

/// Regions in one element of the map.
pub const MAP_PAGE_REGIONS: u32 = 4096;
/// log2 of [`MAP_PAGE_REGIONS`].
pub const MAP_PAGE_SHIFT: u32 = MAP_PAGE_REGIONS.trailing_zeros();

/// Nothing non-movable was seen; what a new map holds.
pub const CLEAN: u8 = 0;
/// A non-movable allocation was seen.
pub const TAINTED: u8 = 1;
