//! What per-CPU lists that own pageblocks may take in a refill (patches 12 and 21).

use fragscope_trace::page::Migratetype;

use crate::mm::buddy::Buddy;
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::Flavour;
use crate::mm::frames::Frame;
use crate::mm::placement::Placement;
use crate::mm::rmqueue::RmqueueMode;
use crate::mm::zone::Zone;

use super::category::{Category, Fullness};
use super::index::{Need, Place, Walk};
use super::placement::Spb;
use super::search::Search;
use super::superpageblock::Occupancy;

/// Phase 1: a wholly free pageblock. Movable refills take it from the fullest clean
/// superpageblock that has one, wholly used and empty ones excepted (patch 12), else by the
/// ordinary rules. Unmovable and reclaimable ones never fragment for it (setting
/// `phase1_nofragment`).
pub(super) fn whole_pageblock<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    migratetype: Migratetype,
    flags: AllocFlags,
) -> Option<Frame> {
    let order = buddy.geometry.pageblock_order;
    let mut flags = flags;
    match migratetype {
        Migratetype::Movable if buddy.settings.p12 => {
            let frame = from_fullest_clean(buddy, zone, flags);
            if frame.is_some() {
                return frame;
            }
        }
        Migratetype::Unmovable | Migratetype::Reclaimable if buddy.settings.phase1_nofragment => {
            flags |= AllocFlags::NOFRAGMENT;
            flags -= AllocFlags::NOFRAG_TAINTED_OK;
        }
        _ => {}
    }
    Spb::rmqueue(buddy, zone, order, migratetype, flags, &mut RmqueueMode::Normal)
}

/// The preferred superpageblock for movable pages: clean, three quarters full or less, with a
/// free pageblock.
fn from_fullest_clean<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    flags: AllocFlags,
) -> Option<Frame> {
    let order = buddy.geometry.pageblock_order;
    let mut search = Search::new(buddy, zone, order, Migratetype::Movable, flags);
    let place = Place::Of(Category::Clean, Fullness::Full75, Fullness::AlmostEmpty);
    let orders = search.whole_orders();
    let need = Need::Both(Occupancy::of(Migratetype::Movable, orders));
    let mut walk = Walk::new(place, need);
    let spb = search.step(&mut walk)?;
    let own = search.spbs.spb(spb).occupancy().orders(Migratetype::Movable);
    search.take(spb, own.and(orders).lowest()?)
}

/// Phase 2 (patch 21): from each tainted superpageblock with at least a quarter of a pageblock
/// free, the largest block below a pageblock on the request's own list.
pub(super) fn partial_pageblocks<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    order: u8,
    migratetype: Migratetype,
    adopt: &mut dyn FnMut(Frame, u8) -> bool,
) {
    let kept = matches!(migratetype, Migratetype::Unmovable | Migratetype::Reclaimable);
    if !kept || !buddy.settings.p21 {
        return;
    }
    let mut search = Search::new(buddy, zone, order, migratetype, AllocFlags::empty());
    let orders = search.part_orders();
    let mut walk = search.walk_for(Place::all(Category::Tainted), migratetype, orders);
    let mut next = search.step(&mut walk);
    // A superpageblock that was taken from goes to the tail of its list; the limit keeps the walk
    // from meeting it again.
    for _ in 0..search.spbs.len() {
        let Some(spb) = next else { return };
        next = search.step(&mut walk);
        if u64::from(search.spbs.spb(spb).free_pages()) < buddy.settings.adoption_floor_pages {
            continue;
        }
        let own = search.spbs.spb(spb).occupancy().orders(migratetype);
        let Some(found) = own.and(orders).highest() else { continue };
        let Some(frame) = search.head(spb, found, migratetype) else { continue };
        buddy.del_and_expand(zone, frame, found, found, migratetype);
        if !adopt(frame, found) {
            return;
        }
    }
}
