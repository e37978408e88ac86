//! Contiguous allocation from the metadata (patch 17): candidates, and superpageblocks that one
//! allocation holds.

use fragscope_trace::page::Migratetype;

use crate::mm::buddy::Buddy;
use crate::mm::cache::Cache;
use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::Frame;
use crate::mm::page_alloc::Mm;
use crate::mm::request::Request;
use crate::mm::zone::Zone;

use super::category::{Category, Fullness};
use super::evacuate::cpu_of;
use super::geometry::SpbId;
use super::lists::ListName;
use super::placement::Spb;
use super::zone::SpbZone;

/// First frames that a contiguous allocation of `order` tries, best first; at most four.
///
/// From 1 GiB up: empty superpageblocks, then clean ones from the emptiest; whole ones only and
/// never tainted ones. Below: clean ones from three quarters full down, then empty ones.
pub(super) fn candidates<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    zone: &Zone<F>,
    order: u8,
    into: &mut Vec<Frame>,
) {
    if !buddy.settings.p17 {
        return;
    }
    let spbs = buddy.placement.zone(zone.id);
    let max = buddy.settings.contig_candidates as usize;
    if order >= spbs.geometry().spb_order() {
        let aligned = |spb: SpbId| spbs.geometry().spb_start(spb) & ((1 << order) - 1) == 0;
        let fits = |spb: &SpbId| {
            is_whole(spbs, *spb) && aligned(*spb) && has_neighbours(buddy, spbs, *spb, order)
        };
        into.extend(
            emptiest_first(spbs).filter(fits).take(max).map(|spb| spbs.geometry().spb_start(spb)),
        );
    } else {
        let start = |spb| start_inside(buddy, spbs, spb, order);
        into.extend(fullest_first(spbs).filter_map(start).take(max));
    }
}

fn emptiest_first<F: Flavour>(spbs: &SpbZone<F>) -> impl Iterator<Item = SpbId> + '_ {
    let clean = Fullness::ALL.into_iter().rev().map(|f| ListName::Of(Category::Clean, f));
    std::iter::once(ListName::Empty).chain(clean).flat_map(|list| spbs.listed(list))
}

fn fullest_first<F: Flavour>(spbs: &SpbZone<F>) -> impl Iterator<Item = SpbId> + '_ {
    let clean = Fullness::ALL.into_iter().skip(1).map(|f| ListName::Of(Category::Clean, f));
    clean.chain([ListName::Empty]).flat_map(|list| spbs.listed(list))
}

fn is_whole<F: Flavour>(spbs: &SpbZone<F>, spb: SpbId) -> bool {
    spbs.spb(spb).total() == spbs.geometry().spb_blocks()
}

/// Above 1 GiB: whether the superpageblocks that follow are candidates as well. Upstream was not
/// seen to test that (setting `contig_adjacent`).
fn has_neighbours<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    spbs: &SpbZone<F>,
    spb: SpbId,
    order: u8,
) -> bool {
    let count = 1u32 << (order - spbs.geometry().spb_order());
    if !buddy.settings.contig_adjacent || count == 1 {
        return true;
    }
    spb.0.is_multiple_of(count)
        && (spb.0..spb.0 + count).map(SpbId).all(|next| {
            let covered = spbs.is_covered(next);
            covered && is_whole(spbs, next) && spbs.category(next) == Category::Clean
        })
}

/// The aligned block of a superpageblock that is tried: its first (upstream), or the one with the
/// fewest pages to move (setting `contig_fixed_block`).
fn start_inside<F: Flavour>(
    buddy: &Buddy<F, Spb<F>>,
    spbs: &SpbZone<F>,
    spb: SpbId,
    order: u8,
) -> Option<Frame> {
    let geometry = spbs.geometry();
    let first = geometry.spb_start(spb).max(geometry.start).next_multiple_of(1 << order);
    let end = geometry.spb_end(spb);
    let mut starts = (first..end).step_by(1 << order).filter(|s| s + (1 << order) <= end);
    if buddy.settings.contig_fixed_block {
        return starts.next();
    }
    let used = |start: &Frame| {
        buddy.pageblocks_of(*start, order).map(|b| buddy.count_block_pages(b).movable).sum::<u32>()
    };
    starts.min_by_key(used)
}

/// A contiguous allocation took or gave back an aligned block: superpageblocks wholly inside it
/// become isolated, or return to their lists.
pub(super) fn changed<F: Flavour>(buddy: &Buddy<F, Spb<F>>, frame: Frame, order: u8, taken: bool) {
    let spbs = buddy.placement.zone(buddy.zone_of(frame).id);
    let geometry = spbs.geometry();
    if order < geometry.spb_order() {
        return;
    }
    let count = 1 << (order - geometry.spb_order());
    let first = geometry.spb_of(frame).0;
    for spb in (first..first + count).map(SpbId).filter(|spb| spbs.is_covered(*spb)) {
        spbs.set_contig_allocated(spb, taken);
    }
}

/// Direct compaction of a movable request of at least a pageblock begins with the candidates of
/// each zone: two attempts to empty one, then the next.
pub(super) fn before_compaction<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    request: &Request,
) -> bool {
    let whole = request.order >= mm.buddy.geometry.pageblock_order;
    if !whole || request.migratetype() != Migratetype::Movable {
        return false;
    }
    let Some(context) = mm.context(request) else { return false };
    mm.zones(&context).any(|zone| empty_a_candidate(mm, zone, request.order))
}

fn empty_a_candidate<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    order: u8,
) -> bool {
    let mut starts = Vec::new();
    {
        let _guard = mm.buddy.lock(zone);
        candidates(&mm.buddy, zone, order, &mut starts);
    }
    let spbs = mm.buddy.placement.zone(zone.id);
    starts.into_iter().any(|start| {
        let attempts = 0..mm.buddy.settings.contig_attempts;
        let emptied = attempts.into_iter().any(|_| empty(mm, zone, start, order));
        if !emptied {
            spbs.update_list(spbs.geometry().spb_of(start));
        }
        emptied
    })
}

/// Moves everything out of a block while its pageblocks are isolated; whether that worked. The
/// block is free in the zone then.
fn empty<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    zone: &Zone<F>,
    start: Frame,
    order: u8,
) -> bool {
    let blocks = mm.buddy.pageblocks_of(start, order);
    let moved_before = mm.buddy.counters.pages_moved.get();
    mm.isolate_pageblocks(zone, blocks.clone());
    let emptied = mm.move_out(&(start..start + (1 << order)), cpu_of(mm, zone));
    let background = mm.buddy.placement.background();
    background.blocks_evacuated.add(blocks.clone().count() as u64);
    background.pages_evacuated.add(mm.buddy.counters.pages_moved.get() - moved_before);
    let _guard = mm.buddy.lock(zone);
    mm.buddy.unisolate_pageblocks(zone, blocks);
    emptied
}
