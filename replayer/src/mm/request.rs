//! What a caller asks of an allocator, and what it may be told.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId, Migratetype};

/// How a request enters the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Entry {
    /// `alloc_pages` and everything built on it.
    #[default]
    Normal,
    /// `alloc_pages_bulk`: order 0, from the per-CPU lists, without NOFRAGMENT.
    Bulk,
    /// `alloc_pages_nolock`: try-locks only, no slow path.
    NoLock,
}

/// One request for a block of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// log2 of its pages, at most `MAX_PAGE_ORDER`.
    pub order: u8,
    /// Flags, canonical layout.
    pub gfp: Gfp,
    /// CPU that asks; its node's zonelist is used.
    pub cpu: CpuId,
    /// What the pages will hold.
    pub content: Content,
    /// Way in.
    pub entry: Entry,
}

impl Request {
    /// A normal request whose content follows from its flags.
    #[must_use]
    pub fn new(order: u8, gfp: Gfp, cpu: CpuId) -> Request {
        let content = Content::of_allocation(gfp);
        Request { order, gfp, cpu, content, entry: Entry::Normal }
    }

    /// The mobility type asked for.
    #[must_use]
    pub fn migratetype(&self) -> Migratetype {
        self.gfp.migratetype()
    }
}

/// Why an allocator gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// No zone had a block, after everything the request allows.
    NoMemory,
    /// The policy declined although a block could have been found (SPB: cheap fallback,
    /// servable at a lower order, NORETRY); the caller is expected to fall back.
    Policy,
    /// The order is larger than any block.
    OrderTooLarge,
}

/// How a block comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FreeEntry {
    /// `free_frozen_pages` and everything built on it.
    #[default]
    Normal,
    /// May not spin.
    NoLock,
}
