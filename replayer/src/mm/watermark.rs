//! Watermarks and lowmem reserves: the kernel's formulas and the test.
//!
//! `stock-allocator` 1.5 (formulas) and 2.3 (test).

use fragscope_trace::machine::{Machine, Watermarks, ZoneKind};
use fragscope_trace::page::MAX_PAGE_ORDER;

use super::flags::{AllocFlags, Mark};
use super::flavour::{Flavour, Word};
use super::settings::Settings;
use super::zone::Zone;

/// Sysctls and parameters that shape watermarks and background work, as they apply: the setting,
/// else the host's, else the kernel's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// `min_free_kbytes`
    pub min_free_kbytes: u64,
    /// `watermark_scale_factor`
    pub watermark_scale_factor: u64,
    /// `watermark_boost_factor`
    pub watermark_boost_factor: u64,
    /// `percpu_pagelist_high_fraction`
    pub high_fraction: u64,
    /// `defrag_mode`
    pub defrag_mode: bool,
    /// `compaction_proactiveness`
    pub proactiveness: u64,
    /// `extfrag_threshold`
    pub extfrag_threshold: u64,
    /// `page_reporting_order`
    pub reporting_order: u8,
}

impl Tunables {
    /// What applies to a machine.
    #[must_use]
    pub fn new(machine: &Machine, settings: &Settings) -> Tunables {
        let host = |name: &str| machine.sysctls.get(name).and_then(|v| u64::try_from(*v).ok());
        let or = |setting: Option<u64>, name: &str, default: u64| {
            setting.or_else(|| host(name)).unwrap_or(default)
        };
        let min_free = settings.min_free_kbytes.or_else(|| host("min_free_kbytes"));
        Tunables {
            min_free_kbytes: min_free.unwrap_or_else(|| default_min_free_kbytes(machine)),
            watermark_scale_factor: or(
                settings.watermark_scale_factor,
                "watermark_scale_factor",
                10,
            ),
            watermark_boost_factor: or(
                settings.watermark_boost_factor,
                "watermark_boost_factor",
                15_000,
            ),
            high_fraction: or(
                settings.percpu_pagelist_high_fraction,
                "percpu_pagelist_high_fraction",
                0,
            ),
            defrag_mode: or(settings.defrag_mode, "defrag_mode", 0) != 0,
            proactiveness: or(settings.compaction_proactiveness, "compaction_proactiveness", 20)
                .min(100),
            extfrag_threshold: or(settings.extfrag_threshold, "extfrag_threshold", 500),
            reporting_order: reporting_order(machine, settings),
        }
    }
}

/// `page_reporting_order`: what is no order of a block stands for the default, a pageblock.
fn reporting_order(machine: &Machine, settings: &Settings) -> u8 {
    let host = machine.facts.get("page_reporting.page_reporting_order");
    let host = || host.and_then(|text| text.parse().ok());
    let order = settings.page_reporting_order.or_else(host);
    match order.and_then(|order| u8::try_from(order).ok()) {
        Some(order) if order <= MAX_PAGE_ORDER => order,
        _ => machine.pageblock_order,
    }
}

/// `min_free_kbytes` at boot: clamp(isqrt(16 * L), 128, 262144), with L the KiB of managed pages
/// above the high watermark in zones that `GFP_USER` may use (all but `MOVABLE`). At boot the
/// watermarks are still 0, so L is simply the managed memory.
#[must_use]
pub fn default_min_free_kbytes(machine: &Machine) -> u64 {
    let low = machine.zones.iter().filter(|z| z.kind != ZoneKind::Movable);
    let kib: u64 = low.map(|z| z.managed_pages * 4).sum();
    (kib * 16).isqrt().clamp(128, 262_144)
}

/// `__setup_per_zone_wmarks` for one zone: all sizes in pages. `lowmem` is the sum of managed
/// pages over all zones but `MOVABLE`.
#[must_use]
pub fn watermarks(kind: ZoneKind, managed: u64, lowmem: u64, tunables: &Tunables) -> Watermarks {
    let pages_min = tunables.min_free_kbytes / 4;
    let product = u128::from(pages_min) * u128::from(managed);
    let share = (product / u128::from(lowmem.max(1))) as u64;
    let min = match kind {
        ZoneKind::Movable => (managed / 1024).clamp(32, 128),
        _ => share,
    };
    let scaled = u128::from(managed) * u128::from(tunables.watermark_scale_factor) / 10_000;
    let delta = (share / 4).max(scaled as u64);
    Watermarks { min, low: min + delta, high: min + 2 * delta, promo: min + 3 * delta }
}

/// `setup_per_zone_lowmem_reserve` for one zone: element j is what requests that could use zone
/// kind j leave alone here. `managed` is by zone kind of the node.
#[must_use]
pub fn lowmem_reserve(kind: ZoneKind, managed: &[u64; 4]) -> [u64; 4] {
    let ratio = match kind {
        ZoneKind::Dma | ZoneKind::Dma32 => 256,
        ZoneKind::Normal => 32,
        ZoneKind::Movable => 0,
    };
    let mut reserve = [0; 4];
    let mut above = 0;
    for higher in kind as usize + 1..4 {
        above += managed[higher];
        reserve[higher] = above.checked_div(ratio).unwrap_or(0);
    }
    reserve
}

/// An attempt as the watermark test sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Order asked for.
    pub order: u8,
    /// Highest zone that could serve it.
    pub highest: ZoneKind,
    /// What it may do.
    pub flags: AllocFlags,
}

impl<F: Flavour> Zone<F> {
    /// `wmark_pages`: a watermark with its boost.
    #[inline]
    pub fn mark(&self, mark: Mark) -> u64 {
        self.marks[mark as usize].get() + self.boost.get()
    }

    /// `__zone_watermark_unusable_free`.
    #[inline]
    fn unusable(&self, attempt: &Attempt) -> u64 {
        let mut unusable = (1 << attempt.order) - 1;
        if !attempt.flags.intersects(AllocFlags::RESERVES) {
            unusable += self.free_highatomic.get();
        }
        if !attempt.flags.contains(AllocFlags::CMA) {
            unusable += self.free_cma.get();
        }
        unusable
    }

    /// `__zone_watermark_ok`: whether `free` pages suffice to go down to `mark`.
    pub fn watermark_ok(&self, attempt: &Attempt, mark: u64, free: u64) -> bool {
        let flags = attempt.flags;
        let mut min = mark;
        if flags.contains(AllocFlags::MIN_RESERVE) {
            min -= min / 2;
            if flags.contains(AllocFlags::NON_BLOCK) {
                min -= min / 4;
            }
        }
        if flags.contains(AllocFlags::OOM) {
            min -= min / 2;
        }
        let reserve = self.lowmem_reserve[attempt.highest as usize].get();
        let usable = free.saturating_sub(self.unusable(attempt));
        usable > min + reserve && (attempt.order == 0 || self.has_block_for(attempt))
    }

    /// Whether any list that the attempt may use has a block large enough.
    fn has_block_for(&self, attempt: &Attempt) -> bool {
        let mut types = 0b111;
        if attempt.flags.contains(AllocFlags::CMA) {
            types |= 1 << 4;
        }
        if attempt.flags.intersects(AllocFlags::HIGHATOMIC | AllocFlags::OOM) {
            types |= 1 << 3;
        }
        self.has_block(attempt.order, types)
    }

    /// `zone_watermark_fast`: the test of the allocation path, with its short cut for order 0.
    #[inline]
    pub fn watermark_fast(&self, attempt: &Attempt, mark: Mark) -> bool {
        let free = self.free_pages.get();
        let pages = self.mark(mark);
        if attempt.order == 0 {
            let reserve = self.lowmem_reserve[attempt.highest as usize].get();
            if free.saturating_sub(self.unusable(attempt)) > pages + reserve {
                return true;
            }
        }
        self.watermark_fast_slow(*attempt, mark, pages, free)
    }

    /// The rest of the test; a boost must not make an order-0 `__GFP_HIGH` request fail.
    #[cold]
    fn watermark_fast_slow(&self, attempt: Attempt, mark: Mark, pages: u64, free: u64) -> bool {
        if self.watermark_ok(&attempt, pages, free) {
            return true;
        }
        let boosted = self.boost.get() > 0;
        let high = attempt.flags.contains(AllocFlags::MIN_RESERVE) && attempt.order == 0;
        boosted
            && high
            && mark == Mark::Min
            && self.watermark_ok(&attempt, self.marks[Mark::Min as usize].get(), free)
    }

    /// `zone_watermark_ok_safe` for order 0 without rights beyond `highest`: what background
    /// work tests.
    pub fn order0_ok(&self, mark: u64, highest: ZoneKind) -> bool {
        let attempt = Attempt { order: 0, highest, flags: AllocFlags::empty() };
        self.watermark_ok(&attempt, mark, self.free_pages.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;
    use crate::mm::frames::ListId;
    use crate::mm::geometry::{ZoneId, ZoneSpan};
    use crate::mm::testing;
    use fragscope_trace::page::Migratetype;

    const DMA: u64 = 3840;
    const DMA32: u64 = 772_917;
    const NORMAL: u64 = 1_867_776;

    fn tunables(min_free_kbytes: u64, scale: u64) -> Tunables {
        Tunables {
            min_free_kbytes,
            watermark_scale_factor: scale,
            watermark_boost_factor: 15_000,
            high_fraction: 0,
            defrag_mode: false,
            proactiveness: 20,
            extfrag_threshold: 500,
            reporting_order: 9,
        }
    }

    /// A real host: min_free_kbytes 67584, so 16896 pages to share by managed / 2644533. DMA:
    /// 16896 * 3840 / 2644533 = 24, a quarter 6. DMA32: 4938, a quarter 1234 (the scale factor
    /// gives 772). NORMAL: 11933, a quarter 2983.
    #[test]
    fn watermarks_of_a_real_host() {
        let tunables = tunables(67_584, 10);
        let marks = |kind, managed| {
            let m = watermarks(kind, managed, DMA + DMA32 + NORMAL, &tunables);
            [m.min, m.low, m.high, m.promo]
        };
        assert_eq!(marks(ZoneKind::Dma, DMA), [24, 30, 36, 42]);
        assert_eq!(marks(ZoneKind::Dma32, DMA32), [4938, 6172, 7406, 8640]);
        assert_eq!(marks(ZoneKind::Normal, NORMAL), [11_933, 14_916, 17_899, 20_882]);
    }

    /// A scale factor of 100 moves marks apart by 1 % of the zone: 1867776 / 100 = 18677, more
    /// than a quarter of the share. A MOVABLE zone keeps managed / 1024, between 32 and 128.
    #[test]
    fn scale_factor_and_movable_zones() {
        let m = watermarks(ZoneKind::Normal, NORMAL, DMA + DMA32 + NORMAL, &tunables(67_584, 100));
        assert_eq!(m.low - m.min, 18_677);
        let min = |managed| watermarks(ZoneKind::Movable, managed, 1 << 20, &tunables(0, 0)).min;
        assert_eq!([1000, 65_536, 1 << 20].map(min), [32, 64, 128]);
    }

    /// (772917 + 1867776) / 256 = 10315 of the DMA zone are kept from NORMAL requests, 772917 /
    /// 256 = 3019 from DMA32 ones; 1867776 / 256 = 7296 of DMA32. There is no MOVABLE zone, so
    /// its column repeats NORMAL's.
    #[test]
    fn lowmem_reserves_of_a_real_host() {
        let managed = [DMA, DMA32, NORMAL, 0];
        assert_eq!(lowmem_reserve(ZoneKind::Dma, &managed), [0, 3019, 10_315, 10_315]);
        assert_eq!(lowmem_reserve(ZoneKind::Dma32, &managed), [0, 0, 7296, 7296]);
        assert_eq!(lowmem_reserve(ZoneKind::Normal, &managed), [0, 0, 0, 0]);
        let with_movable = [DMA, DMA32, NORMAL, 1 << 20];
        assert_eq!(lowmem_reserve(ZoneKind::Normal, &with_movable)[3], (1 << 20) / 32);
    }

    /// 4 GiB in kB is 4194304; isqrt(16 * 4194304) = 8192. Bounds: 128 and 262144.
    #[test]
    fn min_free_kbytes_at_boot() {
        let of = |pages| {
            let zone = (0, ZoneKind::Normal, 0, pages);
            default_min_free_kbytes(&testing::machine(9, &[zone]))
        };
        assert_eq!([of(1 << 20), of(16), of(1 << 32)], [8192, 128, 262_144]);
    }

    fn zone(min: u64, free: u64) -> Zone<Up> {
        let span = ZoneSpan { node: 0, kind: ZoneKind::Dma32, start: 0, end: 4096 };
        let zone = Zone::<Up>::new(ZoneId(0), &span, ListId(0), 1);
        let marks = Watermarks { min, low: min * 2, high: min * 3, promo: min * 4 };
        zone.set_marks(&marks, &[0, 0, 50, 50]);
        zone.free_pages.set(free);
        zone
    }

    /// The lowest number of free pages with which an order-0 attempt is allowed: one more than
    /// what it may leave.
    fn least(zone: &Zone<Up>, highest: ZoneKind, flags: AllocFlags) -> u64 {
        let attempt = Attempt { order: 0, highest, flags };
        let mark = zone.mark(flags.mark());
        (0..10_000).find(|free| zone.watermark_ok(&attempt, mark, *free)).unwrap_or(u64::MAX)
    }

    /// min 100, reserve 50 for NORMAL requests. MIN_RESERVE: 100 - 50 = 50; with NON_BLOCK 50 -
    /// 12 = 38; OOM halves what is left, 38 - 19 = 19.
    #[test]
    fn rights_lower_the_minimum() {
        let zone = zone(100, 0);
        let of = |flags| least(&zone, ZoneKind::Dma32, flags);
        let high = AllocFlags::MIN_RESERVE;
        assert_eq!(of(AllocFlags::empty()), 101);
        assert_eq!(of(AllocFlags::WMARK_LOW), 201);
        assert_eq!(of(high), 51);
        assert_eq!(of(high | AllocFlags::NON_BLOCK), 39);
        assert_eq!(of(AllocFlags::NON_BLOCK), 101);
        assert_eq!(of(high | AllocFlags::NON_BLOCK | AllocFlags::OOM), 20);
        assert_eq!(least(&zone, ZoneKind::Normal, AllocFlags::empty()), 151);
        zone.boost.set(7);
        assert_eq!(of(AllocFlags::empty()), 108);
    }

    #[test]
    fn reserved_pages_do_not_count_for_others() {
        let zone = zone(100, 0);
        zone.free_highatomic.set(30);
        zone.free_cma.set(20);
        let of = |flags| least(&zone, ZoneKind::Dma32, flags);
        assert_eq!(of(AllocFlags::empty()), 151);
        assert_eq!(of(AllocFlags::CMA), 131);
        assert_eq!(of(AllocFlags::NON_BLOCK), 121);
    }

    #[test]
    fn high_orders_need_a_block() {
        let zone = zone(10, 1000);
        let ok = |order, flags| {
            let attempt = Attempt { order, highest: ZoneKind::Dma32, flags };
            zone.watermark_ok(&attempt, 10, 1000)
        };
        let none = AllocFlags::empty();
        assert!(ok(0, none) && !ok(1, none));
        zone.count_block(3, Migratetype::HighAtomic);
        assert!(!ok(2, none) && ok(2, AllocFlags::HIGHATOMIC) && ok(2, AllocFlags::OOM));
        zone.count_block(4, Migratetype::Cma);
        assert!(!ok(4, none) && ok(4, AllocFlags::CMA));
        zone.count_block(2, Migratetype::Movable);
        assert!(ok(2, none) && !ok(3, none));
    }

    /// With min 100 and boost 900 an order-0 `__GFP_HIGH` request with 400 free pages fails the
    /// boosted mark (500) but not the plain one (50).
    #[test]
    fn a_boost_does_not_fail_high_requests() {
        let zone = zone(100, 400);
        zone.boost.set(900);
        let fast = |order, flags| {
            let attempt = Attempt { order, highest: ZoneKind::Dma32, flags };
            zone.watermark_fast(&attempt, Mark::Min)
        };
        assert!(fast(0, AllocFlags::MIN_RESERVE));
        assert!(!fast(0, AllocFlags::empty()) && !fast(1, AllocFlags::MIN_RESERVE));
    }
}
