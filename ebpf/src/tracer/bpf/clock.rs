//! Times of events: see `fragscope_ebpf::clock`.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};
use core::ptr::addr_of_mut;

use super::channel::{MMAPABLE, add_one};
use super::settings::BURST;

/// One CPU's burst.
#[repr(C)]
struct Clock {
    /// The last time given out.
    last: u64,
    /// The reading that the burst began with.
    base: u64,
    /// Tick and epoch before that reading.
    jiffies: u64,
    epoch: u64,
}

#[map]
static CLOCKS: PerCpuArray<Clock> = PerCpuArray::with_max_entries(1, 0);
#[map]
static EPOCH: Array<u64> = Array::with_max_entries(1, MMAPABLE);

/// The time of an event, by the clock; nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(super) fn now_ns() -> u64 {
    time(0)
}

/// The time of an allocation or free of a block. It may be in a burst if this CPU was the last to
/// touch a single page; what happens later to each page of a larger block comes after it, on any CPU.
#[inline(always)]
pub(super) fn of_block(order: u32, is_mine: bool) -> u64 {
    let time = time(if order == 0 && is_mine { BURST.load() } else { 0 });
    if order != 0
        && let Some(at) = EPOCH.get_ptr_mut(0)
    {
        // SAFETY: an aligned word of a map.
        unsafe { add_one(at) };
    }
    time
}

/// A time for one of the first `burst` events after a reading of the clock, or a new reading.
///
/// An interrupt may do the same in between, on the same element. So times are given out by atomic
/// operations, each once and ascending; and a new reading is entered in an order in which an
/// interrupt finds the burst over until all of it stands there.
#[inline(always)]
fn time(burst: u64) -> u64 {
    let (Some(clock), Some(epoch)) = (CLOCKS.get_ptr_mut(0), EPOCH.get_ptr(0)) else {
        // SAFETY: the helper takes nothing and cannot fail.
        return unsafe { bpf_ktime_get_ns() };
    };
    // SAFETY: both are map elements; the first is this CPU's own. The helpers cannot fail.
    unsafe {
        let (jiffies, epoch) = (bpf_jiffies64(), epoch.read_volatile());
        let last_at = addr_of_mut!((*clock).last);
        let base_at = addr_of_mut!((*clock).base);
        let jiffies_at = addr_of_mut!((*clock).jiffies);
        let epoch_at = addr_of_mut!((*clock).epoch);
        let last = last_at.read_volatile();
        if last.wrapping_sub(base_at.read_volatile()) < burst
            && jiffies_at.read_volatile() == jiffies
            && epoch_at.read_volatile() == epoch
        {
            return next(last_at);
        }
        let now = bpf_ktime_get_ns();
        base_at.write_volatile(now);
        jiffies_at.write_volatile(jiffies);
        epoch_at.write_volatile(epoch);
        // Else an interrupt has read the clock later than this, or the clock stands.
        let is_entered = now > last
            && atomic_cxchg::<u64, { AtomicOrdering::Relaxed }, { AtomicOrdering::Relaxed }>(
                last_at, last, now,
            )
            .1;
        if is_entered { now } else { next(last_at) }
    }
}

/// # Safety
/// `last` is an aligned word of a map.
#[inline(always)]
unsafe fn next(last: *mut u64) -> u64 {
    // Not relaxed: for that LLVM takes the instruction that does not give back what stood there, also
    // where that is used.
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(last, 1) + 1 }
}
