//! Where compaction may take pages from and put them (patches 16, 38 and 39).

use fragscope_trace::page::Migratetype;

use crate::mm::buddy::Buddy;
use crate::mm::flavour::Flavour;
use crate::mm::frames::Frame;
use crate::mm::geometry::PageblockId;
use crate::mm::zone::Zone;

use super::category::Category;
use super::passes::ascending;
use super::placement::Spb;
use super::superpageblock::{HasBit, Orders};

/// A tainted superpageblock without movable pageblocks is passed over as a whole (patch 38): the
/// first pageblock behind it.
pub(super) fn next_source<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    block: PageblockId,
) -> PageblockId {
    let spbs = buddy.placement.zone(zone.id);
    let geometry = spbs.geometry();
    let start = geometry.block_start(block).max(zone.start);
    if !buddy.settings.p38 || !geometry.contains(start) {
        return block;
    }
    let spb = geometry.spb_of(start);
    let barren = spbs.is_covered(spb)
        && spbs.category(spb) == Category::Tainted
        && spbs.spb(spb).has(HasBit::Movable) == 0;
    if barren { PageblockId(geometry.block_of(geometry.spb_end(spb) - 1).0 + 1) } else { block }
}

/// A tainted superpageblock that is down to its reserve is no target (patch 39).
pub(super) fn is_target<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    block: PageblockId,
) -> bool {
    let spbs = buddy.placement.zone(zone.id);
    let spb = spbs.geometry().spb_of_block(block);
    let kept = buddy.settings.p39
        && spbs.is_covered(spb)
        && spbs.category(spb) == Category::Tainted
        && spbs.spb(spb).free() <= spbs.reserve(spb);
    !kept
}

/// Targets from the superpageblocks' own movable lists (patch 16), fragments only: clean ones
/// from the fullest, so that compaction packs them.
pub(super) fn preferred_targets<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    limit_order: u8,
    pages: u32,
    into: &mut Vec<Frame>,
) {
    if !buddy.settings.p16 {
        return;
    }
    let spbs = buddy.placement.zone(zone.id);
    let fragments = Orders::range(0, limit_order.saturating_sub(1));
    let mut found = 0;
    for spb in spbs.in_category(Category::Clean) {
        let own = spbs.spb(spb).occupancy().orders(Migratetype::Movable);
        for order in ascending(own.and(fragments)) {
            let list = spbs.block_list(spb, order, Migratetype::Movable);
            for frame in buddy.frames.iter(list) {
                if found >= pages {
                    return;
                }
                into.push(frame);
                found += 1 << order;
            }
        }
    }
}
