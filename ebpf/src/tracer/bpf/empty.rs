//! Programs that do nothing: what it costs to run any program at a tracepoint.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn empty_alloc(_ctx: RawTracePointContext) -> i32 {
    0
}

#[raw_tracepoint(tracepoint = "mm_page_free")]
pub(crate) fn empty_free(_ctx: RawTracePointContext) -> i32 {
    0
}
