//! The pageblock table: type, compaction and isolation bits, content bits, owner.
//!
//! `stock-allocator` 1.3 and `spb-allocator` 1.2. One row per pageblock of the address space; a
//! row of zeroes is a pageblock that was given no memory. Rows change under the zone lock, the
//! owner and its link under the rules of whoever uses them.

use fragscope_trace::page::Migratetype;
use prefetch_index::prefetch_index;

use super::flavour::{Flavour, Word};
use super::frames::TYPES;
use super::geometry::PageblockId;

bitflags::bitflags! {
    /// Bits of a pageblock beside its type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BlockFlags: u32 {
        /// `PB_compact_skip`: scanned in vain.
        const SKIP = 1 << 3;
        /// Isolated: its type is reported as `Isolate`.
        const ISOLATE = 1 << 4;
        /// `PB_has_unmovable`.
        const HAS_UNMOVABLE = 1 << 5;
        /// `PB_has_reclaimable`.
        const HAS_RECLAIMABLE = 1 << 6;
        /// `PB_has_movable`.
        const HAS_MOVABLE = 1 << 7;
        /// `PB_all_free`: wholly free in the zone's buddy lists.
        const ALL_FREE = 1 << 8;
        /// Was given memory; others are holes.
        const ONLINE = 1 << 9;
    }
}

const TYPE: u32 = 7;
/// In a link of an owner's list: the number of a list head, not of a pageblock.
const HEAD: u32 = 1 << 31;
const FLAGS: usize = 0;
const OWNER: usize = 1;
const NEXT: usize = 2;
const PREV: usize = 3;

/// All pageblocks of a track.
#[derive(Debug)]
pub struct Pageblocks<F: Flavour> {
    rows: Box<[[F::U32; 4]]>,
    /// Ends of the lists of owned pageblocks, as links: 0 for an empty list.
    owned: Box<[[F::U32; 2]]>,
}

impl<F: Flavour> Pageblocks<F> {
    /// A table of pageblocks without memory, and `lists` empty lists of owned ones.
    #[must_use]
    pub fn new(count: u32, lists: u32) -> Pageblocks<F> {
        Pageblocks { rows: F::U32::zeroed(count as usize), owned: F::U32::zeroed(lists as usize) }
    }

    /// Has a pageblock's row brought near, without waiting for it.
    #[inline(always)]
    pub fn prefetch(&self, block: PageblockId) {
        prefetch_index(&self.rows, block.0 as usize);
    }

    #[inline]
    fn word(&self, block: PageblockId) -> u32 {
        self.rows[block.0 as usize][FLAGS].get()
    }

    /// The type as it is reported: `Isolate` while isolated.
    #[inline]
    pub fn migratetype(&self, block: PageblockId) -> Migratetype {
        let word = self.word(block);
        if word & BlockFlags::ISOLATE.bits() != 0 {
            return Migratetype::Isolate;
        }
        TYPES[(word & TYPE) as usize]
    }

    /// The type that it has, or will have again after its isolation.
    #[inline]
    pub fn own_type(&self, block: PageblockId) -> Migratetype {
        TYPES[(self.word(block) & TYPE) as usize]
    }

    /// Changes the type; isolation stays as it is.
    #[inline]
    pub fn set_migratetype(&self, block: PageblockId, migratetype: Migratetype) {
        self.rows[block.0 as usize][FLAGS].update(|word| word & !TYPE | migratetype as u32);
    }

    /// Its bits.
    #[inline]
    pub fn flags(&self, block: PageblockId) -> BlockFlags {
        BlockFlags::from_bits_truncate(self.word(block))
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub fn has(&self, block: PageblockId, flags: BlockFlags) -> bool {
        self.word(block) & flags.bits() != 0
    }

    /// Sets bits.
    #[inline]
    pub fn set(&self, block: PageblockId, flags: BlockFlags) {
        self.rows[block.0 as usize][FLAGS].update(|word| word | flags.bits());
    }

    /// Clears bits.
    #[inline]
    pub fn clear(&self, block: PageblockId, flags: BlockFlags) {
        self.rows[block.0 as usize][FLAGS].update(|word| word & !flags.bits());
    }

    /// The owner's word: 0 for nobody, else a CPU's index + 1.
    #[inline]
    pub fn owner(&self, block: PageblockId) -> u32 {
        self.rows[block.0 as usize][OWNER].get()
    }

    /// Sets [`Pageblocks::owner`].
    #[inline]
    pub fn set_owner(&self, block: PageblockId, owner: u32) {
        self.rows[block.0 as usize][OWNER].set(owner);
    }

    /// A link word: `NEXT` or `PREV` of a pageblock, or an end of a list. A link of 0 leads
    /// nowhere; others are a pageblock's id + 1, or [`HEAD`] and a list's number + 1.
    #[inline]
    fn link(&self, link: u32, slot: usize) -> &F::U32 {
        if link & HEAD == 0 {
            &self.rows[link as usize - 1][slot]
        } else {
            &self.owned[(link & !HEAD) as usize - 1][slot - NEXT]
        }
    }

    /// Whether a pageblock is on a list of owned ones.
    #[inline]
    pub fn is_listed(&self, block: PageblockId) -> bool {
        self.rows[block.0 as usize][NEXT].get() != 0
    }

    /// Appends a pageblock that is on no list to a list of owned ones; the zone lock is held.
    pub fn list_owned(&self, list: u32, block: PageblockId) {
        let (head, own) = (HEAD | (list + 1), block.0 + 1);
        let last = match self.link(head, PREV).get() {
            0 => head,
            last => last,
        };
        self.link(own, NEXT).set(head);
        self.link(own, PREV).set(last);
        self.link(last, NEXT).set(own);
        self.link(head, PREV).set(own);
    }

    /// Takes a pageblock off its list, if it is on one; the zone lock is held.
    pub fn unlist_owned(&self, block: PageblockId) {
        let own = block.0 + 1;
        let (next, prev) = (self.link(own, NEXT).get(), self.link(own, PREV).get());
        if next == 0 {
            return;
        }
        self.link(prev, NEXT).set(next);
        self.link(next, PREV).set(prev);
        self.link(own, NEXT).set(0);
        self.link(own, PREV).set(0);
    }

    /// Empties a list of owned pageblocks, which do not hear of it: the fault that patch 03 had
    /// at first. For the checker's tests.
    pub(super) fn forget_owned(&self, list: u32) {
        self.owned[list as usize].iter().for_each(|end| end.set(0));
    }

    /// First pageblock of a list of owned ones.
    #[inline]
    pub fn first_owned(&self, list: u32) -> Option<PageblockId> {
        named(self.owned[list as usize][0].get())
    }

    /// The pageblock after a listed one.
    #[inline]
    pub fn next_owned(&self, block: PageblockId) -> Option<PageblockId> {
        named(self.rows[block.0 as usize][NEXT].get())
    }

    /// A pageblock became wholly free in its zone: nobody owns it any more.
    #[inline]
    pub fn disown(&self, block: PageblockId) {
        if self.owner(block) != 0 {
            self.set_owner(block, 0);
            self.unlist_owned(block);
        }
    }

    /// All pageblocks that were given memory, ascending.
    pub fn online(&self) -> impl Iterator<Item = PageblockId> + '_ {
        let ids = (0..self.rows.len() as u32).map(PageblockId);
        ids.filter(|block| self.has(*block, BlockFlags::ONLINE))
    }
}

fn named(link: u32) -> Option<PageblockId> {
    (link & HEAD == 0 && link != 0).then(|| PageblockId(link - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;

    #[test]
    fn p01_owned_pageblocks_are_a_list() {
        let blocks = Pageblocks::<Up>::new(5, 2);
        let owned = |list| {
            let next = |b: &PageblockId| blocks.next_owned(*b);
            std::iter::successors(blocks.first_owned(list), next).map(|b| b.0).collect::<Vec<_>>()
        };
        for id in [3, 0, 4] {
            blocks.set_owner(PageblockId(id), 2);
            blocks.list_owned(1, PageblockId(id));
        }
        assert_eq!((owned(0), owned(1)), (vec![], vec![3, 0, 4]));
        blocks.disown(PageblockId(0));
        assert!(!blocks.is_listed(PageblockId(0)) && blocks.owner(PageblockId(0)) == 0);
        blocks.unlist_owned(PageblockId(4));
        blocks.list_owned(0, PageblockId(4));
        assert_eq!((owned(0), owned(1)), (vec![4], vec![3]));
        blocks.unlist_owned(PageblockId(3));
        assert!(owned(1).is_empty());
    }
}
