//! Moving allocated blocks to other frames: contents, owners and the census follow.
//!
//! The kernel isolates a page from its users before it moves it. The model has no users: whoever
//! shares an allocator between threads must not free a block that another thread may be moving,
//! so threads run with compaction, reclaim and evacuation switched off.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId, Migratetype};

use super::buddy::{Buddy, ListEnd};
use super::cache::Cache;
use super::flags;
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState, FrameWord, Mark, NOWHERE};
use super::page_alloc::{Mm, Taken};
use super::placement::Placement;
use super::request::{FreeEntry, Request};

/// Where the frames that a migration empties go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptied {
    /// The lists of a CPU, as any free.
    Cpu(CpuId),
    /// Straight to the zone.
    Zone,
}

/// What a migration does to find room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Only what is free now.
    Free,
    /// Reclaim as any request.
    Reclaim,
}

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Whether an allocated block, given by its head and order, consists of movable pages.
    pub fn is_movable_block(&self, head: Frame, order: u8) -> bool {
        self.buddy.movable_block(head) == Some(order)
    }

    /// Moves a movable block to wherever an ordinary movable request of `cpu` would be served,
    /// with so much effort. A large block without a target is split and moved in parts. Returns
    /// the pages moved.
    pub(super) fn migrate_block(
        &self,
        head: Frame,
        order: u8,
        cpu: CpuId,
        emptied: Emptied,
        effort: Effort,
    ) -> u32 {
        if order <= self.buddy.geometry.max_order
            && let Some((dest, from)) = self.migration_target(order, cpu, effort)
        {
            if self.is_movable_block(head, order) {
                self.move_block(head, order, dest, from, emptied);
            } else {
                // Making room for the target reclaimed or moved the block itself.
                self.route_free(dest, order, cpu, from, FreeEntry::Normal);
            }
            return 1 << order;
        }
        let Some(half) = order.checked_sub(1) else {
            self.buddy.counters.migrate_failed.add(1);
            return 0;
        };
        self.buddy.split_around(head, half);
        let moved = self.migrate_block(head, half, cpu, emptied, effort);
        if moved < 1 << half {
            return moved;
        }
        moved + self.migrate_block(head + (1 << half), half, cpu, emptied, effort)
    }

    /// `alloc_migration_target`: a free block, and what its pages hold by the census. Large
    /// blocks are split before memory is reclaimed for them.
    fn migration_target(&self, order: u8, cpu: CpuId, effort: Effort) -> Option<(Frame, Content)> {
        let request = Request::new(order, Gfp::HIGHUSER_MOVABLE | Gfp::NOWARN, cpu);
        let context = self.context(&request)?;
        P::request_begins(&self.buddy, context.cpu);
        let taken = if effort == Effort::Reclaim && order == 0 {
            self.alloc_normal(&context).ok()
        } else {
            let flags = flags::fast_path_flags(request.gfp) | self.nofragment_flag(&context);
            self.get_page_from_freelist(&context, flags).ok()?
        };
        taken.map(Taken::parts)
    }

    /// Moves an allocated block into a free one whose frames are off all lists and hold
    /// `dest_from` by the census, and frees its old frames.
    pub(super) fn move_block(
        &self,
        source: Frame,
        order: u8,
        dest: Frame,
        dest_from: Content,
        emptied: Emptied,
    ) {
        let buddy = &self.buddy;
        buddy.shift(dest, order, dest_from, Content::Free);
        for inner in 0..1 << order {
            buddy.move_page(source + inner, dest + inner);
        }
        P::page_arrived(buddy, buddy.zone_of(dest), dest, Migratetype::Movable);
        buddy.counters.blocks_moved.add(1);
        buddy.counters.pages_moved.add(1 << order);
        let (from, entry) = (Content::Free, FreeEntry::Normal);
        match emptied {
            Emptied::Cpu(cpu) => self.route_free(source, order, cpu, from, entry),
            Emptied::Zone => {
                let zone = buddy.zone_of(source);
                buddy.free_to_zone(zone, source, order, from, entry, ListEnd::ByChance);
            }
        }
    }
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    fn move_page(&self, source: Frame, dest: Frame) {
        let word = self.frames.word(source);
        let owner = self.frames.owner(source);
        let note = self.frames.note(source);
        self.frames.set_word(source, FrameWord::free_tail());
        self.frames.set_unowned(dest, word);
        self.frames.set_note(dest, note);
        if owner != NOWHERE {
            self.frames.settle(owner, dest);
        }
        self.shift(source, 0, word.content(), Content::Free);
        self.shift(dest, 0, Content::Free, word.content());
    }

    /// The movable allocated block that begins at a frame: its order, if every page of it can
    /// migrate.
    pub fn movable_block(&self, frame: Frame) -> Option<u8> {
        let word = self.frames.word(frame);
        let head = word.state() == FrameState::Allocated && !word.marks().contains(Mark::TAIL);
        if !head || !word.content().is_movable() {
            return None;
        }
        let movable = |inner| self.frames.word(inner).content().is_movable();
        (frame + 1..frame + (1 << word.order())).all(movable).then_some(word.order())
    }
}
