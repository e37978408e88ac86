//! Taking exactly these frames out of free memory (`take_page_off_buddy`, contiguous
//! allocation, placement replay).

use fragscope_trace::page::{Content, Migratetype};

use super::buddy::Buddy;
use super::cache::Cache;
use super::flavour::Flavour;
use super::frames::{Frame, FrameState, FrameWord, Mark};
use super::page_alloc::Mm;
use super::placement::Placement;
use super::zone::Zone;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Hands out exactly this aligned block.
    ///
    /// # Errors
    /// The first frame that is not free; then nothing was taken.
    pub(super) fn take_exactly(
        &self,
        frame: Frame,
        order: u8,
        content: Content,
        migratetype: Migratetype,
    ) -> Result<(), Frame> {
        self.isolate_exactly(frame, order)?;
        self.buddy.mark_allocated(frame, order, migratetype, content, Mark::empty());
        for part in self.buddy.parts(frame, order) {
            self.buddy.shift(part, self.buddy.part_order(order), Content::Free, content);
        }
        Ok(())
    }

    /// Takes the frames of an aligned block off all lists. They are then the inside of a free
    /// block, and counted as [`Content::Free`].
    ///
    /// # Errors
    /// The first frame that is not free; then nothing was taken.
    pub(super) fn isolate_exactly(&self, frame: Frame, order: u8) -> Result<(), Frame> {
        let end = u64::from(frame) + (1 << order);
        if end > u64::from(self.buddy.frames.len()) || frame & ((1 << order) - 1) != 0 {
            return Err(frame);
        }
        let end = end as Frame;
        if !self.buddy.free_blocks_between(frame, end)?.all_listed {
            self.put_on_buddy_lists(self.buddy.zone_of(frame));
        }
        if !self.buddy.free_blocks_between(frame, end)?.all_listed {
            return Err(frame);
        }
        let zone = self.buddy.zone_of(frame);
        let _guard = self.buddy.lock(zone);
        let mut at = frame;
        while at < end {
            let Some((head, word)) = self.buddy.free_block_of(at) else { return Err(at) };
            self.buddy.carve(zone, head, word, frame, order);
            at = head + (1 << word.order());
        }
        Ok(())
    }

    /// Brings a zone's cached and parked blocks to its buddy lists.
    fn put_on_buddy_lists(&self, zone: &Zone<F>) {
        self.cache.drain_zone(&self.buddy, zone);
        let _guard = self.buddy.lock(zone);
        self.buddy.flush_deferred(zone);
    }
}

/// What free blocks cover a range.
struct Cover {
    all_listed: bool,
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// Looks at the free blocks that cover a range.
    fn free_blocks_between(&self, start: Frame, end: Frame) -> Result<Cover, Frame> {
        let mut all_listed = true;
        let mut at = start;
        while at < end {
            let Some((head, word)) = self.free_block_of(at) else { return Err(at) };
            all_listed &= word.state() == FrameState::Buddy;
            at = head + (1 << word.order());
        }
        Ok(Cover { all_listed })
    }

    /// Takes the part of a listed block that lies in the aligned block of `order` at `frame`;
    /// the rest goes back to its lists.
    fn carve(&self, zone: &Zone<F>, head: Frame, word: FrameWord, frame: Frame, order: u8) {
        let (mut head, mut size, migratetype) = (head, word.order(), word.migratetype());
        self.del_from_list(zone, head, size, migratetype);
        P::block_taken(self, zone, head, size, migratetype);
        while size > order {
            size -= 1;
            let upper = head + (1 << size);
            if frame >= upper {
                self.add_to_list(zone, head, size, migratetype, false);
                head = upper;
            } else {
                self.add_to_list(zone, upper, size, migratetype, false);
            }
        }
        zone.unaccount(1 << size, migratetype);
    }

    /// Starts of the parts of a block that each lie in one region and buddy block.
    pub(super) fn parts(&self, frame: Frame, order: u8) -> impl Iterator<Item = Frame> + use<F, P> {
        (frame..frame + (1 << order)).step_by(1 << self.part_order(order))
    }

    /// Order of those parts.
    pub(super) fn part_order(&self, order: u8) -> u8 {
        order.min(self.geometry.max_order)
    }
}
