//! The counters of `fragscope_ebpf::counts`, and the programs that do nothing but count.

use aya_ebpf::macros::{map, raw_tracepoint, tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use fragscope_ebpf::counts::{
    CLASS_FREED, CLASS_MOVABLE, CLASS_RECLAIMABLE, CLASS_UNMOVABLE, ELEMENT_BYTES, ELEMENT_SHIFT,
    REGION_SHIFT, offset,
};
use fragscope_ebpf::record::NO_PFN;
use fragscope_ebpf::ring::CHANNEL_RINGBUF;

use super::channel::{MMAPABLE, add_one};
use super::page::{field, pfn_of};
use super::settings::{
    ALLOC_AT, CHANNEL, COUNT_ELEMENTS, COUNT_REGIONS, FREE_AT, GFP_MOVABLE, GFP_RECLAIMABLE,
};

#[map]
static COUNTS: Array<[u8; ELEMENT_BYTES]> = Array::with_max_entries(1, MMAPABLE);

/// Counts an allocation of `pfn`, or one that failed (`NO_PFN`).
#[inline(always)]
pub(super) fn alloc(pfn: u32, order: u32, gfp: u32) {
    let class = if gfp & GFP_MOVABLE.load() != 0 {
        CLASS_MOVABLE
    } else if gfp & GFP_RECLAIMABLE.load() != 0 {
        CLASS_RECLAIMABLE
    } else {
        CLASS_UNMOVABLE
    };
    let place = if pfn == NO_PFN { COUNT_REGIONS.load() + 1 } else { place_of(pfn) };
    count(place, class, order);
}

/// Counts a free.
#[inline(always)]
pub(super) fn free(pfn: u32, order: u32) {
    count(place_of(pfn), CLASS_FREED, order);
}

/// A page outside all regions.
#[inline(always)]
fn outside(class: u32, order: u32) {
    count(COUNT_REGIONS.load(), class, order);
}

#[inline(always)]
fn place_of(pfn: u32) -> u32 {
    let region = pfn >> REGION_SHIFT;
    let regions = COUNT_REGIONS.load();
    if region < regions { region } else { regions }
}

#[inline(always)]
fn count(place: u32, class: u32, order: u32) {
    let element = super::this_cpu() * COUNT_ELEMENTS.load() + (place >> ELEMENT_SHIFT);
    let Some(page) = COUNTS.get_ptr_mut(element) else { return };
    // SAFETY: the offset lies inside the element. Only this CPU writes it, and each word in one
    // program only: atomically where that may nest in itself.
    unsafe {
        let at = page.cast::<u8>().add(offset(place, class, order) as usize).cast::<u32>();
        if CHANNEL.load() == CHANNEL_RINGBUF {
            add_one(at);
        } else {
            at.write_volatile(at.read_volatile().wrapping_add(1));
        }
    }
}

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn count_alloc(ctx: RawTracePointContext) -> i32 {
    let (page, order, gfp): (u64, u32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let pfn = if page == 0 { Some(NO_PFN) } else { pfn_of(page) };
    match pfn {
        Some(pfn) => alloc(pfn, order, gfp),
        None => outside(CLASS_UNMOVABLE, order),
    }
    0
}

#[raw_tracepoint(tracepoint = "mm_page_free")]
pub(crate) fn count_free(ctx: RawTracePointContext) -> i32 {
    let (page, order): (u64, u32) = (ctx.arg(0), ctx.arg(1));
    match pfn_of(page) {
        Some(pfn) => free(pfn, order),
        None => outside(CLASS_FREED, order),
    }
    0
}

#[tracepoint]
pub(crate) fn count_alloc_classic(ctx: TracePointContext) -> u32 {
    let [pfn_at, order_at, gfp_at] = ALLOC_AT.load();
    let pfn: u64 = field(&ctx, pfn_at);
    // A failed allocation has pfn -1, which is cut to NO_PFN.
    alloc(pfn as u32, field(&ctx, order_at), field::<u64>(&ctx, gfp_at) as u32);
    0
}

#[tracepoint]
pub(crate) fn count_free_classic(ctx: TracePointContext) -> u32 {
    let [pfn_at, order_at] = FREE_AT.load();
    let pfn: u64 = field(&ctx, pfn_at);
    free(pfn as u32, field(&ctx, order_at));
    0
}
