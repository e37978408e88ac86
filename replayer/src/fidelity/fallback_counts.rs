//! Claims and steals of the kernel (extfrag events) and of the stock track since the start, on the
//! machine and region by region.

use std::collections::BTreeMap;

use fragscope_trace::page::Pfn;
use serde::Serialize;

use crate::mm::fallbacks::Fallbacks;

/// Events of the kernel or the model from which on their ratio is judged: fewer are chance.
pub const JUDGED_MIN: u64 = 20;
/// Largest ratio of the two.
pub const FACTOR_LIMIT: f64 = 2.0;

/// Fallbacks of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FallbackCounts {
    /// Fallbacks of the kernel in which a block was claimed.
    pub kernel_claims: u64,
    /// The same in the stock track.
    pub stock_claims: u64,
    /// Fallbacks of the kernel without claiming.
    pub kernel_steals: u64,
    /// The same in the stock track.
    pub stock_steals: u64,
    /// The larger number of claims over the smaller (but 1 at least); `None` where both are below
    /// [`JUDGED_MIN`].
    pub claims_factor: Option<f64>,
    /// The same for steals.
    pub steals_factor: Option<f64>,
    /// Regions in which the kernel or the model claimed [`JUDGED_MIN`] times or more.
    pub claims_judged_regions: u64,
    /// Those of them whose factor is above [`FACTOR_LIMIT`].
    pub claims_missed_regions: u64,
    /// Regions in which the kernel or the model stole [`JUDGED_MIN`] times or more.
    pub steals_judged_regions: u64,
    /// Those of them whose factor is above [`FACTOR_LIMIT`].
    pub steals_missed_regions: u64,
    /// Every region with a fallback in either.
    pub fallbacks_by_region: Vec<RegionFallbacks>,
}

/// Fallbacks of both in one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RegionFallbacks {
    /// First frame of the region.
    pub start_pfn: Pfn,
    /// Claims of the kernel.
    pub kernel_claims: u64,
    /// Claims of the stock track.
    pub stock_claims: u64,
    /// Steals of the kernel.
    pub kernel_steals: u64,
    /// Steals of the stock track.
    pub stock_steals: u64,
}

/// Fallbacks by the first frame of each region.
type ByRegion = [(Pfn, Fallbacks)];

impl FallbackCounts {
    /// Compares both, region by region.
    #[must_use]
    pub fn new(kernel: &ByRegion, stock: &ByRegion) -> FallbackCounts {
        let mut regions: BTreeMap<Pfn, (Fallbacks, Fallbacks)> = BTreeMap::new();
        kernel.iter().for_each(|(start, of)| regions.entry(*start).or_default().0 = *of);
        stock.iter().for_each(|(start, of)| regions.entry(*start).or_default().1 = *of);
        let row = |(start_pfn, (kernel, stock)): (Pfn, (Fallbacks, Fallbacks))| RegionFallbacks {
            start_pfn,
            kernel_claims: kernel.claims,
            stock_claims: stock.claims,
            kernel_steals: kernel.steals,
            stock_steals: stock.steals,
        };
        let any = |row: &RegionFallbacks| {
            row.kernel_claims + row.stock_claims + row.kernel_steals + row.stock_steals > 0
        };
        FallbackCounts::of_regions(regions.into_iter().map(row).filter(any).collect())
    }

    fn of_regions(rows: Vec<RegionFallbacks>) -> FallbackCounts {
        let sum = |of: fn(&RegionFallbacks) -> u64| rows.iter().map(of).sum::<u64>();
        let (kernel_claims, stock_claims) = (sum(|r| r.kernel_claims), sum(|r| r.stock_claims));
        let (kernel_steals, stock_steals) = (sum(|r| r.kernel_steals), sum(|r| r.stock_steals));
        let claims = judged(rows.iter().map(|r| (r.kernel_claims, r.stock_claims)));
        let steals = judged(rows.iter().map(|r| (r.kernel_steals, r.stock_steals)));
        FallbackCounts {
            kernel_claims,
            stock_claims,
            kernel_steals,
            stock_steals,
            claims_factor: factor(kernel_claims, stock_claims),
            steals_factor: factor(kernel_steals, stock_steals),
            claims_judged_regions: claims.0,
            claims_missed_regions: claims.1,
            steals_judged_regions: steals.0,
            steals_missed_regions: steals.1,
            fallbacks_by_region: rows,
        }
    }
}

/// How many times more the one is than the other, where there is enough to tell.
fn factor(kernel: u64, stock: u64) -> Option<f64> {
    let (less, more) = (kernel.min(stock), kernel.max(stock));
    (more >= JUDGED_MIN).then(|| more as f64 / less.max(1) as f64)
}

/// How many pairs are judged, and how many of them are too far apart.
fn judged(pairs: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    let factors: Vec<f64> = pairs.filter_map(|(kernel, stock)| factor(kernel, stock)).collect();
    let missed = factors.iter().filter(|factor| **factor > FACTOR_LIMIT).count();
    (factors.len() as u64, missed as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(rows: &[(u64, u64, u64)]) -> Vec<(Pfn, Fallbacks)> {
        rows.iter()
            .map(|&(start, claims, steals)| (Pfn(start), Fallbacks { claims, steals }))
            .collect()
    }

    /// Region 0: 40 claims against 20 are twice as many, which is allowed; 100 steals against 49
    /// are not. Region 9: 19 claims against none are too few to tell. Region 18: 20 against none
    /// are, and count as 20 times 1. On the machine 59 and 40 claims, 100 and 49 steals.
    #[test]
    fn regions_are_judged_apart() {
        let kernel = of(&[(0, 40, 100), (9, 19, 0), (18, 0, 0), (27, 0, 0)]);
        let stock = of(&[(0, 20, 49), (9, 0, 0), (18, 20, 0), (27, 0, 0)]);
        let counts = FallbackCounts::new(&kernel, &stock);
        assert_eq!((counts.kernel_claims, counts.stock_claims), (59, 40));
        assert_eq!((counts.claims_judged_regions, counts.claims_missed_regions), (2, 1));
        assert_eq!((counts.steals_judged_regions, counts.steals_missed_regions), (1, 1));
        assert_eq!(counts.claims_factor, Some(59.0 / 40.0));
        assert_eq!(counts.steals_factor, Some(100.0 / 49.0));
        let named: Vec<u64> = counts.fallbacks_by_region.iter().map(|r| r.start_pfn.0).collect();
        assert_eq!(named, [0, 9, 18], "regions without any are left out");
    }

    proptest! {
        /// A model that is the kernel misses nothing, and it does not matter which is which.
        #[test]
        fn the_comparison_is_even(rows in prop::collection::vec((0u64..99, 0u64..99), 1..9),
                                  other in prop::collection::vec((0u64..99, 0u64..99), 1..9)) {
            let named = |rows: &[(u64, u64)]| {
                of(&(0..).zip(rows).map(|(i, (c, s))| (i, *c, *s)).collect::<Vec<_>>())
            };
            let (a, b) = (named(&rows), named(&other));
            let same = FallbackCounts::new(&a, &a);
            prop_assert_eq!((same.claims_missed_regions, same.steals_missed_regions), (0, 0));
            let (there, back) = (FallbackCounts::new(&a, &b), FallbackCounts::new(&b, &a));
            prop_assert_eq!(there.claims_factor, back.claims_factor);
            prop_assert_eq!(there.steals_missed_regions, back.steals_missed_regions);
            prop_assert!(there.claims_missed_regions <= there.claims_judged_regions);
        }
    }
}
