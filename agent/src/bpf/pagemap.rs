//! User space's side of the byte map of pages: see [`fragscope_ebpf::pagemap`].

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use fragscope_ebpf::pagemap::{MAP_PAGE_FRAMES, NOBODY, UNTOUCHED, allocated};
use fragscope_trace::page::Pfn;
use fragscope_trace::snapshot::{PageRun, Snapshot};

use super::memory::MapMemory;

/// The map's memory.
#[derive(Debug)]
pub struct PageMap {
    memory: MapMemory,
}

impl PageMap {
    /// Maps the memory of `map`, which covers the frames below `end`.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(map: impl AsFd, end: Pfn) -> io::Result<PageMap> {
        let bytes = u64::from(elements(end)) * MAP_PAGE_FRAMES;
        Ok(PageMap { memory: MapMemory::new(map, bytes as usize)? })
    }

    /// Enters what a snapshot taken while tracing found allocated. A byte that an event has
    /// written stays: the event is younger, or as good.
    pub fn seed(&self, snapshot: &Snapshot) {
        for run in snapshot.runs.iter().filter(|run| run.content.is_allocated()) {
            self.seed_run(run);
        }
    }

    fn seed_run(&self, run: &PageRun) {
        let value = allocated(u32::from(run.order), false, NOBODY);
        for pfn in run.range().raw().step_by(1 << run.order.min(31)) {
            let Some(byte) = self.memory.bytes().get(pfn as usize) else { return };
            // Between this test and the store an event may come; losing it costs one missed or
            // one superfluous LRU event.
            if byte.load(Ordering::Relaxed) == UNTOUCHED {
                byte.store(value, Ordering::Relaxed);
            }
        }
    }
}

/// Elements that a map of the frames below `end` has.
#[must_use]
pub fn elements(end: Pfn) -> u32 {
    end.0.div_ceil(MAP_PAGE_FRAMES).max(1) as u32
}
