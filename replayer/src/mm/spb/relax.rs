//! What a request is spared or denied before it may taint: flags of the slow path, refusals, and
//! the steps in which NOFRAGMENT is given up (patches 18, 20, 26, 35, 36).

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::Migratetype;

use crate::mm::buddy::Buddy;
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::Flavour;
use crate::mm::frames::Frame;
use crate::mm::placement::Relax;
use crate::mm::request::{Entry, Request};
use crate::mm::rmqueue::{self, RmqueueMode};
use crate::mm::zone::Zone;

use super::category::Category;
use super::event::{RelaxStep, SpbEvent};
use super::passes;
use super::placement::Spb;
use super::search::Search;
use super::superpageblock::Orders;

/// `gfp_to_alloc_flags` of the series: NOFRAGMENT stays (patch 20), and requests whose callers
/// have a cheap fallback are marked (patch 26): those that do not retry, and those that can
/// neither reclaim nor use the reserves as of right.
pub fn slow_flags<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    request: &Request,
    flags: AllocFlags,
    nofragment: AllocFlags,
) -> AllocFlags {
    let gfp = request.gfp;
    let gives_up = gfp.contains(Gfp::NORETRY) && !gfp.contains(Gfp::RETRY_MAYFAIL);
    let entitled = Gfp::NOMEMALLOC | Gfp::NOFAIL | Gfp::MEMALLOC;
    let atomic = !gfp.can_direct_reclaim() && !gfp.intersects(entitled);
    let mut flags = flags;
    if buddy.settings.p20 || !gfp.can_direct_reclaim() {
        flags |= nofragment;
    }
    flags.set(AllocFlags::HIGHORDER_OPTIONAL, gives_up || atomic);
    flags
}

/// Whether a search is subject to refusal 1: not movable, and with a cheap fallback.
#[inline]
pub fn has_cheap_fallback<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    migratetype: Migratetype,
    flags: AllocFlags,
) -> bool {
    let movable = matches!(migratetype, Migratetype::Movable | Migratetype::Cma);
    flags.contains(AllocFlags::HIGHORDER_OPTIONAL) && !movable && buddy.settings.p26
}

/// `__rmqueue` with refusal 1 (patch 26): if tainted superpageblocks could not serve but have
/// *any* free page or pageblock, the request is refused rather than tainting another one
/// (`spb_highorder_refused`). While nothing is tainted yet, the first taint cannot be avoided.
pub fn rmqueue_or_refuse<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    order: u8,
    migratetype: Migratetype,
    flags: AllocFlags,
    mode: &mut RmqueueMode,
) -> Option<Frame> {
    *mode = RmqueueMode::Normal;
    let mut search = Search::new(buddy, zone, order, migratetype, flags);
    let (frame, saw) = passes::rmqueue_smallest(&mut search, true);
    if frame.is_some() {
        return frame;
    }
    if saw.is_some_and(|s| s.saw_free_pages || s.saw_free_pb) {
        buddy.placement.background().count_refusal();
        return None;
    }
    rmqueue::fall_back(buddy, zone, order, migratetype, flags, mode)
}

/// The end of `get_page_from_freelist` after every zone failed.
///
/// Requests that can reclaim keep NOFRAGMENT for the slow path (patch 20). Others are relaxed in
/// steps (patch 18): NORETRY not at all; an optional high order that tainted superpageblocks
/// could serve at a lower one is refused (patch 35); then steals from tainted ones are allowed;
/// then everything.
pub fn relax<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    request: &Request,
    flags: AllocFlags,
) -> Relax {
    if !flags.contains(AllocFlags::NOFRAGMENT) || buddy.tunables.defrag_mode {
        return give_up(buddy, zone, request, flags);
    }
    let dropped = flags - AllocFlags::NOFRAGMENT - AllocFlags::NOFRAG_TAINTED_OK;
    if request.gfp.can_direct_reclaim() {
        return if buddy.settings.p20 { Relax::GiveUp } else { Relax::Retry(dropped) };
    }
    let (step, outcome) = if buddy.settings.p18 && request.gfp.contains(Gfp::NORETRY) {
        (RelaxStep::NoretrySkip, refused(request, flags))
    } else if is_better_lower(buddy, zone, request) {
        (RelaxStep::NowarnLowerOrder, refused(request, flags))
    } else if buddy.settings.p18 && !flags.contains(AllocFlags::NOFRAG_TAINTED_OK) {
        (RelaxStep::AddTaintedOk, Relax::Retry(flags | AllocFlags::NOFRAG_TAINTED_OK))
    } else {
        (RelaxStep::DropNofragment, Relax::Retry(dropped))
    };
    buddy.placement.zone(zone.id).events().emit(SpbEvent::SpbAllocAtomicRelax {
        order: request.order,
        migratetype: request.migratetype(),
        gfp_mask: request.gfp,
        step,
    });
    outcome
}

/// No page from this scan. The fast path's failure only leads to the slow path, which holds the
/// request to a lower watermark; after that it is the policy's refusal.
fn refused(request: &Request, flags: AllocFlags) -> Relax {
    let last = request.entry == Entry::NoLock || !flags.contains(AllocFlags::WMARK_LOW);
    if last { Relax::Refuse } else { Relax::GiveUp }
}

/// Nothing is left to relax. A request that refusal 1 turned away, and that has no further path,
/// was refused by the policy and not for lack of memory.
fn give_up<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    request: &Request,
    flags: AllocFlags,
) -> Relax {
    if request.gfp.can_direct_reclaim() || !has_cheap_fallback(buddy, request.migratetype(), flags)
    {
        return Relax::GiveUp;
    }
    let _guard = buddy.lock(zone);
    let search = Search::new(buddy, zone, request.order, request.migratetype(), flags);
    let saw = search.snapshot();
    if saw.saw_free_pages || saw.saw_free_pb { refused(request, flags) } else { Relax::GiveUp }
}

/// Refusal 2 (patch 35): a high order whose caller does not want to be warned of failure, while
/// the tainted superpageblocks of the preferred zone could serve a smaller one.
fn is_better_lower<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    request: &Request,
) -> bool {
    let optional = request.order > 0
        && request.gfp.contains(Gfp::NOWARN)
        && !request.gfp.contains(Gfp::NOFAIL);
    buddy.settings.p35 && optional && can_serve_smaller(buddy, zone, request)
}

/// Whether any tainted superpageblock has movable content (of whatever order), or a free block
/// below the order on the request's own list or that of the opposite non-movable type.
fn can_serve_smaller<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    request: &Request,
) -> bool {
    let spbs = buddy.placement.zone(zone.id);
    let smaller = Orders::range(0, request.order - 1);
    let own = request.migratetype();
    let types = [own, passes::opposite(own)];
    let _guard = buddy.lock(zone);
    spbs.in_category(Category::Tainted).any(|id| {
        let spb = spbs.spb(id);
        let has = |t: Migratetype| !spb.occupancy().orders(t).and(smaller).is_empty();
        spb.counts().movable > 0 || types.into_iter().any(has)
    })
}
