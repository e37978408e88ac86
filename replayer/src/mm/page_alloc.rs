//! An allocator of one machine: requests from the entry to the fast path's end, and frees.
//!
//! `stock-allocator` 2.1 (entry), 2.2 (`get_page_from_freelist`), 2.4 (`rmqueue`), 2.8 (bulk and
//! nolock entries), 3.2 (routing of frees). What follows when the fast path fails is in
//! [`super::slowpath`].

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, CpuId, Migratetype};

use super::allocator::FreeError;
use super::buddy::{Buddy, ListEnd};
use super::cache::Cache;
use super::clock::Clock;
use super::flags::{self, AllocFlags, Mark};
use super::flavour::{Flavour, Word};
use super::frames::{self, Frame, FrameState, FrameWord};
use super::geometry::{CpuIndex, Node, ZoneId};
use super::placement::{Placement, Relax};
use super::request::{Entry, FreeEntry, Refusal, Request};
use super::sequence::UpdateSequence;
use super::watermark::Attempt;
use super::zone::{Zone, ZoneFlags};

/// A page allocator: a placement policy with per-CPU lists in front.
#[derive(Debug)]
pub struct Mm<F: Flavour, P, C> {
    /// Everything below the per-CPU lists.
    pub buddy: Buddy<F, P>,
    /// The per-CPU lists.
    pub cache: C,
    /// Virtual time and what is due.
    pub clock: Clock<F>,
    /// For each node whether requests that prefer its NORMAL zone begin with NOFRAGMENT.
    pub(super) nofragment: Box<[bool]>,
    /// Online CPUs of each node.
    pub(super) cpus_by_node: Box<[F::U64]>,
    /// For each CPU whether it runs.
    pub(super) cpu_runs: Box<[F::U32]>,
    /// For each node how many intervals its proactive compactor still waits.
    pub(super) proactive_wait: Box<[F::U32]>,
    /// Rebuilds of the zonelists.
    pub(super) zonelists: UpdateSequence<F>,
}

/// A request with everything that follows from it (`struct alloc_context`).
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// Type whose lists serve it.
    pub migratetype: Migratetype,
    /// Highest zone kind that may serve it.
    pub highest: ZoneKind,
    /// CPU whose lists serve it.
    pub cpu: CpuIndex,
    /// Zones to try, in order; those above `highest` are passed over.
    pub zonelist: &'a [ZoneId],
    /// The first zone that may serve it.
    pub preferred: ZoneId,
}

/// A block on its way to a caller: off all lists, not marked as allocated.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub(super) frame: Frame,
    from: Content,
}

impl Taken {
    /// The first frame, and what the block's pages hold by the census.
    pub(super) fn parts(self) -> (Frame, Content) {
        (self.frame, self.from)
    }
}

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Serves a request.
    ///
    /// # Errors
    /// [`Refusal`] says why nothing was given.
    pub fn alloc_pages(&self, request: &Request) -> Result<Frame, Refusal> {
        let counters = &self.buddy.counters;
        let result = self.try_alloc(request);
        match result {
            Ok(_) => counters.allocs.add(1),
            Err(Refusal::NoMemory) => counters.refused_no_memory.add(1),
            Err(Refusal::Policy) => counters.refused_policy.add(1),
            Err(Refusal::OrderTooLarge) => counters.refused_order.add(1),
        }
        result
    }

    fn try_alloc(&self, request: &Request) -> Result<Frame, Refusal> {
        if request.order > self.buddy.geometry.max_order {
            return Err(Refusal::OrderTooLarge);
        }
        let taken = match self.context(request) {
            Some(context) => self.alloc_from(&context)?,
            None => self.alloc_without_zones(request)?,
        };
        Ok(self.hand_out(request, taken))
    }

    #[inline]
    fn alloc_from(&self, context: &Context<'_>) -> Result<Taken, Refusal> {
        P::request_begins(&self.buddy, context.cpu);
        match context.request.entry {
            Entry::Normal => self.alloc_normal(context),
            Entry::Bulk => match self.alloc_bulk(context) {
                Some(taken) => Ok(taken),
                None => self.alloc_normal(context),
            },
            Entry::NoLock => self.alloc_nolock(context),
        }
    }

    /// No zone may serve the request: perhaps only because a rebuild of the zonelists runs, which
    /// the slow path finds out.
    #[cold]
    fn alloc_without_zones(&self, request: &Request) -> Result<Taken, Refusal> {
        if request.entry == Entry::NoLock {
            return Err(Refusal::NoMemory);
        }
        self.alloc_slowpath(request)
    }

    /// `prepare_alloc_pages`; `None` if no zone may serve the request.
    #[inline]
    pub fn context<'a>(&'a self, request: &'a Request) -> Option<Context<'a>> {
        let geometry = &self.buddy.geometry;
        let cpu = geometry.cpu(request.cpu);
        let node: &Node = geometry.node_of_cpu(cpu);
        let zonelist = match request.gfp.contains(Gfp::THISNODE) {
            true => &node.zonelist[..node.own],
            false => &node.zonelist[..],
        };
        let highest = flags::highest_zone(request.gfp);
        let usable = |id: &&ZoneId| {
            let zone = self.buddy.zone(**id);
            zone.kind <= highest && zone.listed.get() != 0
        };
        let preferred = *zonelist.iter().find(usable)?;
        let migratetype = match self.buddy.settings.grouping {
            true => request.migratetype(),
            false => Migratetype::Unmovable,
        };
        Some(Context { request, migratetype, highest, cpu, zonelist, preferred })
    }

    /// `alloc_flags_nofragment`
    #[inline]
    pub fn nofragment_flag(&self, context: &Context<'_>) -> AllocFlags {
        let zone = self.buddy.zone(context.preferred);
        let by_zone = zone.kind == ZoneKind::Normal && self.nofragment[usize::from(zone.node)];
        if by_zone || self.buddy.tunables.defrag_mode {
            AllocFlags::NOFRAGMENT
        } else {
            AllocFlags::empty()
        }
    }

    pub(super) fn alloc_normal(&self, context: &Context<'_>) -> Result<Taken, Refusal> {
        let flags = flags::fast_path_flags(context.request.gfp) | self.nofragment_flag(context);
        match self.get_page_from_freelist(context, flags)? {
            Some(taken) => Ok(taken),
            None => self.alloc_slowpath(context.request),
        }
    }

    /// `alloc_pages_bulk` for one page: the per-CPU list of the first zone above its low
    /// watermark, or `None`.
    fn alloc_bulk(&self, context: &Context<'_>) -> Option<Taken> {
        let gfp = context.request.gfp;
        if context.request.order > 0 || gfp.contains(Gfp::ACCOUNT) {
            return None;
        }
        let mut flags = AllocFlags::WMARK_LOW;
        flags.set(AllocFlags::CMA, context.migratetype == Migratetype::Movable);
        if P::begins_nofragment(&self.buddy, context.request.entry) {
            flags |= self.nofragment_flag(context);
        }
        let attempt = Attempt { order: 0, highest: context.highest, flags };
        let zone = self.zones(context).find(|zone| zone.watermark_fast(&attempt, Mark::Low))?;
        self.take_cached(context, zone, flags)
    }

    /// `alloc_pages_nolock`: try-locks only, no slow path.
    fn alloc_nolock(&self, context: &Context<'_>) -> Result<Taken, Refusal> {
        if !self.cache.allows(&self.buddy, context.request.order) {
            return Err(Refusal::NoMemory);
        }
        let mut flags = AllocFlags::TRYLOCK;
        if P::begins_nofragment(&self.buddy, context.request.entry) {
            flags |= self.nofragment_flag(context);
        }
        self.get_page_from_freelist(context, flags)?.ok_or(Refusal::NoMemory)
    }

    /// Zones that may serve a request, in order.
    #[inline]
    pub fn zones<'a>(
        &'a self,
        context: &Context<'a>,
    ) -> impl Iterator<Item = &'a Zone<F>> + use<'a, F, P, C> {
        let highest = context.highest;
        let zones = context.zonelist.iter().map(|id| self.buddy.zone(*id));
        zones.filter(move |zone| zone.kind <= highest)
    }

    /// `get_page_from_freelist`: the zones in order, relaxed and repeated as the policy says.
    #[inline]
    pub(super) fn get_page_from_freelist(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
    ) -> Result<Option<Taken>, Refusal> {
        let mut flags = flags;
        loop {
            match self.scan_zones(context, flags) {
                Scan::Taken(taken) => return Ok(Some(taken)),
                Scan::Restart => {
                    self.buddy.counters.nofragment_dropped.add(1);
                    flags -= AllocFlags::NOFRAGMENT | AllocFlags::NOFRAG_TAINTED_OK;
                    continue;
                }
                Scan::End => {}
            }
            let zone = self.buddy.zone(context.preferred);
            match P::relax(&self.buddy, zone, context.request, flags) {
                Relax::Retry(relaxed) => {
                    let dropped = flags - relaxed;
                    if dropped.contains(AllocFlags::NOFRAGMENT) {
                        self.buddy.counters.nofragment_dropped.add(1);
                    }
                    flags = relaxed;
                }
                Relax::GiveUp => return Ok(None),
                Relax::Refuse => return Err(Refusal::Policy),
            }
        }
    }

    #[inline]
    fn scan_zones(&self, context: &Context<'_>, flags: AllocFlags) -> Scan {
        let preferred = self.buddy.zone(context.preferred);
        let locality = flags.contains(AllocFlags::NOFRAGMENT)
            && !self.buddy.tunables.defrag_mode
            && self.buddy.geometry.nodes.len() > 1;
        for zone in self.zones(context) {
            // A local block of another type is better than a remote one.
            if locality && zone.node != preferred.node {
                return Scan::Restart;
            }
            if !self.zone_allows(context, zone, flags) {
                continue;
            }
            if let Some(taken) = self.rmqueue(context, zone, flags) {
                if zone.id != preferred.id {
                    self.buddy.counters.zone_fallbacks.add(1);
                }
                if flags.contains(AllocFlags::HIGHATOMIC) {
                    self.buddy.reserve_highatomic(zone, taken.frame, context.request.order);
                }
                return Scan::Taken(taken);
            }
        }
        Scan::End
    }

    /// The watermark tests of one zone. The high watermark is tested first, only to know whether
    /// the zone is below it.
    #[inline]
    fn zone_allows(&self, context: &Context<'_>, zone: &Zone<F>, flags: AllocFlags) -> bool {
        let order = context.request.order;
        let attempt = Attempt { order, highest: context.highest, flags };
        if !zone.has(ZoneFlags::BELOW_HIGH) {
            if zone.watermark_fast(&attempt, Mark::High) {
                return true;
            }
            zone.set_flags(ZoneFlags::BELOW_HIGH);
        }
        if flags.contains(AllocFlags::NO_WATERMARKS) || zone.watermark_fast(&attempt, flags.mark())
        {
            return true;
        }
        self.buddy.counters.watermark_failures.add(1);
        false
    }

    /// `rmqueue`
    #[inline]
    fn rmqueue(&self, context: &Context<'_>, zone: &Zone<F>, flags: AllocFlags) -> Option<Taken> {
        let order = context.request.order;
        let cached = self.take_cached(context, zone, flags);
        let taken = cached.or_else(|| {
            let frame = self.buddy.rmqueue_buddy(zone, order, context.migratetype, flags)?;
            Some(Taken { frame, from: Content::Free })
        });
        if flags.contains(AllocFlags::KSWAPD) && zone.has(ZoneFlags::BOOSTED_WATERMARK) {
            zone.clear_flags(ZoneFlags::BOOSTED_WATERMARK);
            self.wake_kswapd(zone, 0);
        }
        taken
    }

    #[inline]
    fn take_cached(
        &self,
        context: &Context<'_>,
        zone: &Zone<F>,
        flags: AllocFlags,
    ) -> Option<Taken> {
        let order = context.request.order;
        if !self.cache.allows(&self.buddy, order) {
            return None;
        }
        let buddy = &self.buddy;
        let frame =
            self.cache.alloc(buddy, zone, context.cpu, order, context.migratetype, flags)?;
        Some(Taken { frame, from: Content::Pcp })
    }

    /// `prep_new_page`
    #[inline]
    fn hand_out(&self, request: &Request, taken: Taken) -> Frame {
        let Request { order, content, .. } = *request;
        let marks = frames::Mark::empty();
        let migratetype = request.migratetype();
        self.buddy.mark_allocated(taken.frame, order, migratetype, content, marks);
        self.buddy.shift(taken.frame, order, taken.from, content);
        taken.frame
    }

    /// Frees an aligned block of allocated pages.
    ///
    /// # Errors
    /// If part of it is not allocated; then nothing changes.
    pub fn free_block(
        &self,
        frame: Frame,
        order: u8,
        cpu: CpuId,
        entry: FreeEntry,
    ) -> Result<(), FreeError> {
        let from = self.free_prepare(frame, order)?;
        // A block that no list could hold is never parked.
        let large = order > self.buddy.geometry.max_order;
        let entry = if large { FreeEntry::Normal } else { entry };
        self.buddy.counters.frees.add(1);
        if order >= self.buddy.geometry.region_order {
            P::contig_changed(&self.buddy, frame, order, false);
        }
        self.route_free(frame, order, cpu, from, entry);
        Ok(())
    }

    /// `free_frozen_pages`: to the CPU's lists, or to the zone.
    #[inline]
    pub(super) fn route_free(
        &self,
        frame: Frame,
        order: u8,
        cpu: CpuId,
        from: Content,
        entry: FreeEntry,
    ) {
        let zone = self.buddy.zone_of(frame);
        if self.cache.allows(&self.buddy, order) {
            let cpu = self.buddy.geometry.cpu(cpu);
            if self.cache.free(&self.buddy, zone, cpu, frame, order, from, entry) {
                return;
            }
        }
        self.buddy.free_to_zone(zone, frame, order, from, entry, ListEnd::ByChance);
    }

    /// Turns the frames of an allocated block into the inside of a free one; returns what they
    /// hold by the census.
    #[inline]
    fn free_prepare(&self, frame: Frame, order: u8) -> Result<Content, FreeError> {
        let word = self.word_checked(frame)?;
        if order == 0 && word.order() == 0 && !word.marks().contains(frames::Mark::TAIL) {
            self.buddy.frames.set_word(frame, FrameWord::free_tail());
            return Ok(word.content());
        }
        self.free_prepare_block(frame, order)
    }

    fn word_checked(&self, frame: Frame) -> Result<FrameWord, FreeError> {
        let not_allocated = FreeError::NotAllocated { frame };
        if frame >= self.buddy.frames.len() {
            return Err(not_allocated);
        }
        let word = self.buddy.frames.word(frame);
        if word.state() == FrameState::Allocated { Ok(word) } else { Err(not_allocated) }
    }

    /// The first free inside a contiguous allocation ends it as a whole.
    fn give_up_contig(&self, frame: Frame) {
        let Some((head, order)) = self.buddy.allocated_block_of(frame) else { return };
        if order >= self.buddy.geometry.region_order {
            let _guard = self.buddy.lock(self.buddy.zone_of(head));
            P::contig_changed(&self.buddy, head, order, false);
        }
    }

    fn free_prepare_block(&self, frame: Frame, order: u8) -> Result<Content, FreeError> {
        let end = u64::from(frame) + (1 << order);
        if end > u64::from(self.buddy.frames.len()) || frame & ((1 << order) - 1) != 0 {
            return Err(FreeError::NotAllocated { frame });
        }
        for inner in frame..end as Frame {
            self.word_checked(inner)?;
        }
        self.give_up_contig(frame);
        self.buddy.split_around(frame, order);
        let first = self.buddy.frames.word(frame).content();
        let uniform = (frame..end as Frame).all(|f| self.buddy.frames.word(f).content() == first);
        for inner in frame..end as Frame {
            if !uniform {
                let content = self.buddy.frames.word(inner).content();
                self.buddy.shift(inner, 0, content, Content::Free);
            }
            self.buddy.frames.set_word(inner, FrameWord::free_tail());
        }
        Ok(if uniform { first } else { Content::Free })
    }
}

/// Outcome of one scan over the zones.
enum Scan {
    /// A zone served.
    Taken(Taken),
    /// The rest are remote: try the local ones again without NOFRAGMENT.
    Restart,
    /// No zone served.
    End,
}
