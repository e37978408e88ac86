//! Programs for page events: allocation, free, LRU insertion, movement between lists.
//!
//! The raw tracepoint programs get a struct page's address and turn it into a pfn. The classic
//! ones, which find the pfn in their record, are for hosts where the address could not be
//! calibrated.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use aya_ebpf::macros::{raw_tracepoint, tracepoint};
use aya_ebpf::programs::tracing::StackIdContext;
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use aya_log_ebpf::warn;
use fragscope_ebpf::pagemap::{
    ALLOCATED, FREED, NOBODY, SEEN, UNTOUCHED, allocated, is_allocated_by, is_freed_by,
    is_own as was_own, order_of, tag,
};
use fragscope_ebpf::record::{
    KIND_ALLOC, KIND_FREE, KIND_LRU, KIND_PCPU_DRAIN, KIND_ZONE_LOCKED, NO_PFN, ORDER_MASK, Record,
};

use fragscope_ebpf::side::SIDE_NESTED_FREE;

use super::channel::Ring;
use super::clock::{self, Asker, now_ns};
use super::settings::{
    ALLOC_AT, FOLIO_ORDER_AT, FREE_AT, OWN_TGID, PAGE_STRUCT_BYTES, PAGE_STRUCT_SHIFT, PG_HEAD,
    VMEMMAP_BASE,
};
use super::{context, counts, pagemap, side};

/// The pfn of a struct page, `None` if it is outside the array.
#[inline(always)]
pub(super) fn pfn_of(page: u64) -> Option<u32> {
    let offset = page.wrapping_sub(VMEMMAP_BASE.load());
    let pfn = match PAGE_STRUCT_SHIFT.load() {
        0 => offset.checked_div(PAGE_STRUCT_BYTES.load())?,
        shift => offset >> shift,
    };
    if pfn < u64::from(NO_PFN) { Some(pfn as u32) } else { None }
}

/// Whether the tracing process is the current one. Work in an interrupt is charged to whatever it
/// interrupted.
#[inline(always)]
pub(super) fn is_own() -> bool {
    bpf_get_current_pid_tgid() >> 32 == OWN_TGID.load()
}

/// Reports a page that cannot be; the log's own ring buffer bounds how often.
#[inline(always)]
fn bad_page<C: EbpfContext>(ctx: &C, ring: Ring, page: u64) {
    ring.count_bad();
    warn!(ctx, "page {:x} lies outside the array of struct pages", page);
}

/// The byte map is kept also while events are only counted: what is recorded afterwards needs it.
#[inline(always)]
fn on_alloc<C: StackIdContext>(ctx: &C, ring: Ring, pfn: u32, order: u32, gfp: u32) {
    let (own, me) = (is_own(), tag(ring.cpu));
    let mut before = UNTOUCHED;
    if pfn != NO_PFN {
        before = pagemap::exchange(pfn, allocated(order, own, me));
        if before & ALLOCATED != 0 {
            late_free(pfn, before);
        }
    }
    if ring.is_shedding() {
        ring.count_shed();
        counts::alloc(pfn, order, gfp);
        return;
    }
    let time = clock::of_block(Asker::of_pages(KIND_ALLOC), order, is_freed_by(before, me));
    ring.push(Record::new(KIND_ALLOC, time, own, pfn, order, gfp));
    if pfn != NO_PFN {
        context::on_alloc(ctx, time, pfn, order, gfp);
    }
}

/// Delivers a free that no program saw, because what freed had interrupted the free program: the
/// page is allocated again and was thought allocated all the time. That costs nothing until it
/// happens; the price is that the free is told late.
#[inline(always)]
fn late_free(pfn: u32, state: u8) {
    let order = u64::from(order_of(state));
    let words = [u64::from(pfn), order, u64::from(was_own(state)), 0, 0, 0, 0];
    // The program of allocations is at work.
    side::emit(SIDE_NESTED_FREE, now_ns(Asker::of_pages(KIND_ALLOC)), words);
}

/// A free is the tracer's own if the allocation was, whoever frees.
#[inline(always)]
fn on_free(ring: Ring, pfn: u32, order: u32) {
    let me = tag(ring.cpu);
    let before = pagemap::exchange(pfn, FREED | SEEN | me);
    if ring.is_shedding() {
        ring.count_shed();
        counts::free(pfn, order);
        return;
    }
    let time = clock::of_block(Asker::of_pages(KIND_FREE), order, is_allocated_by(before, me));
    ring.push(Record::new(KIND_FREE, time, was_own(before), pfn, order, 0));
}

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn page_alloc(ctx: RawTracePointContext) -> i32 {
    let Some(ring) = Ring::of(KIND_ALLOC) else { return 0 };
    ring.count_emitted();
    let (page, order, gfp): (u64, u32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let pfn = if page == 0 { Some(NO_PFN) } else { pfn_of(page) };
    match pfn {
        Some(pfn) => on_alloc(&ctx, ring, pfn, order, gfp),
        None => bad_page(&ctx, ring, page),
    }
    0
}

#[raw_tracepoint(tracepoint = "mm_page_free")]
pub(crate) fn page_free(ctx: RawTracePointContext) -> i32 {
    let Some(ring) = Ring::of(KIND_FREE) else { return 0 };
    ring.count_emitted();
    let (page, order): (u64, u32) = (ctx.arg(0), ctx.arg(1));
    match pfn_of(page) {
        Some(pfn) => on_free(ring, pfn, order),
        None => bad_page(&ctx, ring, page),
    }
    0
}

/// Runs after `page_free` for each free, and catches at once what that one missed and
/// [`late_free`] would tell when the page is allocated again: a free in an interrupt that hit
/// `page_free` at work does not run it again. Whether it ran stands in the byte map, page
/// by page, so nothing is caught twice. It delivers by another way than `page_free`, whose ring is
/// in an unknown state.
#[raw_tracepoint(tracepoint = "mm_page_free")]
pub(crate) fn page_free_catch(ctx: RawTracePointContext) -> i32 {
    let (page, order): (u64, u32) = (ctx.arg(0), ctx.arg(1));
    let Some(pfn) = pfn_of(page) else { return 0 };
    let Some(state) = pagemap::try_exchange(pfn, FREED | NOBODY) else { return 0 };
    if state & (ALLOCATED | SEEN) != SEEN {
        let words = [u64::from(pfn), u64::from(order), u64::from(was_own(state)), 0, 0, 0, 0];
        side::emit_now(SIDE_NESTED_FREE, words);
    }
    0
}

/// Emits only pages that no allocation event named, and each of them once.
#[raw_tracepoint(tracepoint = "mm_lru_insertion")]
pub(crate) fn lru_insertion(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    let Some(pfn) = pfn_of(page) else { return 0 };
    if pagemap::get(pfn) & ALLOCATED != 0 {
        return 0;
    }
    let Some(ring) = Ring::of(KIND_LRU) else { return 0 };
    ring.count_emitted();
    let order = folio_order(page);
    let time = now_ns(Asker::of_pages(KIND_LRU));
    pagemap::exchange(pfn, allocated(order, false, NOBODY));
    ring.push(Record::new(KIND_LRU, time, false, pfn, order, 0));
    0
}

/// Order of the folio at `page`, which is one byte of the second page. 0 where that is not known.
#[inline(always)]
pub(super) fn folio_order(page: u64) -> u32 {
    let head = PG_HEAD.load();
    if head == 0 || read_word(page) & head == 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    let order = unsafe { bpf_probe_read_kernel((page + FOLIO_ORDER_AT.load()) as *const u8) };
    u32::from(order.unwrap_or(0)) & ORDER_MASK
}

#[inline(always)]
pub(super) fn read_word(address: u64) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.unwrap_or(0)
}

#[raw_tracepoint(tracepoint = "mm_page_alloc_zone_locked")]
pub(crate) fn zone_locked(ctx: RawTracePointContext) -> i32 {
    on_list_move(&ctx, KIND_ZONE_LOCKED)
}

#[raw_tracepoint(tracepoint = "mm_page_pcpu_drain")]
pub(crate) fn pcpu_drain(ctx: RawTracePointContext) -> i32 {
    on_list_move(&ctx, KIND_PCPU_DRAIN)
}

/// Both tracepoints pass the page, the order and a migratetype.
#[inline(always)]
fn on_list_move(ctx: &RawTracePointContext, kind: u32) -> i32 {
    let Some(ring) = Ring::of(kind) else { return 0 };
    let (page, order, migratetype): (u64, u32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    if page == 0 {
        return 0;
    }
    ring.count_emitted();
    match pfn_of(page) {
        Some(pfn) => {
            let time = now_ns(Asker::of_pages(kind));
            ring.push(Record::new(kind, time, false, pfn, order, migratetype));
        }
        None => bad_page(ctx, ring, page),
    }
    0
}

/// Reads a field of a classic tracepoint's record. A field that cannot be read is 0.
#[inline(always)]
pub(super) fn field<T: Copy + Default>(ctx: &TracePointContext, offset: u32) -> T {
    // SAFETY: the helper checks the address.
    unsafe { ctx.read_at::<T>(offset as usize) }.unwrap_or_default()
}

#[tracepoint]
pub(crate) fn page_alloc_classic(ctx: TracePointContext) -> u32 {
    let Some(ring) = Ring::of(KIND_ALLOC) else { return 0 };
    ring.count_emitted();
    let [pfn_at, order_at, gfp_at] = ALLOC_AT.load();
    let pfn: u64 = field(&ctx, pfn_at);
    // A failed allocation has pfn -1, which is cut to NO_PFN.
    on_alloc(&ctx, ring, pfn as u32, field(&ctx, order_at), field::<u64>(&ctx, gfp_at) as u32);
    0
}

#[tracepoint]
pub(crate) fn page_free_classic(ctx: TracePointContext) -> u32 {
    let Some(ring) = Ring::of(KIND_FREE) else { return 0 };
    ring.count_emitted();
    let [pfn_at, order_at] = FREE_AT.load();
    let pfn: u64 = field(&ctx, pfn_at);
    on_free(ring, pfn as u32, field(&ctx, order_at));
    0
}
