//! Programs on kernel functions, for what no tracepoint reports: moves of pages, and allocations in
//! bulk. Not every kernel lets programs attach to functions.
//!
//! Arguments are fetched by helpers: as such they are numbers, which the verifier lets be used for
//! arithmetic.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_func_arg, bpf_get_func_arg_cnt, bpf_get_func_ret, bpf_loop,
};
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use core::ffi::c_void;
use core::ptr::addr_of_mut;
use fragscope_ebpf::pagemap::{ALLOCATED, NOBODY, allocated};
use fragscope_ebpf::side::{BULK_PAGES_MAX, SIDE_BULK_ALLOC, SIDE_MOVED};

use super::clock::{Asker, now_ns};
use super::page::{folio_order, is_own, pfn_of, read_word};
use super::{pagemap, side};

/// Argument `number` of the function; 0 if it has none.
#[inline(always)]
fn argument<C: EbpfContext>(ctx: &C, number: u32) -> u64 {
    let mut value = 0;
    // SAFETY: the helper writes one word.
    match unsafe { bpf_get_func_arg(ctx.as_ptr(), number, addr_of_mut!(value)) } {
        0 => value,
        _ => 0,
    }
}

/// `folio_migrate_flags(new, old)`: the last that migration does to a folio before the old one is
/// freed, on all its ways. What allocated the new one may have been seen by nobody.
#[fentry(function = "folio_migrate_flags")]
pub(crate) fn folio_moved(ctx: FEntryContext) -> i32 {
    let (new, old) = (argument(&ctx, 0), argument(&ctx, 1));
    let (Some(to), Some(from)) = (pfn_of(new), pfn_of(old)) else { return 0 };
    let order = folio_order(old);
    let own = fragscope_ebpf::pagemap::is_own(pagemap::get(from));
    // The free of the old one, on whatever CPU, has to come after this.
    pagemap::exchange(from, allocated(order, own, NOBODY));
    pagemap::exchange(to, allocated(order, own, NOBODY));
    let words = [u64::from(from), u64::from(to), u64::from(order), 0, 0, 0, 0];
    side::emit_now(SIDE_MOVED, words);
    0
}

/// What the pages of one call have in common.
#[repr(C)]
struct Bulk {
    array: u64,
    time: u64,
    gfp: u64,
    own: u64,
}

/// Order-0 pages into an array, the last argument. Slots may have been filled before the call, and
/// single pages come with an event: neither is reported again, as the byte map knows them.
#[fexit(function = "alloc_pages_bulk_noprof")]
pub(crate) fn bulk_allocated(ctx: FExitContext) -> i32 {
    // SAFETY: the helper only reads the context.
    let arguments = unsafe { bpf_get_func_arg_cnt(ctx.as_ptr()) } as u32;
    let array = argument(&ctx, arguments.wrapping_sub(1));
    let mut filled = 0;
    // SAFETY: the helper writes one word.
    let failed = unsafe { bpf_get_func_ret(ctx.as_ptr(), addr_of_mut!(filled)) };
    if failed != 0 || array == 0 {
        return 0;
    }
    let own = u64::from(is_own());
    let mut bulk = Bulk {
        array,
        time: now_ns(Asker::of_side(SIDE_BULK_ALLOC)),
        gfp: argument(&ctx, 0) & 0xffff_ffff,
        own,
    };
    let pages = if filled > BULK_PAGES_MAX { BULK_PAGES_MAX } else { filled };
    // SAFETY: the function takes what it is given here.
    unsafe {
        bpf_loop(pages as u32, one_of_bulk as *mut c_void, addr_of_mut!(bulk).cast(), 0);
    }
    0
}

/// Reports the page in one slot.
extern "C" fn one_of_bulk(slot: u32, bulk: *mut Bulk) -> i64 {
    // SAFETY: `bpf_loop` passes on the pointer that it got.
    let bulk = unsafe { &*bulk };
    let page = read_word(bulk.array + u64::from(slot) * 8);
    let Some(pfn) = pfn_of(page) else { return 0 };
    if pagemap::get(pfn) & ALLOCATED != 0 {
        return 0;
    }
    pagemap::exchange(pfn, allocated(0, bulk.own != 0, NOBODY));
    side::emit(SIDE_BULK_ALLOC, bulk.time, [u64::from(pfn), bulk.gfp, bulk.own, 0, 0, 0, 0]);
    0
}
