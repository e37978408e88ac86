//! Programs for rare events. They are classic tracepoints, whose fields are found by name at load
//! time: these events' internal arguments change more often, and their rate does not matter.

use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::macros::{btf_map, map, tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TracePointContext;
use fragscope_ebpf::side::{
    SIDE_COMPACTION_BEGIN, SIDE_COMPACTION_END, SIDE_CONTIG_TEST, SIDE_COUNTERS, SIDE_EXTFRAG,
    SIDE_KINDS, SIDE_MIGRATED, SIDE_RING_BYTES, SIDE_WORDS, SideRecord,
};

use super::channel::{NO_WAKEUP, add_one};
use super::page::field;
use super::settings::{COMPACTION_BEGIN_AT, COMPACTION_END_AT, CONTIG_AT, EXTFRAG_AT, MIGRATE_AT};
use super::{now_ns, this_cpu};

#[btf_map]
static SIDES: RingBuf<SideRecord, SIDE_RING_BYTES> = RingBuf::new();
#[map]
static SIDE_COUNTS: Array<u64> = Array::with_max_entries(SIDE_COUNTERS, 0);

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
    emit(SIDE_EXTFRAG, now_ns(), words);
    0
}

#[tracepoint]
pub(crate) fn contig_test(ctx: TracePointContext) -> u32 {
    let at = CONTIG_AT.load();
    let words = [field(&ctx, at[0]), field(&ctx, at[1]), field(&ctx, at[2]), 0, 0, 0, 0];
    emit(SIDE_CONTIG_TEST, now_ns(), words);
    0
}

#[tracepoint]
pub(crate) fn compact_begin(ctx: TracePointContext) -> u32 {
    let at = COMPACTION_BEGIN_AT.load();
    emit(SIDE_COMPACTION_BEGIN, now_ns(), [field(&ctx, at[0]), field(&ctx, at[1]), 0, 0, 0, 0, 0]);
    0
}

#[tracepoint]
pub(crate) fn compact_end(ctx: TracePointContext) -> u32 {
    let at = COMPACTION_END_AT.load();
    emit(SIDE_COMPACTION_END, now_ns(), [field(&ctx, at[0]), field(&ctx, at[1]), 0, 0, 0, 0, 0]);
    0
}

#[tracepoint]
pub(crate) fn migrate_pages(ctx: TracePointContext) -> u32 {
    let at = MIGRATE_AT.load();
    let reason = u64::from(field::<u32>(&ctx, at[2]));
    emit(SIDE_MIGRATED, now_ns(), [field(&ctx, at[0]), field(&ctx, at[1]), reason, 0, 0, 0, 0]);
    0
}
