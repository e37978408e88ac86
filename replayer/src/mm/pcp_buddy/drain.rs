//! Drains (`free_pcppages_bulk`; patch 02): merge on the own lists, then give back to the zone,
//! whole pageblocks first.
//!
//! `spb-allocator` 3.4. Upstream looks at every listed page for a buddy to merge with. Only a
//! page that came since the last merge can have one, so a work list of those suffices; setting
//! `incremental_merge` chooses, and both merge the same pairs in the same order.

use fragscope_trace::page::Content;

use crate::mm::buddy::{Buddy, ListEnd};
use crate::mm::flavour::{Flavour, Lock, Word};
use crate::mm::frames::{Frame, FrameState, Mark};
use crate::mm::placement::Placement;
use crate::mm::virtual_hold::Moved;
use crate::mm::zone::Zone;

use super::{Cached, OwningPcp, TYPES};

/// Blocks that the work list holds; when more came, all lists are looked at.
const FRESH_MAX: usize = if cfg!(loom) { 8 } else { 1 << 13 };

/// Heads of marked blocks put on the lists since the last merge. Some may have left since.
#[derive(Debug)]
pub(super) struct Fresh<F: Flavour> {
    frames: Box<[[F::U32; 1]]>,
    /// How many came; above [`FRESH_MAX`] only the first were kept.
    came: F::U32,
}

impl<F: Flavour> Default for Fresh<F> {
    fn default() -> Self {
        let frames = F::U32::zeroed(FRESH_MAX);
        Fresh { frames, came: F::U32::default() }
    }
}

impl<F: Flavour> Fresh<F> {
    #[inline]
    pub(super) fn add(&self, frame: Frame) {
        let came = self.came.get();
        if let Some([slot]) = self.frames.get(came as usize) {
            slot.set(frame);
            self.came.set(came + 1);
        } else {
            self.came.set(FRESH_MAX as u32 + 1);
        }
    }

    /// A block was taken from the lists: if it came last, it need not be remembered. Most are
    /// taken in the reverse order in which they came.
    #[inline]
    pub(super) fn taken(&self, frame: Frame) {
        let last = self.came.get().wrapping_sub(1);
        if let Some([slot]) = self.frames.get(last as usize)
            && slot.get() == frame
        {
            self.came.set(last);
        }
    }

    /// The blocks, ascending; `None` if more came than were kept. Empties the list.
    fn take(&self) -> Option<Vec<Frame>> {
        let came = self.came.swap(0) as usize;
        let mut frames: Vec<Frame> =
            self.frames.get(..came)?.iter().map(|[slot]| slot.get()).collect();
        frames.sort_unstable();
        frames.dedup();
        Some(frames)
    }
}

impl<F: Flavour> OwningPcp<F> {
    /// Merges, then gives `pages` pages back, beginning with whole pageblocks and from list
    /// tails. The lock is held.
    pub(super) fn drain<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, pages: u32) {
        self.absorb(buddy);
        let mut left = pages.min(self.count.get());
        if left == 0 {
            return;
        }
        self.merge(buddy);
        buddy.counters.pcp_drains.add(1);
        let _guard = buddy.lock(zone);
        let mut index = self.lists - TYPES;
        while left > 0 {
            let Some(frame) = self.last(buddy, index) else {
                index = (index + 1) % self.lists;
                continue;
            };
            let order = self.give_back(buddy, zone, frame);
            left = left.saturating_sub(1 << order);
        }
    }

    /// Frees one listed block to the zone, whose lock is held. A part of an owned pageblock goes
    /// to the tail of its list, away from other CPUs, and its pageblock is listed, so that a
    /// refill can fetch it back; the zone ends the ownership of a whole one.
    fn give_back<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, frame: Frame) -> u8 {
        let Cached { order, marks, .. } = self.remove(buddy, frame);
        let part = marks.contains(Mark::PCP_BUDDY) && order < buddy.geometry.pageblock_order;
        let block = buddy.pageblock(frame);
        if part && !buddy.blocks.is_listed(block) {
            buddy.blocks.list_owned(self.owned, block);
        }
        let end = if part { ListEnd::Tail } else { ListEnd::ByChance };
        buddy.shift(frame, order, Content::Pcp, Content::Free);
        buddy.free_one_page(zone, frame, order, buddy.migratetype(frame), end);
        buddy.counters.pcp_drain_blocks.add(1);
        order
    }

    /// Gives everything back, in batches as `drain_pages_zone` does.
    pub(super) fn drain_all<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        let _guard = self.lock.guard();
        let before = Moved::so_far(&buddy.counters);
        self.drain_until_empty(buddy, zone);
        self.hold.begin(&buddy.holds, &buddy.settings, &buddy.counters, before, 0);
    }

    /// The same with the lock held.
    pub(super) fn drain_until_empty<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        let batch = (self.limits.batch() << buddy.settings.pcp_batch_scale_max).max(1);
        self.absorb(buddy);
        while self.count.get() > 0 {
            self.drain(buddy, zone, batch);
        }
    }

    /// Merges buddies of one order into the next, from order 0 up to the pageblock's.
    fn merge<P: Placement<F>>(&self, buddy: &Buddy<F, P>) {
        let fresh = self.fresh.take().filter(|_| buddy.settings.incremental_merge);
        let mut merged = Vec::new();
        for order in 0..buddy.geometry.pageblock_order {
            let candidates = match &fresh {
                Some(fresh) => with_order(buddy, fresh, &merged, order),
                None => self.listed(buddy, order),
            };
            merged.clear();
            for frame in candidates {
                merged.extend(self.merge_pair(buddy, frame, order));
            }
        }
    }

    /// Every marked block on the lists of one order, ascending.
    fn listed<P: Placement<F>>(&self, buddy: &Buddy<F, P>, order: u8) -> Vec<Frame> {
        let lists = (0..TYPES).map(|of_type| TYPES * u32::from(order) + of_type);
        let marked = |f: &Frame| buddy.frames.word(*f).marks().contains(Mark::PCP_BUDDY);
        let mut frames: Vec<Frame> =
            lists.flat_map(|list| self.blocks(buddy, list)).filter(marked).collect();
        frames.sort_unstable();
        frames
    }

    /// Merges a block with its buddy if both are marked blocks of `order` on these lists; the
    /// pair goes to the tail of the next order's list. Returns its head.
    fn merge_pair<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        frame: Frame,
        order: u8,
    ) -> Option<Frame> {
        let other = frame ^ 1 << order;
        if !self.is_mergeable(buddy, frame, order) || !self.is_mergeable(buddy, other, order) {
            return None;
        }
        self.remove(buddy, frame | 1 << order);
        let lower = self.remove(buddy, frame & other);
        let pair = Cached { order: order + 1, ..lower };
        self.push_tail(buddy, &pair);
        buddy.counters.pcp_merges.add(1);
        Some(pair.frame)
    }

    fn is_mergeable<P: Placement<F>>(&self, buddy: &Buddy<F, P>, frame: Frame, order: u8) -> bool {
        let word = buddy.frames.word(frame);
        word.state() == FrameState::Pcp
            && word.order() == order
            && word.marks().contains(Mark::PCP_BUDDY)
            && buddy.blocks.owner(buddy.pageblock(frame)) == self.owner
    }
}

/// The heads of `order` among the fresh blocks and the pairs just merged, ascending.
fn with_order<F: Flavour, P: Placement<F>>(
    buddy: &Buddy<F, P>,
    fresh: &[Frame],
    merged: &[Frame],
    order: u8,
) -> Vec<Frame> {
    let has_order = |f: &&Frame| buddy.frames.word(**f).order() == order;
    let mut frames: Vec<Frame> = fresh.iter().filter(has_order).chain(merged).copied().collect();
    frames.sort_unstable();
    frames.dedup();
    frames
}
