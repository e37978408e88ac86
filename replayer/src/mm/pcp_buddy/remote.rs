//! Frees: into the own lists, or into those of the CPU that owns the pageblock (patch 03).
//!
//! `spb-allocator` 3.1 and 3.3. A page of a pageblock that another CPU owns is pushed on that
//! CPU's lock-free list and taken in by its next allocation or drain; ownership cannot change
//! meanwhile, because it ends only when the block is complete.

use fragscope_trace::page::Content;

use crate::mm::buddy::Buddy;
use crate::mm::flavour::{Fault, Flavour, Lock, Word};
use crate::mm::frames::{Frame, FrameWord, Mark};
use crate::mm::pcp_limits;
use crate::mm::placement::Placement;
use crate::mm::request::FreeEntry;
use crate::mm::virtual_hold::Waiting;
use crate::mm::zone::Zone;
use crate::mm::zone_free::isolated_word;

use super::{Cached, OwningPcp, cached_type};

/// Whose lists a block is put on, seen from the CPU that frees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Its own.
    Own,
    /// Those of the CPU that owns the pageblock.
    Other,
}

/// `free_llist`: a stack of blocks, linked by their notes; anybody pushes, the owner takes all.
#[derive(Debug)]
pub(super) struct RemoteFrees<F: Flavour> {
    /// Top frame + 1; 0 for none.
    top: F::U32,
    waiting: Waiting<F>,
}

impl<F: Flavour> RemoteFrees<F> {
    pub(super) fn new() -> RemoteFrees<F> {
        RemoteFrees { top: F::U32::default(), waiting: Waiting::default() }
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.top.get() == 0
    }

    fn push<P: Placement<F>>(&self, buddy: &Buddy<F, P>, frame: Frame) {
        loop {
            let top = self.top.get();
            buddy.frames.set_note(frame, top);
            if F::has(Fault::PushByStore) {
                return self.top.set(frame + 1);
            }
            if self.top.replace_if(top, frame + 1) {
                return;
            }
        }
    }

    /// Takes everything; the newest first.
    fn take<'a, P: Placement<F>>(
        &self,
        buddy: &'a Buddy<F, P>,
    ) -> impl Iterator<Item = Frame> + use<'a, F, P> {
        let mut link = self.top.swap(0);
        std::iter::from_fn(move || {
            let frame = link.checked_sub(1)?;
            link = buddy.frames.note(frame);
            Some(frame)
        })
    }
}

impl<F: Flavour> OwningPcp<F> {
    /// Puts a block at the head of its list, under the lock as the protocol takes it, and drains if there
    /// are too many. `false` if the zone must take the block: the lock is held, or the CPU is dead.
    #[inline(always)]
    pub(super) fn free_locked<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        block: Cached,
        from: Content,
        entry: FreeEntry,
        whose: Whose,
    ) -> bool {
        let counters = &buddy.counters;
        let (done, busy) = match whose {
            Whose::Own => (&counters.pcp_local_frees, &counters.pcp_fallbacks_own),
            Whose::Other => (&counters.pcp_remote_locked, &counters.pcp_fallbacks_remote),
        };
        let may_wait = entry == FreeEntry::Normal;
        let Some(held) = self.lock(buddy, may_wait, busy) else { return false };
        let alive = !self.is_dead();
        if alive {
            done.add(1);
            self.put_freed(buddy, zone, block, from, entry);
        } else {
            counters.pcp_fallbacks_dead.add(1);
        }
        self.unlock(buddy, held);
        alive
    }

    /// Lists a freed block and drains if there are too many. The lock is held.
    #[inline(always)]
    fn put_freed<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        block: Cached,
        from: Content,
        entry: FreeEntry,
    ) {
        self.put(buddy, block);
        buddy.shift(block.frame, block.order, from, Content::Pcp);
        let (count, scale) = (self.count.get(), buddy.settings.pcp_batch_scale_max as u32);
        let free_high = self.limits.freeing(count, block.order, scale);
        if entry == FreeEntry::NoLock {
            return;
        }
        let high = self.limits.nr_high(zone, count, free_high, scale);
        if count >= high {
            let pages = self.limits.nr_free(count, high, free_high, scale);
            self.drain_freed(buddy, zone, pages);
        }
    }

    /// A free made the lists too long: gives pages back.
    #[cold]
    fn drain_freed<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, pages: u32) {
        self.drain(buddy, zone, pages);
        pcp_limits::recheck_high(zone);
    }

    /// Lists a freed block; of an owned pageblock it may be merged here.
    #[inline(always)]
    fn put<P: Placement<F>>(&self, buddy: &Buddy<F, P>, block: Cached) {
        let owned = buddy.blocks.owner(buddy.pageblock(block.frame)) == self.owner;
        let marks = if owned { Mark::PCP_BUDDY } else { Mark::empty() };
        self.push_head(buddy, &Cached { marks, ..block });
        if owned {
            self.fresh.add(block.frame);
        }
    }

    /// Hands a block to the CPU that owns its pageblock, without any lock. `false` if that CPU is
    /// gone and the zone must take it.
    pub(super) fn free_remote<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        block: Cached,
        from: Content,
    ) -> bool {
        if self.is_dead() {
            buddy.counters.pcp_fallbacks_dead.add(1);
            return false;
        }
        buddy.counters.pcp_remote_frees.add(1);
        buddy.shift(block.frame, block.order, from, Content::Isolated);
        buddy.frames.set_word(block.frame, isolated_word(block.order));
        buddy.holds.pushed(&self.remote.waiting, 1 << block.order);
        self.remote.push(buddy, block.frame);
        true
    }

    /// Takes in what other CPUs freed into owned pageblocks. The lock is held.
    #[inline]
    pub(super) fn absorb<P: Placement<F>>(&self, buddy: &Buddy<F, P>) {
        if !self.remote.is_empty() {
            self.absorb_all(buddy);
        }
    }

    #[cold]
    fn absorb_all<P: Placement<F>>(&self, buddy: &Buddy<F, P>) {
        let mut pages = 0;
        for frame in self.remote.take(buddy) {
            let order = buddy.frames.word(frame).order();
            pages += 1 << order;
            buddy.frames.set_word(frame, FrameWord::free_tail());
            buddy.shift(frame, order, Content::Isolated, Content::Pcp);
            let list = cached_type(buddy.migratetype(frame))
                .unwrap_or(fragscope_trace::page::Migratetype::Movable);
            self.put(buddy, Cached { frame, order, list, marks: Mark::empty() });
            buddy.counters.pcp_absorbed.add(1);
        }
        buddy.holds.absorbed(&self.remote.waiting, pages);
    }

    pub(super) fn waiting(&self) -> &Waiting<F> {
        &self.remote.waiting
    }

    /// The CPU stops (`pcp_cpu_dead`): marks the lists dead under their lock, drains them and
    /// what came from afar, and takes every owned pageblock off the list one by one. Pageblocks
    /// keep their owner number, which nobody heeds while the CPU is dead.
    pub(super) fn retire<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        let _guard = self.lock.guard();
        self.dead.set(1);
        self.drain_until_empty(buddy, zone);
        let _zone_guard = buddy.lock(zone);
        if F::has(Fault::ReinitOwned) {
            return buddy.blocks.forget_owned(self.owned);
        }
        while let Some(block) = buddy.blocks.first_owned(self.owned) {
            buddy.blocks.unlist_owned(block);
        }
    }
}
