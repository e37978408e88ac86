//! What happened to one block: the frequent events.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TimeNs;
use crate::gfp::Gfp;
use crate::page::{CpuId, Migratetype, Pfn, PfnRange};

/// What a [`PageEvent`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PageEventKind {
    /// `kmem:mm_page_alloc`: a block was handed out.
    Alloc = 0,
    /// `kmem:mm_page_free`: a block is about to be freed. It need not match one allocation.
    Free = 1,
    /// `kmem:mm_page_alloc` with no page: the request failed. The pfn is 0.
    AllocFailed = 2,
    /// `pagemap:mm_lru_insertion` of a head page that no allocation event named (compaction
    /// targets, bulk allocations). The order is the one last known for the page, or 0.
    LruInsertion = 3,
    /// `kmem:mm_page_alloc_zone_locked`: a block left a buddy list. The migratetype is the list's.
    ZoneLocked = 4,
    /// `kmem:mm_page_pcpu_drain`: a block went from a per-CPU list to the buddy lists. The
    /// migratetype is the pageblock's.
    PcpuDrain = 5,
}

impl PageEventKind {
    /// All kinds, in their numeric order.
    pub const ALL: [PageEventKind; 6] = [
        PageEventKind::Alloc,
        PageEventKind::Free,
        PageEventKind::AllocFailed,
        PageEventKind::LruInsertion,
        PageEventKind::ZoneLocked,
        PageEventKind::PcpuDrain,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PageEventKind::Alloc => "alloc",
            PageEventKind::Free => "free",
            PageEventKind::AllocFailed => "alloc_failed",
            PageEventKind::LruInsertion => "lru_insertion",
            PageEventKind::ZoneLocked => "zone_locked",
            PageEventKind::PcpuDrain => "pcpu_drain",
        }
    }
}

bitflags::bitflags! {
    /// Marks on a page event, set by the recorder (or, `INFERRED`, by a replay).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Tags: u8 {
        /// Caused by the recorder itself. The kernel track applies it; policy tracks skip pages
        /// that carried it at their allocation, except where a model is compared with the kernel,
        /// which served them, too.
        const OWN = 1 << 0;
        /// Inside a migration window and not paired: not workload.
        const MIGRATION = 1 << 1;
        /// Delivered after a younger event had been released.
        const LATE = 1 << 2;
        /// Not traced: deduced from a later event.
        const INFERRED = 1 << 3;
    }
}

/// One allocation, free, or list movement of one block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageEvent {
    /// When the program read the clock.
    pub time_ns: TimeNs,
    /// First page of the block.
    pub pfn: Pfn,
    /// Flags of the request; empty for all kinds but `Alloc` and `AllocFailed`.
    pub gfp: Gfp,
    /// Where the program ran.
    pub cpu: CpuId,
    /// Kind (low 3 bits) and tags (high 5 bits).
    kind_tags: u8,
    /// Order (low 5 bits) and migratetype (high 3 bits).
    order_type: u8,
}

const _: () = assert!(size_of::<PageEvent>() == 24);

impl PageEvent {
    /// An event without tags. `order` is cut to [`crate::page::MAX_EVENT_ORDER`]'s five bits by
    /// the recorder, which never sees a larger one.
    #[must_use]
    pub fn new(
        kind: PageEventKind,
        time_ns: TimeNs,
        cpu: CpuId,
        pfn: Pfn,
        order: u8,
        migratetype: Migratetype,
        gfp: Gfp,
    ) -> PageEvent {
        debug_assert!(order < 32, "order {order} does not fit an event");
        let order_type = order & 31 | (migratetype as u8) << 5;
        PageEvent { time_ns, pfn, gfp, cpu, kind_tags: kind as u8, order_type }
    }

    /// An allocation; its migratetype is the one that `gfp` asks for.
    #[must_use]
    pub fn alloc(time_ns: TimeNs, cpu: CpuId, pfn: Pfn, order: u8, gfp: Gfp) -> PageEvent {
        PageEvent::new(PageEventKind::Alloc, time_ns, cpu, pfn, order, gfp.migratetype(), gfp)
    }

    /// A free. Frees name no type; it is recorded as unmovable (0).
    #[must_use]
    pub fn free(time_ns: TimeNs, cpu: CpuId, pfn: Pfn, order: u8) -> PageEvent {
        let kind = PageEventKind::Free;
        PageEvent::new(kind, time_ns, cpu, pfn, order, Migratetype::Unmovable, Gfp::empty())
    }

    /// The same event with `tags` added.
    #[must_use]
    pub fn tagged(mut self, tags: Tags) -> PageEvent {
        self.kind_tags |= tags.bits() << 3;
        self
    }

    /// The same event without `tags`.
    #[must_use]
    #[inline]
    pub fn without(mut self, tags: Tags) -> PageEvent {
        self.kind_tags &= !(tags.bits() << 3);
        self
    }

    /// The same event of another block.
    #[must_use]
    pub fn with_block(mut self, pfn: Pfn, order: u8) -> PageEvent {
        debug_assert!(order < 32, "order {order} does not fit an event");
        self.pfn = pfn;
        self.order_type = self.order_type & !31 | order & 31;
        self
    }

    /// What happened.
    #[must_use]
    #[inline]
    pub fn kind(self) -> PageEventKind {
        // `new` and `from_packed` admit no other value.
        PageEventKind::ALL[usize::from(self.kind_tags & 7)]
    }

    /// Marks of the recorder.
    #[must_use]
    #[inline]
    pub fn tags(self) -> Tags {
        Tags::from_bits_truncate(self.kind_tags >> 3)
    }

    /// log2 of the block's pages.
    #[must_use]
    #[inline]
    pub fn order(self) -> u8 {
        self.order_type & 31
    }

    /// Pages in the block.
    #[must_use]
    #[inline]
    pub fn pages(self) -> u64 {
        1 << self.order()
    }

    /// The frames of the block.
    #[must_use]
    #[inline]
    pub fn range(self) -> PfnRange {
        PfnRange::new(self.pfn, self.pages())
    }

    /// The type requested (`Alloc`, `AllocFailed`) or of the list or pageblock.
    #[must_use]
    #[inline]
    pub fn migratetype(self) -> Migratetype {
        Migratetype::ALL[usize::from(self.order_type >> 5)]
    }

    /// Kind and tags, order and migratetype as two bytes, for the codec.
    #[must_use]
    #[inline]
    pub fn packed(self) -> (u8, u8) {
        (self.kind_tags, self.order_type)
    }

    /// The inverse of [`PageEvent::packed`]; `None` for values that no event has.
    #[must_use]
    #[inline]
    pub fn from_packed(
        time_ns: TimeNs,
        cpu: CpuId,
        pfn: Pfn,
        gfp: Gfp,
        (kind_tags, order_type): (u8, u8),
    ) -> Option<PageEvent> {
        let valid = usize::from(kind_tags & 7) < PageEventKind::ALL.len()
            && usize::from(order_type >> 5) < Migratetype::COUNT;
        valid.then_some(PageEvent { time_ns, pfn, gfp, cpu, kind_tags, order_type })
    }
}

impl fmt::Debug for PageEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cpu{} {:?} {}", self.time_ns, self.cpu.0, self.kind(), self.pfn)?;
        write!(f, " order {} {} {:?}", self.order(), self.migratetype(), self.gfp)?;
        write!(f, " {:?}", self.tags())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_fields() {
        let gfp = Gfp::HIGHUSER_MOVABLE;
        let event = PageEvent::alloc(7, CpuId(3), Pfn(1 << 40), 18, gfp).tagged(Tags::OWN);
        assert_eq!((event.kind(), event.order()), (PageEventKind::Alloc, 18));
        assert_eq!((event.migratetype(), event.tags()), (Migratetype::Movable, Tags::OWN));
        let back = PageEvent::from_packed(7, CpuId(3), Pfn(1 << 40), gfp, event.packed());
        assert_eq!(back, Some(event));
    }

    #[test]
    fn bytes_that_no_event_has_are_refused() {
        let from = |packed| PageEvent::from_packed(0, CpuId(0), Pfn(0), Gfp::empty(), packed);
        assert_eq!(from((6, 0)), None);
        assert_eq!(from((0, 6 << 5)), None);
    }

    #[test]
    fn names_are_those_of_json() {
        for kind in PageEventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
