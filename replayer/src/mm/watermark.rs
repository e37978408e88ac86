//! Watermarks and lowmem reserves: the kernel's formulas and the test.
//!
//! `stock-allocator` 1.5 (formulas) and 2.3 (test).

use fragscope_trace::machine::{Machine, Watermarks, ZoneKind};

use super::flags::{AllocFlags, Mark};
use super::flavour::{Flavour, Word};
use super::settings::Settings;
use super::zone::Zone;

/// Sysctls that shape watermarks, as they apply: the setting, else the host's, else the kernel's
/// default.
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
        }
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
        reserve[higher] = if ratio == 0 { 0 } else { above / ratio };
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
        self.watermark_fast_slow(attempt, mark, pages, free)
    }

    /// The rest of the test; a boost must not make an order-0 `__GFP_HIGH` request fail.
    #[cold]
    fn watermark_fast_slow(&self, attempt: &Attempt, mark: Mark, pages: u64, free: u64) -> bool {
        if self.watermark_ok(attempt, pages, free) {
            return true;
        }
        let boosted = self.boost.get() > 0;
        let high = attempt.flags.contains(AllocFlags::MIN_RESERVE) && attempt.order == 0;
        boosted
            && high
            && mark == Mark::Min
            && self.watermark_ok(attempt, self.marks[Mark::Min as usize].get(), free)
    }

    /// `zone_watermark_ok_safe` for order 0 without rights beyond `highest`: what background
    /// work tests.
    pub fn order0_ok(&self, mark: u64, highest: ZoneKind) -> bool {
        let attempt = Attempt { order: 0, highest, flags: AllocFlags::empty() };
        self.watermark_ok(&attempt, mark, self.free_pages.get())
    }
}
