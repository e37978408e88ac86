//! The byte map of pages: see `fragscope_ebpf::pagemap`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use fragscope_ebpf::pagemap::{MAP_PAGE_FRAMES, MAP_PAGE_SHIFT, UNTOUCHED};

use super::channel::MMAPABLE;

#[map]
static PAGE_MAP: Array<[u8; MAP_PAGE_FRAMES as usize]> = Array::with_max_entries(1, MMAPABLE);

/// Stores `new` for `pfn` and returns what stood there. Frames beyond the map (memory added since
/// the start) count as never seen.
#[inline(always)]
pub(super) fn exchange(pfn: u32, new: u8) -> u8 {
    try_exchange(pfn, new).unwrap_or(UNTOUCHED)
}

/// The same; `None` for frames beyond the map.
#[inline(always)]
pub(super) fn try_exchange(pfn: u32, new: u8) -> Option<u8> {
    let page = PAGE_MAP.get_ptr_mut(pfn >> MAP_PAGE_SHIFT)?;
    // SAFETY: the masked offset lies inside the element. Events of one page are ordered, so no
    // other program writes this byte at the same time.
    unsafe {
        let at = page.cast::<u8>().add((pfn & (MAP_PAGE_FRAMES as u32 - 1)) as usize);
        let old = at.read_volatile();
        at.write_volatile(new);
        Some(old)
    }
}

/// What stands at `pfn`.
#[inline(always)]
pub(super) fn get(pfn: u32) -> u8 {
    let Some(page) = PAGE_MAP.get_ptr_mut(pfn >> MAP_PAGE_SHIFT) else { return UNTOUCHED };
    // SAFETY: as above.
    unsafe { page.cast::<u8>().add((pfn & (MAP_PAGE_FRAMES as u32 - 1)) as usize).read_volatile() }
}
