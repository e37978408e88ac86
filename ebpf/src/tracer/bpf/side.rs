//! Programs for rare events.
//!
//! They are raw tracepoints where the arguments say all that is wanted: closing a classic one makes
//! the closing process wait for a grace period. Only `extfrag` is classic, because whether the
//! pageblock changed hands stands in its record but not in its arguments.

use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::macros::{btf_map, map, raw_tracepoint, tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use fragscope_ebpf::side::{
    SIDE_COMPACTION_BEGIN, SIDE_COMPACTION_END, SIDE_CONTIG_TEST, SIDE_COUNTERS, SIDE_EXTFRAG,
    SIDE_KINDS, SIDE_MIGRATED, SIDE_RING_BYTES, SIDE_WORDS, SideRecord,
};

use super::channel::{NO_WAKEUP, add_one};
use super::clock::{Asker, now_ns};
use super::page::field;
use super::settings::EXTFRAG_AT;
use super::this_cpu;

#[btf_map]
static SIDES: RingBuf<SideRecord, SIDE_RING_BYTES> = RingBuf::new();
#[map]
static SIDE_COUNTS: Array<u64> = Array::with_max_entries(SIDE_COUNTERS, 0);

/// Delivers a rare event of the program for this kind, or counts it as lost.
#[inline(always)]
pub(super) fn emit_now(kind: u32, words: [u64; SIDE_WORDS]) {
    emit(kind, now_ns(Asker::of_side(kind)), words);
}

/// Delivers a rare event, or counts it as lost.
#[inline(always)]
pub(super) fn emit(kind: u32, time_ns: u64, words: [u64; SIDE_WORDS]) {
    count(kind);
    let record = SideRecord { time_ns, kind, cpu: this_cpu(), words };
    if SIDES.output(record, NO_WAKEUP).is_err() {
        count(SIDE_KINDS as u32 + kind);
    }
}

#[inline(always)]
fn count(counter: u32) {
    if let Some(at) = SIDE_COUNTS.get_ptr_mut(counter) {
        // SAFETY: an aligned word of a map.
        unsafe { add_one(at) };
    }
}

#[tracepoint]
pub(crate) fn extfrag(ctx: TracePointContext) -> u32 {
    let at = EXTFRAG_AT.load();
    let small = |i: usize| u64::from(field::<u32>(&ctx, at[i]));
    let words = [field(&ctx, at[0]), small(1), small(2), small(3), small(4), small(5), 0];
    emit_now(SIDE_EXTFRAG, words);
    0
}

/// Arguments: start, end, first pfn that was not free.
#[raw_tracepoint(tracepoint = "test_pages_isolated")]
pub(crate) fn contig_test(ctx: RawTracePointContext) -> i32 {
    emit_now(SIDE_CONTIG_TEST, [ctx.arg(0), ctx.arg(1), ctx.arg(2), 0, 0, 0, 0]);
    0
}

#[raw_tracepoint(tracepoint = "mm_compaction_begin")]
pub(crate) fn compact_begin(ctx: RawTracePointContext) -> i32 {
    on_compaction(&ctx, SIDE_COMPACTION_BEGIN)
}

#[raw_tracepoint(tracepoint = "mm_compaction_end")]
pub(crate) fn compact_end(ctx: RawTracePointContext) -> i32 {
    on_compaction(&ctx, SIDE_COMPACTION_END)
}

/// Newer kernels pass a pointer, the zone's start and end; older ones start, two pfns, and end.
/// User space tells which.
#[inline(always)]
fn on_compaction(ctx: &RawTracePointContext, kind: u32) -> i32 {
    emit_now(kind, [ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3), 0, 0, 0]);
    0
}

/// Arguments: succeeded, failed, mode, reason. The verifier wants the offsets of arguments
/// constant, hence a program for each number of counts between.
#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
pub(crate) fn migrate_pages_3(ctx: RawTracePointContext) -> i32 {
    on_migrate(&ctx, ctx.arg(3))
}

/// Three more counts.
#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
pub(crate) fn migrate_pages_6(ctx: RawTracePointContext) -> i32 {
    on_migrate(&ctx, ctx.arg(6))
}

/// Four more counts.
#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
pub(crate) fn migrate_pages_7(ctx: RawTracePointContext) -> i32 {
    on_migrate(&ctx, ctx.arg(7))
}

#[inline(always)]
fn on_migrate(ctx: &RawTracePointContext, reason: u32) -> i32 {
    emit_now(SIDE_MIGRATED, [ctx.arg(0), ctx.arg(1), u64::from(reason), 0, 0, 0, 0]);
    0
}
