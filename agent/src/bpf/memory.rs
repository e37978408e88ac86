//! Shared memory of a BPF array.

#![expect(unsafe_code, reason = "mapping of a BPF map's memory")]

use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, AtomicU64};

use fragscope_trace::page::PAGE_SIZE;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// A read-write mapping of a mmapable BPF array. It stays valid when the map's descriptor is
/// closed. The kernel's programs write to it at any time, so it is only read and written through
/// atomics.
#[derive(Debug)]
pub struct MapMemory {
    at: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and all access is atomic.
unsafe impl Send for MapMemory {}
// SAFETY: as above.
unsafe impl Sync for MapMemory {}

impl MapMemory {
    /// Maps the first `bytes` of `map`.
    ///
    /// # Errors
    /// What `mmap` says: the map is not mmapable or smaller.
    pub fn new(map: impl AsFd, bytes: usize) -> io::Result<MapMemory> {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe {
            mmap(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map, 0)
        }?;
        let at = NonNull::new(at).ok_or_else(|| io::Error::other("mmap returned no address"))?;
        Ok(MapMemory { at, bytes })
    }

    /// The word at byte `offset`, which must be a multiple of 8 inside the mapping.
    #[inline]
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes, "word {offset} is outside");
        // SAFETY: aligned and inside the mapping, which lives as long as `self`.
        unsafe { self.at.cast::<u8>().add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// The `count` words from byte `offset` on.
    #[inline]
    #[must_use]
    pub fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        let end = count.checked_mul(8).and_then(|b| b.checked_add(offset));
        assert!(
            offset.is_multiple_of(8) && end.is_some_and(|e| e <= self.bytes),
            "words {offset}+{count} are outside"
        );
        // SAFETY: aligned and inside the mapping, which lives as long as `self`.
        unsafe {
            let from = self.at.cast::<u8>().add(offset).cast::<AtomicU64>();
            std::slice::from_raw_parts(from.as_ptr(), count)
        }
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: inside the mapping, which lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.at.cast::<AtomicU8>().as_ptr(), self.bytes) }
    }
}

impl Drop for MapMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference to it outlives `self`. An error would
        // mean that it is not mapped, which leaves nothing to do.
        let _ = unsafe { munmap(self.at.as_ptr(), self.bytes) };
    }
}

/// Takes `bytes` of new memory from the kernel in pages of 4 KiB, touches each, and gives them back:
/// one order-0 allocation and one free a page.
///
/// # Errors
/// What `mmap` says.
pub fn touch_fresh_pages(bytes: usize) -> io::Result<()> {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe { mmap_anonymous(null_mut(), bytes, rights, MapFlags::PRIVATE) }?;
    // A kernel without huge pages refuses the advice, and needs none.
    // SAFETY: the mapping just made; the advice changes no content.
    let _ = unsafe { madvise(at, bytes, Advice::LinuxNoHugepage) };
    for offset in (0..bytes).step_by(PAGE_SIZE as usize) {
        // SAFETY: inside the mapping, to which nothing else refers.
        unsafe { at.cast::<u8>().add(offset).write_volatile(1) };
    }
    // SAFETY: the mapping just made, to which no reference exists.
    unsafe { munmap(at, bytes) }?;
    Ok(())
}
