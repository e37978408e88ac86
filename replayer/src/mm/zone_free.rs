//! Giving blocks to a zone: straight frees, and frees that may not wait for the lock.
//!
//! `stock-allocator` 3.2 (deferred frees) and 3.4 (splitting of large blocks).

use fragscope_trace::page::{Content, Migratetype};

use super::buddy::{Buddy, ListEnd};
use super::flavour::{Flavour, Lock, Word};
use super::frames::{Frame, FrameState, FrameWord, Mark};
use super::placement::Placement;
use super::request::FreeEntry;
use super::zone::Zone;

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// `free_one_page`: takes the lock and frees a block whose frames are
    /// [`FrameState::FreeTail`] and hold `from` by the census.
    pub fn free_to_zone(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        from: Content,
        entry: FreeEntry,
        end: ListEnd,
    ) {
        self.counters.direct_frees.add(1);
        let guard = match entry {
            FreeEntry::Normal => self.lock(zone),
            FreeEntry::NoLock => match self.try_lock(zone) {
                Some(guard) => guard,
                None => return self.defer(zone, frame, order, from),
            },
        };
        if entry == FreeEntry::Normal && zone.deferred_blocks.get() > 0 {
            self.flush_deferred(zone);
        }
        self.free_pieces(zone, frame, order, from, end);
        drop(guard);
    }

    /// `split_large_buddy`: frees a block in pieces of at most a pageblock, each with its own
    /// pageblock's type. The lock is held.
    pub fn free_pieces(
        &self,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        from: Content,
        end: ListEnd,
    ) {
        let piece = order.min(self.geometry.pageblock_order);
        for start in (frame..frame + (1 << order)).step_by(1 << piece) {
            self.shift(start, piece, from, Content::Free);
            self.free_one_page(zone, start, piece, self.migratetype(start), end);
        }
    }

    /// Parks a block until somebody frees to the zone with its lock.
    #[cold]
    fn defer(&self, zone: &Zone<F>, frame: Frame, order: u8, from: Content) {
        self.counters.deferred_frees.add(1);
        self.shift(frame, order, from, Content::Isolated);
        self.frames.set_word(frame, isolated_word(order));
        let _guard = zone.deferred_lock.guard();
        self.frames.push_head(zone.deferred, frame);
        zone.deferred_blocks.add(1);
    }

    /// Frees every parked block. The zone lock is held.
    #[cold]
    pub fn flush_deferred(&self, zone: &Zone<F>) {
        while let Some((frame, order)) = self.pop_deferred(zone) {
            self.free_pieces(zone, frame, order, Content::Isolated, ListEnd::ByChance);
        }
    }

    fn pop_deferred(&self, zone: &Zone<F>) -> Option<(Frame, u8)> {
        let _guard = zone.deferred_lock.guard();
        let frame = self.frames.first(zone.deferred)?;
        let order = self.frames.word(frame).order();
        self.frames.unlink(frame);
        self.frames.set_word(frame, FrameWord::free_tail());
        zone.deferred_blocks.sub(1);
        Some((frame, order))
    }
}

/// The word of a free block's head that is on no buddy or per-CPU list.
#[must_use]
pub fn isolated_word(order: u8) -> FrameWord {
    let (state, content) = (FrameState::Isolated, Content::Isolated);
    FrameWord::new(state, order, Migratetype::Unmovable, content, Mark::empty())
}
