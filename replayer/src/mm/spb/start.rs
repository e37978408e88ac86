//! The start state: has-bits as a kernel with the series would have them for the pages found.
//!
//! Such a kernel would know what left its lists; a snapshot only knows what is there now. Bits
//! therefore are a lower bound: a block that held unmovable pages once, and holds movable ones
//! now, starts without the bit unless its type says so.

use fragscope_trace::page::{Content, Migratetype};

use crate::mm::buddy::Buddy;
use crate::mm::flavour::Flavour;
use crate::mm::frames::FrameState;
use crate::mm::geometry::PageblockId;
use crate::mm::pageblock::BlockFlags;

use super::placement::Spb;

/// Sets the bits that the pages of a pageblock need. A wholly free one has none.
pub(super) fn derive_bits<F: Flavour>(buddy: &Buddy<F, Spb<F>>, block: PageblockId) {
    if buddy.blocks.has(block, BlockFlags::ALL_FREE) {
        return;
    }
    let start = buddy.geometry.block_start(block);
    let Some(zone) = buddy.geometry.zone_of(start) else { return };
    let spbs = buddy.placement.zone(zone);
    for frame in buddy.geometry.block_in_zone(block) {
        let word = buddy.frames.word(frame);
        let migratetype = match word.state() {
            FrameState::Allocated => list_of(word.content(), buddy.blocks.own_type(block)),
            FrameState::Pcp => word.migratetype(),
            // Memory reserved at boot counts as movable, the type that its block was made with.
            FrameState::Reserved => Migratetype::Movable,
            _ => continue,
        };
        spbs.page_arrived(&buddy.blocks, block, migratetype);
    }
}

/// The list that a page of this content came from. A pinned page was allocated as movable.
fn list_of(content: Content, block_type: Migratetype) -> Migratetype {
    match content {
        Content::Reclaimable => Migratetype::Reclaimable,
        Content::Unknown => block_type,
        Content::Pinned => Migratetype::Movable,
        content if content.taints() => Migratetype::Unmovable,
        _ => Migratetype::Movable,
    }
}

/// Superpageblocks that a gigantic page fills are held by one contiguous allocation.
pub(super) fn mark_gigantic<F: Flavour>(buddy: &Buddy<F, Spb<F>>) {
    for zone in &buddy.zones {
        let spbs = buddy.placement.zone(zone.id);
        for spb in spbs.geometry().spbs().filter(|spb| spbs.is_covered(*spb)) {
            let region = buddy.geometry.region_of(spbs.geometry().spb_start(spb).max(zone.start));
            let pages = buddy.census.pages(region, Content::Gigantic);
            spbs.set_contig_allocated(spb, pages == 1 << spbs.geometry().spb_order());
        }
    }
}
