//! Times of events: see `fragscope_ebpf::clock`.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use core::ptr::addr_of_mut;
use fragscope_ebpf::record::ALL_KINDS;

use super::channel::{MMAPABLE, add_one};
use super::settings::BURST;

/// One CPU's burst.
#[repr(C)]
struct Clock {
    /// Who is at work on this.
    owner: u64,
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

/// A program that asks for the time, as a number. Programs of one number never interrupt each other:
/// the kernel does not run a program inside itself.
#[derive(Clone, Copy)]
pub(super) struct Asker(u64);

impl Asker {
    /// The program of page events of this kind.
    #[inline(always)]
    pub(super) const fn of_pages(kind: u32) -> Asker {
        Asker(1 + kind as u64)
    }

    /// The program of rare events of this kind.
    #[inline(always)]
    pub(super) const fn of_side(kind: u32) -> Asker {
        Asker(1 + (ALL_KINDS + kind) as u64)
    }
}

/// The time of an event, by the clock; nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(super) fn now_ns(asker: Asker) -> u64 {
    time(asker, 0)
}

/// The time of an allocation or free of a block. It may be in a burst if this CPU was the last to
/// touch a single page; what happens later to each page of a larger block comes after it, on any CPU.
#[inline(always)]
pub(super) fn of_block(asker: Asker, order: u32, is_mine: bool) -> u64 {
    let time = time(asker, if order == 0 && is_mine { BURST.load() } else { 0 });
    if order != 0
        && let Some(at) = EPOCH.get_ptr_mut(0)
    {
        // SAFETY: an aligned word of a map.
        unsafe { add_one(at) };
    }
    time
}

/// How often an interrupt that asks as well makes the interrupted ask again.
const TRIES: u32 = 4;

/// A time for one of the first `burst` events after a reading of the clock, or a new reading.
///
/// An interrupt may ask on the same element meanwhile. What was interrupted would enter a time from
/// before the interrupt's; it finds another in its place as owner, and reads the clock anew. (Atomic
/// operations would do without, but wait for all stores before them, which costs as much as the
/// clock.) A new reading is entered in an order in which an interrupt finds the burst over until all
/// of it stands there.
#[inline(always)]
fn time(asker: Asker, mut burst: u64) -> u64 {
    let (Some(clock), Some(epoch_at)) = (CLOCKS.get_ptr_mut(0), EPOCH.get_ptr(0)) else {
        // SAFETY: the helper takes nothing and cannot fail.
        return unsafe { bpf_ktime_get_ns() };
    };
    let mut time = 0;
    for _ in 0..TRIES {
        // SAFETY: both are map elements; the first is this CPU's own. The helpers cannot fail.
        unsafe {
            let owner_at = addr_of_mut!((*clock).owner);
            owner_at.write_volatile(asker.0);
            let (jiffies, epoch) = (bpf_jiffies64(), epoch_at.read_volatile());
            let last = addr_of_mut!((*clock).last).read_volatile();
            let is_in_burst = last.wrapping_sub(addr_of_mut!((*clock).base).read_volatile())
                < burst
                && addr_of_mut!((*clock).jiffies).read_volatile() == jiffies
                && addr_of_mut!((*clock).epoch).read_volatile() == epoch;
            time = last + 1;
            if !is_in_burst {
                let now = bpf_ktime_get_ns();
                addr_of_mut!((*clock).base).write_volatile(now);
                addr_of_mut!((*clock).jiffies).write_volatile(jiffies);
                addr_of_mut!((*clock).epoch).write_volatile(epoch);
                if now > last {
                    time = now;
                }
            }
            addr_of_mut!((*clock).last).write_volatile(time);
            if owner_at.read_volatile() == asker.0 {
                return time;
            }
        }
        burst = 0;
    }
    time
}
