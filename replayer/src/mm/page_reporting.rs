//! Free page reporting: a guest tells its host which free memory it does not use (patch 29).
//!
//! A worker walks the lists of blocks of some order (a pageblock, by default) and more, and hands
//! over blocks in batches; a block that was reported stays so until it leaves its list. In each
//! round it hands over a sixteenth of what is listed, at least one batch for each list that has
//! any. The series keeps the budget and makes a list one of a superpageblock (setting
//! `reporting_budget_per_list`; inferred), so that a round reaches every superpageblock. Nothing is
//! reported where the host does not ask for it (setting `page_reporting_ms`), and in a zone near its
//! low watermark.
//!
//! The stock worker takes a batch out of the zone and puts it back, which changes more than the order
//! of the list: a block of half a pageblock or more turns its pageblock movable, without any event
//! (`stock-allocator` 4.3, isolated blocks). How the series takes blocks is not known; there they
//! stay in place.

use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, Migratetype};

use super::buddy::{Buddy, ListEnd};
use super::flags::{AllocFlags, Mark as Watermark};
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameWord, ListId, Mark};
use super::placement::{Placement, Reader};
use super::watermark::Attempt;
use super::zone::Zone;

/// `PAGE_REPORTING_CAPACITY`: blocks in one batch.
pub(super) const CAPACITY: usize = 32;
/// Part of the listed blocks that one round hands over.
const SHARE: usize = 16;

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// One round over a zone. Returns the blocks that were handed over.
    pub fn report_free_pages(&self, zone: &Zone<F>) -> u64 {
        let _guard = self.lock(zone);
        let first = self.tunables.reporting_order;
        if !spares_memory(zone, first) {
            return 0;
        }
        let mut reported = 0;
        for order in first..=self.geometry.max_order {
            for migratetype in Migratetype::ALL {
                if migratetype != Migratetype::Isolate {
                    reported += self.report_lists(zone, order, migratetype);
                }
            }
        }
        self.counters.reported_blocks.add(reported);
        reported
    }

    /// Takes all that a round would report for reported already: rounds keep up with what becomes
    /// free within seconds, and a snapshot does not tell which blocks they have reached.
    pub(super) fn mark_all_reported(&self, zone: &Zone<F>) {
        let orders = self.tunables.reporting_order..=self.geometry.max_order;
        for (order, migratetype) in orders.flat_map(|o| Migratetype::ALL.map(|t| (o, t))) {
            for list in P::lists_for(self, zone, order, migratetype, Reader::Reporting) {
                for frame in self.frames.iter(list) {
                    let word = self.frames.word(frame).with_marks(Mark::REPORTED);
                    self.frames.set_word(frame, word);
                }
            }
        }
    }

    fn report_lists(&self, zone: &Zone<F>, order: u8, migratetype: Migratetype) -> u64 {
        let lists: Vec<ListId> =
            P::lists_for(self, zone, order, migratetype, Reader::Reporting).collect();
        let in_all = zone.blocks(order, migratetype) as usize;
        let mut left = budget(in_all);
        let mut reported = 0;
        for list in lists {
            if self.settings.reporting_budget_per_list {
                left = budget(self.frames.iter(list).count());
            }
            let batch = self.unreported(list, left);
            left -= batch.len();
            reported += P::report(self, zone, list, order, &batch) as u64;
        }
        reported
    }

    /// The first `most` blocks of a list that were not reported yet.
    fn unreported(&self, list: ListId, most: usize) -> Vec<Frame> {
        let new = |frame: &Frame| !self.frames.word(*frame).marks().contains(Mark::REPORTED);
        self.frames.iter(list).filter(new).take(most).collect()
    }

    /// Hands a block over that stays in its zone: it returns to the tail of its list.
    pub(super) fn mark_reported(&self, list: ListId, frame: Frame) {
        self.frames.unlink(frame);
        self.frames.set_word(frame, self.frames.word(frame).with_marks(Mark::REPORTED));
        self.frames.push_tail(list, frame);
    }

    /// `page_reporting_cycle` for one batch: takes blocks out of the zone, and once the host has
    /// them, gives them back (`page_reporting_drain`). What did not merge meanwhile is reported.
    /// What follows them on the list comes first there. Returns the blocks taken.
    pub(super) fn report_batch(
        &self,
        zone: &Zone<F>,
        list: ListId,
        order: u8,
        batch: &[Frame],
    ) -> usize {
        // An earlier block of the batch may have turned the pageblock of a later one.
        let listed = |frame: Frame| {
            let word = self.frames.word(frame);
            word.is_buddy_of(order)
                && self.placement.list(zone, frame, order, word.migratetype()) == list
        };
        let next = batch.last().and_then(|last| self.frames.next(*last));
        let take = |frame: &&Frame| self.isolate_free_block(zone, **frame, order);
        let still_listed = batch.iter().filter(|frame| listed(**frame));
        let taken: Vec<Frame> = still_listed.take_while(take).copied().collect();
        if let Some(next) = next.filter(|next| listed(*next)) {
            self.frames.turn_to_first(list, next);
        }
        for frame in &taken {
            self.put_back(zone, *frame, order);
        }
        taken.len()
    }

    /// `__putback_isolated_page`: to the tail of its pageblock's list.
    fn put_back(&self, zone: &Zone<F>, frame: Frame, order: u8) {
        self.frames.set_word(frame, FrameWord::free_tail());
        self.shift(frame, order, Content::Isolated, Content::Free);
        self.free_one_page(zone, frame, order, self.migratetype(frame), ListEnd::Tail);
        let word = self.frames.word(frame);
        if word.is_buddy_of(order) {
            self.frames.set_word(frame, word.with_marks(Mark::REPORTED));
        }
    }
}

/// Whether a zone is far enough above its low watermark to lack a batch of blocks for a while
/// (`page_reporting_process_zone`).
fn spares_memory<F: Flavour>(zone: &Zone<F>, order: u8) -> bool {
    let mark = zone.mark(Watermark::Low) + ((CAPACITY as u64) << order);
    let attempt = Attempt { order: 0, highest: ZoneKind::Dma, flags: AllocFlags::CMA };
    zone.watermark_ok(&attempt, mark, zone.free_pages.get())
}

/// Blocks that one round hands over of so many, in whole batches.
const fn budget(listed: usize) -> usize {
    listed.div_ceil(CAPACITY * SHARE) * CAPACITY
}
