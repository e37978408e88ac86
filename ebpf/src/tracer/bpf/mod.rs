//! Programs and maps of the tracer object.

mod channel;
mod context;
mod page;
mod pagemap;
mod settings;
mod side;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn this_cpu() -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_get_smp_processor_id() }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
