//! A page event as it travels from the kernel: two words, 16 bytes.
//!
//! | word | bits | field |
//! |---|---|---|
//! | 0 | 0..60 | `CLOCK_MONOTONIC` in nanoseconds (36 years) |
//! | 0 | 60..63 | kind: the number of its ring, see [`crate::ring`] |
//! | 0 | 63 | own: caused by the tracing process |
//! | 1 | 0..32 | pfn (16 TiB); [`NO_PFN`] for a failed allocation |
//! | 1 | 32..37 | order (a freed gigantic page has 18) |
//! | 1 | 37..64 | flags: gfp bits of the host, or a migratetype |

/// An allocation; flags are gfp bits.
pub const KIND_ALLOC: u32 = 0;
/// A free; flags are 0.
pub const KIND_FREE: u32 = 1;
/// An LRU insertion of a page not seen allocated; flags are 0.
pub const KIND_LRU: u32 = 2;
/// A block taken from a buddy list; flags are the list's migratetype as the host numbers it.
pub const KIND_ZONE_LOCKED: u32 = 3;
/// A block put back to the buddy lists; flags are the pageblock's migratetype.
pub const KIND_PCPU_DRAIN: u32 = 4;
/// Kinds that are always traced.
pub const BASE_KINDS: u32 = 3;
/// All kinds.
pub const ALL_KINDS: u32 = 5;

/// The pfn of an allocation that failed.
pub const NO_PFN: u32 = u32::MAX;
/// Flags that fit a record.
pub const FLAGS_MASK: u32 = (1 << 27) - 1;
/// Orders that fit a record.
pub const ORDER_MASK: u32 = 31;

const TIME_BITS: u32 = 60;
const OWN_BIT: u64 = 1 << 63;

const _: () = assert!(ALL_KINDS <= 8, "a kind must fit three bits");

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Word 0.
    pub when: u64,
    /// Word 1.
    pub what: u64,
}

impl Record {
    /// Packs the fields; each is cut to its bits.
    #[must_use]
    #[inline(always)]
    pub const fn new(kind: u32, time_ns: u64, own: bool, pfn: u32, order: u32, flags: u32) -> Self {
        let own = if own { OWN_BIT } else { 0 };
        let when = time_ns & ((1 << TIME_BITS) - 1) | ((kind & 7) as u64) << TIME_BITS | own;
        let what =
            pfn as u64 | ((order & ORDER_MASK) as u64) << 32 | ((flags & FLAGS_MASK) as u64) << 37;
        Record { when, what }
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    #[inline(always)]
    pub const fn time_ns(self) -> u64 {
        self.when & ((1 << TIME_BITS) - 1)
    }

    /// One of the `KIND_*` numbers, or an unused one.
    #[must_use]
    #[inline(always)]
    pub const fn kind(self) -> u32 {
        (self.when >> TIME_BITS) as u32 & 7
    }

    /// Whether the tracing process caused it.
    #[must_use]
    #[inline(always)]
    pub const fn is_own(self) -> bool {
        self.when & OWN_BIT != 0
    }

    /// First page of the block.
    #[must_use]
    #[inline(always)]
    pub const fn pfn(self) -> u32 {
        self.what as u32
    }

    /// log2 of the block's pages.
    #[must_use]
    #[inline(always)]
    pub const fn order(self) -> u32 {
        (self.what >> 32) as u32 & ORDER_MASK
    }

    /// gfp bits or a migratetype.
    #[must_use]
    #[inline(always)]
    pub const fn flags(self) -> u32 {
        (self.what >> 37) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_keeps_its_largest_value() {
        let time = (1 << 60) - 1;
        let r = Record::new(KIND_PCPU_DRAIN, time, true, u32::MAX - 1, 31, FLAGS_MASK);
        assert_eq!((r.kind(), r.time_ns(), r.is_own()), (KIND_PCPU_DRAIN, time, true));
        assert_eq!((r.pfn(), r.order(), r.flags()), (u32::MAX - 1, 31, FLAGS_MASK));
        let zero = Record::new(0, 0, false, 0, 0, 0);
        assert_eq!(zero, Record { when: 0, what: 0 });
    }
}
