//! Falling back to blocks of other types: claim and steal (patches 11, 19, 20, 24).
//!
//! A claim relabels the pageblock, a steal does not. Both search by category first and order
//! second for claims, by order first for steals.

use fragscope_trace::page::Migratetype;

use crate::mm::claim::{alike_pages, should_try_claim};
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::Frame;
use crate::mm::rmqueue::fallbacks;

use super::category::Category;
use super::content::is_cross_type;
use super::event::{ClaimRefusal, SpbEvent};
use super::geometry::SpbId;
use super::index::{Need, Place, Walk};
use super::passes::{ascending, descending, rmqueue_again};
use super::search::Search;
use super::superpageblock::{Occupancy, Orders};

/// A block found on a list of another type.
struct Fallback {
    frame: Frame,
    have: Migratetype,
}

/// `__rmqueue_claim`: the preferred category, then empty superpageblocks, then the other one;
/// with NOFRAGMENT the preferred category only. Largest blocks first.
pub fn rmqueue_claim<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    if !search.migratetype.is_mergeable() {
        return None;
    }
    if !search.buddy.settings.p11 {
        return claim_largest_anywhere(search);
    }
    let preferred = search.preferred();
    let claimed = claim_in(search, Place::all(preferred), claim_floor(search, true));
    if claimed.is_some() || search.flags.contains(AllocFlags::NOFRAGMENT) {
        return claimed;
    }
    if search.migratetype != Migratetype::Movable {
        search.relieve();
    }
    let floor = claim_floor(search, false);
    claim_in(search, Place::Empty, floor)
        .or_else(|| claim_in(search, Place::all(preferred.other()), floor))
}

/// Lowest order of a block to claim. In the preferred category of a large zone that is the
/// request's own (patch 19); otherwise NOFRAGMENT claims whole pageblocks only.
fn claim_floor<F: Flavour>(search: &Search<'_, F>, preferred: bool) -> u8 {
    let packs = preferred && search.spbs.is_aggressive();
    if search.flags.contains(AllocFlags::NOFRAGMENT) && !packs {
        search.order.max(search.block_order())
    } else {
        search.order
    }
}

fn claim_in<F: Flavour>(search: &mut Search<'_, F>, place: Place, floor: u8) -> Option<Frame> {
    for found in descending(Orders::range(floor, search.max_order())) {
        if !may_claim(search, found) {
            return None;
        }
        let claimed = claim_at(search, place, found);
        if claimed.is_some() {
            return claimed;
        }
    }
    None
}

/// Without patch 11 the largest block is claimed, whichever superpageblock it is in.
fn claim_largest_anywhere<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    let floor = claim_floor(search, false);
    let preferred = search.preferred();
    let places = [Place::all(preferred.other()), Place::Empty, Place::all(preferred)];
    for found in descending(Orders::range(floor, search.max_order())) {
        if !may_claim(search, found) {
            return None;
        }
        let claimed = places.into_iter().find_map(|place| claim_at(search, place, found));
        if claimed.is_some() {
            return claimed;
        }
    }
    None
}

fn may_claim<F: Flavour>(search: &Search<'_, F>, found: u8) -> bool {
    let grouping = search.buddy.settings.grouping;
    should_try_claim(found, search.migratetype, search.block_order(), grouping)
}

fn claim_at<F: Flavour>(search: &mut Search<'_, F>, place: Place, found: u8) -> Option<Frame> {
    let Fallback { frame, have } = find_fallback(search, place, found, false)?;
    let spb = search.spbs.geometry().spb_of(frame);
    let waived =
        !search.buddy.settings.claim_half_rule && search.spbs.category(spb) == Category::Tainted;
    try_to_claim_block(search, frame, found, have, !waived)
}

/// `__rmqueue_steal`: the smallest block of another type, from the preferred category and then
/// the other one, never from an empty superpageblock. With NOFRAGMENT (and TAINTED_OK, or it is
/// not tried at all) from the preferred category only.
pub fn rmqueue_steal<F: Flavour>(search: &mut Search<'_, F>) -> Option<Frame> {
    if !search.migratetype.is_mergeable() {
        return None;
    }
    let preferred = search.preferred();
    let places = [Place::all(preferred), Place::all(preferred.other())];
    let nofragment = search.flags.contains(AllocFlags::NOFRAGMENT);
    let places = if nofragment { &places[..1] } else { &places[..] };
    let skip_cross_type = search.buddy.settings.p24;
    for found in ascending(search.orders()) {
        for place in places {
            let fallback = find_fallback(search, *place, found, skip_cross_type);
            if let Some(Fallback { frame, have }) = fallback {
                search.buddy.note_steal(frame);
                return Some(search.lend(frame, found, have));
            }
        }
    }
    None
}

/// `spb_find_fallback`: in the order of a walk, the first superpageblock with a block of exactly
/// this order on the list of a fallback type, and the first such type's head. Movable requests
/// pass over tainted superpageblocks that are down to their reserve.
fn find_fallback<F: Flavour>(
    search: &mut Search<'_, F>,
    place: Place,
    found: u8,
    skip_cross_type: bool,
) -> Option<Fallback> {
    let want = search.migratetype;
    let usable = |have: &Migratetype| !(skip_cross_type && is_cross_type(want, *have));
    let types = fallbacks(want).into_iter().filter(usable);
    let of_type = |have| Occupancy::of(have, Orders::just(found));
    let lists = types.clone().map(of_type).fold(Occupancy::default(), Occupancy::or);
    let mut walk = Walk::new(place, Need::Block(lists));
    while let Some(spb) = search.step(&mut walk) {
        if is_kept_from(search, spb) {
            continue;
        }
        for have in types.clone() {
            if let Some(frame) = search.head(spb, found, have) {
                return Some(Fallback { frame, have });
            }
        }
    }
    None
}

/// Whether a tainted superpageblock keeps its last free pageblocks from movable requests.
fn is_kept_from<F: Flavour>(search: &Search<'_, F>, spb: SpbId) -> bool {
    search.migratetype == Migratetype::Movable
        && search.spbs.category(spb) == Category::Tainted
        && search.spbs.spb(spb).free() <= search.spbs.reserve(spb)
}

/// Why pageblocks of a type are never claimed.
pub(super) fn is_fixed(have: Migratetype) -> Option<ClaimRefusal> {
    match have {
        Migratetype::Isolate => Some(ClaimRefusal::Isolate),
        Migratetype::Cma => Some(ClaimRefusal::Cma),
        _ => None,
    }
}

/// `try_to_claim_block`: relabels the pageblock (or pageblocks) of a free block to the wanted
/// type and takes the wanted pages. `half_rule`: at least half of a partly free pageblock must be
/// free or alike.
pub fn try_to_claim_block<F: Flavour>(
    search: &mut Search<'_, F>,
    frame: Frame,
    found: u8,
    have: Migratetype,
    half_rule: bool,
) -> Option<Frame> {
    let block_type = search.buddy.migratetype(frame);
    if let Some(reason) = refusal(search, frame, found, block_type, half_rule) {
        search.buddy.counters.claims_refused.add(1);
        search.spbs.events().emit(SpbEvent::SpbClaimBlockRefused {
            pfn: frame,
            start_type: search.migratetype,
            block_type,
            reason,
        });
        return None;
    }
    let (buddy, zone, want) = (search.buddy, search.zone, search.migratetype);
    if found >= search.block_order() {
        return Some(buddy.claim_whole_block(zone, frame, found, search.order, want));
    }
    let block = buddy.pageblock(frame);
    if !buddy.settings.p05 {
        buddy.boost_watermark(zone, search.flags);
    }
    buddy.move_free_pages(zone, block, want);
    buddy.blocks.set_migratetype(block, want);
    buddy.note_claim(frame, &buddy.counters.claims_partial);
    search.spbs.partial_block_claimed(&buddy.blocks, block, have, want);
    rmqueue_again(search)
}

/// The first rule that forbids a claim.
fn refusal<F: Flavour>(
    search: &Search<'_, F>,
    frame: Frame,
    found: u8,
    have: Migratetype,
    half_rule: bool,
) -> Option<ClaimRefusal> {
    if let Some(reason) = is_fixed(have) {
        return Some(reason);
    }
    if found >= search.block_order() {
        return None;
    }
    let (buddy, want) = (search.buddy, search.migratetype);
    let block = buddy.pageblock(frame);
    if !buddy.geometry.block_is_whole(block) {
        return Some(ClaimRefusal::ZoneBoundary);
    }
    let pages = buddy.count_block_pages(block);
    let block_pages = buddy.geometry.pageblock_pages();
    if buddy.settings.p24 && is_cross_type(want, have) && pages.free < block_pages {
        return Some(ClaimRefusal::CrossTypeNotFree);
    }
    let fit = pages.free + alike_pages(pages, block_pages, want, have);
    (half_rule && fit < block_pages / 2).then_some(ClaimRefusal::InsufficientCompat)
}
