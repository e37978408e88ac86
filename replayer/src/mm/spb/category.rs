//! Category and fullness of a superpageblock (patch 10), and the reserve of tainted ones
//! (patch 23).

use crate::mm::settings::Settings;

use super::lists::ListName;

/// Whether anything in a superpageblock stands in the way of a 1 GiB page, as far as the has-bits
/// of its pageblocks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Category {
    /// Free and movable pageblocks only.
    Clean = 0,
    /// Some pageblock has (or had, and was not wholly free since) unmovable or reclaimable pages.
    Tainted = 1,
}

impl Category {
    /// Both, in the order of the series' debugfs file.
    pub const ALL: [Category; 2] = [Category::Clean, Category::Tainted];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Category {
        match self {
            Category::Clean => Category::Tainted,
            Category::Tainted => Category::Clean,
        }
    }

    /// Name in the series' debugfs file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Category::Clean => "clean",
            Category::Tainted => "tainted",
        }
    }
}

/// How full a superpageblock is, fullest first. Bucket bounds are quarters of a *whole*
/// superpageblock whatever its real size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fullness {
    /// No pageblock left (or no pageblocks at all).
    Full = 0,
    /// Three quarters used.
    Full75 = 1,
    /// Half used.
    Full50 = 2,
    /// A quarter used.
    Full25 = 3,
    /// Less.
    AlmostEmpty = 4,
}

impl Fullness {
    /// All, fullest first.
    pub const ALL: [Fullness; 5] = [
        Fullness::Full,
        Fullness::Full75,
        Fullness::Full50,
        Fullness::Full25,
        Fullness::AlmostEmpty,
    ];

    /// Name in the series' debugfs file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fullness::Full => "full",
            Fullness::Full75 => "75pct",
            Fullness::Full50 => "50pct",
            Fullness::Full25 => "25pct",
            Fullness::AlmostEmpty => "almost_empty",
        }
    }

    /// The bucket of a superpageblock with `used` of `total` pageblocks used, where a whole one
    /// has `whole`.
    #[must_use]
    pub const fn of(used: u32, total: u32, whole: u32) -> Fullness {
        let quarter = whole / 4;
        if total == 0 || used >= total {
            Fullness::Full
        } else if used >= 3 * quarter {
            Fullness::Full75
        } else if used >= 2 * quarter {
            Fullness::Full50
        } else if used >= quarter {
            Fullness::Full25
        } else {
            Fullness::AlmostEmpty
        }
    }
}

/// The counters that decide where a superpageblock is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wholly free pageblocks (`PB_all_free`).
    pub free: u32,
    /// Pageblocks with `PB_has_unmovable`.
    pub unmovable: u32,
    /// Pageblocks with `PB_has_reclaimable`.
    pub reclaimable: u32,
    /// Pageblocks with `PB_has_movable`.
    pub movable: u32,
    /// Slots that were never initialised: holes, firmware.
    pub reserved: u32,
    /// Pageblocks inside the zone (`total_pageblocks`).
    pub total: u32,
    /// Whether one contiguous allocation holds all of it.
    pub contig_allocated: bool,
}

impl Counts {
    /// Tainted iff a pageblock has unmovable or reclaimable pages. Whether uninitialised slots
    /// taint as well is not known: setting `taint_by_reserved`.
    #[must_use]
    pub fn category(&self, settings: &Settings) -> Category {
        let reserved = settings.taint_by_reserved && self.reserved > 0;
        if self.unmovable > 0 || self.reclaimable > 0 || reserved {
            Category::Tainted
        } else {
            Category::Clean
        }
    }

    /// Bucket. In tainted ones movable blocks do not count as used, and a block with both other
    /// has-bits counts twice.
    #[must_use]
    pub fn fullness(&self, settings: &Settings, whole: u32) -> Fullness {
        if !settings.p10 {
            return Fullness::AlmostEmpty;
        }
        let used = match self.category(settings) {
            Category::Tainted => self.unmovable + self.reclaimable,
            Category::Clean => self.total.saturating_sub(self.free),
        };
        Fullness::of(used, self.total, whole)
    }

    /// `spb_tainted_reserve`: free pageblocks to keep in a tainted superpageblock of this size.
    #[must_use]
    pub fn reserve(&self, settings: &Settings) -> u32 {
        if !settings.p23 {
            return settings.reserve_min as u32;
        }
        settings.reserve_min.max(u64::from(self.total) / settings.reserve_divisor.max(1)) as u32
    }

    /// The zone list it belongs on: the tests in the order of `spb_update_list`.
    #[must_use]
    pub fn list(&self, settings: &Settings, whole: u32) -> ListName {
        if self.contig_allocated {
            ListName::Isolated
        } else if self.free == self.total {
            ListName::Empty
        } else {
            ListName::Of(self.category(settings), self.fullness(settings, whole))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(free: u32, unmovable: u32, total: u32) -> Counts {
        let movable = total - free - unmovable;
        Counts { free, unmovable, movable, total, ..Counts::default() }
    }

    #[test]
    fn p10_buckets_change_at_quarters_of_a_whole() {
        let of = |used| Fullness::of(used, 512, 512);
        assert_eq!([of(0), of(127)], [Fullness::AlmostEmpty; 2]);
        assert_eq!([of(128), of(255)], [Fullness::Full25; 2]);
        assert_eq!([of(256), of(383)], [Fullness::Full50; 2]);
        assert_eq!([of(384), of(511)], [Fullness::Full75; 2]);
        assert_eq!([of(512), of(900)], [Fullness::Full; 2]);
        // A clipped one looks emptier until its last block is used.
        assert_eq!(Fullness::of(99, 100, 512), Fullness::AlmostEmpty);
        assert_eq!(Fullness::of(100, 100, 512), Fullness::Full);
        assert_eq!(Fullness::of(0, 0, 512), Fullness::Full);
    }

    #[test]
    fn p10_disabled_knows_one_bucket() {
        let off = Settings { p10: false, ..Settings::default() };
        assert_eq!(counts(0, 512, 512).fullness(&off, 512), Fullness::AlmostEmpty);
    }

    #[test]
    fn p23_reserve_is_a_share_with_a_floor() {
        let on = Settings::default();
        let off = Settings { p23: false, ..Settings::default() };
        let reserve = |s: &Settings, total| counts(0, 0, total).reserve(s);
        assert_eq!([512, 128, 64].map(|t| reserve(&on, t)), [16, 4, 4]);
        assert_eq!([512, 128, 64].map(|t| reserve(&off, t)), [4, 4, 4]);
    }

    #[test]
    fn listing_tests_isolation_then_emptiness_then_category() {
        let s = Settings::default();
        let list = |c: Counts| c.list(&s, 512);
        assert_eq!(list(counts(512, 0, 512)), ListName::Empty);
        let isolated = Counts { contig_allocated: true, ..counts(512, 0, 512) };
        assert_eq!(list(isolated), ListName::Isolated);
        let clean = ListName::Of(Category::Clean, Fullness::AlmostEmpty);
        assert_eq!(list(counts(400, 0, 512)), clean);
        let tainted = ListName::Of(Category::Tainted, Fullness::AlmostEmpty);
        assert_eq!(list(counts(0, 1, 512)), tainted);
    }

    #[test]
    fn uninitialised_slots_taint_only_by_setting() {
        let reserved = Counts { reserved: 1, ..counts(0, 0, 512) };
        let with = Settings { taint_by_reserved: true, ..Settings::default() };
        assert_eq!(reserved.category(&Settings::default()), Category::Clean);
        assert_eq!(reserved.category(&with), Category::Tainted);
    }
}
