//! What the flags of a request mean inside the allocator.
//!
//! `stock-allocator` 1.2 (zones), 1.3 (types), 2.1 (fast path) and 2.7 (slow path).

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::Migratetype;

bitflags::bitflags! {
    /// `ALLOC_*`: what an attempt may do. The low two bits choose the watermark.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AllocFlags: u32 {
        /// `ALLOC_WMARK_LOW`; neither bit is `ALLOC_WMARK_MIN`.
        const WMARK_LOW = 1;
        /// `ALLOC_WMARK_HIGH`
        const WMARK_HIGH = 2;
        /// `ALLOC_NO_WATERMARKS`
        const NO_WATERMARKS = 4;
        /// `ALLOC_OOM`
        const OOM = 8;
        /// `ALLOC_NON_BLOCK`
        const NON_BLOCK = 0x10;
        /// `ALLOC_MIN_RESERVE`
        const MIN_RESERVE = 0x20;
        /// `ALLOC_CPUSET`
        const CPUSET = 0x40;
        /// `ALLOC_CMA`
        const CMA = 0x80;
        /// `ALLOC_NOFRAGMENT`
        const NOFRAGMENT = 0x100;
        /// `ALLOC_HIGHATOMIC`
        const HIGHATOMIC = 0x200;
        /// `ALLOC_TRYLOCK`
        const TRYLOCK = 0x400;
        /// `ALLOC_KSWAPD`
        const KSWAPD = 0x800;
        /// `ALLOC_NOFRAG_TAINTED_OK` (superpageblock series)
        const NOFRAG_TAINTED_OK = 0x1000;
        /// `ALLOC_HIGHORDER_OPTIONAL` (superpageblock series)
        const HIGHORDER_OPTIONAL = 0x2000;
        /// `ALLOC_RESERVES`: may go below the watermark.
        const RESERVES = 0x10 | 0x20 | 0x200 | 8;
    }
}

/// Which watermark an attempt is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Mark {
    /// `WMARK_MIN`
    Min = 0,
    /// `WMARK_LOW`
    Low = 1,
    /// `WMARK_HIGH`
    High = 2,
    /// `WMARK_PROMO`
    Promo = 3,
}

impl AllocFlags {
    /// The watermark that the flags choose.
    #[must_use]
    #[inline]
    pub const fn mark(self) -> Mark {
        match self.bits() & 3 {
            0 => Mark::Min,
            1 => Mark::Low,
            _ => Mark::High,
        }
    }
}

/// `gfp_zone`: the highest zone that may serve.
#[must_use]
#[inline]
pub fn highest_zone(gfp: Gfp) -> ZoneKind {
    // `GFP_ZONE_TABLE`
    HIGHEST[(gfp.bits() & ZONE_BITS) as usize]
}

/// The low bits of a request's flags, which choose zones.
const ZONE_BITS: u32 = 0xf;
const _: () =
    assert!(Gfp::DMA.union(Gfp::DMA32).union(Gfp::HIGHMEM).union(Gfp::MOVABLE).bits() == ZONE_BITS);

static HIGHEST: [ZoneKind; 1 + ZONE_BITS as usize] = {
    let mut table = [ZoneKind::Normal; 1 + ZONE_BITS as usize];
    let mut bits = 0;
    while bits <= ZONE_BITS {
        table[bits as usize] = highest_of(Gfp::from_bits_truncate(bits));
        bits += 1;
    }
    table
};

const fn highest_of(gfp: Gfp) -> ZoneKind {
    if gfp.contains(Gfp::DMA) {
        ZoneKind::Dma
    } else if gfp.contains(Gfp::DMA32) {
        ZoneKind::Dma32
    } else if gfp.contains(Gfp::HIGHMEM.union(Gfp::MOVABLE)) {
        ZoneKind::Movable
    } else {
        ZoneKind::Normal
    }
}

/// Flags of the fast path but for NOFRAGMENT, which depends on the machine.
#[must_use]
#[inline]
pub fn fast_path_flags(gfp: Gfp) -> AllocFlags {
    let mut flags = AllocFlags::WMARK_LOW;
    if gfp.contains(Gfp::KSWAPD_RECLAIM) {
        flags = flags.union(AllocFlags::KSWAPD);
    }
    if matches!(gfp.migratetype(), Migratetype::Movable) {
        flags = flags.union(AllocFlags::CMA);
    }
    flags
}

/// `gfp_to_alloc_flags`: flags of the slow path, again without NOFRAGMENT.
#[must_use]
pub fn slow_path_flags(gfp: Gfp, order: u8) -> AllocFlags {
    let mut flags = AllocFlags::CPUSET;
    flags.set(AllocFlags::KSWAPD, gfp.contains(Gfp::KSWAPD_RECLAIM));
    flags.set(AllocFlags::MIN_RESERVE, gfp.contains(Gfp::HIGH));
    if !gfp.can_direct_reclaim() {
        if !gfp.contains(Gfp::NOMEMALLOC) {
            flags |= AllocFlags::NON_BLOCK;
            flags.set(AllocFlags::HIGHATOMIC, order > 0 && gfp.contains(Gfp::HIGH));
        }
        flags.set(AllocFlags::CPUSET, !gfp.contains(Gfp::HIGH));
    }
    flags.set(AllocFlags::CMA, gfp.migratetype() == Migratetype::Movable);
    flags
}

/// Whether the request may use all reserves (`__GFP_MEMALLOC`).
#[must_use]
pub fn may_ignore_watermarks(gfp: Gfp) -> bool {
    gfp.contains(Gfp::MEMALLOC) && !gfp.contains(Gfp::NOMEMALLOC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_follow_from_the_flags() {
        assert_eq!(highest_zone(Gfp::KERNEL), ZoneKind::Normal);
        assert_eq!(highest_zone(Gfp::KERNEL | Gfp::DMA), ZoneKind::Dma);
        assert_eq!(highest_zone(Gfp::KERNEL | Gfp::DMA32), ZoneKind::Dma32);
        assert_eq!(highest_zone(Gfp::HIGHUSER_MOVABLE), ZoneKind::Movable);
        // Movable without highmem (or the reverse) stays in NORMAL.
        assert_eq!(highest_zone(Gfp::KERNEL | Gfp::MOVABLE), ZoneKind::Normal);
        assert_eq!(highest_zone(Gfp::KERNEL | Gfp::HIGHMEM), ZoneKind::Normal);
    }

    #[test]
    fn atomic_requests_reach_the_reserves() {
        let flags = slow_path_flags(Gfp::ATOMIC, 2);
        let expected = AllocFlags::MIN_RESERVE
            | AllocFlags::NON_BLOCK
            | AllocFlags::HIGHATOMIC
            | AllocFlags::KSWAPD;
        assert_eq!(flags, expected);
        assert_eq!(slow_path_flags(Gfp::ATOMIC, 0), expected - AllocFlags::HIGHATOMIC);
        let polite = slow_path_flags(Gfp::ATOMIC | Gfp::NOMEMALLOC, 2);
        assert!(!polite.intersects(AllocFlags::NON_BLOCK | AllocFlags::HIGHATOMIC));
        assert_eq!(slow_path_flags(Gfp::KERNEL, 2), AllocFlags::CPUSET | AllocFlags::KSWAPD);
        assert_eq!(flags.mark(), Mark::Min);
        assert_eq!(fast_path_flags(Gfp::KERNEL).mark(), Mark::Low);
    }
}
