//! The stock allocator under the common suite.

mod live;
mod loading;
mod reporting;
mod rules;
mod threads;

use super::flavour::{Smp, Up};
use super::testing::{allocator_suite, counters_of_suite};
use super::{page_alloc::Mm, pcp::StockPcp, stock::Stock};

allocator_suite! {
    stock: Mm<Up, Stock, StockPcp<Up>>;
    stock_of_threads: Mm<Smp, Stock, StockPcp<Smp>>;
}

/// What the suite must have made the stock allocator do at least once.
const PATHS: [&str; 42] = [
    "allocs",
    "frees",
    "refused_no_memory",
    "refused_order",
    "slowpath",
    "nofragment_dropped",
    "watermark_failures",
    "zone_fallbacks",
    "pcp_hits",
    "pcp_refills",
    "pcp_refill_blocks",
    "pcp_drains",
    "pcp_drain_blocks",
    "direct_allocs",
    "direct_frees",
    "claims_whole",
    "claims_partial",
    "claims_refused",
    "steals",
    "cma_allocs",
    "watermark_boosts",
    "highatomic_reserved",
    "highatomic_unreserved",
    "highatomic_allocs",
    "kswapd_wakeups",
    "reclaim_direct",
    "reclaimed_file",
    "reclaimed_movable",
    "reclaimed_anon",
    "compact_stall",
    "compact_success",
    "compact_fail",
    "compact_deferred",
    "compact_skipped",
    "compact_daemon_wake",
    "blocks_moved",
    "migrate_failed",
    "contig_attempts",
    "contig_success",
    "oom",
    "grown_pages",
    "shrunk_pages",
];

#[test]
fn the_suite_takes_every_path() {
    let counters = counters_of_suite::<Mm<Up, Stock, StockPcp<Up>>>(150);
    let missed: Vec<_> = PATHS.into_iter().filter(|name| counters[*name] == 0).collect();
    assert_eq!(missed, Vec::<&str>::new(), "of {counters:#?}");
}
