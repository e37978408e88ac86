//! The workers of the `kevacuate` queue in virtual time: defragmentation (patch 15), deferred
//! evacuation (patch 25), slab shrink (patch 28).
//!
//! Upstream runs them on one queue per node, one at a time, some time after they were queued.
//! Here they run at the next tick of virtual time: for each zone its defragmentations in the
//! order in which they were queued, then deferred evacuations, then slab shrinks by node.

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::Content;

use crate::mm::cache::Cache;
use crate::mm::flavour::{Flavour, Word};
use crate::mm::geometry::PageblockId;
use crate::mm::page_alloc::Mm;
use crate::mm::pageblock::BlockFlags;
use crate::mm::zone::Zone;

use super::evacuate::{cpu_of, evacuate_for_order, evacuate_pageblock};
use super::geometry::SpbId;
use super::placement::Spb;
use super::superpageblock::HasBit;
use super::zone::SpbZone;

/// Runs what was queued up to now. Work that this queues itself waits for the next tick.
pub fn run<F: Flavour, C: Cache<F, Spb<F>>>(mm: &Mm<F, Spb<F>, C>, now: TimeNs) {
    for zone in &mm.buddy.zones {
        let spbs = mm.buddy.placement.zone(zone.id);
        spbs.events().set_time(now);
        for spb in spbs.take_defrags() {
            defrag(mm, zone, spb);
        }
    }
    let background = mm.buddy.placement.background();
    for _ in 0..mm.buddy.settings.evac_requests {
        let Some(request) = background.next_evacuation() else { break };
        let zone = mm.buddy.zone(request.zone);
        evacuate_for_order(mm, zone, request.order, request.migratetype);
    }
    for node in 0..mm.buddy.geometry.nodes.len() {
        if background.take_shrink(node) {
            shrink_slab(mm, node as u16);
        }
    }
}

/// One pass over a tainted superpageblock, from where the last one stopped and around once: empty
/// pageblocks that have movable pages until enough are free or none are left.
fn defrag<F: Flavour, C: Cache<F, Spb<F>>>(mm: &Mm<F, Spb<F>, C>, zone: &Zone<F>, id: SpbId) {
    let spbs = mm.buddy.placement.zone(zone.id);
    let spb = spbs.spb(id);
    let free_before = spb.free();
    let blocks: Vec<PageblockId> = spbs.geometry().blocks_of(id).collect();
    let start = spb.defrag_cursor() % blocks.len().max(1) as u32;
    clear_skip_bits(mm, &blocks);
    for step in 0..blocks.len() as u32 {
        if spb.has(HasBit::Movable) == 0 || spb.free() >= spbs.reserve(id) {
            break;
        }
        let position = (start + step) % blocks.len() as u32;
        let block = blocks[position as usize];
        if is_worth_emptying(mm, block) {
            evacuate_pageblock(mm, zone, block);
        }
        spb.set_defrag_cursor(position + 1);
    }
    finish_defrag(mm, spbs, id, free_before);
}

fn clear_skip_bits<F: Flavour, C: Cache<F, Spb<F>>>(mm: &Mm<F, Spb<F>, C>, blocks: &[PageblockId]) {
    blocks.iter().for_each(|block| mm.buddy.blocks.clear(*block, BlockFlags::SKIP));
}

fn is_worth_emptying<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    block: PageblockId,
) -> bool {
    mm.buddy.blocks.has(block, BlockFlags::HAS_MOVABLE)
        && !mm.buddy.blocks.has(block, BlockFlags::ALL_FREE | BlockFlags::SKIP)
}

/// A pass that produced no new free pageblock makes the superpageblock rest. There may even be
/// fewer than before: targets that the pass asked for can lie in the superpageblock itself.
fn finish_defrag<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    spbs: &SpbZone<F>,
    id: SpbId,
    free_before: u32,
) {
    let (spb, background) = (spbs.spb(id), mm.buddy.placement.background());
    let fruitless = spb.free() <= free_before;
    background.defrag_passes.add(1);
    background.defrag_fruitless.add(fruitless.into());
    spb.set_fruitless_pass(fruitless.then(|| spbs.events().now_ns()));
    spb.set_defrag_active(false);
}

/// Runs the shrinkers of a node. What they would free is between nothing and their target; with
/// setting `shrink_yields` it is the target, in reclaimable pages wherever they are, because
/// shrinkers cannot aim at a superpageblock.
fn shrink_slab<F: Flavour, C: Cache<F, Spb<F>>>(mm: &Mm<F, Spb<F>, C>, node: u16) {
    mm.buddy.placement.background().shrink_ran.add(1);
    let settings = &mm.buddy.settings;
    if !settings.shrink_yields {
        return;
    }
    let pages = settings.shrink_target_objects / settings.slab_objects_per_page.max(1);
    let mut left = u32::try_from(pages).unwrap_or(u32::MAX);
    for zone in mm.buddy.zones.iter().filter(|zone| zone.node == node) {
        left -= mm.reclaim_class(zone, Content::Reclaimable, left, cpu_of(mm, zone));
    }
}
