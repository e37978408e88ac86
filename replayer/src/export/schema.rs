//! The tables of an export: names, types and meanings of all columns, declared once.
//!
//! The writer, the reader and `SCHEMA.md` all follow these declarations. Changing them means a
//! new [`SCHEMA_VERSION`].

use std::fmt::Write as _;

use crate::import::columns::LEAST;

/// Version of the schema, kept in the metadata of every file under [`VERSION_KEY`].
pub const SCHEMA_VERSION: u32 = 1;
/// Key of the version in a file's metadata.
pub const VERSION_KEY: &str = "fragscope.schema_version";
/// Key of the table's name in a file's metadata.
pub const TABLE_KEY: &str = "fragscope.table";

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// Floating point, 64 bits.
    F64,
    /// Text.
    Text,
    /// True or false.
    Bool,
}

impl Kind {
    /// As polars calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::U32 => "UInt32",
            Kind::U64 => "UInt64",
            Kind::I64 => "Int64",
            Kind::F64 => "Float64",
            Kind::Text => "String",
            Kind::Bool => "Boolean",
        }
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name, with the unit where it has one.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether values may be missing.
    pub nullable: bool,
    /// What it says.
    pub meaning: &'static str,
}

/// One table, which is one file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name; the file is `<name>.parquet`.
    pub name: &'static str,
    /// What one row is.
    pub meaning: &'static str,
    /// Whether a trace is rebuilt from it; other tables are results.
    pub imported: bool,
    /// Its columns.
    pub columns: &'static [Column],
}

impl Table {
    /// Name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.parquet", self.name)
    }
}

const fn column(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column { name, kind, nullable: false, meaning }
}

const fn maybe(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column { name, kind, nullable: true, meaning }
}

const TIME: Column = column("time_ns", Kind::U64, "`CLOCK_MONOTONIC` of the traced host");
const TRACK: Column = column("track", Kind::Text, "`kernel`, `stock` or `spb`");
const START: Column = column(
    "start",
    Kind::Text,
    "what the track began with: `as-found`, `from-boot` or `from-boot-ideal`",
);
const SNAPSHOT: Column = column("snapshot", Kind::U32, "number of the snapshot, from 0");

/// What stands once for the whole trace.
pub const TRACE: Table = Table {
    name: "trace",
    meaning: "One row: the trace itself.",
    imported: true,
    columns: &[
        column(
            "header",
            Kind::Text,
            "header of the trace, JSON: recorder, host, geometry, capabilities",
        ),
        maybe(
            "end",
            Kind::Text,
            "end of the trace, JSON: reason, time, totals; null if it was cut off",
        ),
        maybe("truncated", Kind::Text, "where and how the trace was cut off"),
    ],
};

/// Page events.
pub const EVENTS: Table = Table {
    name: "events",
    meaning: "One row for each page event, in the order of the trace.",
    imported: true,
    columns: &[
        column(
            "dt_ns",
            Kind::I64,
            "time since the event before it (the first: since the header's `started_ns`); `cum_sum` gives times. Negative only after a late event",
        ),
        column(
            "kind",
            Kind::Text,
            "`alloc`, `free`, `alloc_failed`, `lru_insertion`, `zone_locked` or `pcpu_drain`",
        ),
        column("pfn", Kind::U64, "first page frame of the block"),
        column("order", Kind::U32, "log2 of its pages"),
        column("cpu", Kind::U32, "where it happened"),
        column(
            "gfp",
            Kind::U32,
            "flags of the request, bit numbers of Linux 6.18; 0 for other kinds than `alloc` and `alloc_failed`",
        ),
        column("migratetype", Kind::Text, "type requested, or of the list or pageblock"),
        column(
            "tags",
            Kind::Text,
            "marks of the recorder joined by `|`: `own`, `migration`, `late`, `inferred`",
        ),
    ],
};

/// Rare events.
pub const SIDES: Table = Table {
    name: "sides",
    meaning: "One row for each rare event: who allocated, losses, growth, marks and so on.",
    imported: true,
    columns: &[
        column("position", Kind::U64, "number of page events before it"),
        TIME,
        maybe("cpu", Kind::U32, "where it happened, if that is meaningful"),
        column("kind", Kind::Text, "what it is, for example `context` or `lost`"),
        column("detail", Kind::Text, "all of it, JSON"),
    ],
};

/// Events that never reached the trace.
pub const LOSSES: Table = Table {
    name: "losses",
    meaning: "One row for each report of events that are missing from the trace.",
    imported: false,
    columns: &[
        column("since_ns", Kind::U64, "the loss lies between this time and `time_ns`"),
        TIME,
        maybe("cpu", Kind::U32, "where, if the cause tells"),
        column("cause", Kind::Text, "why"),
        column("events", Kind::U64, "how many"),
    ],
};

/// Snapshots.
pub const SNAPSHOTS: Table = Table {
    name: "snapshots",
    meaning: "One row for each snapshot.",
    imported: true,
    columns: &[
        SNAPSHOT,
        column("position", Kind::U64, "number of page events before it"),
        column("side_position", Kind::U64, "number of rare events before it"),
        column("source", Kind::Text, "how it was read"),
        column("role", Kind::Text, "`opening`, `interval`, `closing` or `standalone`"),
        column("begin_ns", Kind::U64, "clock at its start"),
        column("end_ns", Kind::U64, "clock at its end"),
        column("machine", Kind::Text, "the host at that time, JSON"),
        column("chunks", Kind::Text, "read times of its parts, JSON"),
        column("notes", Kind::Text, "remarks, JSON list"),
    ],
};

/// State of page frames.
pub const SNAPSHOT_RUNS: Table = Table {
    name: "snapshot_runs",
    meaning: "One row for each stretch of page frames in the same state.",
    imported: true,
    columns: &[
        SNAPSHOT,
        column("start_pfn", Kind::U64, "first frame"),
        column("pages", Kind::U64, "number of frames"),
        column("content", Kind::Text, "what they hold"),
        column("order", Kind::U32, "order of each block"),
        column("migratetype", Kind::Text, "type of the list (free) or of the pageblock"),
    ],
};

/// Types of pageblocks.
pub const SNAPSHOT_PAGEBLOCKS: Table = Table {
    name: "snapshot_pageblocks",
    meaning: "One row for each stretch of pageblocks of one type.",
    imported: true,
    columns: &[
        SNAPSHOT,
        column("start_pfn", Kind::U64, "first frame"),
        column("end_pfn", Kind::U64, "one past the last frame"),
        column("migratetype", Kind::Text, "their type"),
    ],
};

/// Free lists in order.
pub const SNAPSHOT_LISTS: Table = Table {
    name: "snapshot_lists",
    meaning: "One row for each block on a free list whose order is known, head first.",
    imported: true,
    columns: &[
        SNAPSHOT,
        column("list", Kind::U32, "number of the list in its snapshot"),
        column("zone", Kind::U32, "position of the zone in the machine"),
        maybe("cpu", Kind::U32, "whose list; null for the zone's own"),
        column("order", Kind::U32, "order of its blocks"),
        column("migratetype", Kind::Text, "type of the list"),
        maybe("pfn", Kind::U64, "first frame of the block; null for an empty list"),
    ],
};

/// Zones of the host.
pub const ZONES: Table = Table {
    name: "zones",
    meaning: "One row for each zone of the host at the start.",
    imported: false,
    columns: &[
        column("zone", Kind::U32, "its position"),
        column("node", Kind::U32, "its node"),
        column("kind", Kind::Text, "`DMA`, `DMA32`, `Normal` or `Movable`"),
        column("start_pfn", Kind::U64, "first frame of its span"),
        column("spanned_pages", Kind::U64, "frames from the first to the last"),
        column("present_pages", Kind::U64, "frames that exist"),
        column("managed_pages", Kind::U64, "frames given to the allocator"),
        column("watermark_min_pages", Kind::U64, "`WMARK_MIN`"),
        column("watermark_low_pages", Kind::U64, "`WMARK_LOW`"),
        column("watermark_high_pages", Kind::U64, "`WMARK_HIGH`"),
    ],
};

/// Figures of a track over time.
pub const METRICS: Table = Table {
    name: "metrics",
    meaning: "One row for each track and sample. Counts of regions are of 1 GiB; where unknown pages leave one open it has a minimum and a maximum.",
    imported: false,
    columns: &[
        TIME,
        TRACK,
        START,
        column("free_1g_min", Kind::U64, "regions without a page in use"),
        column("free_1g_max", Kind::U64, "the same, unknown pages counted as free"),
        column(
            "evacuable_1g_min",
            Kind::U64,
            "regions free of unmovable pages: each by itself obtainable",
        ),
        column("evacuable_1g_max", Kind::U64, "the same, unknown pages counted as movable"),
        column("obtainable_1g_min", Kind::U64, "regions that could be had together"),
        column("obtainable_1g_max", Kind::U64, "the same, unknown pages counted as movable"),
        column("tainted_1g_min", Kind::U64, "regions with unmovable content"),
        column("tainted_1g_max", Kind::U64, "the same, unknown pages counted as unmovable"),
        column("nearly_clean_1g", Kind::U64, "tainted regions with at most 512 unmovable pages"),
        column("whole_1g", Kind::U64, "whole regions of the machine"),
        column(
            "floor_1g",
            Kind::U64,
            "regions that the largest unmovable footprint so far fills: no policy taints fewer",
        ),
        maybe("has_bit_tainted_1g", Kind::U64, "regions tainted by the series' has-bits"),
        maybe(
            "block_type_tainted_1g",
            Kind::U64,
            "regions with a pageblock of a type that is not movable",
        ),
        column("free_pages", Kind::U64, "free pages"),
        column("unmovable_pages", Kind::U64, "unmovable pages"),
        column(
            "first_1g_cost_pages",
            Kind::I64,
            "pages to move for the first region that can be had; -1 if none can",
        ),
        column("allocs", Kind::U64, "allocations seen so far"),
        column("frees", Kind::U64, "frees seen so far"),
        column("lost_events", Kind::U64, "events lost so far"),
    ],
};

/// The price of a policy.
pub const COUNTERS: Table = Table {
    name: "counters",
    meaning: "One row for each counter of a track and sample that is not 0: steals, refusals, pages moved and so on, cumulative.",
    imported: false,
    columns: &[
        TIME,
        TRACK,
        START,
        column("counter", Kind::Text, "name of the counter"),
        column("value", Kind::U64, "its value"),
    ],
};

/// Regions over time.
pub const REGIONS: Table = Table {
    name: "regions",
    meaning: "One row for each region, track and sample.",
    imported: false,
    columns: &[
        TIME,
        TRACK,
        START,
        column("zone", Kind::U32, "position of its zone"),
        column("start_pfn", Kind::U64, "its first frame"),
        column(
            "state",
            Kind::Text,
            "`absent`, `partial`, `hugetlb`, `tainted`, `unknown`, `evacuable` or `free`",
        ),
        column("free_pages", Kind::U32, "free pages"),
        column("movable_pages", Kind::U32, "pages that can be moved away"),
        column("unmovable_pages", Kind::U32, "pages that taint it"),
    ],
};

/// What it costs to have regions.
pub const COSTS: Table = Table {
    name: "costs",
    meaning: "One row for each track and number of regions that can be had at the end of the trace.",
    imported: false,
    columns: &[
        TRACK,
        START,
        column("regions_1g", Kind::U32, "regions wanted"),
        column("moved_pages", Kind::U64, "pages to move for them, cheapest first"),
    ],
};

/// Free memory by order.
pub const ORDERS: Table = Table {
    name: "orders",
    meaning: "One row for each order, track and sample.",
    imported: false,
    columns: &[
        TIME,
        TRACK,
        START,
        column("order", Kind::U32, "log2 of the pages of a block"),
        column("free_blocks", Kind::U64, "free blocks of exactly this order"),
        column(
            "unusable_permille",
            Kind::U32,
            "`unusable_free_index`: the part of free memory in smaller blocks, in thousandths",
        ),
    ],
};

/// Who tainted.
pub const TAINTS: Table = Table {
    name: "taints",
    meaning: "One row for each time a region became tainted or clean again.",
    imported: false,
    columns: &[
        TIME,
        TRACK,
        START,
        column("region_start_pfn", Kind::U64, "first frame of the region"),
        column("tainted", Kind::Bool, "tainted, or clean again"),
        column("pfn", Kind::U64, "the page that did it, as the kernel knows it"),
        column("order", Kind::U32, "order of its allocation"),
        column("gfp", Kind::U32, "flags of its allocation"),
        column("migratetype", Kind::Text, "type of its allocation"),
        maybe("comm", Kind::Text, "process that allocated it, if recorded"),
        column("pid", Kind::U32, "its process id, 0 if not recorded"),
        column("cgroup", Kind::U64, "id of its cgroup, 0 if not recorded"),
        maybe("call_site", Kind::Text, "function that asked for the memory, if recorded"),
        column(
            "stack",
            Kind::Text,
            "kernel stack, innermost first, joined by `;`; empty if not recorded",
        ),
    ],
};

/// Replays of a sweep.
pub const SWEEP_RUNS: Table = Table {
    name: "sweep_runs",
    meaning: "Written by `sweep --out`: one row for each replay. Figures are those of the end of the recording.",
    imported: false,
    columns: &[
        column("run", Kind::U32, "number of the replay, from 0"),
        column("recording", Kind::Text, "what was replayed"),
        column(
            "variant",
            Kind::Text,
            "settings that differ from the defaults; `defaults` for none",
        ),
        TRACK,
        START,
        maybe("seed", Kind::U64, "seed of the history, where one is drawn"),
        column("tainted_1g_min", Kind::U64, "regions with unmovable content"),
        column("tainted_1g_max", Kind::U64, "the same, unknown pages counted as unmovable"),
        column("obtainable_1g_min", Kind::U64, "regions that could be had together"),
        column("obtainable_1g_max", Kind::U64, "the same, unknown pages counted as movable"),
        column("evacuable_1g_min", Kind::U64, "regions free of unmovable pages"),
        column("evacuable_1g_max", Kind::U64, "the same, unknown pages counted as movable"),
        column("floor_1g", Kind::U64, "no policy taints fewer"),
        column("unmovable_pages", Kind::U64, "unmovable pages"),
        column("moved_pages", Kind::U64, "pages that the policy migrated"),
        column("reclaimed_pages", Kind::U64, "pages that it reclaimed beyond what the kernel did"),
        column("refused", Kind::U64, "requests that it refused and the kernel served"),
        column("dropped_pages", Kind::U64, "pages asked for and not placed"),
    ],
};

/// Counters of a sweep's replays.
pub const SWEEP_COUNTERS: Table = Table {
    name: "sweep_counters",
    meaning: "Written by `sweep --out`: one row for each counter of a replay that is not 0.",
    imported: false,
    columns: &[
        column("run", Kind::U32, "number of the replay"),
        column("counter", Kind::Text, "name of the counter"),
        column("value", Kind::U64, "its value"),
    ],
};

/// The tracepoints of the superpageblock series.
pub const SPB_EVENTS: Table = Table {
    name: "spb_events",
    meaning: "Written by `run --events FILE.parquet`, whatever the file's name: one row for each tracepoint of the superpageblock series. Columns are the fields of all tracepoints; those that a tracepoint does not have are null.",
    imported: false,
    columns: &[
        column(
            "time_ns",
            Kind::U64,
            "the workers' tick before it, every 10 ms of virtual time; `CLOCK_MONOTONIC` of the traced host",
        ),
        column("zone", Kind::U32, "position of the zone in the machine"),
        column("event", Kind::Text, "name of the tracepoint"),
        maybe("order", Kind::U32, "order of the request"),
        maybe("migratetype", Kind::Text, "type of the request, or of the has-bit"),
        maybe("gfp_mask", Kind::Text, "names of the request's flags, with bars between"),
        maybe("alloc_flags", Kind::U32, "its `ALLOC_*` flags"),
        maybe("pfn", Kind::U64, "first frame of the pageblock or of the free block"),
        maybe("set", Kind::Bool, "`spb_pb_taint`: the bit was set, or cleared"),
        maybe(
            "is_first_or_last",
            Kind::Bool,
            "`spb_pb_taint`: the superpageblock's counter went from 0 to 1, or from 1 to 0",
        ),
        maybe("start_type", Kind::Text, "`spb_claim_block_refused`: type asked for"),
        maybe("block_type", Kind::Text, "`spb_claim_block_refused`: type of the pageblock"),
        maybe("reason", Kind::Text, "`spb_claim_block_refused`: why"),
        maybe("phase1_attempts", Kind::U32, "`spb_evacuate_for_order_done`: pageblocks tried"),
        maybe(
            "phase2_attempts",
            Kind::U32,
            "`spb_evacuate_for_order_done`: always 0, as in the series",
        ),
        maybe(
            "did_evacuate",
            Kind::Bool,
            "`spb_evacuate_for_order_done`: whether any pageblock was evacuated",
        ),
        maybe("step", Kind::Text, "`spb_alloc_atomic_relax`: what was done"),
        maybe("outcome", Kind::Text, "`spb_alloc_walk`: where a block was found"),
        maybe(
            "n_spbs_visited",
            Kind::U32,
            "`spb_alloc_walk`: superpageblocks looked at; 0 after a hint",
        ),
        maybe("n_tainted", Kind::U32, "`spb_alloc_fall_through`: tainted superpageblocks"),
        maybe(
            "n_tainted_with_buddy",
            Kind::U32,
            "`spb_alloc_fall_through`: those with a free block that is large enough",
        ),
        maybe(
            "saw_free_pages",
            Kind::Bool,
            "`spb_alloc_fall_through`: some tainted superpageblock has a free page",
        ),
        maybe(
            "saw_free_pb",
            Kind::Bool,
            "`spb_alloc_fall_through`: some has a wholly free pageblock",
        ),
        maybe(
            "saw_below_reserve",
            Kind::Bool,
            "`spb_alloc_fall_through`: some has no more free pageblocks than its reserve",
        ),
    ],
};

/// All tables.
pub const TABLES: &[Table] = &[
    TRACE,
    EVENTS,
    SIDES,
    SNAPSHOTS,
    SNAPSHOT_RUNS,
    SNAPSHOT_PAGEBLOCKS,
    SNAPSHOT_LISTS,
    ZONES,
    LOSSES,
    METRICS,
    COUNTERS,
    REGIONS,
    COSTS,
    ORDERS,
    TAINTS,
    SWEEP_RUNS,
    SWEEP_COUNTERS,
    SPB_EVENTS,
];

/// The text of `SCHEMA.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = format!(
        "# Parquet schema, version {SCHEMA_VERSION}\n\n\
         `fragscope-replay export FILE --out DIR` writes one Parquet file for each table below, \
         compressed with zstd. Every file names its table (`{TABLE_KEY}`) and the version of the \
         schema (`{VERSION_KEY}`) in its metadata. Types are as polars calls them; a column may \
         be null only where it says so.\n\n\
         `fragscope-replay import DIR --output FILE` makes the trace again from the tables marked \
         *trace*: replayed, it gives the same results. The other tables are results of a replay.\n\n\
         `fragscope-replay import FILE.parquet --output FILE` makes a trace of one table of page \
         events that anybody may have written. It needs these columns, named and spelled as in \
         `events.parquet`, whole numbers of 32 or 64 bits: {LEAST}. `cpu` may be there; all other columns are \
         passed over. What is missing (opening state, geometry, CPUs, flags or types) is inferred \
         or taken from `--snapshot`, `--machine` and `--memory`, and the program says so.\n\n\
         This page is made from the code; a test compares them.\n"
    );
    for table in TABLES {
        let mark = if table.imported { " (trace)" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {}{mark}\n\n{}\n\n", table.file_name(), table.meaning);
        text += "| column | type | meaning |\n|---|---|---|\n";
        for column in table.columns {
            let null = if column.nullable { ", null" } else { "" };
            let (name, kind) = (column.name, column.kind.name());
            let _ = writeln!(text, "| `{name}` | {kind}{null} | {} |", column.meaning);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `FRAGSCOPE_WRITE_SCHEMA=1 cargo test -p fragscope-replay schema` writes the page anew.
    #[test]
    fn the_page_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/SCHEMA.md");
        if std::env::var_os("FRAGSCOPE_WRITE_SCHEMA").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), markdown());
    }

    #[test]
    fn names_are_unique() {
        for table in TABLES {
            let mut names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.columns.len(), "{}", table.name);
        }
    }
}
