//! Memory that this process frees and will need again, as it does from snapshot to snapshot.
//!
//! By its defaults the C library gives large freed blocks back to the kernel. Each page of them
//! would be requested and freed anew at every snapshot: events of the recorder in its own
//! recording, and work for the very allocator that is observed.

/// Makes the C library keep freed memory: one heap, no block mapped apart from it, never trimmed.
/// To be called before there are other threads. Other C libraries than GNU's stay as they are.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "settings of the C library's heap"))]
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    for (name, value) in
        [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1), (libc::M_ARENA_MAX, 1)]
    {
        // SAFETY: changes a number in the C library and touches no memory of ours.
        if unsafe { libc::mallopt(name, value) } == 0 {
            log::debug!("the C library refused setting {name} of its heap");
        }
    }
}
