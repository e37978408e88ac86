//! Reading of the rings that the page programs write.
//!
//! * [`pages`]: the hand-made ring per CPU and program, in shared memory;
//! * [`buffers`]: one BPF ring buffer per CPU, where those can't be used;
//! * [`decode`]: records to events.

pub mod buffers;
pub mod decode;
pub mod pages;

use fragscope_ebpf::record::Record;
use fragscope_trace::page::CpuId;

use self::buffers::BufferRings;
use self::pages::PageRings;

/// Shape of the rings, as the programs were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// Possible CPUs.
    pub cpus: u32,
    /// Rings per CPU.
    pub kinds: u32,
    /// Data pages per ring: a power of two, or 0 with BPF ring buffers.
    pub data_pages: u32,
}

impl RingShape {
    /// Elements of the array that holds the rings.
    #[must_use]
    pub fn elements(self) -> u32 {
        self.cpus * self.kinds * (1 + self.data_pages)
    }
}

/// What the programs counted for one ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Events meant to be delivered.
    pub emitted: u64,
    /// Dropped because the ring was full.
    pub lost_full: u64,
    /// Dropped because they made no sense.
    pub lost_bad: u64,
    /// Counted by region instead.
    pub shed: u64,
}

/// Where page records come from.
#[derive(Debug)]
pub enum Channel {
    /// Rings in shared memory.
    Pages(PageRings),
    /// BPF ring buffers; the shared memory holds the counters only.
    Buffers(PageRings, BufferRings),
}

impl Channel {
    /// Passes every record that was complete when its ring was looked at to `take`. Returns the
    /// largest fill of any ring, in thousandths.
    pub fn drain(&mut self, mut take: impl FnMut(CpuId, Record)) -> u32 {
        match self {
            Channel::Pages(rings) => rings.drain(take),
            Channel::Buffers(_, buffers) => buffers.drain(&mut take),
        }
    }

    /// The counters of the ring of `kind` on `cpu`.
    #[must_use]
    pub fn counters(&self, cpu: u32, kind: u32) -> RingCounters {
        let (Channel::Pages(rings) | Channel::Buffers(rings, _)) = self;
        rings.counters(cpu, kind)
    }

    /// Asks the programs to count events by region instead of recording them, or to record them
    /// again.
    pub fn shed(&self, on: bool) {
        let (Channel::Pages(rings) | Channel::Buffers(rings, _)) = self;
        rings.shed(on);
    }

    /// Shape of the rings.
    #[must_use]
    pub fn shape(&self) -> RingShape {
        let (Channel::Pages(rings) | Channel::Buffers(rings, _)) = self;
        rings.shape()
    }
}
