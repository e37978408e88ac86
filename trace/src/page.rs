//! Page frames and the sizes they are counted in.
//!
//! Every index space has its own type, so that a pageblock number cannot be taken for a pfn.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes in a base page. Only 4 KiB pages are supported.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of the pages in a 1 GiB region.
pub const REGION_ORDER: u8 = 18;
/// Base pages in a 1 GiB region.
pub const REGION_PAGES: u64 = 1 << REGION_ORDER;
/// Largest order of the buddy allocator (`MAX_PAGE_ORDER`).
pub const MAX_PAGE_ORDER: u8 = 10;
/// Number of buddy orders (`NR_PAGE_ORDERS`).
pub const NR_PAGE_ORDERS: usize = MAX_PAGE_ORDER as usize + 1;
/// log2 of the pages in a pageblock on x86-64 (`pageblock_order`).
pub const PAGEBLOCK_ORDER: u8 = 9;
/// Base pages in a pageblock on x86-64.
pub const PAGEBLOCK_PAGES: u64 = 1 << PAGEBLOCK_ORDER;
/// Largest order an event may carry: a gigantic page is freed as one order-18 block.
pub const MAX_EVENT_ORDER: u8 = 30;

const _: () = assert!(REGION_PAGES * PAGE_SIZE == 1 << 30);
const _: () = assert!(MAX_EVENT_ORDER < 32, "an order must fit five bits of a page event");

/// A page frame number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Pfn(pub u64);

impl Pfn {
    /// The pfn `pages` further on, or the last pfn there is: a trace may hold any number.
    #[must_use]
    pub fn offset(self, pages: u64) -> Pfn {
        Pfn(self.0.saturating_add(pages))
    }

    /// The first pfn of the aligned block of `order` that holds this one.
    #[must_use]
    pub fn align_down(self, order: u8) -> Pfn {
        Pfn(self.0 >> order << order)
    }

    /// Whether an aligned block of `order` can start here.
    #[must_use]
    pub fn is_aligned(self, order: u8) -> bool {
        self.0 & ((1 << order) - 1) == 0
    }

    /// Number of the 1 GiB region that holds this pfn, counted from physical address 0.
    #[must_use]
    pub fn region(self) -> u64 {
        self.0 >> REGION_ORDER
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A half-open range of page frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PfnRange {
    /// First pfn.
    pub start: Pfn,
    /// One past the last pfn.
    pub end: Pfn,
}

impl PfnRange {
    /// The range of `pages` pages from `start`.
    #[must_use]
    pub fn new(start: Pfn, pages: u64) -> PfnRange {
        PfnRange { start, end: start.offset(pages) }
    }

    /// Number of pages.
    #[must_use]
    pub fn pages(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether `pfn` lies in the range.
    #[must_use]
    pub fn contains(self, pfn: Pfn) -> bool {
        (self.start.0..self.end.0).contains(&pfn.0)
    }

    /// The pages that both ranges hold, or `None`.
    #[must_use]
    pub fn intersect(self, other: PfnRange) -> Option<PfnRange> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(PfnRange { start, end })
    }

    /// The raw pfns, to loop over.
    #[must_use]
    pub fn raw(self) -> Range<u64> {
        self.start.0..self.end.0
    }
}

/// A logical CPU, by the kernel's id.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CpuId(pub u16);

/// The mobility type of an allocation, a pageblock or a free list, in one canonical numbering.
///
/// Kernels number the types after `HighAtomic` differently (`MIGRATE_CMA` exists only with
/// `CONFIG_CMA`); the agent translates by name from BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Migratetype {
    /// `MIGRATE_UNMOVABLE`
    Unmovable = 0,
    /// `MIGRATE_MOVABLE`
    Movable = 1,
    /// `MIGRATE_RECLAIMABLE`
    Reclaimable = 2,
    /// `MIGRATE_HIGHATOMIC`
    HighAtomic = 3,
    /// `MIGRATE_CMA`
    Cma = 4,
    /// `MIGRATE_ISOLATE`
    Isolate = 5,
}

impl Migratetype {
    /// How many types there are.
    pub const COUNT: usize = 6;
    /// All types, in their numeric order.
    pub const ALL: [Migratetype; Self::COUNT] = [
        Migratetype::Unmovable,
        Migratetype::Movable,
        Migratetype::Reclaimable,
        Migratetype::HighAtomic,
        Migratetype::Cma,
        Migratetype::Isolate,
    ];
    /// Number of types that per-CPU lists hold (`MIGRATE_PCPTYPES`).
    pub const PCP_TYPES: usize = 3;

    /// The type with this canonical number.
    #[must_use]
    pub const fn from_index(index: usize) -> Option<Migratetype> {
        if index < Self::COUNT { Some(Self::ALL[index]) } else { None }
    }

    /// Position in [`Migratetype::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether free blocks of this type may merge across pageblocks of another such type and be
    /// retyped (the three PCP types; `migratetype_is_mergeable`).
    #[must_use]
    pub const fn is_mergeable(self) -> bool {
        (self as usize) < Self::PCP_TYPES
    }

    /// The name as `/proc/pagetypeinfo` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Migratetype::Unmovable => "Unmovable",
            Migratetype::Movable => "Movable",
            Migratetype::Reclaimable => "Reclaimable",
            Migratetype::HighAtomic => "HighAtomic",
            Migratetype::Cma => "CMA",
            Migratetype::Isolate => "Isolate",
        }
    }
}

impl fmt::Display for Migratetype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a page frame holds, by the one classifier that every track uses.
///
/// Sources: struct pages or `/proc/kpageflags` in a snapshot; in a replay the gfp flags of the
/// allocation, corrected by LRU events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Content {
    /// No memory, or memory not yet given to the allocator.
    Absent = 0,
    /// `PG_reserved`: kernel image, memblock reservations, firmware.
    Reserved = 1,
    /// Free in the buddy allocator.
    Free = 2,
    /// Free, cached on a per-CPU list.
    Pcp = 3,
    /// Allocated movable; whether anonymous or file is not known.
    Movable = 4,
    /// Anonymous memory (also shared memory and swap cache) on an LRU list.
    Anon = 5,
    /// Page cache on an LRU list.
    File = 6,
    /// Movable by its driver's operations (balloon, zsmalloc).
    MovableOps = 7,
    /// A movable page that something holds a long-term reference to.
    Pinned = 8,
    /// Slab, not known to be reclaimable.
    Slab = 9,
    /// Slab of a cache marked reclaimable, or another allocation with `__GFP_RECLAIMABLE`.
    Reclaimable = 10,
    /// A page table.
    PageTable = 11,
    /// Any other unmovable kernel page (stack, vmalloc, driver buffer, large kmalloc).
    Kernel = 12,
    /// Part of a hugetlb page below 1 GiB.
    Hugetlb = 13,
    /// Part of a gigantic (1 GiB) hugetlb page.
    Gigantic = 14,
    /// Taken off the lists by page isolation, compaction or page reporting.
    Isolated = 15,
    /// Logically offline (`PageOffline`), not movable.
    Offline = 16,
    /// Nothing known says what it is. Never counted as kernel memory by default.
    Unknown = 17,
}

impl Content {
    /// How many contents there are.
    pub const COUNT: usize = 18;
    /// All contents, in their numeric order.
    pub const ALL: [Content; Self::COUNT] = [
        Content::Absent,
        Content::Reserved,
        Content::Free,
        Content::Pcp,
        Content::Movable,
        Content::Anon,
        Content::File,
        Content::MovableOps,
        Content::Pinned,
        Content::Slab,
        Content::Reclaimable,
        Content::PageTable,
        Content::Kernel,
        Content::Hugetlb,
        Content::Gigantic,
        Content::Isolated,
        Content::Offline,
        Content::Unknown,
    ];

    /// The content with this number.
    #[must_use]
    pub const fn from_index(index: usize) -> Option<Content> {
        if index < Self::COUNT { Some(Self::ALL[index]) } else { None }
    }

    /// Position in [`Content::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What an allocation with `gfp` holds until something better is known.
    #[must_use]
    pub fn of_allocation(gfp: crate::gfp::Gfp) -> Content {
        match gfp.migratetype() {
            Migratetype::Movable => Content::Movable,
            Migratetype::Reclaimable => Content::Reclaimable,
            _ => Content::Kernel,
        }
    }

    /// Free for the allocator: on a buddy list, on a per-CPU list, or isolated.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, Content::Free | Content::Pcp | Content::Isolated)
    }

    /// Allocated and able to migrate.
    #[must_use]
    pub const fn is_movable(self) -> bool {
        matches!(self, Content::Movable | Content::Anon | Content::File | Content::MovableOps)
    }

    /// Allocated and standing in the way of a 1 GiB page for good: what taints a region.
    #[must_use]
    pub const fn taints(self) -> bool {
        matches!(
            self,
            Content::Pinned
                | Content::Slab
                | Content::Reclaimable
                | Content::PageTable
                | Content::Kernel
                | Content::Offline
        )
    }

    /// Handed out by the allocator (neither absent, nor reserved at boot, nor free).
    #[must_use]
    pub const fn is_allocated(self) -> bool {
        !matches!(self, Content::Absent | Content::Reserved) && !self.is_free()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_positions() {
        for (i, c) in Content::ALL.into_iter().enumerate() {
            assert_eq!((c.index(), Content::from_index(i)), (i, Some(c)));
        }
        for (i, m) in Migratetype::ALL.into_iter().enumerate() {
            assert_eq!((m.index(), Migratetype::from_index(i)), (i, Some(m)));
        }
        assert_eq!(Content::from_index(Content::COUNT), None);
    }

    #[test]
    fn every_content_has_exactly_one_role() {
        for c in Content::ALL {
            let other = matches!(
                c,
                Content::Absent
                    | Content::Reserved
                    | Content::Hugetlb
                    | Content::Gigantic
                    | Content::Unknown
            );
            let roles = [c.is_free(), c.is_movable(), c.taints(), other];
            assert_eq!(roles.into_iter().filter(|r| *r).count(), 1, "{c:?}");
        }
    }

    #[test]
    fn ranges_intersect() {
        let a = PfnRange::new(Pfn(10), 10);
        assert_eq!(a.intersect(PfnRange::new(Pfn(15), 10)), Some(PfnRange::new(Pfn(15), 5)));
        assert_eq!(a.intersect(PfnRange::new(Pfn(20), 1)), None);
    }
}
