//! Moving movable pages out of pageblocks of tainted superpageblocks (patches 06 and 23).

use fragscope_trace::page::{Content, CpuId, Migratetype};

use crate::mm::cache::Cache;
use crate::mm::claim::looks_movable;
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::{Frame, FrameState};
use crate::mm::geometry::PageblockId;
use crate::mm::migrate::{Effort, Emptied};
use crate::mm::page_alloc::Mm;
use crate::mm::request::{FreeEntry, Request};
use crate::mm::zone::Zone;

use super::category::Category;
use super::event::SpbEvent;
use super::geometry::SpbId;
use super::placement::Spb;
use super::superpageblock::HasBit;

/// A CPU of a zone's node, whose lists serve an evacuation.
pub(super) fn cpu_of<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
) -> CpuId {
    mm.buddy.geometry.first_cpu_of(zone.node)
}

/// `evacuate_pageblock`: moves every movable block that lies in the pageblock, as far as targets
/// go, and looks again whether any movable page is left. Targets are ordinary movable requests:
/// they may reclaim (setting `evacuate_reclaims`), or a machine whose memory is in use could
/// empty nothing. Returns the pages moved or dropped.
pub fn evacuate_pageblock<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    block: PageblockId,
) -> u32 {
    let background = mm.buddy.placement.background();
    background.blocks_evacuated.add(1);
    let mut moved = 0;
    for head in movable_heads(mm, block) {
        // An earlier migration may have split or freed it.
        let Some((head, order)) = mm.buddy.allocated_block_of(head) else { continue };
        if !mm.is_movable_block(head, order) {
            continue;
        }
        let pages = empty_block(mm, zone, head, order);
        moved += pages;
        if pages < 1 << order {
            break;
        }
    }
    background.pages_evacuated.add(moved.into());
    let _guard = mm.buddy.lock(zone);
    forget_movable(mm, zone, block);
    moved
}

/// Heads of the allocated blocks in a pageblock that consist of movable pages, ascending. Blocks
/// larger than the largest buddy never migrate.
fn movable_heads<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    block: PageblockId,
) -> Vec<Frame> {
    let range = mm.buddy.geometry.block_in_zone(block);
    let mut heads = Vec::new();
    let mut frame = range.start;
    while frame < range.end {
        let word = mm.buddy.frames.word(frame);
        let step = match word.state() {
            FrameState::Allocated if word.content().is_movable() => {
                let Some((head, order)) = mm.buddy.allocated_block_of(frame) else { break };
                if order <= mm.buddy.geometry.max_order && mm.is_movable_block(head, order) {
                    heads.push(head);
                }
                head + (1 << order) - frame
            }
            FrameState::Buddy | FrameState::Pcp | FrameState::Isolated => 1 << word.order(),
            _ => 1,
        };
        frame += step;
    }
    heads
}

/// Migrates one block, or drops its file pages if the settings say so. Returns the pages that
/// left.
fn empty_block<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    head: Frame,
    order: u8,
) -> u32 {
    let cpu = cpu_of(mm, zone);
    let settings = &mm.buddy.settings;
    if settings.evacuate_drops_file && order == 0 {
        let owner = mm.buddy.frames.owner(head);
        let is_file = mm.buddy.frames.word(head).content() == Content::File;
        if is_file && mm.free_block(head, 0, cpu, FreeEntry::Normal).is_ok() {
            if owner != crate::mm::frames::NOWHERE {
                mm.buddy.frames.evict(owner);
            }
            mm.buddy.counters.reclaimed_file.add(1);
            return 1;
        }
    }
    let emptied = if settings.evacuate_frees_to_zone { Emptied::Zone } else { Emptied::Cpu(cpu) };
    let effort = if settings.evacuate_reclaims { Effort::Reclaim } else { Effort::Free };
    mm.migrate_block(head, order, cpu, emptied, effort)
}

/// Clears the pageblock's has-movable bit if a full scan finds no page on an LRU list (a pinned
/// one is on its list) and no fragment of it is on a movable list. The zone lock is held.
fn forget_movable<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    block: PageblockId,
) {
    let holds = |frame: Frame| {
        let word = mm.buddy.frames.word(frame);
        match word.state() {
            FrameState::Allocated => looks_movable(word.content()),
            FrameState::Buddy | FrameState::Pcp => word.migratetype() == Migratetype::Movable,
            _ => false,
        }
    };
    if !mm.buddy.geometry.block_in_zone(block).any(holds) {
        mm.buddy.placement.zone(zone.id).no_movable_page_found(&mm.buddy.blocks, block);
    }
}

/// Whether a targeted evacuation may empty pageblocks of a type.
fn is_candidate(migratetype: Migratetype) -> bool {
    migratetype.is_mergeable()
}

/// `spb_evacuate_for_order`: from up to 16 tainted superpageblocks with movable pageblocks,
/// fullest first, up to 8 pageblocks each. Order and type only go into the event (setting
/// `evacuate_by_request`). A slab shrink is queued in any case. Whether anything moved.
pub fn evacuate_for_order<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    order: u8,
    migratetype: Migratetype,
) -> bool {
    if !mm.buddy.settings.p23 {
        return false;
    }
    let phases = if mm.buddy.settings.evacuate_by_request {
        [evacuate_some(mm, zone, |t| t == migratetype), evacuate_some(mm, zone, is_movable_type)]
    } else {
        [evacuate_some(mm, zone, is_candidate), Tried::default()]
    };
    if mm.buddy.settings.p28 {
        mm.buddy.placement.background().queue_shrink(zone.node);
    }
    let did_evacuate = phases.iter().any(|tried| tried.pages > 0);
    mm.buddy.placement.zone(zone.id).events().emit(SpbEvent::SpbEvacuateForOrderDone {
        order,
        migratetype,
        phase1_attempts: phases[0].blocks,
        phase2_attempts: phases[1].blocks,
        did_evacuate,
    });
    did_evacuate
}

fn is_movable_type(migratetype: Migratetype) -> bool {
    migratetype == Migratetype::Movable
}

/// What a targeted evacuation did.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    blocks: u32,
    pages: u32,
}

fn evacuate_some<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    wanted: impl Fn(Migratetype) -> bool,
) -> Tried {
    let mut tried = Tried::default();
    for spb in candidates(mm, zone) {
        for block in blocks_to_empty(mm, zone, spb, &wanted) {
            tried.blocks += 1;
            tried.pages += evacuate_pageblock(mm, zone, block);
        }
    }
    tried
}

/// Tainted superpageblocks with movable pageblocks, fullest first.
fn candidates<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
) -> Vec<SpbId> {
    let spbs = mm.buddy.placement.zone(zone.id);
    let _guard = mm.buddy.lock(zone);
    spbs.in_category(Category::Tainted)
        .filter(|spb| spbs.spb(*spb).has(HasBit::Movable) > 0)
        .take(mm.buddy.settings.evacuate_max_spbs as usize)
        .collect()
}

fn blocks_to_empty<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    spb: SpbId,
    wanted: impl Fn(Migratetype) -> bool,
) -> Vec<PageblockId> {
    let (spbs, blocks) = (mm.buddy.placement.zone(zone.id), &mm.buddy.blocks);
    spbs.blocks_with(blocks, spb, HasBit::Movable)
        .filter(|block| wanted(blocks.migratetype(*block)))
        .take(mm.buddy.settings.evacuate_max_blocks as usize)
        .collect()
}

/// Direct compaction of an unmovable or reclaimable request of any order above 0 begins with a
/// targeted evacuation of each zone.
pub(super) fn before_compaction<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    request: &Request,
) -> bool {
    request.order > 0 && evacuate_all_zones(mm, request)
}

/// The last step of a request that can reclaim before NOFRAGMENT is dropped.
pub(super) fn last_resort<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    request: &Request,
    flags: AllocFlags,
) -> bool {
    flags.contains(AllocFlags::NOFRAGMENT) && evacuate_all_zones(mm, request)
}

fn evacuate_all_zones<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    request: &Request,
) -> bool {
    let migratetype = request.migratetype();
    if migratetype == Migratetype::Movable {
        return false;
    }
    let Some(context) = mm.context(request) else { return false };
    let mut did = false;
    for zone in mm.zones(&context) {
        did |= evacuate_for_order(mm, zone, request.order, migratetype);
    }
    did
}
