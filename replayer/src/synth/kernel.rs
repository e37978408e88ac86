//! The synthetic kernel: the stock allocator serves every request, and what it does becomes the
//! trace.
//!
//! Compaction and the model's own reclaim are off: the workload reclaims by itself, through
//! events, and nothing moves without one.

use fragscope_trace::event::{EventBatch, PageEvent, PageEventKind, SideEvent, SideKind, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::Totals;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{CpuId, Migratetype, NR_PAGE_ORDERS, Pfn};
use fragscope_trace::snapshot::Snapshot;

use super::SynthError;
use crate::mm::StockMm;
use crate::mm::allocator::{PageAllocator, TaintChange};
use crate::mm::cache::Cache;
use crate::mm::flags::Mark;
use crate::mm::flavour::Up;
use crate::mm::frames::Frame;
use crate::mm::request::{FreeEntry, Request};
use crate::mm::settings::Settings;
use crate::mm::stock::Stock;
use crate::mm::zone::Zone;
use crate::start::memory;

/// Virtual time between two events of one burst.
const EVENT_NS: TimeNs = 250;
/// Virtual time between the kernel's counters in the trace.
const CHECK_NS: TimeNs = 1_000_000_000;
/// Events after which the batch goes out.
const BATCH_EVENTS: usize = 1 << 16;

/// A block that a load holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) frame: Frame,
    pub(super) cpu: CpuId,
    pub(super) order: u8,
    pub(super) movable: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) comm: &'a str,
    pub(super) pid: u32,
    /// Id of the kernel stack; 0 keeps the caller out of the trace.
    pub(super) stack: u32,
}

/// What was generated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) totals: Totals,
    pub(super) failed_allocs: u64,
    pub(super) allocs_by_order: [u64; NR_PAGE_ORDERS],
    pub(super) allocs_by_type: [u64; Migratetype::PCP_TYPES],
    pub(super) reclaimed_pages: u64,
    pub(super) peak_unmovable_pages: u64,
    pub(super) low_memory_at_ns: Option<TimeNs>,
}

/// The allocator of a machine that has just booted.
pub(super) fn boot(snapshot: &Snapshot) -> Result<StockMm, SynthError> {
    let settings = Settings {
        compaction: false,
        kcompactd_interval_ms: 0,
        direct_reclaim: false,
        kswapd_reclaim: false,
        ..Settings::default()
    };
    memory::check(snapshot, 1)?;
    let allocator = StockMm::build(&snapshot.machine, &settings)?;
    allocator.load(snapshot);
    Ok(allocator)
}

/// Where batches go.
pub(super) type Sink<'a> = dyn FnMut(&EventBatch) -> Result<(), SynthError> + 'a;

/// The allocator, the clock and the trace.
pub(super) struct Kernel<'a> {
    allocator: StockMm,
    sink: &'a mut Sink<'a>,
    batch: EventBatch,
    clock_ns: TimeNs,
    next_check_ns: TimeNs,
    taints: Vec<TaintChange>,
    unmovable_pages: u64,
    pub(super) counts: Counts,
}

impl<'a> Kernel<'a> {
    /// A kernel at `now_ns`, with `unmovable_pages` in use already.
    pub(super) fn new(
        allocator: StockMm,
        now_ns: TimeNs,
        unmovable_pages: u64,
        sink: &'a mut Sink<'a>,
    ) -> Self {
        let counts = Counts { peak_unmovable_pages: unmovable_pages, ..Counts::default() };
        Kernel {
            allocator,
            sink,
            batch: EventBatch::default(),
            clock_ns: now_ns,
            next_check_ns: now_ns + CHECK_NS,
            taints: Vec::new(),
            unmovable_pages,
            counts,
        }
    }

    /// Lets time pass up to `now_ns`, or leaves it where events have driven it already, and
    /// hands on what is ready.
    pub(super) fn advance(&mut self, now_ns: TimeNs) -> Result<(), SynthError> {
        self.clock_ns = self.clock_ns.max(now_ns);
        self.allocator.advance(self.clock_ns);
        if self.clock_ns >= self.next_check_ns {
            self.next_check_ns = self.clock_ns + CHECK_NS;
            self.check();
        }
        if self.batch.len() >= BATCH_EVENTS { self.flush() } else { Ok(()) }
    }

    /// Hands on all events so far.
    pub(super) fn flush(&mut self) -> Result<(), SynthError> {
        (self.sink)(&self.batch)?;
        self.batch.clear();
        self.allocator.take_taint_changes(&mut self.taints);
        self.taints.clear();
        Ok(())
    }

    /// Virtual time.
    pub(super) fn now_ns(&self) -> TimeNs {
        self.clock_ns
    }

    /// Serves a request. `None` leaves no event: the caller decides whether to try again.
    #[inline]
    pub(super) fn alloc(
        &mut self,
        cpu: CpuId,
        order: u8,
        gfp: Gfp,
        caller: &Caller<'_>,
    ) -> Option<Block> {
        let request = Request::new(order, gfp, cpu);
        let frame = self.allocator.alloc(&request).ok()?;
        self.tick();
        let pfn = Pfn(frame.into());
        let movable = request.migratetype() == Migratetype::Movable;
        if !movable {
            self.unmovable_pages += 1 << order;
            let peak = &mut self.counts.peak_unmovable_pages;
            *peak = (*peak).max(self.unmovable_pages);
            self.name_caller(cpu, pfn, order, gfp, caller);
        }
        self.batch.pages.push(PageEvent::alloc(self.clock_ns, cpu, pfn, order, gfp));
        self.counts.totals.allocs += 1;
        self.counts.allocs_by_order[usize::from(order)] += 1;
        self.counts.allocs_by_type[request.migratetype().index()] += 1;
        Some(Block { frame, cpu, order, movable })
    }

    fn name_caller(&mut self, cpu: CpuId, pfn: Pfn, order: u8, gfp: Gfp, caller: &Caller<'_>) {
        if caller.stack == 0 {
            return;
        }
        self.side(
            Some(cpu),
            SideKind::Context {
                pfn,
                order,
                gfp,
                pid: caller.pid,
                comm: caller.comm.to_owned(),
                cgroup: 0,
                stack: caller.stack,
            },
        );
    }

    /// Records that a request failed for good.
    pub(super) fn refuse(&mut self, cpu: CpuId, order: u8, gfp: Gfp) {
        self.tick();
        let kind = PageEventKind::AllocFailed;
        let (now, of) = (self.clock_ns, gfp.migratetype());
        self.batch.pages.push(PageEvent::new(kind, now, cpu, Pfn(0), order, of, gfp));
        self.counts.failed_allocs += 1;
    }

    /// Frees a block, on `cpu`.
    #[inline]
    pub(super) fn free(&mut self, block: Block, cpu: CpuId) -> Result<(), SynthError> {
        self.free_piece(block.frame, block.order, cpu)?;
        if !block.movable {
            self.unmovable_pages -= 1 << block.order;
        }
        Ok(())
    }

    /// Frees a movable block page by page, as after a split.
    pub(super) fn free_split(&mut self, block: Block, cpu: CpuId) -> Result<(), SynthError> {
        (0..1 << block.order).try_for_each(|page| self.free_piece(block.frame + page, 0, cpu))
    }

    #[inline]
    fn free_piece(&mut self, frame: Frame, order: u8, cpu: CpuId) -> Result<(), SynthError> {
        self.tick();
        self.allocator.free(frame, order, cpu, FreeEntry::Normal)?;
        self.batch.pages.push(PageEvent::free(self.clock_ns, cpu, Pfn(frame.into()), order));
        self.counts.totals.frees += 1;
        Ok(())
    }

    #[inline]
    fn tick(&mut self) {
        self.clock_ns += EVENT_NS;
    }

    /// A rare event at the present time.
    pub(super) fn side(&mut self, cpu: Option<CpuId>, kind: SideKind) {
        self.batch.push_side(SideEvent { time_ns: self.clock_ns, cpu, kind });
        self.counts.totals.events += 1;
    }

    /// Writes down the kernel's own counters.
    fn check(&mut self) {
        let of_zones = |pages: &dyn Fn(&Zone<Up>) -> u64| {
            self.allocator.buddy.zones.iter().map(pages).collect()
        };
        let cached = |zone: &Zone<Up>| Cache::<_, Stock>::pages(&self.allocator.cache, zone);
        let kind = SideKind::Check {
            free_pages: of_zones(&|zone| zone.free_pages.get()),
            pcp_pages: of_zones(&cached),
            managed_pages: of_zones(&|zone| zone.managed.get()),
        };
        self.side(None, kind);
    }

    /// Non-movable pages in use.
    pub(super) fn unmovable_pages(&self) -> u64 {
        self.unmovable_pages
    }

    /// Whether free memory is below a mark in every zone that ordinary requests use, reserves
    /// for lower zones included.
    #[inline]
    pub(super) fn is_below(&self, mark: Mark) -> bool {
        self.allocator.buddy.zones.iter().all(|zone| {
            let reserve = zone.lowmem_reserve[ZoneKind::Normal as usize].get();
            zone.free_pages.get() <= zone.mark(mark) + reserve
        })
    }

    /// The allocator, to look at.
    pub(super) fn allocator(&self) -> &StockMm {
        &self.allocator
    }
}
