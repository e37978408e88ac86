//! `__rmqueue_smallest`: the passes of one search (patches 11, 12, 14, 21, 23, 27, 31).
//!
//! [`PASSES`] is the whole policy in order; each pass is one small function with its rule above
//! it. "Own list" is the list of the requested type. A walk goes from the fullest superpageblocks
//! to the emptiest.

use fragscope_trace::page::Migratetype;

use crate::mm::flags::AllocFlags;
use crate::mm::flavour::Flavour;
use crate::mm::frames::Frame;

use super::category::Category;
use super::claim;
use super::event::{Outcome, SpbEvent, WalkSnapshot};
use super::geometry::SpbId;
use super::index::{Need, Place, SpbIndex, Walk};
use super::search::Search;
use super::superpageblock::{Occupancy, Orders};

/// One way to find a block.
struct Pass<F: Flavour> {
    /// What the tracepoint calls it.
    outcome: Outcome,
    /// Whose requests may use it.
    who: fn(&Search<'_, F>) -> bool,
    /// Its rule.
    run: fn(&mut Search<'_, F>) -> Option<Frame>,
}

/// Passes inside the preferred category; a block of a tainted superpageblock triggers the
/// reaction of patch 28.
fn preferred<F: Flavour>() -> [Pass<F>; 6] {
    [
        Pass { outcome: Outcome::Pass1, who: pcp_type, run: hint },
        Pass { outcome: Outcome::Pass1, who: anybody, run: pass_1 },
        Pass { outcome: Outcome::Pass2, who: non_movable, run: pass_2 },
        Pass { outcome: Outcome::Pass2b, who: non_movable, run: pass_2b },
        Pass { outcome: Outcome::Pass2c, who: unmovable_or_reclaimable, run: pass_2c },
        Pass { outcome: Outcome::Pass2d, who: non_movable, run: pass_2d },
    ]
}

/// Passes outside of it.
fn others<F: Flavour>() -> [Pass<F>; 3] {
    [
        Pass { outcome: Outcome::Pass3, who: anybody, run: pass_3 },
        Pass { outcome: Outcome::Pass4, who: movable, run: pass_4 },
        Pass { outcome: Outcome::ZoneFallback, who: anybody, run: zone_lists },
    ]
}

/// Runs all passes. With `wants_snapshot` (patch 26), what the tainted superpageblocks offered is
/// returned if the passes inside the preferred category failed.
pub fn rmqueue_smallest<F: Flavour>(
    search: &mut Search<'_, F>,
    wants_snapshot: bool,
) -> (Option<Frame>, Option<WalkSnapshot>) {
    for pass in preferred() {
        if let Some(frame) = try_pass(search, &pass) {
            search.react(frame);
            return (Some(frame), None);
        }
    }
    let saw = wants_snapshot.then(|| search.snapshot());
    before_pass_3(search, saw);
    for pass in others() {
        if let Some(frame) = try_pass(search, &pass) {
            return (Some(frame), saw);
        }
    }
    search.finish(Outcome::NoPage);
    (None, saw)
}

#[inline]
fn try_pass<F: Flavour>(search: &mut Search<'_, F>, pass: &Pass<F>) -> Option<Frame> {
    if !(pass.who)(search) {
        return None;
    }
    let frame = (pass.run)(search)?;
    search.finish(pass.outcome);
    Some(frame)
}

fn anybody<F: Flavour>(_: &Search<'_, F>) -> bool {
    true
}

fn movable<F: Flavour>(search: &Search<'_, F>) -> bool {
    search.migratetype == Migratetype::Movable
}

fn pcp_type<F: Flavour>(search: &Search<'_, F>) -> bool {
    search.migratetype.index() < Migratetype::PCP_TYPES
}

fn unmovable_or_reclaimable<F: Flavour>(search: &Search<'_, F>) -> bool {
    matches!(search.migratetype, Migratetype::Unmovable | Migratetype::Reclaimable)
}

/// Unmovable, reclaimable and, by setting `highatomic_relabels`, the high-order atomic reserve.
fn non_movable<F: Flavour>(search: &Search<'_, F>) -> bool {
    let reserve = search.migratetype == Migratetype::HighAtomic;
    unmovable_or_reclaimable(search) || reserve && search.buddy.settings.highatomic_relabels
}

/// Own list of the superpageblock that served such a request last: this CPU's, then the zone's.
/// Its category is not checked (setting `hint_any_category`).
fn hint<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let cpu = search.buddy.placement.cpu();
    let hints = search.spbs.index().hints(cpu, search.order, search.migratetype);
    hints.into_iter().flatten().find_map(|spb| {
        let fits = search.buddy.settings.hint_any_category
            || search.spbs.category(spb) == search.preferred();
        if fits {
            from_own_list(search, spb, search.buddy.settings.hint_hits_refresh)
        } else {
            None
        }
    })
}

/// Own list, preferred category. Remembers the superpageblock as a hint.
fn pass_1<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let place = Place::all(search.preferred());
    let mut walk = search.walk_for(place, search.migratetype, search.orders());
    while let Some(spb) = search.step(&mut walk) {
        if let Some(frame) = from_own_list(search, spb, true) {
            return Some(frame);
        }
    }
    None
}

/// Whole pageblocks first, then parts, each from the lowest order that suffices. With `refresh`
/// the superpageblock becomes the hint.
fn from_own_list<F: Flavour>(search: &Search<'_, F>, spb: SpbId, refresh: bool) -> Option<Frame> {
    let orders = search.spbs.spb(spb).occupancy().orders(search.migratetype);
    let whole = orders.and(search.whole_orders()).lowest();
    let found = whole.or_else(|| orders.and(search.part_orders()).lowest())?;
    let frame = search.take(spb, found)?;
    if refresh {
        let cpu = search.buddy.placement.cpu();
        search.spbs.index().served(cpu, search.order, search.migratetype, spb);
    }
    Some(frame)
}

/// A wholly free pageblock of a tainted superpageblock is relabelled; its rest goes to the own
/// lists.
fn pass_2<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let orders = search.whole_orders();
    let need = Need::Both(Occupancy::of(Migratetype::Movable, orders));
    let mut walk = Walk::new(Place::all(Category::Tainted), need);
    while let Some(spb) = search.step(&mut walk) {
        for found in ascending(movable_orders(search, spb, orders)) {
            let Some(frame) = search.head(spb, found, Migratetype::Movable) else { continue };
            if claim::is_fixed(search.buddy.migratetype(frame)).is_none() {
                let want = search.migratetype;
                return Some(search.buddy.claim_whole_block(
                    search.zone,
                    frame,
                    found,
                    search.order,
                    want,
                ));
            }
        }
    }
    None
}

/// A partly free movable pageblock of a tainted superpageblock is relabelled, however little of
/// it is free (patch 23 waives the 50 % rule). Largest free block first; only the head of each
/// list is looked at (setting `borrow_head_only`).
fn pass_2b<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let orders = search.part_orders();
    let half_rule = !search.buddy.settings.p23;
    let mut walk = search.walk_for(Place::all(Category::Tainted), Migratetype::Movable, orders);
    while let Some(spb) = search.step(&mut walk) {
        for found in descending(movable_orders(search, spb, orders)) {
            let claimed = relabel_part(search, spb, found, half_rule);
            if claimed.is_some() {
                return claimed;
            }
        }
    }
    None
}

fn relabel_part<F: Flavour>(
    search: &mut Search<'_, F>,
    spb: SpbId,
    found: u8,
    half_rule: bool,
) -> Option<Frame> {
    let list = search.spbs.block_list(spb, found, Migratetype::Movable);
    let mut at = search.buddy.frames.first(list);
    while let Some(frame) = at {
        let claimed =
            claim::try_to_claim_block(search, frame, found, Migratetype::Movable, half_rule);
        if claimed.is_some() || search.buddy.settings.borrow_head_only {
            return claimed;
        }
        at = search.buddy.frames.next(frame);
    }
    None
}

/// Borrow from the opposite non-movable type inside a tainted superpageblock, largest block
/// first (patch 27).
fn pass_2c<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    borrow(search, opposite(search.migratetype))
}

/// The same from movable pageblocks.
fn pass_2d<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    borrow(search, Migratetype::Movable)
}

fn borrow<F: Flavour>(search: &mut Search<'_, F>, source: Migratetype) -> Option<Frame> {
    if !search.buddy.settings.p27 {
        return None;
    }
    let orders = search.part_orders();
    let mut walk = search.walk_for(Place::all(Category::Tainted), source, orders);
    let spb = search.step(&mut walk)?;
    let found = search.spbs.spb(spb).occupancy().orders(source).and(orders).highest()?;
    let frame = search.head(spb, found, source)?;
    Some(search.lend(frame, found, source))
}

/// Unmovable for reclaimable and the reverse.
pub(super) fn opposite(migratetype: Migratetype) -> Migratetype {
    match migratetype {
        Migratetype::Unmovable => Migratetype::Reclaimable,
        _ => Migratetype::Unmovable,
    }
}

/// Tainted superpageblocks have failed the request: if its walk saw one below its reserve, queue
/// relief; try to defragment every one of them.
fn before_pass_3<F: Flavour>(search: &Search<'_, F>, saw: Option<WalkSnapshot>) {
    if saw.is_some_and(|s| s.saw_below_reserve) {
        search.relieve();
    }
    if search.buddy.settings.p28 {
        search.spbs.start_defrags();
    }
    if let Some(saw) = saw {
        search.spbs.events().emit(fall_through(search, saw));
    }
}

fn fall_through<F: Flavour>(search: &Search<'_, F>, saw: WalkSnapshot) -> SpbEvent {
    let own = Need::block(search.migratetype, search.orders());
    let tainted = || search.spbs.in_category(Category::Tainted);
    let with_buddy = tainted().filter(|spb| own.met_by(search.spbs.spb(*spb))).count();
    SpbEvent::SpbAllocFallThrough {
        order: search.order,
        migratetype: search.migratetype,
        alloc_flags: search.flags.bits(),
        n_tainted: tainted().count() as u32,
        n_tainted_with_buddy: with_buddy as u32,
        saw,
    }
}

/// Own list of an empty superpageblock, whole pageblocks only. Free pageblocks are on movable
/// lists, so this serves movable requests; others taint an empty superpageblock by claiming.
fn pass_3<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let orders = search.whole_orders();
    let mut walk = search.walk_for(Place::Empty, search.migratetype, orders);
    let spb = search.step(&mut walk)?;
    let own = search.spbs.spb(spb).occupancy().orders(search.migratetype);
    search.take(spb, own.and(orders).lowest()?)
}

/// Movable pages may use tainted superpageblocks that have more free pageblocks than their
/// reserve. Non-movable ones never search clean superpageblocks here.
fn pass_4<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let orders = search.orders();
    let need = Need::Both(Occupancy::of(search.migratetype, orders));
    let mut walk = Walk::new(Place::all(Category::Tainted), need);
    while let Some(spb) = search.step(&mut walk) {
        if search.spbs.spb(spb).free() > search.spbs.reserve(spb) {
            let own = search.spbs.spb(spb).occupancy().orders(search.migratetype);
            return search.take(spb, own.and(orders).lowest()?);
        }
    }
    None
}

/// The zone's own lists: only memory without superpageblocks (that arrived with patch 09
/// switched off) is on them.
fn zone_lists<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let found = ascending(search.orders()).find(|order| {
        let list = search.spbs.zone_list(*order, search.migratetype);
        search.buddy.frames.first(list).is_some()
    })?;
    let frame = search.buddy.frames.first(search.spbs.zone_list(found, search.migratetype))?;
    search.buddy.del_and_expand(search.zone, frame, search.order, found, search.migratetype);
    Some(frame)
}

fn movable_orders<F: Flavour>(search: &Search<'_, F>, spb: SpbId, among: Orders) -> Orders {
    search.spbs.spb(spb).occupancy().orders(Migratetype::Movable).and(among)
}

/// Orders from the lowest.
pub(super) fn ascending(mut orders: Orders) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let order = orders.lowest()?;
        orders = orders.without(order);
        Some(order)
    })
}

/// Orders from the highest.
pub(super) fn descending(mut orders: Orders) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let order = orders.highest()?;
        orders = orders.without(order);
        Some(order)
    })
}

/// `__rmqueue_smallest` again, as a claim does after relabelling: without flags or snapshot.
pub(super) fn rmqueue_again<F: Flavour>(search: &Search<'_, F>) -> Option<Frame> {
    let (order, migratetype) = (search.order, search.migratetype);
    let mut again = Search::new(search.buddy, search.zone, order, migratetype, AllocFlags::empty());
    rmqueue_smallest(&mut again, false).0
}
