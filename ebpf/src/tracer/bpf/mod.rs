//! Programs and maps of the tracer object.

mod channel;
mod clock;
mod context;
mod counts;
mod empty;
mod functions;
mod page;
mod pagemap;
mod settings;
mod side;
mod taint;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use fragscope_ebpf::LICENCE;

#[inline(always)]
fn this_cpu() -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_get_smp_processor_id() }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; LICENCE.len()] = *LICENCE;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
