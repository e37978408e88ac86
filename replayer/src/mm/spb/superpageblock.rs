//! What is kept of one superpageblock (patch 08; free pages and occupancy patch 14; worker state
//! patch 15).

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Migratetype, NR_PAGE_ORDERS};

use crate::mm::flavour::{Flavour, Word};
use crate::mm::settings::Settings;

use super::category::Counts;

/// Content of a pageblock that is counted: which has-bit, which counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HasBit {
    /// `PB_has_unmovable`
    Unmovable = 0,
    /// `PB_has_reclaimable`
    Reclaimable = 1,
    /// `PB_has_movable`
    Movable = 2,
}

impl HasBit {
    /// All three.
    pub const ALL: [HasBit; 3] = [HasBit::Unmovable, HasBit::Reclaimable, HasBit::Movable];

    /// The bit that pages of this type set; none for isolated ones.
    #[must_use]
    #[inline]
    pub const fn of(migratetype: Migratetype) -> Option<HasBit> {
        match migratetype {
            Migratetype::Unmovable | Migratetype::HighAtomic => Some(HasBit::Unmovable),
            Migratetype::Reclaimable => Some(HasBit::Reclaimable),
            Migratetype::Movable | Migratetype::Cma => Some(HasBit::Movable),
            Migratetype::Isolate => None,
        }
    }

    /// The type that taint events name.
    #[must_use]
    pub const fn migratetype(self) -> Migratetype {
        match self {
            HasBit::Unmovable => Migratetype::Unmovable,
            HasBit::Reclaimable => Migratetype::Reclaimable,
            HasBit::Movable => Migratetype::Movable,
        }
    }
}

/// A set of (type, order) lists, as a bit for each: those that are not empty, or those that would
/// do. Isolated pages are not allocated from and have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy(pub u64);

/// The orders of a request: bit `n` for order `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders(pub u16);

const ORDERS: usize = NR_PAGE_ORDERS;
const _: () = assert!(5 * ORDERS <= 64, "one word holds the lists of five types");

impl Orders {
    /// Orders `from ..= to`; none if `from` is above `to`.
    #[must_use]
    #[inline]
    pub const fn range(from: u8, to: u8) -> Orders {
        if from > to {
            return Orders(0);
        }
        Orders(((1u32 << (to + 1)) - (1u32 << from)) as u16)
    }

    /// Only `order`.
    #[must_use]
    #[inline]
    pub const fn just(order: u8) -> Orders {
        Orders(1 << order)
    }

    /// The orders in both.
    #[must_use]
    #[inline]
    pub const fn and(self, other: Orders) -> Orders {
        Orders(self.0 & other.0)
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest order.
    #[must_use]
    #[inline]
    pub const fn lowest(self) -> Option<u8> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as u8) }
    }

    /// The highest order.
    #[must_use]
    #[inline]
    pub const fn highest(self) -> Option<u8> {
        if self.0 == 0 { None } else { Some(15 - self.0.leading_zeros() as u8) }
    }

    /// Without `order`.
    #[must_use]
    #[inline]
    pub const fn without(self, order: u8) -> Orders {
        Orders(self.0 & !(1 << order))
    }
}

impl Occupancy {
    /// Bits that can be set.
    pub const BITS: usize = 5 * ORDERS;

    /// The bit of a list, or 0 for isolated pages.
    #[must_use]
    #[inline]
    pub const fn bit(migratetype: Migratetype, order: u8) -> u64 {
        match migratetype {
            Migratetype::Isolate => 0,
            _ => 1 << (migratetype as usize * ORDERS + order as usize),
        }
    }

    /// The lists of a type at some orders.
    #[must_use]
    #[inline]
    pub const fn of(migratetype: Migratetype, orders: Orders) -> Occupancy {
        match migratetype {
            Migratetype::Isolate => Occupancy(0),
            _ => Occupancy((orders.0 as u64) << (migratetype as usize * ORDERS)),
        }
    }

    /// The lists in either.
    #[must_use]
    #[inline]
    pub const fn or(self, other: Occupancy) -> Occupancy {
        Occupancy(self.0 | other.0)
    }

    /// Whether a list is in both.
    #[must_use]
    #[inline]
    pub const fn meets(self, other: Occupancy) -> bool {
        self.0 & other.0 != 0
    }

    /// The orders at which a type has free blocks.
    #[must_use]
    #[inline]
    pub const fn orders(self, migratetype: Migratetype) -> Orders {
        match migratetype {
            Migratetype::Isolate => Orders(0),
            _ => Orders((self.0 >> (migratetype as usize * ORDERS) & ((1 << ORDERS) - 1)) as u16),
        }
    }
}

/// Counters of one superpageblock; the zone lock guards them.
#[derive(Debug)]
pub struct Superpageblock<F: Flavour> {
    /// `nr_unmovable`, `nr_reclaimable`, `nr_movable`, by [`HasBit`].
    has: [F::U32; 3],
    free: F::U32,
    reserved: F::U32,
    total: F::U32,
    /// Free pageblocks that it keeps while it is tainted (patch 23).
    reserve: u32,
    contig_allocated: F::U32,
    free_pages: F::U32,
    occupancy: F::U64,
    defrag_active: F::U32,
    defrag_cursor: F::U32,
    defrag_idle_since: F::U64,
    defrag_idle_pages: F::U32,
}

impl<F: Flavour> Superpageblock<F> {
    /// One of `total` pageblocks, none of them initialised.
    #[must_use]
    pub fn new(total: u32, settings: &Settings) -> Superpageblock<F> {
        let number = |n: u32| {
            let word = F::U32::default();
            word.set(n);
            word
        };
        Superpageblock {
            has: std::array::from_fn(|_| number(0)),
            free: number(0),
            reserved: number(total),
            total: number(total),
            reserve: Counts { total, ..Counts::default() }.reserve(settings),
            contig_allocated: number(0),
            free_pages: number(0),
            occupancy: F::U64::default(),
            defrag_active: number(0),
            defrag_cursor: number(0),
            defrag_idle_since: F::U64::default(),
            defrag_idle_pages: number(0),
        }
    }

    /// The counters that decide its list.
    #[must_use]
    #[inline]
    pub fn counts(&self) -> Counts {
        Counts {
            free: self.free.get(),
            unmovable: self.has(HasBit::Unmovable),
            reclaimable: self.has(HasBit::Reclaimable),
            movable: self.has(HasBit::Movable),
            reserved: self.reserved.get(),
            total: self.total.get(),
            contig_allocated: self.contig_allocated.get() != 0,
        }
    }

    /// Pageblocks with a has-bit.
    #[must_use]
    #[inline]
    pub fn has(&self, bit: HasBit) -> u32 {
        self.has[bit as usize].get()
    }

    /// Wholly free pageblocks.
    #[must_use]
    #[inline]
    pub fn free(&self) -> u32 {
        self.free.get()
    }

    /// Pageblocks inside the zone.
    #[must_use]
    #[inline]
    pub fn total(&self) -> u32 {
        self.total.get()
    }

    /// Free pageblocks that it should keep while it is tainted.
    #[must_use]
    #[inline]
    pub fn reserve(&self) -> u32 {
        self.reserve
    }

    /// Free pages on its lists (`nr_free_pages`).
    #[must_use]
    #[inline]
    pub fn free_pages(&self) -> u32 {
        self.free_pages.get()
    }

    /// Which of its lists are not empty.
    #[must_use]
    #[inline]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy(self.occupancy.get())
    }

    /// Whether one contiguous allocation holds it.
    #[must_use]
    #[inline]
    pub fn is_contig_allocated(&self) -> bool {
        self.contig_allocated.get() != 0
    }

    /// Changes the number of pageblocks with a has-bit; returns whether the counter left or
    /// reached 0.
    pub(super) fn count_has(&self, bit: HasBit, set: bool) -> bool {
        let counter = &self.has[bit as usize];
        let old = counter.get();
        debug_assert!(set || old > 0, "{bit:?} counter of a superpageblock would fall below 0");
        counter.set(if set { old + 1 } else { old - 1 });
        debug_assert!(counter.get() <= self.total(), "patch 22: {bit:?} counter above the total");
        old == u32::from(!set)
    }

    /// Changes the number of wholly free pageblocks.
    pub(super) fn count_free(&self, more: bool) {
        let old = self.free.get();
        debug_assert!(more || old > 0, "free pageblocks of a superpageblock would fall below 0");
        self.free.set(if more { old + 1 } else { old - 1 });
        debug_assert!(self.free() <= self.total(), "patch 22: more free pageblocks than there are");
    }

    /// One more slot is initialised.
    pub(super) fn count_initialised(&self) {
        self.reserved.update(|n| n.saturating_sub(1));
    }

    /// One slot less is initialised.
    pub(super) fn count_removed(&self) {
        self.reserved.update(|n| (n + 1).min(self.total()));
    }

    pub(super) fn set_contig_allocated(&self, held: bool) {
        self.contig_allocated.set(held.into());
    }

    pub(super) fn add_free_pages(&self, pages: u32) {
        self.free_pages.update(|n| n + pages);
    }

    pub(super) fn sub_free_pages(&self, pages: u32) {
        debug_assert!(self.free_pages() >= pages, "free pages of a superpageblock below 0");
        self.free_pages.update(|n| n - pages);
    }

    pub(super) fn set_occupancy(&self, occupancy: Occupancy) {
        self.occupancy.set(occupancy.0);
    }

    /// Whether a defragmentation pass is queued or runs (`defrag_active`).
    #[must_use]
    pub fn is_defrag_active(&self) -> bool {
        self.defrag_active.get() != 0
    }

    pub(super) fn set_defrag_active(&self, active: bool) {
        self.defrag_active.set(active.into());
    }

    /// Where the next pass resumes, as a pageblock's position in the superpageblock.
    pub(super) fn defrag_cursor(&self) -> u32 {
        self.defrag_cursor.get()
    }

    pub(super) fn set_defrag_cursor(&self, position: u32) {
        self.defrag_cursor.set(position);
    }

    /// Time and free pages of the last pass, if it made no progress.
    pub(super) fn fruitless_pass(&self) -> Option<(TimeNs, u32)> {
        let since = self.defrag_idle_since.get().checked_sub(1)?;
        Some((since, self.defrag_idle_pages.get()))
    }

    /// Remembers a pass without progress; `None` forgets it.
    pub(super) fn set_fruitless_pass(&self, at: Option<TimeNs>) {
        self.defrag_idle_since.set(at.map_or(0, |t| t + 1));
        self.defrag_idle_pages.set(self.free_pages());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;

    #[test]
    fn order_sets_are_ranges() {
        let orders = Orders::range(3, 10);
        assert_eq!((orders.lowest(), orders.highest()), (Some(3), Some(10)));
        assert_eq!(orders.without(3).lowest(), Some(4));
        assert_eq!(Orders::range(4, 3), Orders::default());
        assert_eq!(Orders::default().highest(), None);
    }

    #[test]
    fn occupancy_tells_types_apart() {
        let mut occupancy = Occupancy::default();
        for migratetype in Migratetype::ALL {
            occupancy.0 |= Occupancy::bit(migratetype, migratetype as u8 + 1);
        }
        for migratetype in &Migratetype::ALL[..5] {
            let just = Orders::just(*migratetype as u8 + 1);
            assert_eq!(occupancy.orders(*migratetype), just);
        }
        assert_eq!(occupancy.orders(Migratetype::Isolate), Orders::default());
    }

    #[test]
    fn p08_counters_start_reserved() {
        let spb = Superpageblock::<Up>::new(512, &Settings::default());
        assert_eq!(spb.counts().reserved, 512);
        spb.count_initialised();
        assert!(spb.count_has(HasBit::Movable, true));
        assert!(!spb.count_has(HasBit::Movable, true));
        assert!(!spb.count_has(HasBit::Movable, false));
        assert!(spb.count_has(HasBit::Movable, false));
        assert_eq!(spb.counts().reserved, 511);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "patch 22")]
    fn p22_more_pageblocks_with_a_bit_than_there_are_is_a_fault() {
        let spb = Superpageblock::<Up>::new(1, &Settings::default());
        spb.count_has(HasBit::Movable, true);
        spb.count_has(HasBit::Movable, true);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "patch 22")]
    fn p22_more_free_pageblocks_than_there_are_is_a_fault() {
        let spb = Superpageblock::<Up>::new(0, &Settings::default());
        spb.count_free(true);
    }
}
