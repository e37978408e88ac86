//! What should hold of a faithful model, and whether it does.

use serde::Serialize;

use super::fallback_counts::{FACTOR_LIMIT, FallbackCounts};
use super::measure::Measures;
use super::probe::ProbeComparison;

/// Largest share of managed memory by which the count of free pages may be off.
pub const FREE_PAGES_LIMIT: f64 = 0.001;
/// The same for buddy lists and per-CPU lists apart.
pub const SPLIT_LIMIT: f64 = 0.02;
/// Largest order distance.
pub const ORDER_LIMIT: f64 = 0.10;
/// Changed pageblocks from which on their types are judged.
pub const TYPE_CHANGES_MIN: u64 = 20;
/// Largest share of the null model's error where they are.
pub const NULL_SHARE_LIMIT: f64 = 0.5;
/// Regions that a prediction of 1 GiB pages may have wrong in each direction.
pub const PROBE_LIMIT: f64 = 1.0;

/// One requirement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Criterion {
    /// Field of the report that is judged, or `type_error_share` and so on.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Its worst value over all snapshots.
    pub value: f64,
    /// Error bar: the value may be lower by this much, or higher, because the state of some pages
    /// is open.
    pub plus_minus: f64,
    /// It may not be larger.
    pub limit: f64,
    /// Whether the value keeps the limit.
    pub holds: bool,
    /// Whether the error bar could change that.
    pub open: bool,
}

impl Criterion {
    fn new(
        name: &'static str,
        meaning: &'static str,
        (value, plus_minus): (f64, f64),
        limit: f64,
    ) -> Criterion {
        let holds = value <= limit;
        let open = if holds { value + plus_minus > limit } else { value - plus_minus <= limit };
        Criterion { name, meaning, value, plus_minus, limit, holds, open }
    }
}

/// A ratio and its error bar.
type Bar = (f64, f64);

/// The worst of all snapshots.
fn worst(checkpoints: &[Measures], of: impl Fn(&Measures) -> Option<Bar>) -> Option<Bar> {
    checkpoints.iter().filter_map(of).max_by(|a, b| a.0.total_cmp(&b.0))
}

/// Judges a recording by its snapshots and, if there is one, a probe.
#[must_use]
pub fn criteria(
    checkpoints: &[Measures],
    last: &Measures,
    probe: Option<&ProbeComparison>,
) -> Vec<Criterion> {
    let judged = of_free_pages(checkpoints)
        .into_iter()
        .chain(of_types(last))
        .chain(of_fallbacks(&last.fallbacks))
        .chain(of_probe(probe));
    judged.flatten().collect()
}

/// A criterion, where there is something to judge.
fn judge(
    name: &'static str,
    meaning: &'static str,
    bar: Option<Bar>,
    limit: f64,
) -> Option<Criterion> {
    bar.map(|bar| Criterion::new(name, meaning, bar, limit))
}

/// Free pages, at the worst of all snapshots.
fn of_free_pages(checkpoints: &[Measures]) -> [Option<Criterion>; 3] {
    let of_managed = |m: &Measures| m.uncertain_pages as f64 / m.managed_pages.max(1) as f64;
    [
        judge(
            "free_pages_error_ratio",
            "free pages apart, of managed memory",
            worst(checkpoints, |m| Some((m.free_pages_error_ratio, of_managed(m)))),
            FREE_PAGES_LIMIT,
        ),
        judge(
            "buddy_free_error_ratio",
            "free pages on buddy lists apart, of managed memory",
            worst(checkpoints, |m| Some((m.buddy_free_error_ratio, of_managed(m)))),
            SPLIT_LIMIT,
        ),
        judge(
            "order_distance",
            "free pages in blocks of another order, of those in blocks",
            worst(checkpoints, |m| {
                let free = m.kernel_free_pages.saturating_sub(m.kernel_pcp_pages).max(1);
                m.order_distance.map(|distance| (distance, m.uncertain_pages as f64 / free as f64))
            }),
            ORDER_LIMIT,
        ),
    ]
}

/// Types of pageblocks at the end.
fn of_types(last: &Measures) -> [Option<Criterion>; 2] {
    [
        judge(
            "type_error_share",
            "pageblocks of another type than the kernel's, of those that the kernel changed",
            type_share(last, last.types.type_error, last.types.type_changes_kernel),
            NULL_SHARE_LIMIT,
        ),
        judge(
            "type_error_by_region_share",
            "the same by numbers in each region, of the null model's",
            type_share(last, last.types.type_error_by_region, last.types.null_type_error_by_region),
            NULL_SHARE_LIMIT,
        ),
    ]
}

/// Claims and steals.
fn of_fallbacks(fallbacks: &FallbackCounts) -> [Option<Criterion>; 4] {
    let exact = |factor: f64| (factor, 0.0);
    let missed = |judged: u64, missed: u64| (judged > 0).then_some((missed as f64, 0.0));
    [
        judge(
            "claims_factor",
            "how many times more claims the kernel or the model made than the other",
            fallbacks.claims_factor.map(exact),
            FACTOR_LIMIT,
        ),
        judge(
            "steals_factor",
            "the same for steals",
            fallbacks.steals_factor.map(exact),
            FACTOR_LIMIT,
        ),
        judge(
            "claims_missed_regions",
            "regions with enough claims to tell in which that factor is above 2",
            missed(fallbacks.claims_judged_regions, fallbacks.claims_missed_regions),
            0.0,
        ),
        judge(
            "steals_missed_regions",
            "the same for steals",
            missed(fallbacks.steals_judged_regions, fallbacks.steals_missed_regions),
            0.0,
        ),
    ]
}

/// Predictions against what the kernel gave.
fn of_probe(probe: Option<&ProbeComparison>) -> [Option<Criterion>; 2] {
    let count = |pfns: &Vec<_>| Some((pfns.len() as f64, 0.0));
    [
        judge(
            "wrongly_obtainable_1g",
            "regions predicted as 1 GiB pages that the kernel did not give",
            probe.and_then(|probe| count(&probe.wrongly_obtainable_pfns)),
            PROBE_LIMIT,
        ),
        judge(
            "wrongly_unobtainable_1g",
            "1 GiB pages that the kernel gave where none was predicted",
            probe.and_then(|probe| count(&probe.wrongly_unobtainable_pfns)),
            PROBE_LIMIT,
        ),
    ]
}

/// The share of the null model's error that is left, where enough pageblocks changed.
fn type_share(last: &Measures, error: u64, null: u64) -> Option<Bar> {
    let judged = last.types.type_changes_kernel >= TYPE_CHANGES_MIN && null > 0;
    judged.then(|| (error as f64 / null as f64, 0.0))
}
