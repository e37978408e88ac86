//! A policy track: one allocator that serves the workload its own way.
//!
//! Pages are named by kernel pfn. Where each lives in the track is kept in the allocator's frame
//! table ([`Frames::place`]), page by page, because a block may be freed in other pieces than it
//! was allocated.
//!
//! [`Frames::place`]: crate::mm::frames::Frames::place

mod blocks;

use std::collections::BTreeSet;
use std::ops::Range;

use fragscope_trace::event::TimeNs;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId, MAX_PAGE_ORDER, Migratetype, Pfn};
use fragscope_trace::region::RegionTotals;

use crate::engine::began::Began;
use crate::engine::op::{Op, Step};
use crate::engine::tally::Tally;
use crate::kernel_track::aligned_blocks;
use crate::mm::allocator::{PageAllocator, TaintChange};
use crate::mm::frames::Frame;
use crate::mm::geometry::RegionId;
use crate::mm::request::{Entry, FreeEntry, Refusal, Request};
use crate::observe::{Divergence, Placement, StartState, TaintEvent, TrackKind, TrackSample};

/// log2 of the virtual nanoseconds between two calls of [`PageAllocator::advance`]: about 1 ms.
const ADVANCE_SHIFT: u32 = 20;

/// How many operations are looked at together: pages' frames are fetched one such stretch before
/// they are needed, and their places two.
const STRETCH: usize = 32;

/// Order of a 1 GiB page.
const GIGANTIC_ORDER: u8 = 18;

/// Taint events kept until somebody takes them; later ones are only in the counters.
const TAINTS_MAX: usize = 1 << 16;

/// What a track is and began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose policy.
    pub kind: TrackKind,
    /// What it began with.
    pub start: StartState,
}

/// What became of the pages of a free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Released {
    /// Given back to the allocator.
    freed: u64,
    /// Reclaimed by the allocator before.
    evicted: u64,
    /// Never placed.
    nowhere: u64,
}

/// One allocator and the workload it serves.
#[derive(Debug)]
pub struct PolicyTrack<A: PageAllocator> {
    identity: Identity,
    allocator: A,
    machine: Machine,
    tally: Tally,
    advanced: TimeNs,
    divergence: Option<Divergence>,
    region_starts: Vec<Pfn>,
    changes: Vec<TaintChange>,
    changes_seen: u64,
    taints: Vec<TaintEvent>,
    placements: Vec<((TimeNs, Pfn), Placement)>,
    began: Began,
}

impl<A: PageAllocator> PolicyTrack<A> {
    /// A track over an allocator that has its start state already.
    pub fn new(identity: Identity, allocator: A, machine: &Machine) -> PolicyTrack<A> {
        let census = allocator.census();
        let region_starts = census.iter().map(|region| region.start).collect();
        let mut initial = Vec::new();
        allocator.take_taint_changes(&mut initial);
        PolicyTrack {
            identity,
            began: Began::new(machine, &census, allocator.counters()),
            changes_seen: allocator.taint_changes_seen(),
            allocator,
            machine: machine.clone(),
            tally: Tally::default(),
            advanced: 0,
            divergence: None,
            region_starts,
            changes: Vec::new(),
            taints: Vec::new(),
            placements: Vec::new(),
        }
    }

    /// The allocator.
    #[must_use]
    pub fn allocator(&self) -> &A {
        &self.allocator
    }

    /// What became of the requests.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The track's free pages against the kernel's at the last check.
    #[must_use]
    pub fn divergence(&self) -> Option<Divergence> {
        self.divergence
    }

    /// Taint events since the last call.
    pub fn take_taints(&mut self) -> Vec<TaintEvent> {
        std::mem::take(&mut self.taints)
    }

    /// Where allocations that turned regions of the kernel tainted are here, since the last call.
    pub fn take_placements(&mut self) -> Vec<((TimeNs, Pfn), Placement)> {
        std::mem::take(&mut self.placements)
    }

    /// Replays operations.
    pub fn replay(&mut self, ops: &[Op]) {
        let mut stretches = ops.chunks(STRETCH);
        let (mut now, mut next) = (stretches.next(), stretches.next());
        now.iter().chain(&next).for_each(|ops| self.fetch_places(ops));
        now.iter().for_each(|ops| self.fetch_frames(ops));
        while let Some(ops) = now {
            let after = stretches.next();
            after.iter().for_each(|ops| self.fetch_places(ops));
            next.iter().for_each(|ops| self.fetch_frames(ops));
            self.replay_stretch(ops);
            (now, next) = (next, after);
        }
    }

    #[inline(always)]
    fn replay_stretch(&mut self, ops: &[Op]) {
        for op in ops {
            self.step(op);
            if self.allocator.taint_changes_seen() != self.changes_seen {
                self.note_taints(op);
            }
        }
    }

    /// Has brought near where the pages of operations live.
    fn fetch_places(&self, ops: &[Op]) {
        ops.iter().for_each(|op| self.allocator.frames().prefetch_place(op.first_page()));
    }

    /// Has brought near the frames of pages whose places are at hand. Allocations have none, and
    /// then it is any frame: to tell them from frees takes longer.
    fn fetch_frames(&self, ops: &[Op]) {
        for op in ops {
            self.allocator.prefetch(self.allocator.frames().likely_place(op.first_page()));
        }
    }

    #[inline(always)]
    fn step(&mut self, op: &Op) {
        if op.time_ns >> ADVANCE_SHIFT > self.advanced {
            self.advanced = op.time_ns >> ADVANCE_SHIFT;
            self.allocator.advance(op.time_ns);
        }
        match op.step {
            Step::Alloc { pfn, gfp, cpu, order, content, inferred } => {
                let bulk = inferred && gfp.migratetype() == Migratetype::Unmovable;
                let entry = if bulk { Entry::Bulk } else { Entry::Normal };
                self.allocator.at(op.time_ns, cpu);
                if order == 0 {
                    // Known to be 0 in all that follows.
                    self.alloc(pfn, Request { order: 0, gfp, cpu, content, entry });
                } else {
                    self.alloc_block(pfn, &Request { order, gfp, cpu, content, entry });
                }
            }
            Step::Free { pfn, cpu, order } => {
                self.allocator.at(op.time_ns, cpu);
                self.free(pfn, 1 << order, cpu);
            }
            ref rare => self.rare_step(op.time_ns, rare),
        }
    }

    /// Steps that are no allocation and no free.
    #[cold]
    fn rare_step(&mut self, time_ns: TimeNs, step: &Step) {
        match *step {
            Step::Alloc { .. } | Step::Free { .. } => {}
            Step::Failed { gfp, cpu, order } => self.failed(gfp, cpu, order),
            Step::SetContent { pfn, pages, content } => self.set_content(pfn, pages, content),
            Step::Rename { from, to, order } => self.rename(from, to, 1 << order),
            Step::Locate { pfn, order } => self.locate(time_ns, pfn, order),
            Step::Grow { start, pages } => self.allocator.grow(pages_from(start, pages)),
            Step::Shrink { start, pages } => {
                self.allocator.shrink(pages_from(start, pages));
            }
            Step::Cpu { cpu, online: true } => self.allocator.cpu_online(cpu),
            Step::Cpu { cpu, online: false } => self.allocator.cpu_offline(cpu),
            Step::Check { kernel_free_pages } => self.check(kernel_free_pages),
        }
    }

    #[inline(never)]
    fn alloc_block(&mut self, pfn: Frame, request: &Request) {
        self.alloc(pfn, *request);
    }

    #[inline(always)]
    fn alloc(&mut self, pfn: Frame, request: Request) {
        let pages = 1 << request.order;
        self.tally.requests += 1;
        self.vacate(pfn, pages, request.cpu);
        self.tally.order(request.order).requests += 1;
        match self.allocator.alloc(&request) {
            Ok(frame) => {
                self.tally.order(request.order).served += 1;
                self.settle(pfn, frame, pages);
            }
            Err(refusal) => self.refused(pfn, request, refusal),
        }
    }

    #[inline(always)]
    fn settle(&mut self, pfn: Frame, frame: Frame, pages: u32) {
        let frames = self.allocator.frames();
        frames.settle(pfn, frame);
        for page in 1..pages {
            frames.settle(pfn + page, frame + page);
        }
        self.tally.placed_pages += u64::from(pages);
    }

    /// Frees what still lives under kernel pfns that now hold something else.
    #[inline(always)]
    fn vacate(&mut self, pfn: Frame, pages: u32, cpu: CpuId) {
        let frames = self.allocator.frames();
        let is_placed = |page| frames.place(page).is_some();
        if is_placed(pfn) || pages > 1 && (pfn + 1..pfn + pages).any(is_placed) {
            self.vacate_placed(pfn, pages, cpu);
        }
    }

    #[cold]
    fn vacate_placed(&mut self, pfn: Frame, pages: u32, cpu: CpuId) {
        self.tally.stale_pages += self.release(pfn, pages, cpu).freed;
    }

    /// What the caller does without the block: one that can do without asks for single pages
    /// instead (an upper bound for taint), others give up.
    #[cold]
    fn refused(&mut self, pfn: Frame, request: Request, refusal: Refusal) {
        self.tally.refuse(request.order, refusal);
        let has_fallback = request.gfp.intersects(Gfp::NORETRY | Gfp::NOWARN);
        if request.order == 0 || !has_fallback {
            self.tally.order(request.order).dropped += 1;
            self.tally.dropped_pages += 1 << request.order;
            return;
        }
        self.tally.order(request.order).in_pieces += 1;
        let gfp = request.gfp - (Gfp::NORETRY | Gfp::NOWARN | Gfp::COMP);
        let piece = Request { order: 0, gfp, ..request };
        for page in pfn..pfn + (1 << request.order) {
            match self.alloc_piece(&piece) {
                Ok(frame) => {
                    self.settle(page, frame, 1);
                    self.tally.piece_pages += 1;
                }
                Err(_) => self.tally.dropped_pages += 1,
            }
        }
    }

    #[inline(never)]
    fn alloc_piece(&self, piece: &Request) -> Result<Frame, Refusal> {
        self.allocator.alloc(piece)
    }

    #[inline(always)]
    fn free(&mut self, pfn: Frame, pages: u32, cpu: CpuId) {
        self.tally.requests += 1;
        if pages == 1
            && let Some(frame) = self.allocator.frames().take_place(pfn)
        {
            self.tally.freed_pages += 1;
            self.free_block(frame, 0, cpu);
        } else {
            self.free_range(pfn, pages, cpu);
        }
    }

    #[inline]
    fn free_block(&mut self, frame: Frame, order: u8, cpu: CpuId) {
        if self.allocator.free(frame, order, cpu, FreeEntry::Normal).is_err() {
            self.tally.rejected_frees += 1;
        }
    }

    #[inline(never)]
    fn free_range(&mut self, pfn: Frame, pages: u32, cpu: CpuId) {
        let released = self.release(pfn, pages, cpu);
        self.tally.reclaimed_free_pages += released.evicted;
        self.tally.unplaced_free_pages += released.nowhere;
    }

    /// Frees the placed pages of a range, in pieces as large as they lie, and forgets the range.
    fn release(&mut self, pfn: Frame, pages: u32, cpu: CpuId) -> Released {
        let end = pfn.saturating_add(pages).min(self.allocator.frames().len());
        let (mut at, mut released) = (pfn, Released::default());
        while at < end {
            let frames = self.allocator.frames();
            if let Some(frame) = frames.place(at) {
                let run = self.run_of(at..end, frame);
                self.free_run(at, frame..frame + run, cpu);
                released.freed += u64::from(run);
                at += run;
            } else {
                let evicted = frames.is_evicted(at);
                frames.unsettle(at);
                released.evicted += u64::from(evicted);
                released.nowhere += u64::from(!evicted);
                at += 1;
            }
        }
        self.tally.freed_pages += released.freed;
        released
    }

    /// How many pages from the first on lie in frames that follow each other.
    #[inline]
    fn run_of(&self, pages: Range<Frame>, frame: Frame) -> u32 {
        let frames = self.allocator.frames();
        let follows = |(step, page): &(u32, Frame)| frames.place(*page) == Some(frame + step);
        (0..).zip(pages).take_while(follows).count() as u32
    }

    fn free_run(&mut self, pfn: Frame, frames: Range<Frame>, cpu: CpuId) {
        for page in pfn..pfn + frames.len() as u32 {
            self.allocator.frames().unsettle(page);
        }
        for (frame, order) in aligned_blocks(frames, MAX_PAGE_ORDER) {
            self.free_block(frame, order, cpu);
        }
    }

    fn failed(&mut self, gfp: Gfp, cpu: CpuId, order: u8) {
        self.tally.requests += 1;
        let would = self.allocator.would_succeed(&Request::new(order, gfp, cpu));
        let tally = self.tally.order(order);
        tally.kernel_failed += 1;
        tally.would_succeed += u64::from(would);
    }

    fn set_content(&mut self, pfn: Frame, pages: u32, content: Content) {
        let end = pfn.saturating_add(pages).min(self.allocator.frames().len());
        for page in pfn..end {
            if let Some(frame) = self.allocator.frames().place(page) {
                self.allocator.set_content(frame, content);
            }
        }
    }

    /// Gives the pages of `from` the names of `to`. What the workload seemed to have at `to` was
    /// the migration's target.
    fn rename(&mut self, from: Frame, to: Frame, pages: u32) {
        self.vacate(to, pages, CpuId(0));
        let frames = self.allocator.frames();
        for page in 0..pages {
            let (old, new) = (from + page, to + page);
            if let Some(frame) = frames.place(old) {
                frames.unsettle(old);
                frames.settle(new, frame);
                self.tally.renamed_pages += 1;
            } else if frames.is_evicted(old) {
                frames.unsettle(old);
                frames.evict(new);
            }
        }
    }

    #[cold]
    fn locate(&mut self, time_ns: TimeNs, pfn: Frame, order: u8) {
        if self.placements.len() == TAINTS_MAX {
            return;
        }
        let starts = self.region_starts.iter().enumerate();
        let region_of = |frame: Frame| {
            let before = starts.filter(|(_, start)| start.0 <= u64::from(frame));
            before.max_by_key(|(_, start)| **start)
        };
        let region = self.allocator.frames().place(pfn).and_then(region_of);
        let tainting =
            region.map_or(0, |(region, _)| self.allocator.tainting_pages(RegionId(region as u32)));
        let placement = Placement {
            track: self.identity.kind,
            start: self.identity.start,
            region_start: region.map(|(_, start)| *start),
            others_pages: u64::from(tainting.saturating_sub(1 << order)),
        };
        self.placements.push(((time_ns, Pfn(pfn.into())), placement));
    }

    fn check(&mut self, kernel_free_pages: u64) {
        let (buddy, pcp) = self.allocator.free_pages();
        let managed = self.machine.managed_pages();
        self.divergence = Some(Divergence::new(buddy + pcp, kernel_free_pages, managed));
    }

    #[cold]
    fn note_taints(&mut self, op: &Op) {
        self.changes_seen = self.allocator.taint_changes_seen();
        self.allocator.take_taint_changes(&mut self.changes);
        for change in self.changes.drain(..) {
            self.began.note(change.region, change.tainted);
            if self.taints.len() == TAINTS_MAX {
                continue;
            }
            let (order, gfp, pfn) = match op.step {
                Step::Alloc { pfn, gfp, order, .. } => (order, gfp, pfn),
                Step::Free { pfn, order, .. } => (order, Gfp::empty(), pfn),
                _ => (0, Gfp::empty(), change.frame),
            };
            let Identity { kind, start, .. } = self.identity;
            self.taints.push(TaintEvent::new(
                op.time_ns,
                (kind, start),
                (self.region_starts[change.region as usize], change.tainted),
                Pfn(u64::from(pfn)),
                (order, gfp),
            ));
        }
    }

    /// Asks for so many 1 GiB pages, as somebody who writes to `nr_hugepages` does: one after the
    /// other, on the CPUs in turn, until one is refused by all nodes. They stay allocated.
    pub fn ask_1g(&mut self, pages: u32) -> u32 {
        let cpus = &self.machine.cpus;
        let nodes: BTreeSet<u16> = cpus.iter().map(|cpu| cpu.node).collect();
        let first = |node| cpus.iter().find(|cpu| cpu.node == node).map(|cpu| cpu.id);
        let askers: Vec<CpuId> = nodes.into_iter().filter_map(first).collect();
        let one = |cpu: &CpuId| {
            self.allocator.alloc_contig(GIGANTIC_ORDER, *cpu, Content::Hugetlb).is_some()
        };
        (0..pages).take_while(|_| askers.iter().any(one)).count() as u32
    }

    /// The track now.
    #[must_use]
    pub fn sample(&self) -> TrackSample {
        let regions = self.allocator.census();
        let totals = RegionTotals::new(&self.machine, &regions);
        let mut counters = self.began.since(self.allocator.counters());
        self.tally.collect(&mut counters);
        TrackSample {
            kind: self.identity.kind,
            start: self.identity.start,
            regions,
            totals,
            has_bit_tainted_1g: self.allocator.has_bit_tainted_1g(),
            block_type_tainted_1g: Some(self.allocator.block_type_tainted_1g()),
            free_blocks: self.allocator.free_blocks(),
            counters,
        }
    }
}

fn pages_from(start: Frame, pages: u32) -> fragscope_trace::page::PfnRange {
    fragscope_trace::page::PfnRange::new(Pfn(u64::from(start)), u64::from(pages))
}
