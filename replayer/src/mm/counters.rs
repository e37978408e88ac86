//! Named cumulative counters of an allocator.
//!
//! They only ever grow, in every flavour without a lock, and nothing reads them to decide
//! anything.

use std::collections::BTreeMap;

use super::flavour::{Flavour, Word};

macro_rules! counters {
    ($($name:ident: $meaning:literal;)*) => {
        /// What happened, by name. Names of `/proc/vmstat` where it has the same counter.
        #[derive(Debug)]
        pub struct Counters<F: Flavour> {
            $(#[doc = $meaning] pub $name: F::U64,)*
        }

        impl<F: Flavour> Default for Counters<F> {
            fn default() -> Self {
                Counters { $($name: F::U64::default(),)* }
            }
        }

        impl<F: Flavour> Counters<F> {
            /// Names and meanings.
            pub const MEANINGS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), $meaning),)*];

            /// Adds all of them to `into`.
            pub fn collect(&self, into: &mut BTreeMap<String, u64>) {
                $(*into.entry(stringify!($name).to_owned()).or_default() += self.$name.get();)*
            }
        }
    };
}

counters! {
    allocs: "requests served";
    frees: "blocks freed";
    refused_no_memory: "requests refused for lack of memory";
    refused_policy: "requests that the policy refused";
    refused_order: "requests of an order larger than any block";
    slowpath: "requests that the fast path could not serve";
    nofragment_dropped: "requests for which NOFRAGMENT was given up";
    watermark_failures: "zones passed over because a watermark did not allow the request";
    zonelist_rebuilds: "rebuilds of the zonelists because a zone got its first memory or lost its last";
    zonelist_retries: "requests that began again because the zonelists had been rebuilt";
    zone_fallbacks: "requests served by another zone than the preferred one";
    pcp_hits: "allocations served by a per-CPU list without a refill";
    pcp_refills: "refills of a per-CPU list";
    pcp_refill_blocks: "blocks that refills took from a zone";
    pcp_drains: "drains of per-CPU lists to a zone";
    pcp_drain_blocks: "blocks that drains gave back";
    pcp_trylock_failures: "per-CPU lists found locked; the zone was used instead";
    pcp_busy_hit: "of these and of waits in a replay: held to take or put one block";
    pcp_busy_refill: "of these and of waits in a replay: held for a refill";
    pcp_busy_drain: "of these and of waits in a replay: held for a drain";
    pcp_lock_waits: "times a task waited for a per-CPU list's lock (protocol blocking)";
    pcp_lock_wait_ns: "virtual time so waited in a replay";
    pcp_local_frees: "blocks freed on the own CPU's lists";
    pcp_remote_locked: "blocks put on another owner's lists under its lock";
    pcp_remote_frees: "blocks pushed on the lock-free list of another owner";
    pcp_absorbed: "such blocks taken in by their owner";
    pcp_fallbacks_alloc: "allocations from the zone because the own per-CPU list was locked";
    pcp_fallbacks_own: "frees to the zone because the own per-CPU list was locked";
    pcp_fallbacks_remote: "frees to the zone because another owner's per-CPU list was locked";
    pcp_fallbacks_dead: "frees to the zone because the owning CPU was dead";
    pcp_merges: "pairs of buddies merged on per-CPU lists";
    pcp_whole_blocks: "whole pageblocks that per-CPU lists took and own";
    pcp_adopted: "partly free pageblocks that per-CPU lists came to own";
    pcp_recovered: "owned blocks fetched back from the zone by a refill";
    zone_locks: "acquisitions of a zone lock";
    zone_trylock_failures: "zone locks found held by a caller that may not wait";
    deferred_frees: "blocks parked because the zone lock was held";
    direct_allocs: "allocations straight from a zone";
    direct_frees: "frees straight to a zone";
    claims_whole: "free pageblocks claimed by another type";
    claims_partial: "pageblocks claimed with their free part by another type";
    claims_refused: "claims refused because too few pages of the block would follow";
    steals: "blocks taken from another type's list without claiming";
    cma_allocs: "blocks that movable requests took from CMA areas";
    watermark_boosts: "times a watermark was boosted";
    highatomic_reserved: "pageblocks reserved for high-order atomic requests";
    highatomic_unreserved: "such pageblocks given back";
    highatomic_allocs: "blocks taken from the high-order atomic reserve";
    kswapd_wakeups: "times background reclaim was asked for";
    reclaim_direct: "direct reclaim attempts";
    reclaimed_file: "file pages that the model dropped";
    reclaimed_movable: "movable pages of unknown kind that the model dropped";
    reclaimed_anon: "anonymous pages that the model swapped out";
    reclaimed_slab: "reclaimable kernel pages that the model dropped";
    migrate_failed: "blocks that could not be migrated for want of a target";
    compact_stall: "direct compactions tried";
    compact_success: "direct compactions after which the request was served";
    compact_fail: "direct compactions after which it was not";
    compact_deferred: "direct compactions put off after failures";
    compact_skipped: "direct compactions that had no chance";
    compact_daemon_wake: "background compactions";
    compact_migrate_scanned: "frames that migration scanners looked at";
    compact_free_scanned: "frames that free scanners looked at";
    pages_moved: "pages migrated to another frame";
    blocks_moved: "blocks migrated to another frame";
    contig_attempts: "contiguous ranges tried";
    contig_success: "contiguous ranges obtained";
    reported_blocks: "free blocks that page reporting handed over";
    oom: "requests for which the kernel would have killed a process";
    grown_pages: "pages given to the allocator after the start";
    shrunk_pages: "pages taken away";
}
