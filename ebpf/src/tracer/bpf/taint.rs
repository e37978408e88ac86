//! The byte map of regions: see `fragscope_ebpf::taint`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use fragscope_ebpf::counts::REGION_SHIFT;
use fragscope_ebpf::taint::{CLEAN, MAP_PAGE_REGIONS, MAP_PAGE_SHIFT, TAINTED};

use super::channel::MMAPABLE;

#[map]
static TAINT_MAP: Array<[u8; MAP_PAGE_REGIONS as usize]> = Array::with_max_entries(1, MMAPABLE);

/// Enters a non-movable allocation at `pfn`, and says whether its region had none. A region beyond
/// the map (memory added since the start) had some.
#[inline(always)]
pub(super) fn is_first_in_region(pfn: u32) -> bool {
    let region = pfn >> REGION_SHIFT;
    let Some(page) = TAINT_MAP.get_ptr_mut(region >> MAP_PAGE_SHIFT) else { return false };
    // SAFETY: the masked offset lies inside the element. Of two CPUs at the same time both may be
    // first, which costs one context.
    unsafe {
        let at = page.cast::<u8>().add((region & (MAP_PAGE_REGIONS - 1)) as usize);
        let is_first = at.read_volatile() == CLEAN;
        if is_first {
            at.write_volatile(TAINTED);
        }
        is_first
    }
}
