//! User space's side of the byte map of regions: see [`fragscope_ebpf::taint`].

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use fragscope_ebpf::taint::{CLEAN, MAP_PAGE_REGIONS};
use fragscope_trace::page::{Pfn, REGION_PAGES};
use fragscope_trace::region::census;
use fragscope_trace::snapshot::Snapshot;

use super::memory::MapMemory;

/// The map's memory.
#[derive(Debug)]
pub struct TaintMap {
    memory: MapMemory,
}

impl TaintMap {
    /// Maps the memory of `map`, which covers the regions below `end`.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(map: impl AsFd, end: Pfn) -> io::Result<TaintMap> {
        let bytes = elements(end) * MAP_PAGE_REGIONS;
        Ok(TaintMap { memory: MapMemory::new(map, bytes as usize)? })
    }

    /// Has the next non-movable allocation in each region told that the snapshot shows without. One
    /// that came since then may be followed by another that is told as well.
    pub fn refresh(&self, snapshot: &Snapshot) {
        for region in census(snapshot).iter().filter(|region| region.tainting_pages() == 0) {
            if let Some(byte) = self.memory.bytes().get((region.start.0 / REGION_PAGES) as usize) {
                byte.store(CLEAN, Ordering::Relaxed);
            }
        }
    }
}

/// Elements that a map of the regions below `end` has.
#[must_use]
pub fn elements(end: Pfn) -> u32 {
    end.0.div_ceil(REGION_PAGES * u64::from(MAP_PAGE_REGIONS)).max(1) as u32
}
