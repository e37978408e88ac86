//! Events: what happened to page frames, and when.
//!
//! *Page events* are frequent (a million a second and more) and fill 24 bytes each. *Side events*
//! are rare and carry whatever they need. An [`EventBatch`] holds both in one order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gfp::Gfp;
use crate::page::{Content, CpuId, MAX_EVENT_ORDER, Migratetype, Pfn, PfnRange};

/// Nanoseconds of `CLOCK_MONOTONIC` on the traced host.
pub type TimeNs = u64;

/// What a [`PageEvent`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PageEventKind {
    /// `kmem:mm_page_alloc`: a block was handed out.
    Alloc = 0,
    /// `kmem:mm_page_free`: a block is about to be freed. It need not match one allocation.
    Free = 1,
    /// `kmem:mm_page_alloc` with no page: the request failed. The pfn is 0.
    AllocFailed = 2,
    /// `pagemap:mm_lru_insertion` of a head page that no allocation event named (compaction
    /// targets, bulk allocations). The order is the one last known for the page, or 0.
    LruInsertion = 3,
    /// `kmem:mm_page_alloc_zone_locked`: a block left a buddy list. The migratetype is the list's.
    ZoneLocked = 4,
    /// `kmem:mm_page_pcpu_drain`: a block went from a per-CPU list to the buddy lists. The
    /// migratetype is the pageblock's.
    PcpuDrain = 5,
}

impl PageEventKind {
    /// All kinds, in their numeric order.
    pub const ALL: [PageEventKind; 6] = [
        PageEventKind::Alloc,
        PageEventKind::Free,
        PageEventKind::AllocFailed,
        PageEventKind::LruInsertion,
        PageEventKind::ZoneLocked,
        PageEventKind::PcpuDrain,
    ];
}

bitflags::bitflags! {
    /// Marks on a page event, set by the recorder (or, `INFERRED`, by a replay).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Tags: u8 {
        /// Caused by the recorder itself. The kernel track applies it; policy tracks skip pages
        /// that carried it at their allocation, except where a model is compared with the kernel,
        /// which served them, too.
        const OWN = 1 << 0;
        /// Inside a migration window and not paired: not workload.
        const MIGRATION = 1 << 1;
        /// Delivered after a younger event had been released.
        const LATE = 1 << 2;
        /// Not traced: deduced from a later event.
        const INFERRED = 1 << 3;
    }
}

/// One allocation, free, or list movement of one block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageEvent {
    /// When the program read the clock.
    pub time_ns: TimeNs,
    /// First page of the block.
    pub pfn: Pfn,
    /// Flags of the request; empty for all kinds but `Alloc` and `AllocFailed`.
    pub gfp: Gfp,
    /// Where the program ran.
    pub cpu: CpuId,
    /// Kind (low 3 bits) and tags (high 5 bits).
    kind_tags: u8,
    /// Order (low 5 bits) and migratetype (high 3 bits).
    order_type: u8,
}

const _: () = assert!(size_of::<PageEvent>() == 24);

impl PageEvent {
    /// An event without tags. `order` is cut to [`crate::page::MAX_EVENT_ORDER`]'s five bits by
    /// the recorder, which never sees a larger one.
    #[must_use]
    pub fn new(
        kind: PageEventKind,
        time_ns: TimeNs,
        cpu: CpuId,
        pfn: Pfn,
        order: u8,
        migratetype: Migratetype,
        gfp: Gfp,
    ) -> PageEvent {
        debug_assert!(order < 32, "order {order} does not fit an event");
        let order_type = order & 31 | (migratetype as u8) << 5;
        PageEvent { time_ns, pfn, gfp, cpu, kind_tags: kind as u8, order_type }
    }

    /// An allocation; its migratetype is the one that `gfp` asks for.
    #[must_use]
    pub fn alloc(time_ns: TimeNs, cpu: CpuId, pfn: Pfn, order: u8, gfp: Gfp) -> PageEvent {
        PageEvent::new(PageEventKind::Alloc, time_ns, cpu, pfn, order, gfp.migratetype(), gfp)
    }

    /// A free. Frees name no type; it is recorded as unmovable (0).
    #[must_use]
    pub fn free(time_ns: TimeNs, cpu: CpuId, pfn: Pfn, order: u8) -> PageEvent {
        let kind = PageEventKind::Free;
        PageEvent::new(kind, time_ns, cpu, pfn, order, Migratetype::Unmovable, Gfp::empty())
    }

    /// The same event with `tags` added.
    #[must_use]
    pub fn tagged(mut self, tags: Tags) -> PageEvent {
        self.kind_tags |= tags.bits() << 3;
        self
    }

    /// The same event without `tags`.
    #[must_use]
    #[inline]
    pub fn without(mut self, tags: Tags) -> PageEvent {
        self.kind_tags &= !(tags.bits() << 3);
        self
    }

    /// The same event of another block.
    #[must_use]
    pub fn with_block(mut self, pfn: Pfn, order: u8) -> PageEvent {
        debug_assert!(order < 32, "order {order} does not fit an event");
        self.pfn = pfn;
        self.order_type = self.order_type & !31 | order & 31;
        self
    }

    /// What happened.
    #[must_use]
    #[inline]
    pub fn kind(self) -> PageEventKind {
        // `new` and `from_packed` admit no other value.
        PageEventKind::ALL[usize::from(self.kind_tags & 7)]
    }

    /// Marks of the recorder.
    #[must_use]
    #[inline]
    pub fn tags(self) -> Tags {
        Tags::from_bits_truncate(self.kind_tags >> 3)
    }

    /// log2 of the block's pages.
    #[must_use]
    #[inline]
    pub fn order(self) -> u8 {
        self.order_type & 31
    }

    /// Pages in the block.
    #[must_use]
    #[inline]
    pub fn pages(self) -> u64 {
        1 << self.order()
    }

    /// The frames of the block.
    #[must_use]
    #[inline]
    pub fn range(self) -> PfnRange {
        PfnRange::new(self.pfn, self.pages())
    }

    /// The type requested (`Alloc`, `AllocFailed`) or of the list or pageblock.
    #[must_use]
    #[inline]
    pub fn migratetype(self) -> Migratetype {
        Migratetype::ALL[usize::from(self.order_type >> 5)]
    }

    /// Kind and tags, order and migratetype as two bytes, for the codec.
    #[must_use]
    #[inline]
    pub fn packed(self) -> (u8, u8) {
        (self.kind_tags, self.order_type)
    }

    /// The inverse of [`PageEvent::packed`]; `None` for values that no event has.
    #[must_use]
    #[inline]
    pub fn from_packed(
        time_ns: TimeNs,
        cpu: CpuId,
        pfn: Pfn,
        gfp: Gfp,
        (kind_tags, order_type): (u8, u8),
    ) -> Option<PageEvent> {
        let valid = usize::from(kind_tags & 7) < PageEventKind::ALL.len()
            && usize::from(order_type >> 5) < Migratetype::COUNT;
        valid.then_some(PageEvent { time_ns, pfn, gfp, cpu, kind_tags, order_type })
    }
}

impl fmt::Debug for PageEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cpu{} {:?} {}", self.time_ns, self.cpu.0, self.kind(), self.pfn)?;
        write!(f, " order {} {} {:?}", self.order(), self.migratetype(), self.gfp)?;
        write!(f, " {:?}", self.tags())
    }
}

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

/// What a [`RegionCount`] counts the events of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedPlace {
    /// An aligned GiB of physical memory, by number: pfn >> 18. Zones are not told apart.
    Region(u32),
    /// Pages outside the memory that was known when counting began.
    Outside,
    /// No page: requests that failed.
    Failed,
}

/// Page events of one place in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCount {
    /// Where.
    pub place: CountedPlace,
    /// Allocations by the type and order requested; none that is 0.
    pub allocs: Vec<TypeOrderCount>,
    /// Frees by order. They name no type.
    pub frees: Vec<OrderCount>,
}

impl RegionCount {
    /// Allocations.
    #[must_use]
    pub fn alloc_events(&self) -> u64 {
        saturating_sum(self.allocs.iter().map(|c| c.count))
    }

    /// Frees.
    #[must_use]
    pub fn free_events(&self) -> u64 {
        saturating_sum(self.frees.iter().map(|c| c.count))
    }

    /// Pages allocated for requests of types for which `wanted` holds.
    #[must_use]
    pub fn alloc_pages(&self, wanted: impl Fn(Migratetype) -> bool) -> u64 {
        let counts = self.allocs.iter().filter(|c| wanted(c.migratetype));
        saturating_sum(counts.map(|c| c.count.saturating_mul(1 << c.order.min(MAX_EVENT_ORDER))))
    }

    /// Pages freed.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        let pages = |c: &OrderCount| c.count.saturating_mul(1 << c.order.min(MAX_EVENT_ORDER));
        saturating_sum(self.frees.iter().map(pages))
    }
}

fn saturating_sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Events of one type and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeOrderCount {
    /// Type requested.
    pub migratetype: Migratetype,
    /// log2 of the pages of each.
    pub order: u8,
    /// How many.
    pub count: u64,
}

/// Events of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCount {
    /// log2 of the pages of each.
    pub order: u8,
    /// How many.
    pub count: u64,
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

/// A run of events in delivery order: by time, but for events tagged `LATE`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBatch {
    /// The frequent ones.
    pub pages: Vec<PageEvent>,
    /// The rare ones, each with the number of `pages` that come before it; ascending.
    pub sides: Vec<(u32, SideEvent)>,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EventRef<'a> {
    /// A frequent one.
    Page(PageEvent),
    /// A rare one.
    Side(&'a SideEvent),
}

impl EventRef<'_> {
    /// When it happened.
    #[must_use]
    pub fn time_ns(self) -> TimeNs {
        match self {
            EventRef::Page(event) => event.time_ns,
            EventRef::Side(event) => event.time_ns,
        }
    }
}

impl EventBatch {
    /// Appends a rare event after all page events so far.
    pub fn push_side(&mut self, event: SideEvent) {
        self.sides.push((self.pages.len() as u32, event));
    }

    /// Number of events of both sorts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len() + self.sides.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.sides.is_empty()
    }

    /// Forgets the events and keeps the memory.
    pub fn clear(&mut self) {
        self.pages.clear();
        self.sides.clear();
    }

    /// Time of the last event in the batch.
    #[must_use]
    pub fn last_time_ns(&self) -> Option<TimeNs> {
        let page = self.pages.last().map(|e| e.time_ns);
        page.max(self.sides.last().map(|(_, e)| e.time_ns))
    }

    /// All events in order. The hot loop of a replay goes over stretches instead:
    /// see [`EventBatch::stretches`].
    pub fn iter(&self) -> impl Iterator<Item = EventRef<'_>> {
        self.stretches().flat_map(|(pages, side)| {
            pages.iter().map(|e| EventRef::Page(*e)).chain(side.map(EventRef::Side))
        })
    }

    /// The batch as runs of page events, each followed by the side event that ends it (the last
    /// run by none).
    pub fn stretches(&self) -> impl Iterator<Item = (&[PageEvent], Option<&SideEvent>)> {
        let mut from = 0;
        let ends = self.sides.iter().map(|(at, side)| (*at as usize, Some(side)));
        ends.chain([(self.pages.len(), None)]).map(move |(to, side)| {
            let run = &self.pages[from.min(to)..to.min(self.pages.len())];
            from = to;
            (run, side)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_fields() {
        let gfp = Gfp::HIGHUSER_MOVABLE;
        let event = PageEvent::alloc(7, CpuId(3), Pfn(1 << 40), 18, gfp).tagged(Tags::OWN);
        assert_eq!((event.kind(), event.order()), (PageEventKind::Alloc, 18));
        assert_eq!((event.migratetype(), event.tags()), (Migratetype::Movable, Tags::OWN));
        let back = PageEvent::from_packed(7, CpuId(3), Pfn(1 << 40), gfp, event.packed());
        assert_eq!(back, Some(event));
    }

    #[test]
    fn bytes_that_no_event_has_are_refused() {
        let from = |packed| PageEvent::from_packed(0, CpuId(0), Pfn(0), Gfp::empty(), packed);
        assert_eq!(from((6, 0)), None);
        assert_eq!(from((0, 6 << 5)), None);
    }

    #[test]
    fn sides_stand_where_they_were_pushed() {
        let mark = |text: &str| SideEvent {
            time_ns: 0,
            cpu: None,
            kind: SideKind::Mark { text: text.into() },
        };
        let mut batch = EventBatch::default();
        batch.push_side(mark("a"));
        batch.pages.push(PageEvent::free(1, CpuId(0), Pfn(1), 0));
        batch.push_side(mark("b"));
        batch.push_side(mark("c"));
        batch.pages.push(PageEvent::free(2, CpuId(0), Pfn(2), 0));
        let order: Vec<String> = batch
            .iter()
            .map(|e| match e {
                EventRef::Page(p) => p.pfn.0.to_string(),
                EventRef::Side(SideEvent { kind: SideKind::Mark { text }, .. }) => text.clone(),
                EventRef::Side(_) => String::new(),
            })
            .collect();
        assert_eq!(order, ["a", "1", "b", "c", "2"]);
    }
}
