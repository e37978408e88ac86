//! Everything else that happened: the rare events.

use serde::{Deserialize, Serialize};

use super::{RegionCount, TimeNs};
use crate::gfp::Gfp;
use crate::page::{Content, CpuId, Migratetype, Pfn, PfnRange};

/// Why events did not reach the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// The ring had no room.
    RingFull,
    /// The program was entered again from an interrupt on the same CPU and did not run
    /// (`recursion_misses`); not attributable to a CPU.
    Reentry,
    /// The agent shed events to keep its budget.
    RateLimit,
    /// No ring exists for the CPU (it came online after start).
    NoRing,
    /// The reader found a record it could not make sense of.
    BadRecord,
    /// A consumer (socket client, slow pipe) did not keep up.
    SlowConsumer,
}

impl LossCause {
    /// All causes.
    pub const ALL: [LossCause; 6] = [
        LossCause::RingFull,
        LossCause::Reentry,
        LossCause::RateLimit,
        LossCause::NoRing,
        LossCause::BadRecord,
        LossCause::SlowConsumer,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LossCause::RingFull => "ring_full",
            LossCause::Reentry => "reentry",
            LossCause::RateLimit => "rate_limit",
            LossCause::NoRing => "no_ring",
            LossCause::BadRecord => "bad_record",
            LossCause::SlowConsumer => "slow_consumer",
        }
    }
}

/// Where a correction to the known state came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairSource {
    /// A later snapshot.
    Snapshot,
    /// An LRU insertion of a page not seen allocated.
    LruInsertion,
    /// The footprint of a contiguous allocation.
    Contiguous,
    /// A function-entry program.
    Fentry,
    /// A free of a page thought free.
    UnmatchedFree,
    /// `managed` of a zone grew.
    ManagedGrowth,
}

/// What a [`SideEvent`] says. New kinds are added at the end; readers skip kinds they don't know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideKind {
    /// Migration moved a block.
    Move {
        /// Old place.
        from: Pfn,
        /// New place.
        to: Pfn,
        /// log2 of its pages.
        order: u8,
    },
    /// `kmem:mm_page_alloc_extfrag`: the kernel fell back to another type's block.
    ExtFrag {
        /// First page of the block found.
        pfn: Pfn,
        /// Order asked for.
        alloc_order: u8,
        /// Order of the block found.
        fallback_order: u8,
        /// Type asked for.
        alloc_type: Migratetype,
        /// Type of the list it was found on.
        fallback_type: Migratetype,
        /// Whether the pageblock was claimed (retyped) rather than stolen from.
        change_ownership: bool,
    },
    /// Who made one non-movable allocation.
    Context {
        /// The allocation, by its pfn; its `Alloc` event has the same time and cpu.
        pfn: Pfn,
        /// log2 of its pages.
        order: u8,
        /// Flags.
        gfp: Gfp,
        /// Process.
        pid: u32,
        /// Its name.
        comm: String,
        /// cgroup id (v2), 0 if not known; a `Cgroup` event that came before may name it.
        cgroup: u64,
        /// Kernel stack, by the id of a `Stack` event that came before; 0 for none.
        stack: u32,
    },
    /// Frames of a kernel stack, innermost first, symbolised as `name+0xoff` where possible.
    Stack {
        /// Its id in this trace, never 0.
        id: u32,
        /// The frames.
        frames: Vec<String>,
    },
    /// Events that are missing from the trace.
    Lost {
        /// Where; `None` where the cause does not tell.
        cpu: Option<CpuId>,
        /// Why.
        cause: LossCause,
        /// How many.
        count: u64,
        /// The loss lies between this time and the event's own.
        since_ns: TimeNs,
    },
    /// The agent raised or lowered a filter: events outside it were counted, not recorded.
    Filtered {
        /// How many.
        count: u64,
        /// The span begins here and ends at the event's own time.
        since_ns: TimeNs,
    },
    /// `page_isolation:test_pages_isolated`: a range was tested for a contiguous allocation.
    ContigTest {
        /// The range.
        range: PfnRange,
        /// First pfn that was not free; at or beyond the end means success.
        stopped_at: Pfn,
    },
    /// Memory was given to the allocator (hotplug, lazy initialisation).
    Grow {
        /// Which node.
        node: u16,
        /// Which zone of it, by index.
        zone: u8,
        /// The new pages, all free.
        range: PfnRange,
        /// How it was noticed.
        source: RepairSource,
    },
    /// Memory was taken away.
    Shrink {
        /// The pages.
        range: PfnRange,
        /// How it was noticed.
        source: RepairSource,
    },
    /// A page's state was found to differ from what the events said.
    Resync {
        /// The pages.
        range: PfnRange,
        /// What they hold.
        content: Content,
        /// How it was noticed.
        source: RepairSource,
    },
    /// A CPU went online or offline.
    Cpu {
        /// Which.
        cpu: CpuId,
        /// Its new state.
        online: bool,
    },
    /// A compaction run began or ended (`compaction:mm_compaction_begin`/`_end`).
    Compaction {
        /// Began (`true`) or ended.
        begin: bool,
        /// The zone's span.
        zone: PfnRange,
    },
    /// Totals of a `migrate:mm_migrate_pages` call.
    Migrated {
        /// Pages moved.
        succeeded: u64,
        /// Pages that could not be moved.
        failed: u64,
        /// The kernel's `migrate_reason`.
        reason: u32,
    },
    /// A note by the user.
    Mark {
        /// Its text.
        text: String,
    },
    /// What tracing cost since the previous such event.
    Cost {
        /// CPU time of the agent.
        cpu_ns: u64,
        /// Its resident memory.
        rss_bytes: u64,
        /// Largest fill of any ring, in thousandths.
        ring_peak_permille: u32,
    },
    /// Counters of the kernel itself at this time (from `/proc/zoneinfo`), to check a replay by.
    Check {
        /// Free pages by zone, in the order of the machine's zones.
        free_pages: Vec<u64>,
        /// Pages on per-CPU lists by zone.
        pcp_pages: Vec<u64>,
        /// Managed pages by zone.
        managed_pages: Vec<u64>,
    },
    /// The kernel was asked for real 1 GiB pages, and got them back: what was obtainable between
    /// `begin_ns` and the event's own time. Nothing is traced meanwhile.
    #[serde(rename = "probe_1g")]
    Probe1g {
        /// Time of the first request.
        begin_ns: TimeNs,
        /// How many the kernel gave.
        granted: u64,
        /// First frame of each that was found, ascending.
        pages: Vec<Pfn>,
        /// Why there are no more.
        stopped: ProbeStop,
    },
    /// Name of a cgroup that contexts after it have.
    Cgroup {
        /// Its id, as in `Context`.
        id: u64,
        /// Its path below the root of the tree, `/` for the root itself.
        path: String,
    },
    /// Page events that were counted by region instead of recorded: all of them in a trace of mode
    /// [`TraceMode::Count`](crate::header::TraceMode), those of a span of shedding in any other,
    /// where `Lost` events name them, too. Several such events may share one span.
    RegionCounts {
        /// The span begins here and ends at the event's own time.
        since_ns: TimeNs,
        /// Regions in which something happened.
        regions: Vec<RegionCount>,
    },
    /// The agent stopped to record every event, or took that up again, to keep a budget. Events
    /// between the two are counted only; what they changed is known again with the snapshot that
    /// follows.
    Shed {
        /// Which budget.
        budget: Budget,
        /// Stopped (`true`) or taken up again.
        begin: bool,
        /// What the budget allows, in its unit.
        limit: u64,
        /// What was found when it stopped, in the same unit.
        found: u64,
    },
}

/// What an agent may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Page events recorded in a second.
    EventsPerSecond,
    /// CPU time of the agent's process without its snapshots, in thousandths of one CPU.
    CpuPermille,
}

/// Why a probe asked for no more 1 GiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeStop {
    /// The kernel refused: these are all.
    Refused,
    /// As many as were asked for were given; there may be more.
    Limit,
    /// Memory for others would have run short; there may be more.
    LowMemory,
    /// Somebody interrupted; there may be more.
    Interrupted,
}

impl SideKind {
    /// Number of kinds.
    pub const COUNT: u64 = 20;

    /// Its number in a trace (the position of the variant), and its name.
    fn number_and_name(&self) -> (u64, &'static str) {
        match self {
            SideKind::Move { .. } => (0, "move"),
            SideKind::ExtFrag { .. } => (1, "ext_frag"),
            SideKind::Context { .. } => (2, "context"),
            SideKind::Stack { .. } => (3, "stack"),
            SideKind::Lost { .. } => (4, "lost"),
            SideKind::Filtered { .. } => (5, "filtered"),
            SideKind::ContigTest { .. } => (6, "contig_test"),
            SideKind::Grow { .. } => (7, "grow"),
            SideKind::Shrink { .. } => (8, "shrink"),
            SideKind::Resync { .. } => (9, "resync"),
            SideKind::Cpu { .. } => (10, "cpu"),
            SideKind::Compaction { .. } => (11, "compaction"),
            SideKind::Migrated { .. } => (12, "migrated"),
            SideKind::Mark { .. } => (13, "mark"),
            SideKind::Cost { .. } => (14, "cost"),
            SideKind::Check { .. } => (15, "check"),
            SideKind::Probe1g { .. } => (16, "probe_1g"),
            SideKind::Cgroup { .. } => (17, "cgroup"),
            SideKind::RegionCounts { .. } => (18, "region_counts"),
            SideKind::Shed { .. } => (19, "shed"),
        }
    }

    /// Its number in a trace.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number_and_name().0
    }

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.number_and_name().1
    }
}

/// A rare event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideEvent {
    /// When.
    pub time_ns: TimeNs,
    /// Where, if that is meaningful.
    pub cpu: Option<CpuId>,
    /// What.
    pub kind: SideKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json() {
        for cause in LossCause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }
}
