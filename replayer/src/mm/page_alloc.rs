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
use super::frames::{self, Frame, FrameWord};
use super::geometry::{CpuIndex, ZoneId};
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
    /// For each zone the NOFRAGMENT flag, if requests that prefer it begin with that.
    pub(super) nofragment: Box<[AllocFlags]>,
    /// Whether a local block of another type is better than a remote one, and there are remote
    /// ones.
    pub(super) prefers_local: bool,
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
    /// Zones to try, in order.
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
    #[inline(always)]
    pub fn alloc_pages(&self, request: &Request) -> Result<Frame, Refusal> {
        let result = self.try_alloc(request);
        match result {
            Ok(_) => self.buddy.counters.allocs.add(1),
            Err(refusal) => self.count_refusal(refusal),
        }
        result
    }

    #[cold]
    fn count_refusal(&self, refusal: Refusal) {
        let counters = &self.buddy.counters;
        match refusal {
            Refusal::NoMemory => counters.refused_no_memory.add(1),
            Refusal::Policy => counters.refused_policy.add(1),
            Refusal::OrderTooLarge => counters.refused_order.add(1),
        }
    }

    #[inline(always)]
    fn try_alloc(&self, request: &Request) -> Result<Frame, Refusal> {
        if request.order > self.buddy.geometry.max_order {
            return Err(Refusal::OrderTooLarge);
        }
        let taken = match self.context(request) {
            Some(context) => self.alloc_from(&context)?,
            None => self.alloc_without_zones(*request)?,
        };
        Ok(self.hand_out(request, taken))
    }

    #[inline(always)]
    fn alloc_from(&self, context: &Context<'_>) -> Result<Taken, Refusal> {
        P::request_begins(&self.buddy, context.cpu);
        match context.request.entry {
            Entry::Normal => self.alloc_normal(context),
            _ => self.alloc_by_entry(*context.request),
        }
    }

    /// Other entries than the normal one. Like everything that is rarely called from here on, it
    /// takes the request by value and derives the context anew: else every request would have to
    /// lie in memory, for those that need it.
    #[inline(never)]
    fn alloc_by_entry(&self, request: Request) -> Result<Taken, Refusal> {
        let Some(context) = self.context(&request) else {
            return self.alloc_without_zones(request);
        };
        match request.entry {
            Entry::Normal => self.alloc_normal(&context),
            Entry::Bulk => match self.alloc_bulk(&context) {
                Some(taken) => Ok(taken),
                None => self.alloc_normal(&context),
            },
            Entry::NoLock => self.alloc_nolock(&context),
        }
    }

    /// No zone may serve the request: perhaps only because a rebuild of the zonelists runs, which
    /// the slow path finds out.
    #[cold]
    fn alloc_without_zones(&self, request: Request) -> Result<Taken, Refusal> {
        if request.entry == Entry::NoLock {
            return Err(Refusal::NoMemory);
        }
        self.alloc_slowpath(&request)
    }

    /// `prepare_alloc_pages`; `None` if no zone may serve the request.
    #[inline(always)]
    pub fn context<'a>(&'a self, request: &'a Request) -> Option<Context<'a>> {
        let geometry = &self.buddy.geometry;
        let cpu = geometry.cpu(request.cpu);
        let node = geometry.node_of_cpu(cpu);
        let highest = flags::highest_zone(request.gfp);
        let zonelist = node.usable(highest, request.gfp.contains(Gfp::THISNODE));
        let first = *zonelist.first()?;
        let preferred = if self.is_listed(first) { first } else { self.first_listed(zonelist)? };
        let migratetype = match self.buddy.settings.grouping {
            true => request.migratetype(),
            false => Migratetype::Unmovable,
        };
        Some(Context { request, migratetype, highest, cpu, zonelist, preferred })
    }

    #[inline(always)]
    fn is_listed(&self, zone: ZoneId) -> bool {
        self.buddy.zone(zone).listed.get() != 0
    }

    #[cold]
    fn first_listed(&self, zones: &[ZoneId]) -> Option<ZoneId> {
        zones.iter().copied().find(|zone| self.is_listed(*zone))
    }

    /// `alloc_flags_nofragment`
    #[inline]
    pub fn nofragment_flag(&self, context: &Context<'_>) -> AllocFlags {
        self.nofragment[usize::from(context.preferred.0)]
    }

    /// The fast path: mostly the first zone serves at once.
    #[inline(always)]
    pub(super) fn alloc_normal(&self, context: &Context<'_>) -> Result<Taken, Refusal> {
        let flags = flags::fast_path_flags(context.request.gfp) | self.nofragment_flag(context);
        let first = context.zonelist[0];
        // A scan of the zones begins here, and mostly ends here.
        if context.preferred == first {
            let zone = self.buddy.zone(first);
            if self.zone_allows(context, zone, flags)
                && let Some(taken) = self.rmqueue(context, zone, flags)
            {
                return Ok(taken);
            }
            return self.alloc_elsewhere(*context.request, flags, 1);
        }
        self.alloc_elsewhere(*context.request, flags, 0)
    }

    /// The fast path when the first `tried` zones have failed.
    #[cold]
    fn alloc_elsewhere(
        &self,
        request: Request,
        flags: AllocFlags,
        tried: usize,
    ) -> Result<Taken, Refusal> {
        if let Some(context) = self.context(&request) {
            let scan = self.scan_zones(&context, flags, tried);
            if let Some(taken) = self.scan_until_relaxed(&context, flags, scan)? {
                return Ok(taken);
            }
        }
        self.alloc_slowpath(&request)
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
        context.zonelist.iter().map(|id| self.buddy.zone(*id))
    }

    /// `get_page_from_freelist`: the zones in order, relaxed and repeated as the policy says.
    pub(super) fn get_page_from_freelist(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
    ) -> Result<Option<Taken>, Refusal> {
        let scan = self.scan_zones(context, flags, 0);
        self.scan_until_relaxed(context, flags, scan)
    }

    /// What follows a scan with `flags`: more of them, until one serves or the policy gives up.
    fn scan_until_relaxed(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
        scan: Scan,
    ) -> Result<Option<Taken>, Refusal> {
        let (mut flags, mut scan) = (flags, scan);
        loop {
            match scan {
                Scan::Taken(taken) => return Ok(Some(taken)),
                Scan::Restart => {
                    self.buddy.counters.nofragment_dropped.add(1);
                    flags -= AllocFlags::NOFRAGMENT | AllocFlags::NOFRAG_TAINTED_OK;
                }
                Scan::End => {
                    let zone = self.buddy.zone(context.preferred);
                    match P::relax(&self.buddy, zone, context.request, flags) {
                        Relax::Retry(relaxed) => {
                            let dropped = (flags - relaxed).contains(AllocFlags::NOFRAGMENT);
                            self.buddy.counters.nofragment_dropped.add(dropped.into());
                            flags = relaxed;
                        }
                        Relax::GiveUp => return Ok(None),
                        Relax::Refuse => return Err(Refusal::Policy),
                    }
                }
            }
            scan = self.scan_zones(context, flags, 0);
        }
    }

    /// One scan of the zones, of which the first `tried` have failed.
    fn scan_zones(&self, context: &Context<'_>, flags: AllocFlags, tried: usize) -> Scan {
        let preferred = self.buddy.zone(context.preferred);
        let locality = self.prefers_local && flags.contains(AllocFlags::NOFRAGMENT);
        for zone in self.zones(context).skip(tried) {
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
    #[inline(always)]
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
    #[inline(always)]
    fn rmqueue(&self, context: &Context<'_>, zone: &Zone<F>, flags: AllocFlags) -> Option<Taken> {
        let taken = match self.take_cached(context, zone, flags) {
            Some(taken) => Some(taken),
            None => self.take_from_zone(zone, context.request.order, context.migratetype, flags),
        };
        if flags.contains(AllocFlags::KSWAPD) && zone.has(ZoneFlags::BOOSTED_WATERMARK) {
            zone.clear_flags(ZoneFlags::BOOSTED_WATERMARK);
            self.wake_kswapd(zone, 0);
        }
        taken
    }

    #[cold]
    fn take_from_zone(
        &self,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Taken> {
        let frame = self.buddy.rmqueue_buddy(zone, order, migratetype, flags)?;
        Some(Taken { frame, from: Content::Free })
    }

    #[inline(always)]
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
    #[inline(always)]
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
    #[inline(always)]
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
    #[inline(always)]
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
    #[inline(always)]
    fn free_prepare(&self, frame: Frame, order: u8) -> Result<Content, FreeError> {
        let word = self.word_checked(frame)?;
        if order == 0 && word.is_single_page() {
            self.buddy.frames.set_word(frame, FrameWord::free_tail());
            return Ok(word.content());
        }
        self.free_prepare_block(frame, order)
    }

    #[inline(always)]
    fn word_checked(&self, frame: Frame) -> Result<FrameWord, FreeError> {
        match self.buddy.frames.known_word(frame) {
            Some(word) if word.is_allocated() => Ok(word),
            _ => Err(FreeError::NotAllocated { frame }),
        }
    }

    /// The first free inside a contiguous allocation ends it as a whole.
    fn give_up_contig(&self, frame: Frame) {
        let Some((head, order)) = self.buddy.allocated_block_of(frame) else { return };
        if order >= self.buddy.geometry.region_order {
            let _guard = self.buddy.lock(self.buddy.zone_of(head));
            P::contig_changed(&self.buddy, head, order, false);
        }
    }

    #[inline(never)]
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
