//! Who made a non-movable allocation: process, cgroup, kernel stack. Unwinding costs a
//! microsecond or two, so each CPU has a budget per window of time. The allocation that taints a
//! region is told beyond it.

use aya_ebpf::btf_maps::StackTrace;
use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::tracing::StackIdContext;
use fragscope_ebpf::side::{SIDE_CONTEXT, STACK_DEPTH, STACKS};

use super::settings::{CONTEXT_BUDGET, GFP_MOVABLE};
use super::{side, taint};

/// Nanoseconds for which a budget holds.
pub(super) const WINDOW_NS: u64 = 10_000_000;

/// Frames of the tracer itself: the program and the function that ran it. Without further flags a
/// stack whose place in the map is taken by another has no id.
const SKIP_FRAMES: u64 = 2;

/// One CPU's budget.
#[repr(C)]
struct Budget {
    window_start_ns: u64,
    used: u64,
}

#[btf_map]
static STACK_TRACES: StackTrace<STACKS, 0, STACK_DEPTH> = StackTrace::new();
#[map]
static BUDGETS: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);

/// Emits the context of a non-movable allocation while the budget lasts, or if it is the first in
/// its region.
#[inline(always)]
pub(super) fn on_alloc<C: StackIdContext>(ctx: &C, time: u64, pfn: u32, order: u32, gfp: u32) {
    if CONTEXT_BUDGET.load() == 0 || gfp & GFP_MOVABLE.load() != 0 {
        return;
    }
    let is_first = taint::is_first_in_region(pfn);
    if !take_budget(time) && !is_first {
        return;
    }
    let stack = match ctx.get_stackid(&STACK_TRACES, SKIP_FRAMES) {
        Ok(id) => id as u64 + 1,
        Err(_) => 0,
    };
    let comm = bpf_get_current_comm().unwrap_or_default();
    // SAFETY: the helper takes nothing and cannot fail.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let words = [
        u64::from(pfn),
        u64::from(order) | u64::from(gfp) << 32,
        bpf_get_current_pid_tgid() >> 32,
        cgroup,
        stack,
        word(&comm, 0),
        word(&comm, 8),
    ];
    side::emit(SIDE_CONTEXT, time, words);
}

/// Takes one from this CPU's budget, which is full again when a window has passed.
#[inline(always)]
fn take_budget(now: u64) -> bool {
    let Some(budget) = BUDGETS.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own element. An interrupt between read and write costs at most one
    // context more or less.
    unsafe {
        if now.wrapping_sub((*budget).window_start_ns) > WINDOW_NS {
            (*budget).window_start_ns = now;
            (*budget).used = 0;
        }
        (*budget).used += 1;
        (*budget).used <= CONTEXT_BUDGET.load()
    }
}

/// Eight bytes of a process name.
#[inline(always)]
fn word(comm: &[u8; 16], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&comm[at..at + 8]);
    u64::from_le_bytes(bytes)
}
