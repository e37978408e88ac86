//! A zone: its lock, its free areas, watermarks and counts.
//!
//! `stock-allocator` 1.2. The free areas count blocks by order and type; where the lists
//! themselves are is the placement's choice. Everything here changes under the zone lock and may
//! be read without it, as watermark tests do.

use fragscope_trace::machine::{Watermarks, ZoneKind};
use fragscope_trace::page::{Migratetype, NR_PAGE_ORDERS};

use super::compaction::ZoneCompaction;
use super::flavour::{Flavour, Word};
use super::frames::{Frame, ListId};
use super::geometry::{ZoneId, ZoneSpan};

bitflags::bitflags! {
    /// Flags of a zone.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ZoneFlags: u32 {
        /// `ZONE_BOOSTED_WATERMARK`: boosted since background reclaim was last woken.
        const BOOSTED_WATERMARK = 1;
        /// `ZONE_RECLAIM_ACTIVE`
        const RECLAIM_ACTIVE = 1 << 1;
        /// `ZONE_BELOW_HIGH`: free memory is below the high watermark.
        const BELOW_HIGH = 1 << 2;
    }
}

/// One zone.
#[derive(Debug)]
pub struct Zone<F: Flavour> {
    /// Its id.
    pub id: ZoneId,
    /// Which zone of its node.
    pub kind: ZoneKind,
    /// Position of its node.
    pub node: u16,
    /// First frame of its span.
    pub start: Frame,
    /// One past the last frame of its span.
    pub end: Frame,
    /// `zone->lock`
    pub lock: F::Lock,
    blocks: [[F::U32; Migratetype::COUNT]; NR_PAGE_ORDERS],
    /// For each type the orders that have a block, as a bit set.
    orders: [F::U32; Migratetype::COUNT],
    /// `NR_FREE_PAGES`: pages on buddy lists, isolated pageblocks excepted.
    pub free_pages: F::U64,
    /// `NR_FREE_PAGES_BLOCKS`: those in blocks of at least a pageblock.
    pub free_pages_blocks: F::U64,
    /// `NR_FREE_CMA_PAGES`
    pub free_cma: F::U64,
    /// `nr_free_highatomic`
    pub free_highatomic: F::U64,
    /// `nr_reserved_highatomic`
    pub reserved_highatomic: F::U64,
    /// Whether it is on the zonelists, 0 or 1; see [`super::hotplug`].
    pub listed: F::U32,
    /// Pages that exist.
    pub present: F::U64,
    /// Pages that the allocator was given.
    pub managed: F::U64,
    /// `_watermark`
    pub marks: [F::U64; 4],
    /// `watermark_boost`
    pub boost: F::U64,
    /// `lowmem_reserve`, by the highest zone kind of a request.
    pub lowmem_reserve: [F::U64; 4],
    flags: F::U32,
    /// Guards the list of [`Zone::deferred`].
    pub deferred_lock: F::Lock,
    /// `trylock_free_pages`: blocks freed while the lock was held by others.
    pub deferred: ListId,
    /// Blocks on that list.
    pub deferred_blocks: F::U32,
    /// Where compaction stands.
    pub compaction: ZoneCompaction<F>,
    /// Where the model's reclaim looks next.
    pub reclaim_hand: F::U32,
    /// `kswapd_order` + 1 if background reclaim was woken for the zone, else 0.
    pub kswapd_order: F::U32,
}

impl<F: Flavour> Zone<F> {
    /// A zone without memory.
    #[must_use]
    pub fn new(id: ZoneId, span: &ZoneSpan, deferred: ListId, compaction: u32) -> Zone<F> {
        Zone {
            id,
            kind: span.kind,
            node: span.node,
            start: span.start,
            end: span.end,
            lock: F::Lock::default(),
            blocks: Default::default(),
            orders: Default::default(),
            free_pages: F::U64::default(),
            free_pages_blocks: F::U64::default(),
            free_cma: F::U64::default(),
            free_highatomic: F::U64::default(),
            reserved_highatomic: F::U64::default(),
            listed: F::U32::default(),
            present: F::U64::default(),
            managed: F::U64::default(),
            marks: Default::default(),
            boost: F::U64::default(),
            lowmem_reserve: Default::default(),
            flags: F::U32::default(),
            deferred_lock: F::Lock::default(),
            deferred,
            deferred_blocks: F::U32::default(),
            compaction: ZoneCompaction::new(span, compaction),
            reclaim_hand: F::U32::default(),
            kswapd_order: F::U32::default(),
        }
    }

    /// Counts a block put on a list.
    #[inline]
    pub(super) fn count_block(&self, order: u8, migratetype: Migratetype) {
        let blocks = &self.blocks[usize::from(order)][migratetype.index()];
        blocks.set(blocks.get() + 1);
        let orders = &self.orders[migratetype.index()];
        orders.set(orders.get() | 1 << order);
    }

    /// Counts a block taken off a list.
    #[inline]
    pub(super) fn uncount_block(&self, order: u8, migratetype: Migratetype) {
        let blocks = &self.blocks[usize::from(order)][migratetype.index()];
        let left = blocks.get() - 1;
        blocks.set(left);
        if left == 0 {
            let orders = &self.orders[migratetype.index()];
            orders.set(orders.get() & !(1 << order));
        }
    }

    /// Free blocks of one order and type.
    #[inline]
    pub fn blocks(&self, order: u8, migratetype: Migratetype) -> u32 {
        self.blocks[usize::from(order)][migratetype.index()].get()
    }

    /// The orders in which a type has free blocks, as a bit set.
    #[inline]
    pub fn orders(&self, migratetype: Migratetype) -> u32 {
        self.orders[migratetype.index()].get()
    }

    /// `free_area[order].nr_free`: free blocks of an order, all types.
    pub fn nr_free(&self, order: u8) -> u64 {
        self.blocks[usize::from(order)].iter().map(|blocks| u64::from(blocks.get())).sum()
    }

    /// Whether a type of the bit set `types` has a block of at least `order`.
    #[inline]
    pub fn has_block(&self, order: u8, types: u32) -> bool {
        let wanted =
            |(t, orders): (usize, &F::U32)| types >> t & 1 == 1 && orders.get() >> order != 0;
        self.orders.iter().enumerate().any(wanted)
    }

    /// `account_freepages`: pages of a type came to the buddy lists.
    #[inline]
    pub(super) fn account(&self, pages: u32, migratetype: Migratetype) {
        let pages = u64::from(pages);
        match migratetype {
            Migratetype::Isolate => return,
            Migratetype::Cma => self.free_cma.set(self.free_cma.get() + pages),
            Migratetype::HighAtomic => self.free_highatomic.set(self.free_highatomic.get() + pages),
            _ => {}
        }
        self.free_pages.set(self.free_pages.get() + pages);
    }

    /// `account_freepages`: pages of a type left the buddy lists.
    #[inline]
    pub(super) fn unaccount(&self, pages: u32, migratetype: Migratetype) {
        let pages = u64::from(pages);
        match migratetype {
            Migratetype::Isolate => return,
            Migratetype::Cma => self.free_cma.set(self.free_cma.get() - pages),
            Migratetype::HighAtomic => self.free_highatomic.set(self.free_highatomic.get() - pages),
            _ => {}
        }
        self.free_pages.set(self.free_pages.get() - pages);
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub fn has(&self, flags: ZoneFlags) -> bool {
        self.flags.get() & flags.bits() != 0
    }

    /// Sets flags. They are hints: a lost update is harmless.
    #[inline]
    pub fn set_flags(&self, flags: ZoneFlags) {
        self.flags.update(|word| word | flags.bits());
    }

    /// Clears flags.
    #[inline]
    pub fn clear_flags(&self, flags: ZoneFlags) {
        self.flags.update(|word| word & !flags.bits());
    }

    /// Takes over the flags of the traced kernel's zone, whose bits are the same.
    pub(super) fn load_flags(&self, raw: u64) {
        self.flags.set(ZoneFlags::from_bits_truncate(raw as u32).bits());
    }

    /// Replaces watermarks and reserves; recomputing them ends a boost.
    pub fn set_marks(&self, marks: &Watermarks, reserve: &[u64; 4]) {
        for (word, pages) in self.marks.iter().zip([marks.min, marks.low, marks.high, marks.promo])
        {
            word.set(pages);
        }
        for (word, pages) in self.lowmem_reserve.iter().zip(reserve) {
            word.set(*pages);
        }
        self.boost.set(0);
    }
}
