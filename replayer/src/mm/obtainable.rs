//! Which regions could be one page now, and what bars the others, by the census alone.
//!
//! `stock-allocator` 4.4, last paragraph.

use fragscope_trace::page::{Content, Migratetype};

use super::buddy::Buddy;
use super::cache::Cache;
use super::flags::Mark;
use super::flavour::{Flavour, Word};
use super::frames::Frame;
use super::geometry::{Region, RegionId};
use super::page_alloc::Mm;
use super::placement::Placement;
use super::zone::Zone;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Starts of the regions that a gigantic hugetlb request would get now, each by itself, in
    /// the order of the zonelists: zones from NORMAL downwards, starts ascending. The pages to
    /// move must fit outside the region above the high watermarks.
    pub fn contig_obtainable(&self) -> Vec<Frame> {
        let buddy = &self.buddy;
        let reserve: u64 = buddy.zones.iter().map(|zone| zone.mark(Mark::High)).sum();
        let free_of = |zone: &Zone<F>| zone.free_pages.get() + self.cache.pages(zone);
        let free: u64 = buddy.zones.iter().map(free_of).sum();
        let mut zones: Vec<_> =
            buddy.zones.iter().filter(|zone| zone.kind.gigantic_obtainable()).collect();
        zones.sort_by_key(|zone| (zone.node, std::cmp::Reverse(zone.kind)));
        let of_zone = |zone: &Zone<F>| {
            let id = zone.id;
            let regions = buddy.geometry.regions.iter().enumerate();
            regions.filter(move |(_, region)| region.zone == id)
        };
        let fits = |(id, region): &(usize, &Region)| {
            let id = RegionId(*id as u32);
            let movable = buddy.region_pages(id, Content::is_movable);
            let outside = free.saturating_sub(buddy.region_pages(id, Content::is_free));
            buddy.region_can_move(id, region) && (movable == 0 || movable + reserve <= outside)
        };
        let starts = |zone| of_zone(zone).filter(fits).map(|(_, region)| region.start);
        zones.into_iter().flat_map(starts).collect()
    }
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// Pages of a zone that `wanted` holds for.
    pub(super) fn zone_pages(&self, zone: &Zone<F>, wanted: impl Fn(Content) -> bool) -> u64 {
        let regions = self.geometry.regions.iter().enumerate();
        let own = regions.filter(|(_, region)| region.zone == zone.id);
        own.map(|(id, _)| self.region_pages(RegionId(id as u32), &wanted)).sum()
    }

    fn region_pages(&self, id: RegionId, wanted: impl Fn(Content) -> bool) -> u64 {
        let of = |c: &Content| u64::from(self.census.pages(id, *c));
        let present = Content::ALL.iter().filter(|c| **c != Content::Absent);
        present.filter(|c| wanted(**c)).map(of).sum()
    }

    /// Whether a region is whole and holds nothing but free and movable pages.
    fn region_can_move(&self, id: RegionId, region: &Region) -> bool {
        let pages = u64::from(region.end - region.start);
        let movable = |c: Content| c.is_free() || c.is_movable();
        pages == 1 << self.geometry.region_order && self.region_pages(id, movable) == pages
    }

    /// Regions with a pageblock of unmovable, reclaimable or highatomic type.
    pub fn block_type_tainted(&self) -> u64 {
        use Migratetype::{HighAtomic, Reclaimable, Unmovable};
        let mut tainted = vec![false; self.geometry.regions.len()];
        for block in self.blocks.online() {
            if matches!(self.blocks.own_type(block), Unmovable | Reclaimable | HighAtomic) {
                let region = self.geometry.region_of(self.geometry.block_start(block));
                tainted[region.0 as usize] = true;
            }
        }
        tainted.into_iter().filter(|t| *t).count() as u64
    }
}
