//! What happens to a request that the fast path could not serve.
//!
//! `stock-allocator` 2.7. The kernel's reclaim is in the trace already, so only a request that
//! would fail otherwise makes the model reclaim, and every loop is bounded.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;

use super::cache::Cache;
use super::flags::{self, AllocFlags};
use super::flavour::{Flavour, Word};
use super::page_alloc::{Context, Mm, Taken};
use super::pcp::COSTLY_ORDER;
use super::placement::Placement;
use super::request::Refusal;
use super::watermark::Attempt;

/// `MAX_RECLAIM_RETRIES`
const MAX_RECLAIM_RETRIES: u32 = 16;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// `__alloc_pages_slowpath`
    #[cold]
    pub(super) fn alloc_slowpath(&self, context: &Context<'_>) -> Result<Taken, Refusal> {
        self.buddy.counters.slowpath.add(1);
        let flags = self.slowpath_flags(context);
        if flags.contains(AllocFlags::KSWAPD) {
            self.wake_kswapds(context);
        }
        if let Some(taken) = self.get_page_from_freelist(context, flags)? {
            return Ok(taken);
        }
        let flags = self.with_memalloc_rights(context, flags);
        if flags.contains(AllocFlags::NO_WATERMARKS)
            && let Some(taken) = self.get_page_from_freelist(context, flags)?
        {
            return Ok(taken);
        }
        if context.request.gfp.can_direct_reclaim() && !flags.contains(AllocFlags::NO_WATERMARKS) {
            if let Some(taken) = self.make_room(context, flags)? {
                return Ok(taken);
            }
        }
        self.last_steps(context, flags)
    }

    /// Flags of the slow path as the policy has them.
    fn slowpath_flags(&self, context: &Context<'_>) -> AllocFlags {
        let request = context.request;
        let mut flags = flags::slow_path_flags(request.gfp, request.order);
        let nofragment = self.nofragment_flag(context);
        if self.buddy.tunables.defrag_mode {
            flags |= nofragment;
        }
        P::slow_flags(&self.buddy, request, flags, nofragment)
    }

    fn with_memalloc_rights(&self, context: &Context<'_>, flags: AllocFlags) -> AllocFlags {
        if flags::may_ignore_watermarks(context.request.gfp) {
            flags | AllocFlags::NO_WATERMARKS
        } else {
            flags
        }
    }

    /// Compaction and reclaim in the order of the kernel, as often as it would help.
    fn make_room(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
    ) -> Result<Option<Taken>, Refusal> {
        let request = context.request;
        let costly = request.order > COSTLY_ORDER;
        for _ in 0..MAX_RECLAIM_RETRIES {
            let reclaimed = self.reclaim_and_try(context, flags)?;
            if let Reclaimed::Served(taken) = reclaimed {
                return Ok(Some(taken));
            }
            let gives_up = request.gfp.contains(Gfp::NORETRY)
                || costly && !request.gfp.contains(Gfp::RETRY_MAYFAIL);
            let progress = matches!(reclaimed, Reclaimed::Some) && !costly;
            if gives_up || !progress {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// `__alloc_pages_direct_reclaim`
    fn reclaim_and_try(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
    ) -> Result<Reclaimed, Refusal> {
        if self.direct_reclaim(context) == 0 {
            return Ok(Reclaimed::Nothing);
        }
        if let Some(taken) = self.get_page_from_freelist(context, flags)? {
            return Ok(Reclaimed::Served(taken));
        }
        for zone in self.zones(context) {
            if self.buddy.unreserve_highatomic(zone, context.migratetype, false) {
                break;
            }
        }
        self.drain_zones(context);
        let taken = self.get_page_from_freelist(context, flags)?;
        Ok(taken.map_or(Reclaimed::Some, Reclaimed::Served))
    }

    fn drain_zones(&self, context: &Context<'_>) {
        for zone in self.zones(context) {
            self.cache.drain_zone(&self.buddy, zone);
        }
    }

    /// The policy's last resort, the drop of NOFRAGMENT, the point where the kernel would kill a
    /// process, and the rights of requests that must not fail.
    fn last_steps(&self, context: &Context<'_>, flags: AllocFlags) -> Result<Taken, Refusal> {
        let reclaims = context.request.gfp.can_direct_reclaim();
        if reclaims
            && P::last_resort(self, context.request, flags)
            && let Some(taken) = self.get_page_from_freelist(context, flags)?
        {
            return Ok(taken);
        }
        let nofragment = AllocFlags::NOFRAGMENT | AllocFlags::NOFRAG_TAINTED_OK;
        if reclaims
            && flags.contains(AllocFlags::NOFRAGMENT)
            && P::drops_nofragment_last(&self.buddy)
        {
            self.buddy.counters.nofragment_dropped.add(1);
            if let Some(taken) = self.get_page_from_freelist(context, flags - nofragment)? {
                return Ok(taken);
            }
        }
        if self.would_kill(context) {
            self.buddy.counters.oom.add(1);
            for zone in self.zones(context) {
                self.buddy.unreserve_highatomic(zone, context.migratetype, true);
            }
            if let Some(taken) = self.get_page_from_freelist(context, flags - nofragment)? {
                return Ok(taken);
            }
        }
        if context.request.gfp.contains(Gfp::NOFAIL) {
            let all = flags - nofragment | AllocFlags::NO_WATERMARKS;
            return self.get_page_from_freelist(context, all)?.ok_or(Refusal::NoMemory);
        }
        Err(Refusal::NoMemory)
    }

    /// Whether the kernel would call the OOM killer for such a request.
    fn would_kill(&self, context: &Context<'_>) -> bool {
        let request = context.request;
        let spared = Gfp::RETRY_MAYFAIL | Gfp::THISNODE | Gfp::NORETRY;
        request.gfp.can_direct_reclaim()
            && request.gfp.contains(Gfp::FS)
            && request.order <= COSTLY_ORDER
            && !request.gfp.intersects(spared)
            && context.highest >= ZoneKind::Normal
    }

    /// Whether the request would be served now without reclaim and compaction: some zone is
    /// above the watermark that it is held to, with a block large enough.
    pub fn would_serve(&self, context: &Context<'_>) -> bool {
        let flags = self.with_memalloc_rights(context, self.slowpath_flags(context));
        let order = context.request.order;
        let attempt = Attempt { order, highest: context.highest, flags };
        self.zones(context).any(|zone| {
            let mark = match flags.contains(AllocFlags::NO_WATERMARKS) {
                true => 0,
                false => zone.mark(flags.mark()),
            };
            zone.watermark_ok(&attempt, mark, zone.free_pages.get())
        })
    }
}

/// Outcome of one round of direct reclaim.
enum Reclaimed {
    /// Nothing could be reclaimed.
    Nothing,
    /// Pages were reclaimed, but the request was not served.
    Some,
    /// The request was served.
    Served(Taken),
}
