//! The stock placement: one list per order and type in each zone.
//!
//! `stock-allocator` 2.5: `__rmqueue_smallest`, `__rmqueue_claim`, `__rmqueue_steal`.

use fragscope_trace::page::{Migratetype, NR_PAGE_ORDERS};

use super::allocator::BuildError;
use super::buddy::Buddy;
use super::claim::should_try_claim;
use super::flags::AllocFlags;
use super::flavour::Flavour;
use super::frames::{Frame, ListId};
use super::geometry::Geometry;
use super::page_reporting;
use super::placement::Placement;
use super::rmqueue::fallbacks;
use super::settings::Settings;
use super::zone::Zone;

const LISTS_PER_ZONE: u32 = (NR_PAGE_ORDERS * Migratetype::COUNT) as u32;

/// Lists by zone, order and type.
#[derive(Debug)]
pub struct Stock {
    first_list: u32,
}

impl Stock {
    #[inline]
    fn zone_list<F: Flavour>(&self, zone: &Zone<F>, order: u8, migratetype: Migratetype) -> ListId {
        let of_zone = u32::from(zone.id.0) * LISTS_PER_ZONE;
        let of_order = u32::from(order) * Migratetype::COUNT as u32;
        ListId(self.first_list + of_zone + of_order + migratetype as u32)
    }
}

impl<F: Flavour> Placement<F> for Stock {
    const NAME: &'static str = "stock";

    fn list_count(geometry: &Geometry) -> u32 {
        geometry.zones.len() as u32 * LISTS_PER_ZONE
    }

    fn build(_: &Geometry, _: &Settings, first_list: u32) -> Result<Stock, BuildError> {
        Ok(Stock { first_list })
    }

    #[inline]
    fn list(&self, zone: &Zone<F>, _: Frame, order: u8, migratetype: Migratetype) -> ListId {
        self.zone_list(zone, order, migratetype)
    }

    fn lists(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
    ) -> impl Iterator<Item = ListId> {
        std::iter::once(buddy.placement.zone_list(zone, order, migratetype))
    }

    fn report(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        list: ListId,
        order: u8,
        blocks: &[Frame],
    ) -> usize {
        let taken = |batch: &[Frame]| buddy.report_batch(zone, list, order, batch);
        blocks.chunks(page_reporting::CAPACITY).map(taken).sum()
    }

    #[inline]
    fn rmqueue_smallest(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        _: AllocFlags,
    ) -> Option<Frame> {
        let orders = zone.orders(migratetype) >> order;
        if orders == 0 {
            return None;
        }
        let found = order + orders.trailing_zeros() as u8;
        let frame = buddy.frames.first(buddy.placement.zone_list(zone, found, migratetype))?;
        buddy.del_and_expand(zone, frame, order, found, migratetype);
        Some(frame)
    }

    fn rmqueue_claim(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        if !migratetype.is_mergeable() {
            return None;
        }
        let block_order = buddy.geometry.pageblock_order;
        let nofragment = flags.contains(AllocFlags::NOFRAGMENT) && order < block_order;
        let min_order = if nofragment { block_order } else { order };
        for found in (min_order..=buddy.geometry.max_order).rev() {
            if !should_try_claim(found, migratetype, block_order, buddy.settings.grouping) {
                return None;
            }
            let Some((frame, have)) = first_fallback(buddy, zone, found, migratetype) else {
                continue;
            };
            let claimed = try_to_claim(buddy, zone, frame, found, order, migratetype, have, flags);
            if claimed.is_some() {
                return claimed;
            }
        }
        None
    }

    fn rmqueue_steal(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        _: AllocFlags,
    ) -> Option<Frame> {
        if !migratetype.is_mergeable() {
            return None;
        }
        let orders = fallbacks(migratetype).map(|have| zone.orders(have));
        let orders = (orders[0] | orders[1]) >> order;
        if orders == 0 {
            return None;
        }
        let found = order + orders.trailing_zeros() as u8;
        let (frame, have) = first_fallback(buddy, zone, found, migratetype)?;
        buddy.del_and_expand(zone, frame, order, found, have);
        buddy.note_steal(frame);
        Some(frame)
    }
}

/// `find_suitable_fallback` at one order: the head of the first fallback type's list that has
/// one.
fn first_fallback<F: Flavour>(
    buddy: &Buddy<F, Stock>,
    zone: &Zone<F>,
    order: u8,
    migratetype: Migratetype,
) -> Option<(Frame, Migratetype)> {
    fallbacks(migratetype).into_iter().find_map(|have| {
        let list = buddy.placement.zone_list(zone, order, have);
        buddy.frames.first(list).map(|frame| (frame, have))
    })
}

/// `try_to_claim_block`
#[expect(clippy::too_many_arguments, reason = "the parts of one attempt, all of different types")]
fn try_to_claim<F: Flavour>(
    buddy: &Buddy<F, Stock>,
    zone: &Zone<F>,
    frame: Frame,
    found: u8,
    order: u8,
    want: Migratetype,
    have: Migratetype,
    flags: AllocFlags,
) -> Option<Frame> {
    if found >= buddy.geometry.pageblock_order {
        return Some(buddy.claim_whole_block(zone, frame, found, order, want));
    }
    buddy.boost_watermark(zone, flags);
    let block = buddy.pageblock(frame);
    if !buddy.claim_partial_block(zone, block, want, have, true) {
        return None;
    }
    Stock::rmqueue_smallest(buddy, zone, order, want, flags)
}
