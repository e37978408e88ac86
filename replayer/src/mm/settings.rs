//! Every named setting of the allocators: its meaning, default and where the default comes from.
//!
//! The table below is the only place where a setting is declared. It makes the typed struct that
//! the allocators read, the list that people read, and the names that can be set by text.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use super::free_path::Protocol;
use super::sequence::SequenceKind;

/// How sure the default of a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Seen in the source that is named.
    Read,
    /// Deduced; a hypothesis to vary.
    Infer,
    /// A choice of this model; no kernel has it.
    Model,
}

/// One setting as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingInfo {
    /// Its name.
    pub name: &'static str,
    /// What it decides, with units.
    pub meaning: &'static str,
    /// Present value, as text that [`Settings::set`] takes.
    pub value: String,
    /// Default value.
    pub default: String,
    /// Values it takes.
    pub values: &'static str,
    /// Where the default comes from.
    pub source: &'static str,
    /// How sure that is.
    pub certainty: Certainty,
}

/// A setting could not be set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// No such name.
    #[error("no setting is named {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// Not a value of its type.
    #[error("setting {name}: expected {expected}, found {found:?}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        found: String,
    },
}

/// A type that a setting can have.
trait Value: Sized {
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn print(&self) -> String;
}

impl Value for u64 {
    const EXPECTED: &'static str = "a whole number of 0 or more";
    fn parse(text: &str) -> Option<u64> {
        text.parse().ok()
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "on or off (also true, false, 1, 0)";
    fn parse(text: &str) -> Option<bool> {
        match text {
            "on" | "true" | "1" => Some(true),
            "off" | "false" | "0" => Some(false),
            _ => None,
        }
    }
    fn print(&self) -> String {
        if *self { "on" } else { "off" }.to_owned()
    }
}

/// `None` is what the traced host has, or the kernel's default where the trace does not say.
impl Value for Option<u64> {
    const EXPECTED: &'static str = "host, or a whole number of 0 or more";
    fn parse(text: &str) -> Option<Option<u64>> {
        if text == "host" { Some(None) } else { u64::parse(text).map(Some) }
    }
    fn print(&self) -> String {
        self.map_or_else(|| "host".to_owned(), |value| value.to_string())
    }
}

macro_rules! settings {
    ($($name:ident: $type:ty = $default:expr, $certainty:ident, $source:literal, $meaning:literal;)*) => {
        /// What the allocators are told; see [`Settings::list`] for meanings and sources.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $meaning] pub $name: $type,)*
        }

        impl Default for Settings {
            fn default() -> Settings {
                Settings { $($name: $default,)* }
            }
        }

        impl Settings {
            /// All names, in the order of the table.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Sets one by name.
            ///
            /// # Errors
            /// If there is no such setting, or the text is not a value of its type.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
                match name {
                    $(stringify!($name) => self.$name = parse(stringify!($name), value)?,)*
                    _ => return Err(SettingError::Unknown {
                        name: name.to_owned(),
                        known: Settings::NAMES.join(", "),
                    }),
                }
                Ok(())
            }

            /// All settings with their present values.
            #[must_use]
            pub fn list(&self) -> Vec<SettingInfo> {
                let default = Settings::default();
                vec![$(SettingInfo {
                    name: stringify!($name),
                    meaning: $meaning,
                    value: self.$name.print(),
                    default: default.$name.print(),
                    values: <$type as Value>::EXPECTED,
                    source: $source,
                    certainty: Certainty::$certainty,
                },)*]
            }
        }
    };
}

fn parse<T: Value>(name: &'static str, text: &str) -> Result<T, SettingError> {
    T::parse(text).ok_or_else(|| SettingError::Value {
        name,
        expected: T::EXPECTED,
        found: text.to_owned(),
    })
}

settings! {
    // Sysctls of the traced host.
    min_free_kbytes: Option<u64> = None, Read, "mm/page_alloc.c: min_free_kbytes",
        "vm.min_free_kbytes in KiB; by the kernel's formula where the trace does not say";
    watermark_scale_factor: Option<u64> = None, Read,
        "mm/page_alloc.c: watermark_scale_factor (10)",
        "distance between watermarks in 1/10000 of a zone";
    watermark_boost_factor: Option<u64> = None, Read,
        "mm/page_alloc.c: watermark_boost_factor (15000)",
        "largest watermark boost in 1/10000 of the high watermark; 0 switches boosts off";
    percpu_pagelist_high_fraction: Option<u64> = None, Read,
        "mm/page_alloc.c: percpu_pagelist_high_fraction (0)",
        "fixes pcp->high at managed/fraction/cpus; 0 lets it tune itself";
    defrag_mode: Option<u64> = None, Read, "mm/page_alloc.c: defrag_mode (0)",
        "vm.defrag_mode: 1 keeps NOFRAGMENT until reclaim and compaction have failed";
    compaction_proactiveness: Option<u64> = None, Read,
        "mm/compaction.c: sysctl_compaction_proactiveness (20)",
        "vm.compaction_proactiveness, 0 to 100; 0 switches proactive compaction off";
    extfrag_threshold: Option<u64> = None, Read, "mm/compaction.c: sysctl_extfrag_threshold (500)",
        "fragmentation index in 1/1000 below which a failure is lack of memory";
    nofragment_needs_dma32: bool = true, Read, "mm/page_alloc.c: alloc_flags_nofragment",
        "on machines of several nodes, requests begin with NOFRAGMENT on nodes with a DMA32 zone only";
    // What a model may vary.
    host_watermarks: bool = true, Model, "/proc/zoneinfo of the traced host",
        "take watermarks and lowmem reserves from the trace where it has them";
    region_order: u64 = 18, Read, "1 GiB of 4 KiB pages",
        "log2 of the pages in a region (superpageblock); smaller only for tests and checkers";
    pcp: bool = true, Model, "every kernel has per-CPU lists",
        "cache free pages on per-CPU lists; off sends every free straight to its zone";
    grouping: bool = true, Read, "mm/page_alloc.c: page_group_by_mobility_disabled",
        "group pages by mobility (the kernel switches it off where pageblocks are too few)";
    pcp_batch_scale_max: u64 = 5, Read, "CONFIG_PCP_BATCH_SCALE_MAX",
        "largest doubling of a per-CPU refill, and scale of a per-CPU drain";
    pcp_decay_interval_ms: u64 = 1000, Read, "mm/vmstat.c: sysctl_stat_interval",
        "virtual time between decays of per-CPU lists; 0 switches them off";
    highatomic_reserve: bool = true, Read, "mm/page_alloc.c: reserve_highatomic_pageblock",
        "reserve pageblocks for high-order atomic requests";
    // Stock: compaction.
    compaction: bool = true, Read, "mm/compaction.c",
        "compact directly when a high-order request fails";
    kcompactd_interval_ms: u64 = 500, Read, "mm/compaction.c: kcompactd",
        "virtual time between checks of the proactive compactor; 0 switches it off";
    // Free page reporting: both policies.
    page_reporting_ms: u64 = 0, Model, "on only in a guest whose host asks; there 2000",
        "virtual time between rounds of free page reporting; 0 switches it off";
    page_reporting_order: Option<u64> = None, Read, "mm/page_reporting.c: page_reporting_order",
        "log2 of the pages of the smallest blocks that are reported, if there is such an order; else a \
         pageblock";
    reporting_budget_per_list: bool = true, Infer, "the diff of patch 29 was not readable",
        "a round of reporting has a budget for each list (off: for each order and type of a zone)";
    // The model's own reclaim: the kernel's reclaim is in the trace already.
    direct_reclaim: bool = true, Model, "reclaim beyond what the trace shows",
        "drop file pages when a request that may reclaim would fail otherwise";
    kswapd_reclaim: bool = false, Model, "the kernel's own background reclaim is in the trace",
        "reclaim in the background up to the high watermark once the low one is passed";
    reclaim_movable: bool = true, Model, "most pages seen allocated are not known to be file or anon",
        "reclaim may also take movable pages of unknown kind, after file pages";
    swap: bool = false, Model, "swap is off on most hosts with 1 GiB pages",
        "reclaim may also take anonymous pages, last";
    // Superpageblocks: one switch for each patch of the series that has behaviour.
    p02: bool = true, Read, "patch 02",
        "per-CPU lists own pageblocks and merge in them (off: stock per-CPU lists)";
    p03: bool = true, Read, "patch 03",
        "a page of a block that another CPU owns goes to that CPU's lock-free list (off: that CPU's lists are try-locked)";
    p05: bool = true, Read, "patch 05",
        "watermarks are never boosted";
    p07: bool = true, Read, "patch 07",
        "has-bits record what was taken from a pageblock (off: its type at that time)";
    p09: bool = true, Read, "patch 09",
        "superpageblocks grow with the zone (off: memory that arrives later is on the zone's own lists)";
    p10: bool = true, Read, "patch 10",
        "superpageblocks are walked fullest first (off: one bucket)";
    p11: bool = true, Read, "patch 11",
        "claims look in the preferred category first (off: for the largest block, wherever it is)";
    p12: bool = true, Read, "patch 12",
        "movable refills take whole pageblocks from the fullest clean superpageblock, and bulk allocation follows the NOFRAGMENT rule";
    p15: bool = true, Read, "patch 15",
        "a worker moves movable pages out of tainted superpageblocks that are below their reserve";
    p16: bool = true, Read, "patch 16",
        "compaction finds its targets on the superpageblocks' lists (off: from the end of the zone)";
    p17: bool = true, Read, "patch 17",
        "contiguous allocation picks candidates from the metadata (off: page frames in order)";
    p18: bool = true, Read, "patch 18",
        "requests that cannot reclaim relax NOFRAGMENT in steps, NORETRY not at all (off: it is dropped at once)";
    p19: bool = true, Read, "patch 19",
        "claims in tainted superpageblocks go down to the requested order on large zones";
    p20: bool = true, Read, "patch 20",
        "requests that can reclaim keep NOFRAGMENT until reclaim and compaction have failed";
    p21: bool = true, Read, "patch 21",
        "refills adopt partly free pageblocks of tainted superpageblocks";
    p23: bool = true, Read, "patch 23",
        "targeted evacuation, reserve in proportion to size, and no half rule in pass 2b";
    p24: bool = true, Read, "patch 24",
        "unmovable and reclaimable pages do not take each other's pageblocks unless wholly free";
    p25: bool = true, Read, "patch 25",
        "queue an evacuation when a request is about to taint";
    p26: bool = true, Read, "patch 26",
        "refuse to taint for a request with a cheap fallback while tainted superpageblocks have free pages";
    p27: bool = true, Read, "patch 27",
        "borrow single blocks across types inside tainted superpageblocks (passes 2c and 2d)";
    p28: bool = true, Read, "patch 28",
        "shrink slab, and try to defragment, when a tainted superpageblock runs low";
    p29: bool = true, Read, "patch 29",
        "free page reporting walks the lists of superpageblocks (off: the zone's own only)";
    p30: bool = true, Read, "patch 30",
        "show_mem reads its letters off the lists of superpageblocks (off: off the zone's own)";
    p31: bool = true, Read, "patch 31",
        "remember the superpageblock that served last, per CPU and per zone";
    p33: bool = true, Read, "patch 33",
        "hibernation finds free pages on the lists of superpageblocks (off: on the zone's own)";
    p35: bool = true, Read, "patch 35",
        "refuse an optional high order when tainted superpageblocks could serve a lower one";
    p36: bool = true, Read, "patch 36",
        "no-lock allocations do not fragment";
    p38: bool = true, Read, "patch 38",
        "compaction does not scan tainted superpageblocks without movable pageblocks";
    p39: bool = true, Read, "patch 39",
        "migration does not fill tainted superpageblocks below their reserve";
    zonelist_update: SequenceKind = SequenceKind::Seqlock, Read,
        "mm/page_alloc.c: zonelist_update_seq (counter: proposed in August 2023 and refused)",
        "how requests notice that zonelists are rebuilt: all wait and try again (seqlock), or nobody waits and those that may reclaim try again (counter)";
    // Per-CPU lists that own pageblocks: their locks.
    free_path: Protocol = Protocol::LocalTrylockRemoteLlist, Read,
        "v1 patches 02 (blocking) and 03 (trylock-zone), v2 patch 03 (local-trylock-remote-llist)",
        "how a free reaches the lists of the CPU that owns its pageblock; p03=off makes the default trylock-zone";
    hold_hit_ns: u64 = 50, Infer,
        "about half of the 94 ns that Linux takes for one order-0 operation on one core (LLFree, ATC 2023)",
        "virtual ns for which taking or putting a block holds a per-CPU lock; 0: no lock is ever found held by it";
    hold_refill_ns: u64 = 50, Infer, "as hold_hit_ns, for each block",
        "virtual ns more for each block that a refill takes from the zone";
    hold_drain_ns: u64 = 50, Infer, "as hold_hit_ns, for each block",
        "virtual ns more for each block that a drain gives back to the zone";
    // Superpageblocks: figures and readings.
    stock_pcp_buddy: bool = false, Model, "ablation: patches 02 and 03 without the others",
        "the stock policy's per-CPU lists own pageblocks as well";
    spb_index: IndexKind = IndexKind::Hint, Read, "final v2 page_alloc.c; bitmap: review of 29 June 2026",
        "how the superpageblock that serves a request is found";
    spb_rotation: bool = true, Read, "final v2 page_alloc.c: spb_update_list",
        "a touched superpageblock moves to the tail of its list (off: lists are in address order)";
    taint_by_reserved: bool = false, Infer, "the category predicate was not readable",
        "pageblock slots that were never initialised taint a superpageblock";
    reserve_divisor: u64 = 32, Infer, "patch 23: 16 of 512, about 3 %",
        "free pageblocks kept in a tainted superpageblock: its size over this";
    reserve_min: u64 = 4, Read, "SPB_TAINTED_RESERVE_MIN",
        "least free pageblocks kept in a tainted superpageblock";
    aggressive_threshold: u64 = 8, Read, "SPB_AGGRESSIVE_THRESHOLD",
        "zones with more superpageblocks than this pack non-movable pages";
    adoption_floor_pages: u64 = 128, Read, "final v2 page_alloc.c: rmqueue_bulk phase 2",
        "free pages that a superpageblock must have for a refill to adopt from it";
    evacuate_max_spbs: u64 = 16, Read, "SPB_EVACUATE_MAX_CANDIDATES",
        "superpageblocks that one targeted evacuation looks at";
    evacuate_max_blocks: u64 = 8, Read, "SPB_EVACUATE_MAX_PB_PER_SB",
        "pageblocks that one targeted evacuation empties in each";
    evacuate_by_request: bool = false, Read, "final v2 page_alloc.c: order and type do not choose",
        "targeted evacuation empties pageblocks of the request's type first, then movable ones only";
    evac_requests: u64 = 64, Read, "NR_SPB_EVAC_REQUESTS",
        "deferred evacuations that can wait at once; further ones are dropped";
    evac_throttle_ms: u64 = 10, Read, "final v2 page_alloc.c: queue_spb_evacuate",
        "least virtual time between deferred evacuations of one zone and type";
    defrag_cooldown_ms: u64 = 5000, Read, "SPB_DEFRAG_NOOP_COOLDOWN_SECS",
        "rest of a superpageblock after a defragmentation that freed no pageblock";
    defrag_rearm_pages: u64 = 512, Read, "final v2 page_alloc.c: spb_needs_defrag",
        "new free pages that end the rest early";
    shrink_target_objects: u64 = 2048, Read, "SPB_SLAB_SHRINK_TARGET_OBJS",
        "objects that one slab shrink frees at most";
    shrink_yields: bool = false, Model, "bracket: nothing, or all of the target",
        "slab shrinks free reclaimable pages, up to the target";
    slab_objects_per_page: u64 = 16, Infer, "objects of 256 bytes",
        "freed slab objects that free one page";
    evacuate_frees_to_zone: bool = true, Infer, "the evacuation's own drain was not read",
        "frames that an evacuation empties go straight to the zone (off: to per-CPU lists)";
    evacuate_reclaims: bool = true, Read,
        "final v2 page_alloc.c: targets are GFP_HIGHUSER_MOVABLE, which may reclaim",
        "the targets of an evacuation may reclaim single pages (off: only what is free)";
    evacuate_drops_file: bool = false, Model, "whether a file page is clean is not in a trace",
        "evacuation drops file pages instead of moving them";
    contig_candidates: u64 = 4, Read, "SPB_CONTIG_MAX_CANDIDATES",
        "superpageblocks that a contiguous allocation tries";
    contig_attempts: u64 = 2, Read, "final v2 page_alloc.c: spb_try_alloc_contig",
        "tries of each";
    contig_fixed_block: bool = true, Read, "final v2 page_alloc.c: one candidate each",
        "below 1 GiB a candidate is the first aligned block of a superpageblock (off: its cheapest)";
    contig_adjacent: bool = false, Infer, "no adjacency test was seen",
        "above 1 GiB the following superpageblocks must be obtainable as well";
    hint_any_category: bool = true, Infer, "no category check was seen",
        "a hint may lead into a superpageblock of the other category";
    hint_hits_refresh: bool = false, Infer, "only the walk of pass 1 was seen to write hints",
        "a request that a hint served renews this CPU's hint and the zone's";
    highatomic_relabels: bool = true, Infer, "final v2 page_alloc.c: passes 2, 2b, 2d",
        "high-order atomic requests relabel and borrow in tainted superpageblocks";
    cma_prefers_tainted: bool = true, Infer, "the movable test is false for CMA",
        "CMA requests search tainted superpageblocks first (off: clean ones)";
    claim_half_rule: bool = true, Read, "final v2 page_alloc.c: only pass 2b waives it",
        "claims of partly free pageblocks in tainted superpageblocks keep the 50 % rule";
    borrow_head_only: bool = true, Read, "final v2 page_alloc.c: passes 2b, 2c, 2d",
        "relabelling and borrowing look at the first block of a list only";
    phase1_nofragment: bool = true, Read, "final v2 page_alloc.c: rmqueue_bulk phase 1",
        "refills with whole pageblocks never fall back outside tainted superpageblocks";
    incremental_merge: bool = true, Model, "same result as the full walk of patch 02",
        "a drain merges only what was added since the last one";
}

/// How the superpageblock that serves a request is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// Walk the lists, fullest first.
    Linear,
    /// Look at the last one that served, per CPU and per zone, then walk.
    Hint,
    /// Intersect bitmaps of what each superpageblock has.
    Bitmap,
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IndexKind::Linear => "linear",
            IndexKind::Hint => "hint",
            IndexKind::Bitmap => "bitmap",
        })
    }
}

impl Value for SequenceKind {
    const EXPECTED: &'static str = "seqlock or counter";
    fn parse(text: &str) -> Option<SequenceKind> {
        let all = [SequenceKind::Seqlock, SequenceKind::Counter];
        all.into_iter().find(|kind| kind.name() == text)
    }
    fn print(&self) -> String {
        self.name().to_owned()
    }
}

impl Value for Protocol {
    const EXPECTED: &'static str = "blocking, trylock-zone or local-trylock-remote-llist";
    fn parse(text: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == text)
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl Value for IndexKind {
    const EXPECTED: &'static str = "linear, hint or bitmap";
    fn parse(text: &str) -> Option<IndexKind> {
        let all = [IndexKind::Linear, IndexKind::Hint, IndexKind::Bitmap];
        all.into_iter().find(|kind| kind.to_string() == text)
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl Settings {
    /// The protocol of the free path that holds: without patch 03 of the second series, that of
    /// the first.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.free_path {
            Protocol::LocalTrylockRemoteLlist if !self.p03 => Protocol::TrylockZone,
            protocol => protocol,
        }
    }
}

impl fmt::Display for SettingInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (default {}): ", self.name, self.value, self.default)?;
        write!(f, "{} [{:?}: {}]", self.meaning, self.certainty, self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_takes_its_own_value_back() {
        let mut settings = Settings::default();
        for info in Settings::default().list() {
            settings.set(info.name, &info.value).unwrap();
            assert_eq!(info.value, info.default);
        }
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.list().len(), Settings::NAMES.len());
    }

    #[test]
    fn a_set_value_is_listed() {
        let mut settings = Settings::default();
        settings.set("extfrag_threshold", "700").unwrap();
        settings.set("compaction", "off").unwrap();
        assert_eq!((settings.extfrag_threshold, settings.compaction), (Some(700), false));
        let info = settings.list().into_iter().find(|i| i.name == "extfrag_threshold").unwrap();
        assert_eq!((info.value.as_str(), info.default.as_str()), ("700", "host"));
    }

    #[test]
    fn mistakes_name_what_exists() {
        let mut settings = Settings::default();
        let unknown = settings.set("defragmode", "1").unwrap_err().to_string();
        assert!(unknown.contains("defrag_mode"), "{unknown}");
        let value = settings.set("compaction", "maybe").unwrap_err().to_string();
        assert!(value.contains("on or off") && value.contains("maybe"), "{value}");
    }
}
