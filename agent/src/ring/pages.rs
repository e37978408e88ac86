//! The rings in shared memory: see [`fragscope_ebpf::ring`] for the layout.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use fragscope_ebpf::record::{KIND_ALLOC, KIND_FREE, Record};
use fragscope_ebpf::ring::{Header, PAGE_BYTES, PAGE_RECORDS, PAGE_RECORDS_SHIFT};
use fragscope_trace::page::CpuId;

use super::{RingCounters, RingShape};
use crate::bpf::memory::MapMemory;

/// Words in a record.
const RECORD_WORDS: usize = size_of::<Record>() / 8;

/// The reader of all rings. There must be one reader only: it owns the tails.
#[derive(Debug)]
pub struct PageRings {
    memory: MapMemory,
    shape: RingShape,
}

impl PageRings {
    /// Reads rings of `shape` in `memory`, which must be large enough for them.
    #[must_use]
    pub fn new(memory: MapMemory, shape: RingShape) -> PageRings {
        PageRings { memory, shape }
    }

    /// Shape of the rings.
    #[must_use]
    pub fn shape(&self) -> RingShape {
        self.shape
    }

    /// See [`super::Channel::drain`].
    pub fn drain(&mut self, mut take: impl FnMut(CpuId, Record)) -> u32 {
        let mut peak = 0;
        for cpu in 0..self.shape.cpus {
            for kind in 0..self.shape.kinds {
                let fill = self.drain_ring(cpu, kind, &mut take);
                peak = peak.max(fill);
            }
        }
        let capacity = u64::from(self.shape.data_pages) << PAGE_RECORDS_SHIFT;
        (peak * 1000).checked_div(capacity).unwrap_or(0) as u32
    }

    /// Takes the records of one ring up to its present head; returns how many.
    fn drain_ring(&self, cpu: u32, kind: u32, take: &mut impl FnMut(CpuId, Record)) -> u64 {
        let tail_at = self.field(cpu, kind, offset_of!(Header, tail));
        // Acquire: records below head were stored before it.
        let head = self.field(cpu, kind, offset_of!(Header, head)).load(Ordering::Acquire);
        let from = tail_at.load(Ordering::Relaxed);
        let mut at = from;
        while at < head {
            let end = head.min((at | (PAGE_RECORDS - 1)) + 1);
            for record in self.records(cpu, kind, at, end) {
                take(CpuId(cpu as u16), record);
            }
            at = end;
        }
        if at != from {
            // Release: the program may overwrite what is below the tail.
            tail_at.store(at, Ordering::Release);
        }
        at - from
    }

    /// Records `from..to`, which lie in one data page.
    fn records(&self, cpu: u32, kind: u32, from: u64, to: u64) -> impl Iterator<Item = Record> {
        let page = (from >> PAGE_RECORDS_SHIFT) as u32 & (self.shape.data_pages - 1);
        let offset = self.element(cpu, kind, 1 + page)
            + (from & (PAGE_RECORDS - 1)) as usize * size_of::<Record>();
        let words = self.memory.words(offset, (to - from) as usize * RECORD_WORDS);
        words.chunks_exact(RECORD_WORDS).map(|words| Record {
            when: words[0].load(Ordering::Relaxed),
            what: words[1].load(Ordering::Relaxed),
        })
    }

    /// The counters of one ring.
    #[must_use]
    pub fn counters(&self, cpu: u32, kind: u32) -> RingCounters {
        let read = |field| self.field(cpu, kind, field).load(Ordering::Relaxed);
        RingCounters {
            emitted: read(offset_of!(Header, emitted)),
            lost_full: read(offset_of!(Header, lost_full)),
            lost_bad: read(offset_of!(Header, lost_bad)),
            shed: read(offset_of!(Header, shed)),
        }
    }

    /// See [`super::Channel::shed`].
    pub fn shed(&self, on: bool) {
        for cpu in 0..self.shape.cpus {
            for kind in [KIND_ALLOC, KIND_FREE] {
                let at = self.field(cpu, kind, offset_of!(Header, shedding));
                at.store(u64::from(on), Ordering::Relaxed);
            }
        }
    }

    fn field(&self, cpu: u32, kind: u32, offset: usize) -> &AtomicU64 {
        self.memory.word(self.element(cpu, kind, 0) + offset)
    }

    /// Byte offset of an element of a ring: 0 is the header, 1 the first data page.
    fn element(&self, cpu: u32, kind: u32, element: u32) -> usize {
        let ring = cpu * self.shape.kinds + kind;
        (ring * (1 + self.shape.data_pages) + element) as usize * PAGE_BYTES
    }
}
