//! Capabilities, and giving them up.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::bpf::host::kernel_version;

/// Since Linux 6.0 a map that is open can be read without rights, whatever
/// `kernel.unprivileged_bpf_disabled` says.
const MAPS_BY_DESCRIPTOR_SINCE: (u32, u32) = (6, 0);

/// What stays, with names: nothing, but for old kernels, on which maps could not be read.
fn kept() -> (CapabilitySet, Vec<&'static str>) {
    if kernel_version() >= MAPS_BY_DESCRIPTOR_SINCE {
        (CapabilitySet::empty(), Vec::new())
    } else {
        (CapabilitySet::BPF, vec!["CAP_BPF"])
    }
}

/// Makes sure that no program started later gets capabilities from this thread. Without the right
/// to do so `no_new_privs` has the same effect.
pub(super) fn forget_inheritable() {
    if let Err(error) = clear_ambient_capability_set() {
        log::debug!("ambient capabilities stay: {error}");
    }
    for capability in CapabilitySet::all() {
        // Unknown to this kernel, or not permitted.
        let _ = remove_capability_from_bounding_set(capability);
    }
}

/// Gives up all capabilities of this thread, but for those it goes on to need. Names what is left.
pub(super) fn give_up() -> io::Result<Vec<&'static str>> {
    let (keep, names) = kept();
    let permitted = capabilities(None)?.permitted & keep;
    let sets =
        CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    Ok(if permitted.is_empty() { Vec::new() } else { names })
}
