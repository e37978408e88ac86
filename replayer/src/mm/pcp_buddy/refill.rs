//! Refills (`rmqueue_bulk`; patches 02, 12 and 21): in phases, under one hold of the zone lock.
//!
//! `spb-allocator` 2.4. Only a refill of at least a pageblock takes whole pageblocks, so a CPU
//! that allocates little never owns any.

use fragscope_trace::page::{Content, Migratetype};

use crate::mm::buddy::Buddy;
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::{Frame, FrameState, Mark};
use crate::mm::geometry::PageblockId;
use crate::mm::placement::Placement;
use crate::mm::rmqueue::RmqueueMode;
use crate::mm::zone::Zone;

use super::{Cached, OwningPcp};

/// One refill.
struct Refill<'a, F: Flavour, P> {
    buddy: &'a Buddy<F, P>,
    zone: &'a Zone<F>,
    order: u8,
    migratetype: Migratetype,
    flags: AllocFlags,
    pages_needed: u32,
    refilled: u32,
}

impl<F: Flavour, P> Refill<'_, F, P> {
    fn is_done(&self) -> bool {
        self.refilled >= self.pages_needed
    }
}

impl<F: Flavour> OwningPcp<F> {
    /// Takes `blocks` blocks' worth of pages from the zone, as far as it has them.
    pub(super) fn refill<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
        blocks: u32,
    ) {
        let Some(_guard) = buddy.lock_for(zone, flags) else { return };
        buddy.counters.pcp_refills.add(1);
        let pages_needed = blocks << order;
        let mut refill =
            Refill { buddy, zone, order, migratetype, flags, pages_needed, refilled: 0 };
        if blocks > 1 {
            self.recover_owned(&mut refill);
            self.take_whole_pageblocks(&mut refill);
            self.adopt_partial_pageblocks(&mut refill);
        }
        self.take_singly(&mut refill);
    }

    /// Lists a block that just left the zone.
    fn receive<P: Placement<F>>(
        &self,
        refill: &mut Refill<'_, F, P>,
        frame: Frame,
        order: u8,
        marks: Mark,
    ) {
        let buddy = refill.buddy;
        self.push_tail(buddy, &Cached { frame, order, list: refill.migratetype, marks });
        buddy.shift(frame, order, Content::Free, Content::Pcp);
        buddy.counters.pcp_refill_blocks.add(1);
        refill.refilled += 1 << order;
        if marks.contains(Mark::PCP_BUDDY) {
            self.fresh.add(frame);
        }
    }

    /// Phase 0: fragments of owned pageblocks of the wanted type come back from the zone, each
    /// pageblock whole. A later drain lists the pageblock again.
    fn recover_owned<P: Placement<F>>(&self, refill: &mut Refill<'_, F, P>) {
        let buddy = refill.buddy;
        let mut at = buddy.blocks.first_owned(self.owned);
        while let Some(block) = at.filter(|_| !refill.is_done()) {
            at = buddy.blocks.next_owned(block);
            if buddy.blocks.migratetype(block) == refill.migratetype {
                buddy.blocks.unlist_owned(block);
                self.recover_block(refill, block);
            }
        }
    }

    fn recover_block<P: Placement<F>>(&self, refill: &mut Refill<'_, F, P>, block: PageblockId) {
        let buddy = refill.buddy;
        let mut frame = buddy.geometry.block_start(block);
        let end = frame + buddy.geometry.pageblock_pages();
        while frame < end {
            let word = buddy.frames.word(frame);
            if word.state() != FrameState::Buddy {
                frame += 1;
                continue;
            }
            let order = word.order();
            buddy.del_and_expand(refill.zone, frame, order, order, word.migratetype());
            self.receive(refill, frame, order, Mark::PCP_BUDDY);
            buddy.counters.pcp_recovered.add(1);
            frame += 1 << order;
        }
    }

    /// Phase 1: whole pageblocks, which this CPU owns from now on.
    fn take_whole_pageblocks<P: Placement<F>>(&self, refill: &mut Refill<'_, F, P>) {
        let buddy = refill.buddy;
        let (block_order, pages) =
            (buddy.geometry.pageblock_order, buddy.geometry.pageblock_pages());
        while refill.refilled + pages <= refill.pages_needed {
            let (zone, migratetype, flags) = (refill.zone, refill.migratetype, refill.flags);
            let Some(frame) = P::whole_pageblock(buddy, zone, migratetype, flags) else { break };
            self.own(buddy, buddy.pageblock(frame));
            self.receive(refill, frame, block_order, Mark::PCP_BUDDY);
            buddy.counters.pcp_whole_blocks.add(1);
        }
    }

    fn own<P: Placement<F>>(&self, buddy: &Buddy<F, P>, block: PageblockId) {
        // The number of a CPU that died may still be there; its list is empty.
        buddy.blocks.unlist_owned(block);
        buddy.blocks.set_owner(block, self.owner);
    }

    /// Phase 2: free parts of partly used pageblocks that the placement offers. A pageblock that
    /// nobody owns becomes this CPU's; of others only plain pages are taken, lest two CPUs merge
    /// in one pageblock.
    fn adopt_partial_pageblocks<P: Placement<F>>(&self, refill: &mut Refill<'_, F, P>) {
        if refill.is_done() {
            return;
        }
        let (buddy, zone) = (refill.buddy, refill.zone);
        let (order, migratetype) = (refill.order, refill.migratetype);
        P::partial_pageblocks(buddy, zone, order, migratetype, &mut |frame, found| {
            let block = buddy.pageblock(frame);
            let adopted = buddy.blocks.owner(block) == 0;
            if adopted {
                self.own(buddy, block);
                buddy.blocks.list_owned(self.owned, block);
                buddy.counters.pcp_adopted.add(1);
            }
            let marks = if adopted { Mark::PCP_BUDDY } else { Mark::empty() };
            self.receive(refill, frame, found, marks);
            !refill.is_done()
        });
    }

    /// Phase 3: blocks of the wanted order by the ordinary rules, without ownership.
    fn take_singly<P: Placement<F>>(&self, refill: &mut Refill<'_, F, P>) {
        let mut mode = RmqueueMode::Normal;
        while !refill.is_done() {
            let Refill { buddy, zone, order, migratetype, flags, .. } = *refill;
            let Some(frame) = P::rmqueue(buddy, zone, order, migratetype, flags, &mut mode) else {
                break;
            };
            self.receive(refill, frame, order, Mark::empty());
        }
    }
}
