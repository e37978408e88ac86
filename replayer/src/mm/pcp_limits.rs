//! How many pages per-CPU lists hold and move: batch, high, and their self-tuning.
//!
//! `stock-allocator` 1.6 (sizes), 2.4 (`nr_pcp_alloc`), 3.3 (`nr_pcp_high`, `nr_pcp_free`,
//! decay). All numbers are base pages.

use fragscope_trace::machine::{Machine, ZoneKind};

use super::flags::Mark;
use super::flavour::{Flavour, Word};
use super::watermark::Tunables;
use super::zone::{Zone, ZoneFlags};

bitflags::bitflags! {
    /// `PCPF_*`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PcpFlags: u32 {
        /// The previous free was of an order of 1 to 3.
        const PREV_FREE_HIGH_ORDER = 1;
        /// The CPU's cache slice holds more than three batches.
        const FREE_HIGH_BATCH = 1 << 1;
    }
}

/// What follows from a zone's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneLimits {
    /// Pages moved at once.
    pub batch: u32,
    /// Lower bound of `high`.
    pub high_min: u32,
    /// Upper bound of `high`.
    pub high_max: u32,
}

/// `zone_batchsize`
#[must_use]
pub fn batch(managed: u64) -> u32 {
    let batch = ((managed >> 10).min(256) / 4).max(1);
    let rounded = batch + batch / 2;
    ((1 << rounded.ilog2()) - 1).max(1)
}

/// `zone_highsize` for both bounds. `cpus` are the online CPUs of the zone's node.
#[must_use]
pub fn zone_limits(managed: u64, low_mark: u64, high_fraction: u64, cpus: u64) -> ZoneLimits {
    let batch = batch(managed);
    let bound = |pages: u64| ((pages / cpus.max(1)) as u32).max(4 * batch);
    let (high_min, high_max) = match high_fraction {
        0 => (bound(low_mark), bound(managed / 8)),
        fraction => (bound(managed / fraction), bound(managed / fraction)),
    };
    ZoneLimits { batch, high_min, high_max }
}

/// The limits of a zone as it is.
pub(super) fn for_zone<F: Flavour>(zone: &Zone<F>, tunables: &Tunables, cpus: u64) -> ZoneLimits {
    let low = zone.marks[Mark::Low as usize].get();
    zone_limits(zone.managed.get(), low, tunables.high_fraction, cpus)
}

/// The data cache slice of a CPU, if the trace tells.
pub(super) fn cache_slice_bytes(machine: &Machine) -> u64 {
    machine.facts.get("cpu_cache_slice_bytes").and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// After a drain: whether the zone is above its high watermark again.
pub(super) fn recheck_high<F: Flavour>(zone: &Zone<F>) {
    if zone.has(ZoneFlags::BELOW_HIGH) && zone.order0_ok(zone.mark(Mark::High), ZoneKind::Movable) {
        zone.clear_flags(ZoneFlags::BELOW_HIGH);
    }
}

/// The kernel's clamp, which gives the upper bound where the bounds cross.
fn clamp(value: u32, low: u32, high: u32) -> u32 {
    if value >= high { high } else { value.max(low) }
}

/// The tuned figures of one pageset; the lock of the pageset guards them.
#[derive(Debug)]
pub struct Limits<F: Flavour> {
    batch: F::U32,
    pub(super) high: F::U32,
    high_min: F::U32,
    high_max: F::U32,
    pub(super) alloc_factor: F::U32,
    pub(super) free_count: F::U32,
    flags: F::U32,
    cache_slice_bytes: F::U64,
}

impl<F: Flavour> Default for Limits<F> {
    fn default() -> Self {
        let word = F::U32::default;
        Limits {
            batch: word(),
            high: word(),
            high_min: word(),
            high_max: word(),
            alloc_factor: word(),
            free_count: word(),
            flags: word(),
            cache_slice_bytes: F::U64::default(),
        }
    }
}

impl<F: Flavour> Limits<F> {
    /// Pages moved at once.
    pub fn batch(&self) -> u32 {
        self.batch.get()
    }

    /// Takes over new bounds.
    pub(super) fn set(&self, limits: &ZoneLimits) {
        self.batch.set(limits.batch);
        self.high_min.set(limits.high_min);
        self.high_max.set(limits.high_max);
        let slice_pages = self.cache_slice_bytes.get() >> 12;
        self.set_flag(PcpFlags::FREE_HIGH_BATCH, slice_pages > 3 * u64::from(limits.batch));
    }

    pub(super) fn set_cache_slice(&self, bytes: u64) {
        self.cache_slice_bytes.set(bytes);
    }

    pub(super) fn has_flag(&self, flag: PcpFlags) -> bool {
        self.flags.get() & flag.bits() != 0
    }

    pub(super) fn set_flag(&self, flag: PcpFlags, on: bool) {
        let others = self.flags.get() & !flag.bits();
        self.flags.set(if on { others | flag.bits() } else { others });
    }

    /// An allocation looks at the lists.
    #[inline]
    pub(super) fn allocating(&self) {
        self.free_count.set(self.free_count.get() >> 1);
    }

    #[inline]
    fn clamped_high(&self) -> u32 {
        let high = clamp(self.high.get(), self.high_min.get(), self.high_max.get());
        self.high.set(high);
        high
    }

    /// `nr_pcp_alloc`: blocks to take from the zone in one refill.
    pub(super) fn nr_alloc(&self, zone: &Zone<F>, count: u32, order: u8, scale: u32) -> u32 {
        let (base, factor) = (self.batch.get(), self.alloc_factor.get());
        let mut high = self.clamped_high();
        if high < base {
            return 1;
        }
        let mut batch = if order == 0 { base << factor } else { base };
        let tuned = self.high_min.get() != self.high_max.get();
        if tuned && !zone.has(ZoneFlags::BELOW_HIGH) {
            high = (high + batch).min(self.high_max.get());
            self.high.set(high);
        }
        if order == 0 {
            let max = high.saturating_sub(count).saturating_sub(base).max(base);
            if batch <= max && factor < scale {
                self.alloc_factor.set(factor + 1);
            }
            batch = batch.min(max);
        }
        if batch > 1 { (batch >> order).max(2) } else { batch }
    }

    /// Accounts for a block just put on a list, with which the lists hold `count` pages. Whether
    /// a run of high-order frees is going on that the lists need not keep (`free_high`).
    #[inline]
    pub(super) fn freeing(&self, count: u32, order: u8, scale: u32) -> bool {
        self.alloc_factor.set(self.alloc_factor.get() >> 1);
        let (batch, free_count) = (self.batch.get(), self.free_count.get());
        let mut free_high = false;
        if order > 0 && order <= super::pcp::COSTLY_ORDER {
            free_high = free_count >= batch + self.high_min.get() / 2
                && self.has_flag(PcpFlags::PREV_FREE_HIGH_ORDER)
                && (!self.has_flag(PcpFlags::FREE_HIGH_BATCH) || count >= batch);
            self.set_flag(PcpFlags::PREV_FREE_HIGH_ORDER, true);
        } else if self.has_flag(PcpFlags::PREV_FREE_HIGH_ORDER) {
            self.set_flag(PcpFlags::PREV_FREE_HIGH_ORDER, false);
        }
        if free_count < batch << scale {
            self.free_count.set(free_count + (1 << order));
        }
        free_high
    }

    /// `nr_pcp_high`: pages above which the lists are drained.
    #[inline]
    pub(super) fn nr_high(&self, zone: &Zone<F>, count: u32, free_high: bool, scale: u32) -> u32 {
        let (min, max) = (self.high_min.get(), self.high_max.get());
        let (batch, free_count) = (self.batch.get(), self.free_count.get());
        let high = self.clamped_high();
        if high == 0 {
            return 0;
        }
        if free_high {
            self.high.set(high.saturating_sub(batch << scale).max(min));
            return 0;
        }
        if zone.has(ZoneFlags::RECLAIM_ACTIVE.union(ZoneFlags::BELOW_HIGH)) {
            return self.nr_high_of_low_zone(zone, count);
        }
        if min == max {
            return high;
        }
        if count >= high {
            let need = free_count + batch;
            if high < need {
                self.high.set(clamp(need, min, max));
            }
        }
        high
    }

    /// [`Limits::nr_high`] while the zone is reclaimed or below its high watermark.
    fn nr_high_of_low_zone(&self, zone: &Zone<F>, count: u32) -> u32 {
        let (min, max) = (self.high_min.get(), self.high_max.get());
        let (batch, high) = (self.batch.get(), self.high.get());
        let lower = high.saturating_sub(self.free_count.get().max(batch)).max(min);
        if zone.has(ZoneFlags::RECLAIM_ACTIVE) {
            self.high.set(lower);
            return (batch << 2).min(lower);
        }
        if min == max {
            return high;
        }
        self.high.set(lower);
        count.max(min)
    }

    /// `nr_pcp_free`: pages to drain once `high` is reached.
    pub(super) fn nr_free(&self, count: u32, high: u32, free_high: bool, scale: u32) -> u32 {
        let batch = self.batch.get();
        if free_high {
            return count.min(batch << scale);
        }
        if high < batch {
            return 1;
        }
        clamp(self.free_count.get(), batch, high - batch)
    }

    /// `decay_pcp_high`: lowers `high`; returns the pages above it.
    pub(super) fn decay(&self, count: u32, scale: u32) -> u32 {
        let (high, min) = (self.high.get(), self.high_min.get());
        if high > min {
            let near = count.saturating_sub(self.batch.get() << scale);
            self.high.set(near.max(high - (high >> 3)).max(min));
        }
        count.saturating_sub(self.high.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;
    use crate::mm::frames::ListId;
    use crate::mm::geometry::{ZoneId, ZoneSpan};

    /// 16 MiB zone: 3840 pages, 3840 >> 10 = 3, 3 / 4 = 0, at least 1; 1 + 0 = 1, 2^0 - 1 = 0, at
    /// least 1. 512 MiB: 131072 >> 10 = 128, / 4 = 32, + 16 = 48, 2^5 - 1 = 31. Above 1 GiB: 256
    /// / 4 = 64, + 32 = 96, 2^6 - 1 = 63.
    #[test]
    fn batches() {
        let managed = [3840, 131_072, 262_144, 772_917, 1_867_776, u64::MAX >> 1];
        assert_eq!(managed.map(batch), [1, 31, 63, 63, 63, 63]);
    }

    /// Figures of a real host with two CPUs: NORMAL with 1,867,776 pages and a low watermark of
    /// 14,916; DMA with 3,840 pages and a low watermark of 30.
    #[test]
    fn bounds_of_high() {
        // 14916 / 2 = 7458; 1867776 / 8 / 2 = 116736.
        let normal = zone_limits(1_867_776, 14_916, 0, 2);
        assert_eq!(normal, ZoneLimits { batch: 63, high_min: 7458, high_max: 116_736 });
        // 30 / 2 = 15; 3840 / 8 / 2 = 240.
        let dma = zone_limits(3840, 30, 0, 2);
        assert_eq!(dma, ZoneLimits { batch: 1, high_min: 15, high_max: 240 });
        // A fraction of 8 fixes both at 1867776 / 8 / 2.
        let fixed = zone_limits(1_867_776, 14_916, 8, 2);
        assert_eq!((fixed.high_min, fixed.high_max), (116_736, 116_736));
        // Never below four batches: 100 / 2 = 50 < 4 * 63.
        assert_eq!(zone_limits(1_867_776, 100, 0, 2).high_min, 252);
    }

    fn zone() -> Zone<Up> {
        let span = ZoneSpan { node: 0, kind: ZoneKind::Normal, start: 0, end: 4096 };
        Zone::new(ZoneId(0), &span, ListId(0), 1)
    }

    fn tuned() -> Limits<Up> {
        let limits = Limits::default();
        limits.set(&ZoneLimits { batch: 63, high_min: 7458, high_max: 116_736 });
        limits
    }

    /// Without a free in between each order-0 refill doubles: 63, 126, .. up to 63 << 5 = 2016.
    /// A free halves the exponent: 5 >> 1 = 2, so 63 << 2 = 252.
    #[test]
    fn refills_double_until_a_free() {
        let (limits, zone) = (tuned(), zone());
        let refills: Vec<u32> = (0..7).map(|_| limits.nr_alloc(&zone, 0, 0, 5)).collect();
        assert_eq!(refills, [63, 126, 252, 504, 1008, 2016, 2016]);
        limits.freeing(1, 0, 5);
        assert_eq!(limits.nr_alloc(&zone, 0, 0, 5), 252);
    }

    /// Higher orders take 63 >> order blocks, at least 2.
    #[test]
    fn refills_of_higher_orders() {
        let zone = zone();
        let blocks = |order| tuned().nr_alloc(&zone, 0, order, 5);
        assert_eq!([1, 2, 3, 9].map(blocks), [31, 15, 7, 2]);
    }

    /// high starts at high_min = 7458 and grows by each refill's pages, unless the zone is below
    /// its high watermark.
    #[test]
    fn high_grows_with_refills() {
        let (limits, zone) = (tuned(), zone());
        limits.nr_alloc(&zone, 0, 0, 5);
        limits.nr_alloc(&zone, 0, 0, 5);
        assert_eq!(limits.high.get(), 7458 + 63 + 126);
        zone.set_flags(ZoneFlags::BELOW_HIGH);
        limits.nr_alloc(&zone, 0, 0, 5);
        assert_eq!(limits.high.get(), 7458 + 63 + 126);
    }

    /// A list that is nearly full is refilled no further than high allows, but by a batch at
    /// least: with 7450 of 7458 + 63 pages there is room for 7521 - 7450 - 63 = 8, so 63. The
    /// next refill would be 126 and raises high to 7647; with 7540 pages there is room for 7647 -
    /// 7540 - 63 = 44.
    #[test]
    fn refills_stop_at_high() {
        let (limits, zone) = (tuned(), zone());
        limits.alloc_factor.set(0);
        assert_eq!(limits.nr_alloc(&zone, 7450, 0, 5), 63);
        assert_eq!(limits.alloc_factor.get(), 1, "63 <= max(8, 63): the factor grows");
        assert_eq!(limits.nr_alloc(&zone, 7540, 0, 5), 63);
        assert_eq!(limits.alloc_factor.get(), 1, "126 > max(44, 63): it does not");
    }

    /// A zone of fewer pages than a batch has no per-CPU lists worth the name.
    #[test]
    fn a_disabled_pageset_takes_one() {
        let (limits, zone) = (Limits::<Up>::default(), zone());
        limits.set(&ZoneLimits { batch: 63, high_min: 0, high_max: 0 });
        assert_eq!(limits.nr_alloc(&zone, 0, 0, 5), 1);
        assert_eq!(limits.nr_high(&zone, 1, false, 5), 0);
        assert_eq!(limits.nr_free(1, 0, false, 5), 1);
    }

    /// Below high nothing is drained; at high, free_count pages within [batch, high - batch], and
    /// high itself rises if it is too small for what comes back.
    #[test]
    fn drains_follow_the_frees() {
        let (limits, zone) = (tuned(), zone());
        assert_eq!(limits.nr_high(&zone, 100, false, 5), 7458);
        limits.free_count.set(2000);
        let high = limits.nr_high(&zone, 7458, false, 5);
        assert_eq!((high, limits.nr_free(7458, high, false, 5)), (7458, 2000));
        limits.free_count.set(10);
        assert_eq!(limits.nr_free(7458, high, false, 5), 63);
        limits.free_count.set(20_000);
        assert_eq!(limits.nr_free(7458, high, false, 5), 7458 - 63);
        // 20000 + 63 > 7458: the bound follows, but only for the next time.
        assert_eq!(limits.nr_high(&zone, 7458, false, 5), 7458);
        assert_eq!(limits.high.get(), 20_063);
    }

    /// Reclaim under way: at most four batches stay, and high falls by what was freed.
    #[test]
    fn reclaim_shrinks_the_lists() {
        let (limits, zone) = (tuned(), zone());
        limits.high.set(10_000);
        limits.free_count.set(1000);
        zone.set_flags(ZoneFlags::RECLAIM_ACTIVE);
        assert_eq!(limits.nr_high(&zone, 9000, false, 5), 252);
        assert_eq!(limits.high.get(), 9000);
        zone.clear_flags(ZoneFlags::RECLAIM_ACTIVE);
        zone.set_flags(ZoneFlags::BELOW_HIGH);
        assert_eq!(limits.nr_high(&zone, 8500, false, 5), 8500, "all that is there may stay");
        assert_eq!(limits.high.get(), 8000);
    }

    /// From the second high-order free on, once batch + high_min / 2 = 3792 pages have come back,
    /// the lists give back up to 32 batches.
    #[test]
    fn a_run_of_high_order_frees_is_not_kept() {
        let (limits, zone) = (tuned(), zone());
        limits.free_count.set(3792);
        assert!(!limits.freeing(5000, 2, 5), "the first of a run");
        limits.free_count.set(3792);
        assert!(limits.freeing(5000, 2, 5));
        assert_eq!(limits.nr_high(&zone, 5000, true, 5), 0);
        assert_eq!(limits.nr_free(5000, 0, true, 5), 2016);
        limits.freeing(5000, 0, 5);
        limits.free_count.set(3792);
        assert!(!limits.freeing(5000, 2, 5), "an order-0 free ends the run");
    }

    /// A large cache slice keeps the lists until a batch is there.
    #[test]
    fn a_large_cache_slice_waits_for_a_batch() {
        let limits = Limits::<Up>::default();
        limits.set_cache_slice(1 << 20);
        limits.set(&ZoneLimits { batch: 63, high_min: 100, high_max: 200 });
        assert!(limits.has_flag(PcpFlags::FREE_HIGH_BATCH), "256 pages > 3 * 63");
        let high_free = |count| {
            limits.free_count.set(113);
            limits.set_flag(PcpFlags::PREV_FREE_HIGH_ORDER, true);
            limits.freeing(count, 1, 5)
        };
        assert!(!high_free(62) && high_free(63));
    }

    /// Each second high falls by an eighth, but not below its minimum, and the pages above it go.
    #[test]
    fn high_decays_by_an_eighth() {
        let limits = tuned();
        limits.high.set(16_000);
        assert_eq!(limits.decay(15_000, 5), 1000, "16000 - 2000 = 14000");
        assert_eq!(limits.high.get(), 14_000);
        for _ in 0..20 {
            limits.decay(0, 5);
        }
        assert_eq!(limits.high.get(), 7458);
        // A full list is not emptied at once: 32 batches at a time.
        limits.high.set(16_000);
        assert_eq!(limits.decay(40_000, 5), 2016);
    }

    #[test]
    fn crossed_bounds_give_the_upper_one() {
        assert_eq!((clamp(5, 1, 9), clamp(0, 1, 9), clamp(10, 1, 9)), (5, 1, 9));
        assert_eq!(clamp(5, 3, 0), 0);
    }
}
