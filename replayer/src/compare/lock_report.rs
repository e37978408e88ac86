//! What a policy's locks cost in a replay.
//!
//! Operations of a replay meet only by the virtual times for which they hold per-CPU locks
//! ([`crate::mm::virtual_hold`]); zone locks are counted, not contended. Interrupts that nest in an
//! operation of their own CPU cannot be told from a trace, so none is counted here: that a nested
//! try-lock fails is searched by `fragscope-replay locks`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::mm::virtual_hold::Stranded;

/// Figures of one policy under one protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LockReport {
    /// How frees reach the owner of their pageblock; `None` where per-CPU lists own no pageblocks.
    pub free_path: Option<&'static str>,
    /// Acquisitions of zone locks.
    pub zone_locks: u64,
    /// The same for a thousand allocations and frees.
    pub zone_locks_per_1000_events: f64,
    /// Frees into pageblocks that another CPU owns, however they ended.
    pub remote_frees: u64,
    /// The same for a thousand allocations and frees.
    pub remote_frees_per_1000_events: f64,
    /// Allocations without a refill, for a thousand allocations and frees.
    pub pcp_hits_per_1000_events: f64,
    /// Allocations without a refill, for a thousand that looked for a block on a per-CPU list
    /// (those of the policy's own migrations among them).
    pub pcp_hits_per_1000_lookups: f64,
    /// Per-CPU locks found held by somebody who does not wait; all that follow until the waits
    /// are parts of it, by who failed and by what the holder did.
    pub trylock_failures: u64,
    /// The same for a million allocations and frees.
    pub trylock_failures_per_1000000_events: f64,
    /// Frees to the zone because another owner's lock was held.
    pub zone_fallbacks_remote_free: u64,
    /// Frees to the zone because the own lock was held.
    pub zone_fallbacks_own_free: u64,
    /// Allocations from the zone because the own lock was held.
    pub zone_fallbacks_alloc: u64,
    /// Failures and waits while the holder took or put one block.
    pub busy_hit: u64,
    /// While it refilled.
    pub busy_refill: u64,
    /// While it drained.
    pub busy_drain: u64,
    /// Frees to the zone because the owner's CPU was offline.
    pub zone_fallbacks_dead: u64,
    /// Waits for a held lock (protocol `blocking`).
    pub lock_waits: u64,
    /// Virtual time so waited.
    pub lock_wait_ns: u64,
    /// Pages on lock-free lists, which are in no count.
    #[serde(flatten)]
    pub stranded: Stranded,
}

impl LockReport {
    /// From the counters of a track that was given `events` allocations and frees.
    #[must_use]
    pub fn new(
        free_path: Option<&'static str>,
        stranded: Stranded,
        counters: &BTreeMap<String, u64>,
        events: u64,
    ) -> LockReport {
        let count = |name: &str| counters.get(name).copied().unwrap_or(0);
        let per = |scale: u64, part: u64, whole: u64| {
            if whole == 0 { 0.0 } else { (scale * part) as f64 / whole as f64 }
        };
        let zone_locks = count("zone_locks");
        let zone_fallbacks_remote_free = count("pcp_fallbacks_remote");
        let remote_frees =
            count("pcp_remote_frees") + count("pcp_remote_locked") + zone_fallbacks_remote_free;
        let hits = count("pcp_hits");
        let trylock_failures = count("pcp_trylock_failures");
        LockReport {
            free_path,
            zone_locks,
            zone_locks_per_1000_events: per(1000, zone_locks, events),
            remote_frees,
            remote_frees_per_1000_events: per(1000, remote_frees, events),
            pcp_hits_per_1000_events: per(1000, hits, events),
            pcp_hits_per_1000_lookups: per(1000, hits, hits + count("pcp_refills")),
            trylock_failures,
            trylock_failures_per_1000000_events: per(1_000_000, trylock_failures, events),
            zone_fallbacks_remote_free,
            zone_fallbacks_own_free: count("pcp_fallbacks_own"),
            zone_fallbacks_alloc: count("pcp_fallbacks_alloc"),
            busy_hit: count("pcp_busy_hit"),
            busy_refill: count("pcp_busy_refill"),
            busy_drain: count("pcp_busy_drain"),
            zone_fallbacks_dead: count("pcp_fallbacks_dead"),
            lock_waits: count("pcp_lock_waits"),
            lock_wait_ns: count("pcp_lock_wait_ns"),
            stranded,
        }
    }

    /// Its lines for people: names and values.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let whole = |name, count: u64| (name, crate::cli::output::grouped(count));
        vec![
            ("free path", self.free_path.unwrap_or("own lists only").to_owned()),
            ("zone locks per 1000 events", format!("{:.2}", self.zone_locks_per_1000_events)),
            ("remote frees per 1000 events", format!("{:.2}", self.remote_frees_per_1000_events)),
            ("PCP hits per 1000 events", format!("{:.2}", self.pcp_hits_per_1000_events)),
            ("PCP hits per 1000 lookups", format!("{:.2}", self.pcp_hits_per_1000_lookups)),
            whole("try-lock failures", self.trylock_failures),
            whole("  zone fallbacks, remote frees", self.zone_fallbacks_remote_free),
            whole("  zone fallbacks, own frees", self.zone_fallbacks_own_free),
            whole("  zone fallbacks, allocations", self.zone_fallbacks_alloc),
            whole("  met a hit, failed or waited", self.busy_hit),
            whole("  met a refill", self.busy_refill),
            whole("  met a drain", self.busy_drain),
            whole("lock waits", self.lock_waits),
            whole("lock waits, virtual ns", self.lock_wait_ns),
            whole("stranded remote pages", self.stranded.pages),
            whole("  at most", self.stranded.pages_max),
            whole("  longest wait, ns", self.stranded.age_max_ns),
        ]
    }
}
