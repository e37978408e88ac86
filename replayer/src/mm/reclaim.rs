//! The model's own reclaim: beyond what the trace shows, when a request would fail otherwise.
//!
//! A clock hand walks each zone and drops reclaimable pages: file pages first, then movable pages
//! of unknown kind, then anonymous ones where the host swaps. Which page the kernel would have
//! chosen cannot be known; address order is at least the same in every run. The logical page is
//! marked as evicted, so that its later free in the trace is a counted no-op.

use fragscope_trace::page::{Content, CpuId};

use super::cache::Cache;
use super::flags::{AllocFlags, Mark, highest_zone};
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState, NOWHERE};
use super::page_alloc::{Context, Mm};
use super::placement::Placement;
use super::request::FreeEntry;
use super::watermark::Attempt;
use super::zone::{Zone, ZoneFlags};

/// `SWAP_CLUSTER_MAX`: pages per round of direct reclaim.
const SWAP_CLUSTER_MAX: u32 = 32;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Classes of pages in the order in which they are dropped.
    fn reclaimable(&self) -> impl Iterator<Item = Content> + use<F, P, C> {
        let settings = &self.buddy.settings;
        let classes = [
            (Content::File, true),
            (Content::Movable, settings.reclaim_movable),
            (Content::Anon, settings.swap),
        ];
        classes.into_iter().filter(|(_, on)| *on).map(|(content, _)| content)
    }

    /// `zone_reclaimable_pages`
    pub(super) fn reclaimable_pages(&self, zone: &Zone<F>) -> u64 {
        if !self.buddy.settings.direct_reclaim {
            return 0;
        }
        let pages = |class| self.buddy.zone_pages(zone, |content| content == class);
        self.reclaimable().map(pages).sum()
    }

    /// `__perform_reclaim`: drops up to [`SWAP_CLUSTER_MAX`] pages from the zones that may serve
    /// the request. Returns how many it dropped.
    pub(super) fn direct_reclaim(&self, context: &Context<'_>) -> u32 {
        if !self.buddy.settings.direct_reclaim {
            return 0;
        }
        self.buddy.counters.reclaim_direct.add(1);
        let mut left = SWAP_CLUSTER_MAX.max(1 << context.request.order);
        let wanted = left;
        for zone in self.zones(context) {
            left -= self.reclaim_zone(zone, left, context.request.cpu);
            if left == 0 {
                break;
            }
        }
        wanted - left
    }

    /// Drops up to `pages` pages of a zone. Returns how many.
    pub(super) fn reclaim_zone(&self, zone: &Zone<F>, pages: u32, cpu: CpuId) -> u32 {
        let mut left = pages;
        for class in self.reclaimable() {
            left -= self.reclaim_class(zone, class, left, cpu);
            if left == 0 {
                break;
            }
        }
        pages - left
    }

    /// One turn of the clock hand for one class of pages. Regions without such pages are skipped.
    pub(super) fn reclaim_class(
        &self,
        zone: &Zone<F>,
        class: Content,
        pages: u32,
        cpu: CpuId,
    ) -> u32 {
        let (mut hand, span) = (zone.reclaim_hand.get().max(zone.start), zone.end - zone.start);
        let (mut dropped, mut walked) = (0, 0);
        while dropped < pages && walked < span {
            if hand >= zone.end {
                hand = zone.start;
            }
            let step = match self.without(zone, hand, class) {
                Some(skip) => skip,
                None => {
                    dropped += u32::from(self.drop_page(hand, class, cpu));
                    1
                }
            };
            hand += step;
            walked += step;
        }
        zone.reclaim_hand.set(hand);
        dropped
    }

    /// How many frames from `hand` on certainly hold no page of `class`.
    fn without(&self, zone: &Zone<F>, hand: Frame, class: Content) -> Option<u32> {
        let geometry = &self.buddy.geometry;
        if !geometry.in_zone(hand, zone.id) {
            return Some(geometry.pageblock_pages() - hand % geometry.pageblock_pages());
        }
        let region = geometry.region_of(hand);
        if self.buddy.census.pages(region, class) == 0 {
            return Some(geometry.regions[region.0 as usize].end - hand);
        }
        let word = self.buddy.frames.word(hand);
        let free =
            matches!(word.state(), FrameState::Buddy | FrameState::Pcp | FrameState::Isolated);
        free.then(|| 1 << word.order())
    }

    /// Drops one page if it is of `class`.
    fn drop_page(&self, frame: Frame, class: Content, cpu: CpuId) -> bool {
        let word = self.buddy.frames.word(frame);
        if word.state() != FrameState::Allocated || word.content() != class {
            return false;
        }
        let owner = self.buddy.frames.owner(frame);
        if self.free_block(frame, 0, cpu, FreeEntry::Normal).is_err() {
            return false;
        }
        if owner != NOWHERE {
            self.buddy.frames.evict(owner);
        }
        let counters = &self.buddy.counters;
        match class {
            Content::File => counters.reclaimed_file.add(1),
            Content::Anon => counters.reclaimed_anon.add(1),
            Content::Reclaimable => counters.reclaimed_slab.add(1),
            _ => counters.reclaimed_movable.add(1),
        }
        true
    }

    /// `wake_all_kswapds`
    pub(super) fn wake_kswapds(&self, context: &Context<'_>) {
        debug_assert_eq!(context.highest, highest_zone(context.request.gfp));
        for zone in self.zones(context) {
            self.wake_kswapd(zone, context.request.order);
        }
    }

    /// `wakeup_kswapd`: the zone's node begins background reclaim, unless it is balanced. Until
    /// it is, its per-CPU lists are kept short.
    pub(super) fn wake_kswapd(&self, zone: &Zone<F>, order: u8) {
        self.buddy.counters.kswapd_wakeups.add(1);
        let boosted = self.zones_below(zone).any(|other| other.boost.get() > 0);
        if !boosted && self.is_balanced(zone, order) {
            return;
        }
        zone.kswapd_order.set(zone.kswapd_order.get().max(u32::from(order) + 1));
        self.zones_below(zone).for_each(|other| other.set_flags(ZoneFlags::RECLAIM_ACTIVE));
    }

    /// Populated zones of the same node up to this one.
    fn zones_below(&self, zone: &Zone<F>) -> impl Iterator<Item = &Zone<F>> {
        let (node, highest) = (zone.node, zone.kind);
        let below = move |other: &&Zone<F>| {
            other.node == node && other.kind <= highest && other.managed.get() > 0
        };
        self.buddy.zones.iter().filter(below)
    }

    /// `pgdat_balanced`: whether some zone of the node that may serve such requests is above its
    /// high watermark.
    fn is_balanced(&self, zone: &Zone<F>, order: u8) -> bool {
        let attempt = Attempt { order, highest: zone.kind, flags: AllocFlags::empty() };
        self.zones_below(zone).any(|other| {
            other.watermark_ok(&attempt, other.mark(Mark::High), other.free_pages.get())
        })
    }

    /// `balance_pgdat`, once per tick for zones that asked. The pages that the kernel's own
    /// kswapd reclaimed are frees in the trace; what is left to model is reclaim up to the high
    /// watermark where that is switched on, the end of a boost, and the wake-up of compaction
    /// that follows once single pages are to be had again.
    pub(super) fn kswapd_tick(&self) {
        for zone in &self.buddy.zones {
            if zone.kswapd_order.get() == 0 {
                continue;
            }
            if self.buddy.settings.kswapd_reclaim {
                self.reclaim_to_high(zone);
            }
            let boosted = zone.boost.get() > 0;
            zone.boost.set(0);
            if boosted || self.is_balanced(zone, 0) {
                self.kswapd_sleeps(zone, boosted);
            }
        }
    }

    /// Background reclaim is done: compaction makes blocks of what it freed.
    fn kswapd_sleeps(&self, zone: &Zone<F>, boosted: bool) {
        let order = (zone.kswapd_order.get() - 1) as u8;
        zone.kswapd_order.set(0);
        self.zones_below(zone).for_each(|other| other.clear_flags(ZoneFlags::RECLAIM_ACTIVE));
        let order = if boosted { self.buddy.geometry.pageblock_order } else { order };
        if order > 0 {
            self.background_compact(zone, order);
        }
    }

    fn reclaim_to_high(&self, zone: &Zone<F>) {
        let first_cpu = self.buddy.geometry.first_cpu_of(zone.node);
        while zone.free_pages.get() <= zone.mark(Mark::High) {
            if self.reclaim_zone(zone, SWAP_CLUSTER_MAX, first_cpu) == 0 {
                break;
            }
        }
    }
}
