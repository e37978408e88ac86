//! What the tracks' counters belong to and mean: data for the allocator view.

use fragscope_replay::mm::counters::Counters;
use fragscope_replay::mm::flavour::Up;

/// What a counter is about, in the order in which a reader wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Requests and how they ended.
    Requests,
    /// Which pass of the superpageblock allocator served them.
    Passes,
    /// Memory taken from another type or zone.
    Fallbacks,
    /// Refused, and what was given up instead.
    Refusals,
    /// Pages moved or dropped: the price.
    Price,
    /// Regions and pageblocks that turned tainted or clean.
    Taint,
    /// Per-CPU lists.
    PerCpu,
    /// Zone locks.
    Locks,
    /// Replay and trace bookkeeping.
    Replay,
}

impl Group {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Group::Requests => "requests",
            Group::Passes => "passes",
            Group::Fallbacks => "fallbacks",
            Group::Refusals => "refusals",
            Group::Price => "price",
            Group::Taint => "taint",
            Group::PerCpu => "per-CPU lists",
            Group::Locks => "zone lock",
            Group::Replay => "replay",
        }
    }
}

/// Beginnings of names and the group of what begins so; the first that fits holds.
const GROUPS: &[(&str, Group)] = &[
    ("spbs_visited", Group::Passes),
    ("pass_", Group::Passes),
    ("zone_fallback", Group::Passes),
    ("no_page", Group::Passes),
    ("spb_highorder_refused", Group::Refusals),
    ("spb_first_of_type", Group::Taint),
    ("spb_last_of_type", Group::Taint),
    ("spb_", Group::Price),
    ("targeted_", Group::Price),
    ("pages_moved", Group::Price),
    ("blocks_moved", Group::Price),
    ("pgmigrate", Group::Price),
    ("migrate_failed", Group::Price),
    ("reclaim", Group::Price),
    ("kswapd", Group::Price),
    ("compact", Group::Price),
    ("contig", Group::Price),
    ("reported_", Group::Price),
    ("claim_refused", Group::Refusals),
    ("claims_refused", Group::Refusals),
    ("refused", Group::Refusals),
    ("relax_", Group::Refusals),
    ("nofragment", Group::Refusals),
    ("watermark_failures", Group::Refusals),
    ("oom", Group::Refusals),
    ("fall_through", Group::Fallbacks),
    ("claims", Group::Fallbacks),
    ("steals", Group::Fallbacks),
    ("extfrag", Group::Fallbacks),
    ("highatomic", Group::Fallbacks),
    ("watermark_boosts", Group::Fallbacks),
    ("cma", Group::Fallbacks),
    ("has_bits", Group::Taint),
    ("taints_1g", Group::Taint),
    ("cleans_1g", Group::Taint),
    ("start_tainted_1g", Group::Taint),
    ("pcp_", Group::PerCpu),
    ("zone_locks", Group::Locks),
    ("zone_trylock", Group::Locks),
    ("deferred_frees", Group::Locks),
    ("allocs", Group::Requests),
    ("frees", Group::Requests),
    ("slowpath", Group::Requests),
    ("direct_", Group::Requests),
    ("zonelist_", Group::Requests),
];

/// The group of a counter. What no rule names is bookkeeping of the replay.
#[must_use]
pub fn group(name: &str) -> Group {
    let fits = |(prefix, _): &&(&str, Group)| name.starts_with(prefix);
    GROUPS.iter().find(fits).map_or(Group::Replay, |(_, group)| *group)
}

/// Meanings of counters that are not the allocators' common ones.
const MEANINGS: &[(&str, &str)] = &[
    ("pass_1", "own list of a region of the preferred kind"),
    ("pass_2", "a free movable pageblock of a tainted region, relabelled"),
    ("pass_2b", "a partly free pageblock of a tainted region, relabelled"),
    ("pass_2c", "borrowed from the other non-movable type, tainted region"),
    ("pass_2d", "borrowed from movable memory of a tainted region"),
    ("pass_3", "an empty region was opened for movable pages"),
    ("pass_4", "movable pages in a tainted region above its reserve"),
    ("zone_fallback", "memory that belongs to no superpageblock"),
    ("no_page", "walks of a zone that found nothing"),
    ("spbs_visited", "regions looked at by all walks"),
    ("fall_throughs", "no tainted region could serve a non-movable request"),
    ("fall_throughs_with_buddy", "the same though one of them had free blocks"),
    ("spb_highorder_refused", "high orders refused instead of tainting"),
    ("spb_evac_queued", "evacuations asked for"),
    ("spb_blocks_evacuated", "pageblocks emptied to keep regions clean"),
    ("spb_pages_evacuated", "pages moved for that"),
    ("spb_defrag_passes", "defragmentation passes over tainted regions"),
    ("spb_defrag_fruitless", "passes that freed no pageblock"),
    ("spb_slab_shrink_queued", "slab shrinking asked for"),
    ("spb_slab_shrink_ran", "slab shrinking done"),
    ("targeted_evacuations", "evacuations for one request's order"),
    ("targeted_evacuations_done", "those that served it"),
    ("has_bits_set", "pageblocks that got a first page of a type"),
    ("has_bits_cleared", "pageblocks that lost their last page of a type"),
    ("extfrag_claims", "the kernel's own claims (mm_page_alloc_extfrag)"),
    ("extfrag_steals", "the kernel's own steals (mm_page_alloc_extfrag)"),
    ("pgmigrate_success", "pages that the kernel migrated"),
    ("pgmigrate_fail", "pages that the kernel could not migrate"),
    ("start_tainted_1g", "regions tainted at the start"),
    ("taints_1g", "times a region turned tainted"),
    ("cleans_1g", "times a region turned clean"),
    ("replay_refused", "requests refused that the kernel served"),
    ("replay_dropped_pages", "pages asked for and never placed"),
    ("replay_piece_pages", "pages placed singly, for a block that was refused"),
    ("replay_reclaimed_free_pages", "frees of pages that the model had reclaimed"),
];

/// What a counter counts, where that is known.
#[must_use]
pub fn meaning(name: &str) -> Option<&'static str> {
    let all = MEANINGS.iter().chain(Counters::<Up>::MEANINGS);
    all.into_iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_counter_has_its_group() {
        for (name, _) in Counters::<Up>::MEANINGS {
            let known = group(name) != Group::Replay || name.ends_with("_pages");
            assert!(known, "{name} is about nothing");
        }
        assert_eq!(group("claims_refused"), Group::Refusals);
        assert_eq!(group("claims_whole"), Group::Fallbacks);
        assert_eq!(group("zone_fallbacks"), Group::Passes);
    }

    #[test]
    fn a_later_rule_is_not_hidden_by_an_earlier_one() {
        for (i, (prefix, _)) in GROUPS.iter().enumerate() {
            let hidden = GROUPS[..i].iter().any(|(earlier, _)| prefix.starts_with(earlier));
            assert!(!hidden, "{prefix} can never be reached");
        }
    }
}
