//! Free page reporting: a guest tells its host which free memory it does not use (patch 29).
//!
//! A worker walks the lists of pageblocks and larger and hands over blocks in batches; a block
//! that was reported stays so until it leaves its list. In each round it hands over a sixteenth of
//! what is listed, at least one batch for each list that has any. The series keeps the budget and
//! makes a list one of a superpageblock (setting `reporting_budget_per_list`; inferred), so that a
//! round reaches every superpageblock. Nothing is reported where the host does not ask for it:
//! setting `page_reporting_ms`.

use fragscope_trace::page::Migratetype;

use super::buddy::Buddy;
use super::flavour::{Flavour, Word};
use super::frames::{Frame, ListId, Mark};
use super::placement::{Placement, Reader};
use super::zone::Zone;

/// `PAGE_REPORTING_CAPACITY`: blocks in one batch.
const CAPACITY: usize = 32;
/// Part of the listed blocks that one round hands over.
const SHARE: usize = 16;

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// One round over a zone. Returns the blocks that were handed over.
    pub fn report_free_pages(&self, zone: &Zone<F>) -> u64 {
        let _guard = self.lock(zone);
        let mut reported = 0;
        for order in self.geometry.pageblock_order..=self.geometry.max_order {
            for migratetype in Migratetype::ALL {
                if migratetype != Migratetype::Isolate {
                    reported += self.report_lists(zone, order, migratetype);
                }
            }
        }
        self.counters.reported_blocks.add(reported);
        reported
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
            reported += batch.len() as u64;
            batch.into_iter().for_each(|frame| self.report(list, frame));
        }
        reported
    }

    /// The first `most` blocks of a list that were not reported yet.
    fn unreported(&self, list: ListId, most: usize) -> Vec<Frame> {
        let new = |frame: &Frame| !self.frames.word(*frame).marks().contains(Mark::REPORTED);
        self.frames.iter(list).filter(new).take(most).collect()
    }

    /// Hands a block over: it was off its list meanwhile, and returns to the tail.
    fn report(&self, list: ListId, frame: Frame) {
        self.frames.unlink(frame);
        self.frames.set_word(frame, self.frames.word(frame).with_marks(Mark::REPORTED));
        self.frames.push_tail(list, frame);
    }
}

/// Blocks that one round hands over of so many, in whole batches.
const fn budget(listed: usize) -> usize {
    listed.div_ceil(CAPACITY * SHARE) * CAPACITY
}
