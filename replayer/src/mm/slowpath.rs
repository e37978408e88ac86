//! What happens to a request that the fast path could not serve.
//!
//! `stock-allocator` 2.7. The kernel's reclaim is in the trace already, so only a request that
//! would fail otherwise makes the model reclaim, and every loop is bounded.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::Migratetype;

use super::cache::Cache;
use super::compact::{Outcome, Priority};
use super::flags::{self, AllocFlags, Mark};
use super::flavour::{Flavour, Word};
use super::page_alloc::{Context, Mm, Taken};
use super::pcp::COSTLY_ORDER;
use super::placement::Placement;
use super::request::{Refusal, Request};
use super::watermark::Attempt;

/// `MAX_RECLAIM_RETRIES`
const MAX_RECLAIM_RETRIES: u32 = 16;
/// `MAX_COMPACT_RETRIES`
const MAX_COMPACT_RETRIES: u32 = 16;
/// Rounds of one request in all. The kernel would go on as long as it makes progress; the
/// model's other CPUs stand still meanwhile, so progress that others would eat is its own.
const RETRY_ROUNDS_MAX: u32 = 64;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// `__alloc_pages_slowpath`: begins again if the zonelists were rebuilt meanwhile
    /// (`check_retry_zonelist`), for then the request may have failed for nothing.
    #[cold]
    pub(super) fn alloc_slowpath(&self, request: &Request) -> Result<Taken, Refusal> {
        self.buddy.counters.slowpath.add(1);
        loop {
            let seen = self.zonelists.begin();
            let outcome = match self.context(request) {
                Some(context) => self.alloc_slowly(&context),
                None => Err(Refusal::NoMemory),
            };
            let failed = matches!(outcome, Err(Refusal::NoMemory));
            if !failed || !self.zonelists.changed(seen, request.gfp.can_direct_reclaim()) {
                return outcome;
            }
            self.buddy.counters.zonelist_retries.add(1);
        }
    }

    fn alloc_slowly(&self, context: &Context<'_>) -> Result<Taken, Refusal> {
        let flags = self.slowpath_flags(context);
        if flags.contains(AllocFlags::KSWAPD) {
            self.wake_kswapds(context);
        }
        if let Some(taken) = self.get_page_from_freelist(context, flags)? {
            return Ok(taken);
        }
        let flags = with_memalloc_rights(context.request.gfp, flags);
        if flags.contains(AllocFlags::NO_WATERMARKS)
            && let Some(taken) = self.get_page_from_freelist(context, flags)?
        {
            return Ok(taken);
        }
        let reclaims = context.request.gfp.can_direct_reclaim();
        if reclaims
            && !flags.contains(AllocFlags::NO_WATERMARKS)
            && let Some(taken) = self.make_room(context, flags)?
        {
            return Ok(taken);
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

    /// Compaction and reclaim in the order of the kernel, as often as it would help.
    fn make_room(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
    ) -> Result<Option<Taken>, Refusal> {
        let request = context.request;
        let costly = request.order > COSTLY_ORDER;
        let noretry = request.gfp.contains(Gfp::NORETRY);
        let mut retry = Retry::default();
        let unmovable_high = request.order > 0 && context.migratetype != Migratetype::Movable;
        if costly || unmovable_high {
            let outcome = match self.compact_and_try(context, flags, Priority::Async)? {
                Compacted::Served(taken) => return Ok(Some(taken)),
                Compacted::No(outcome) => outcome,
            };
            if costly && noretry {
                let hopeless = matches!(outcome, Outcome::Skipped | Outcome::Deferred);
                if hopeless || request.gfp.contains(Gfp::THISNODE) {
                    return Ok(None);
                }
                retry.priority = Priority::Async;
            }
        }
        loop {
            let reclaimed = match self.reclaim_and_try(context, flags)? {
                Reclaimed::Served(taken) => return Ok(Some(taken)),
                other => matches!(other, Reclaimed::Some),
            };
            let outcome = match self.compact_and_try(context, flags, retry.priority)? {
                Compacted::Served(taken) => return Ok(Some(taken)),
                Compacted::No(outcome) => outcome,
            };
            if noretry || costly && !request.gfp.contains(Gfp::RETRY_MAYFAIL) {
                return Ok(None);
            }
            let again = self.should_reclaim_retry(context, flags, reclaimed, &mut retry)
                || reclaimed && retry.should_compact(request.order, outcome);
            if !again {
                return Ok(None);
            }
        }
    }

    /// `should_reclaim_retry`: whether some zone could be brought above its minimum by reclaim
    /// alone. Costly orders always count as no progress.
    fn should_reclaim_retry(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
        progress: bool,
        retry: &mut Retry,
    ) -> bool {
        let order = context.request.order;
        if progress && order <= COSTLY_ORDER {
            retry.no_progress = 0;
        } else {
            retry.no_progress += 1;
        }
        retry.rounds += 1;
        if retry.no_progress > MAX_RECLAIM_RETRIES || retry.rounds > RETRY_ROUNDS_MAX {
            return false;
        }
        let attempt = Attempt { order, highest: context.highest, flags };
        self.zones(context).any(|zone| {
            let available = zone.free_pages.get() + self.reclaimable_pages(zone);
            zone.watermark_ok(&attempt, zone.mark(Mark::Min), available)
        })
    }

    /// `__alloc_pages_direct_compact`
    fn compact_and_try(
        &self,
        context: &Context<'_>,
        flags: AllocFlags,
        priority: Priority,
    ) -> Result<Compacted, Refusal> {
        if P::before_compaction(self, context.request)
            && let Some(taken) = self.get_page_from_freelist(context, flags)?
        {
            return Ok(Compacted::Served(taken));
        }
        let outcome = self.direct_compact(context, flags, priority);
        if matches!(outcome, Outcome::Skipped | Outcome::Deferred) {
            return Ok(Compacted::No(outcome));
        }
        let counters = &self.buddy.counters;
        if let Some(taken) = self.get_page_from_freelist(context, flags)? {
            let zone = self.buddy.zone_of(taken.frame);
            zone.compaction.flush_skip.set(0);
            zone.compaction.defer_reset(context.request.order, true);
            counters.compact_success.add(1);
            return Ok(Compacted::Served(taken));
        }
        counters.compact_fail.add(1);
        Ok(Compacted::No(outcome))
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
        if would_kill(context) {
            self.buddy.counters.oom.add(1);
            for zone in self.zones(context) {
                self.buddy.unreserve_highatomic(zone, context.migratetype, true);
            }
            if let Some(taken) = self.get_page_from_freelist(context, flags - nofragment)? {
                return Ok(taken);
            }
        }
        if context.request.gfp.contains(Gfp::NOFAIL) {
            let all = (flags - nofragment) | AllocFlags::NO_WATERMARKS;
            return self.get_page_from_freelist(context, all)?.ok_or(Refusal::NoMemory);
        }
        Err(Refusal::NoMemory)
    }

    /// Whether the request would be served now without reclaim and compaction: some zone is
    /// above the watermark that it is held to, with a block large enough.
    pub fn would_serve(&self, context: &Context<'_>) -> bool {
        let flags = with_memalloc_rights(context.request.gfp, self.slowpath_flags(context));
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

fn with_memalloc_rights(gfp: Gfp, flags: AllocFlags) -> AllocFlags {
    if flags::may_ignore_watermarks(gfp) { flags | AllocFlags::NO_WATERMARKS } else { flags }
}

/// Whether the kernel would call the OOM killer for such a request.
fn would_kill(context: &Context<'_>) -> bool {
    let Request { gfp, order, .. } = *context.request;
    let spared = Gfp::RETRY_MAYFAIL | Gfp::THISNODE | Gfp::NORETRY;
    gfp.contains(Gfp::DIRECT_RECLAIM | Gfp::FS)
        && order <= COSTLY_ORDER
        && !gfp.intersects(spared)
        && context.highest >= ZoneKind::Normal
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

/// Outcome of one direct compaction.
enum Compacted {
    /// The request was served.
    Served(Taken),
    /// It was not.
    No(Outcome),
}

/// What a request has tried already.
#[derive(Clone, Copy, Debug)]
struct Retry {
    priority: Priority,
    no_progress: u32,
    compactions: u32,
    rounds: u32,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { priority: Priority::SyncLight, no_progress: 0, compactions: 0, rounds: 0 }
    }
}

impl Retry {
    /// `should_compact_retry`: a number of runs at each priority, then a higher one. Costly
    /// orders get a quarter of the runs and never the highest priority.
    fn should_compact(&mut self, order: u8, outcome: Outcome) -> bool {
        if order == 0 || outcome == Outcome::Skipped {
            return false;
        }
        let costly = order > COSTLY_ORDER;
        let limit = if costly { MAX_COMPACT_RETRIES / 4 } else { MAX_COMPACT_RETRIES };
        self.compactions += 1;
        if outcome != Outcome::Deferred && self.compactions <= limit {
            return true;
        }
        let highest = if costly { Priority::SyncLight } else { Priority::Full };
        if self.priority >= highest {
            return false;
        }
        self.priority = match self.priority {
            Priority::Async => Priority::SyncLight,
            _ => Priority::Full,
        };
        self.compactions = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 runs light, then 16 full ones; a costly order gets 4 light ones.
    #[test]
    fn compaction_is_repeated_so_often() {
        let runs = |order, outcome| {
            let mut retry = Retry::default();
            (0..100).take_while(|_| retry.should_compact(order, outcome)).count()
        };
        assert_eq!(runs(2, Outcome::Complete), 16 + 1 + 16);
        assert_eq!(runs(9, Outcome::Complete), 4);
        assert_eq!(runs(2, Outcome::Deferred), 1);
        assert_eq!(runs(0, Outcome::Complete), 0);
        assert_eq!(runs(2, Outcome::Skipped), 0);
    }
}
