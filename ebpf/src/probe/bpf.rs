//! The programs of the probe object.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id};
use aya_ebpf::macros::{map, raw_tracepoint, tracepoint};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use fragscope_ebpf::LICENCE;
use fragscope_ebpf::probe::{
    CHUNK_BYTES, COPY_RC, CPU_SLOT, OWN_TGID, PAGE_FIRST, PAIR_ORDERS, PAIR_SLOTS, PAIRS_STORED,
    PFN_FIRST, PROBE_SLOTS, Pair,
};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

#[map]
static CHUNK: Array<[u8; CHUNK_BYTES]> = Array::with_max_entries(1, MMAPABLE);
#[map]
static PROBE: Array<u64> = Array::with_max_entries(PROBE_SLOTS, 0);
#[map]
static PAIRS: Array<Pair> = Array::with_max_entries(PAIR_ORDERS * PAIR_SLOTS, 0);
#[map]
static LAST_PAGE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static LAST_PFN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Offset of the field `pfn` in the record of `kmem:mm_page_alloc`.
#[unsafe(no_mangle)]
static PAIR_PFN_OFFSET: Global<u32> = Global::new(8);

fn store(slot: u32, value: u64) {
    if let Some(at) = PROBE.get_ptr_mut(slot) {
        // SAFETY: the map holds aligned words, and a lost race only loses a value.
        unsafe { at.write_volatile(value) };
    }
}

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn copy_pages(ctx: RawTracePointContext) -> i32 {
    let from: u64 = ctx.arg(0);
    let asked: u64 = ctx.arg(1);
    let bytes = if asked == 0 || asked > CHUNK_BYTES as u64 { CHUNK_BYTES as u64 } else { asked };
    if let Some(chunk) = CHUNK.get_ptr_mut(0) {
        // SAFETY: at most the whole map element is written; the helper checks the source.
        let rc = unsafe {
            bpf_probe_read_kernel(chunk.cast::<c_void>(), bytes as u32, from as *const c_void)
        };
        // aya's wrapper drops the program's return value, so the code travels in a map.
        store(COPY_RC, rc as u64);
    }
    0
}

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn locate_cpu(_ctx: RawTracePointContext) -> i32 {
    if let Some(slot) = LAST_PAGE.get_ptr_mut(0) {
        store(CPU_SLOT, slot as u64);
    }
    0
}

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn identify(_ctx: RawTracePointContext) -> i32 {
    store(OWN_TGID, bpf_get_current_pid_tgid() >> 32);
    0
}

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn pair_page(ctx: RawTracePointContext) -> i32 {
    let page: u64 = ctx.arg(0);
    let pfn = exchange(&LAST_PFN, 0);
    store_pair(PFN_FIRST, page, pfn);
    exchange(&LAST_PAGE, page);
    0
}

#[tracepoint]
pub(crate) fn pair_pfn(ctx: TracePointContext) -> u32 {
    // SAFETY: the helper checks the address; a wrong offset gives a wrong pfn, which the reader
    // of the pairs finds out.
    if let Ok(pfn) = unsafe { ctx.read_at::<u64>(PAIR_PFN_OFFSET.load() as usize) } {
        let page = exchange(&LAST_PAGE, 0);
        store_pair(PAGE_FIRST, page, pfn);
        exchange(&LAST_PFN, pfn);
    }
    0
}

/// Puts `value` into this CPU's word; returns what was there.
fn exchange(map: &PerCpuArray<u64>, value: u64) -> u64 {
    let Some(word) = map.get_ptr_mut(0) else { return 0 };
    // SAFETY: the word is this CPU's own.
    unsafe {
        let old = word.read_volatile();
        word.write_volatile(value);
        old
    }
}

/// Stores what one program noted on this CPU beside what the other sees now. Nothing was noted if
/// either is 0; failed allocations have no page.
fn store_pair(order: u32, page: u64, pfn: u64) {
    if page == 0 || pfn == 0 {
        return;
    }
    let Some(count) = PROBE.get_ptr_mut(PAIRS_STORED + order) else { return };
    // SAFETY: an aligned word of a map. CPUs that race for the count overwrite each other's pair as
    // a whole or in part; the reader takes the majority.
    let stored = unsafe { count.read_volatile() };
    // SAFETY: the helper takes nothing and cannot fail.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let at = (stored as u32).wrapping_add(cpu.wrapping_mul(61)) % PAIR_SLOTS;
    if let Some(pair) = PAIRS.get_ptr_mut(order * PAIR_SLOTS + at) {
        // SAFETY: as above.
        unsafe {
            pair.write_volatile(Pair { page, pfn });
            count.write_volatile(stored + 1);
        }
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; LICENCE.len()] = *LICENCE;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
