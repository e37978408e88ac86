//! Moving one allocated block out of the way: to wherever an ordinary movable request would be
//! served, so that it follows the policy's own steering.
//!
//! The target comes from the fast path only: background work does not make room by reclaim.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId};

use crate::mm::buddy::ListEnd;
use crate::mm::cache::Cache;
use crate::mm::flags;
use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::Frame;
use crate::mm::page_alloc::Mm;
use crate::mm::placement::Placement;
use crate::mm::request::{FreeEntry, Request};

use super::placement::Spb;

/// Moves an allocated movable block; in halves where no target as large is free. Returns the
/// pages moved: all, or fewer if the targets ran out.
pub(super) fn relocate<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    head: Frame,
    order: u8,
    cpu: CpuId,
) -> u32 {
    if let Some((target, from)) = target(mm, order, cpu) {
        if mm.buddy.settings.evacuate_frees_to_zone {
            mm.move_block(head, order, target, from);
            let (zone, entry) = (mm.buddy.zone_of(head), FreeEntry::Normal);
            mm.buddy.free_to_zone(zone, head, order, Content::Free, entry, ListEnd::ByChance);
        } else {
            mm.migrate_block(head, order, target, from, cpu);
        }
        return 1 << order;
    }
    if order == 0 {
        mm.buddy.counters.migrate_failed.add(1);
        return 0;
    }
    let half = order - 1;
    let upper = head + (1 << half);
    mm.buddy.set_head(head, half);
    mm.buddy.set_head(upper, half);
    let moved = relocate(mm, head, half, cpu);
    if moved < 1 << half {
        return moved;
    }
    moved + relocate(mm, upper, half, cpu)
}

/// A block for migrated pages, off all lists, and what its pages hold by the census.
fn target<F: Flavour, C: Cache<F, Spb<F>>>(
    mm: &Mm<F, Spb<F>, C>,
    order: u8,
    cpu: CpuId,
) -> Option<(Frame, Content)> {
    let gfp = Gfp::HIGHUSER_MOVABLE | Gfp::NOWARN;
    let request = Request::new(order, gfp, cpu);
    let context = mm.context(&request)?;
    Spb::request_begins(&mm.buddy, context.cpu);
    let flags = flags::fast_path_flags(gfp) | mm.nofragment_flag(&context);
    Some(mm.get_page_from_freelist(&context, flags).ok()??.parts())
}
