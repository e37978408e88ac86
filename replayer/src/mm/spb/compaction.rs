//! Where compaction may take pages from and put them (patches 38 and 39).

use crate::mm::buddy::Buddy;
use crate::mm::flavour::Flavour;
use crate::mm::geometry::PageblockId;
use crate::mm::zone::Zone;

use super::category::Category;
use super::placement::Spb;
use super::superpageblock::HasBit;

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
