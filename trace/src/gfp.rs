//! Allocation flags in one canonical layout: that of Linux 6.18.
//!
//! The bit numbers of gfp flags move with kernel version and configuration. The agent reads the
//! host's layout from the print format of `kmem:mm_page_alloc` and translates by name with
//! [`GfpLayout`], so everything behind it sees one layout.

use serde::{Deserialize, Serialize};

use crate::page::Migratetype;

bitflags::bitflags! {
    /// Flags of one allocation, canonical layout (bit numbers of Linux 6.18, x86-64).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct Gfp: u32 {
        /// `__GFP_DMA`
        const DMA = 1 << 0;
        /// `__GFP_HIGHMEM`
        const HIGHMEM = 1 << 1;
        /// `__GFP_DMA32`
        const DMA32 = 1 << 2;
        /// `__GFP_MOVABLE`
        const MOVABLE = 1 << 3;
        /// `__GFP_RECLAIMABLE`
        const RECLAIMABLE = 1 << 4;
        /// `__GFP_HIGH`
        const HIGH = 1 << 5;
        /// `__GFP_IO`
        const IO = 1 << 6;
        /// `__GFP_FS`
        const FS = 1 << 7;
        /// `__GFP_ZERO`
        const ZERO = 1 << 8;
        /// `__GFP_DIRECT_RECLAIM`
        const DIRECT_RECLAIM = 1 << 10;
        /// `__GFP_KSWAPD_RECLAIM`
        const KSWAPD_RECLAIM = 1 << 11;
        /// `__GFP_WRITE`
        const WRITE = 1 << 12;
        /// `__GFP_NOWARN`
        const NOWARN = 1 << 13;
        /// `__GFP_RETRY_MAYFAIL`
        const RETRY_MAYFAIL = 1 << 14;
        /// `__GFP_NOFAIL`
        const NOFAIL = 1 << 15;
        /// `__GFP_NORETRY`
        const NORETRY = 1 << 16;
        /// `__GFP_MEMALLOC`
        const MEMALLOC = 1 << 17;
        /// `__GFP_COMP`
        const COMP = 1 << 18;
        /// `__GFP_NOMEMALLOC`
        const NOMEMALLOC = 1 << 19;
        /// `__GFP_HARDWALL`
        const HARDWALL = 1 << 20;
        /// `__GFP_THISNODE`
        const THISNODE = 1 << 21;
        /// `__GFP_ACCOUNT`
        const ACCOUNT = 1 << 22;
        /// `__GFP_ZEROTAGS`
        const ZEROTAGS = 1 << 23;
        /// `__GFP_NO_OBJ_EXT`
        const NO_OBJ_EXT = 1 << 24;
    }
}

impl Gfp {
    /// `GFP_KERNEL`
    pub const KERNEL: Gfp =
        Gfp::DIRECT_RECLAIM.union(Gfp::KSWAPD_RECLAIM).union(Gfp::IO).union(Gfp::FS);
    /// `GFP_ATOMIC`
    pub const ATOMIC: Gfp = Gfp::HIGH.union(Gfp::KSWAPD_RECLAIM);
    /// `GFP_NOWAIT`
    pub const NOWAIT: Gfp = Gfp::KSWAPD_RECLAIM.union(Gfp::NOWARN);
    /// `GFP_HIGHUSER_MOVABLE`
    pub const HIGHUSER_MOVABLE: Gfp =
        Gfp::KERNEL.union(Gfp::HARDWALL).union(Gfp::HIGHMEM).union(Gfp::MOVABLE);

    /// The mobility type that the request asks for (bits 3 and 4; both set means unmovable here,
    /// since the kernel refuses the combination).
    #[must_use]
    #[inline]
    pub const fn migratetype(self) -> Migratetype {
        const BY_BITS: [Migratetype; 4] = [
            Migratetype::Unmovable,
            Migratetype::Movable,
            Migratetype::Reclaimable,
            Migratetype::Unmovable,
        ];
        BY_BITS[(self.bits() >> 3 & 3) as usize]
    }

    /// Whether the caller may reclaim and wait.
    #[must_use]
    pub const fn can_direct_reclaim(self) -> bool {
        self.contains(Gfp::DIRECT_RECLAIM)
    }
}

/// Translation from one kernel's flag bits to the canonical layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GfpLayout {
    /// Host bit number and canonical flag, for each flag both sides know.
    bits: Vec<(u8, Gfp)>,
    /// Names of host flags that have no canonical counterpart; their bits are dropped.
    unknown: Vec<String>,
}

impl GfpLayout {
    /// Builds the translation from `(name, host mask)` pairs, names with or without the `__GFP_`
    /// or `___GFP_` prefix. Masks of several bits (`GFP_KERNEL`) are passed over.
    pub fn from_names<'a>(names: impl IntoIterator<Item = (&'a str, u64)>) -> GfpLayout {
        let mut layout = GfpLayout { bits: Vec::new(), unknown: Vec::new() };
        for (name, mask) in names {
            if mask.count_ones() != 1 {
                continue;
            }
            let short = name.trim_start_matches('_').trim_start_matches("GFP_");
            match Gfp::from_name(short) {
                Some(flag) => layout.bits.push((mask.trailing_zeros() as u8, flag)),
                None => layout.unknown.push(name.to_owned()),
            }
        }
        layout.bits.sort_unstable_by_key(|(bit, _)| *bit);
        layout.bits.dedup();
        layout
    }

    /// The layout of Linux 6.18 itself.
    #[must_use]
    pub fn canonical() -> GfpLayout {
        GfpLayout::from_names(
            Gfp::all().iter_names().map(|(name, flag)| (name, u64::from(flag.bits()))),
        )
    }

    /// Whether host bits are canonical bits, so that no translation is needed.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.bits.iter().all(|(bit, flag)| 1 << bit == flag.bits())
    }

    /// Translates one host value.
    #[must_use]
    pub fn translate(&self, host: u64) -> Gfp {
        let mut gfp = Gfp::empty();
        for (bit, flag) in &self.bits {
            if host >> bit & 1 == 1 {
                gfp |= *flag;
            }
        }
        gfp
    }

    /// Host flags that have no canonical counterpart.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The host bit of a canonical flag.
    #[must_use]
    pub fn host_bit(&self, flag: Gfp) -> Option<u8> {
        self.bits.iter().find(|(_, f)| *f == flag).map(|(bit, _)| *bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 1.4 of the stock specification: GFP_KERNEL 0xcc0, GFP_ATOMIC 0x820,
    /// GFP_HIGHUSER_MOVABLE 0x100cca.
    #[test]
    fn named_combinations_have_the_kernels_values() {
        assert_eq!(Gfp::KERNEL.bits(), 0xcc0);
        assert_eq!(Gfp::ATOMIC.bits(), 0x820);
        assert_eq!(Gfp::HIGHUSER_MOVABLE.bits(), 0x10_0cca);
    }

    #[test]
    fn types_come_from_bits_three_and_four() {
        assert_eq!(Gfp::KERNEL.migratetype(), Migratetype::Unmovable);
        assert_eq!(Gfp::HIGHUSER_MOVABLE.migratetype(), Migratetype::Movable);
        assert_eq!((Gfp::KERNEL | Gfp::RECLAIMABLE).migratetype(), Migratetype::Reclaimable);
    }

    /// Linux 6.1 has `__GFP_ATOMIC` at bit 9, and every later bit is the same: a name-based
    /// translation keeps what both know and reports the rest.
    #[test]
    fn translation_goes_by_name() {
        let layout = GfpLayout::from_names([
            ("__GFP_IO", 1 << 7),
            ("___GFP_FS", 1 << 6),
            ("__GFP_ATOMIC", 1 << 9),
            ("GFP_KERNEL", 0xcc0),
        ]);
        assert_eq!(layout.translate(1 << 7 | 1 << 9), Gfp::IO);
        assert_eq!(layout.unknown(), ["__GFP_ATOMIC"]);
        assert!(!layout.is_identity());
        assert!(GfpLayout::canonical().is_identity());
    }
}
