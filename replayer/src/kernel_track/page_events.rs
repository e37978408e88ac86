//! What page events change, and the operations that they stand for.

use std::ops::Range;

use fragscope_trace::event::{PageEvent, PageEventKind, RepairSource, Tags, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, MAX_PAGE_ORDER, PAGEBLOCK_ORDER, Pfn};

use super::anomalies::count_order;
use super::pages::{Before, PageState};
use super::{KernelTrack, UnmatchedFree};
use crate::engine::op::{Op, Step};
use crate::mm::frames::Frame;

/// Events whose memory is read together, for [`KernelTrack::look_ahead`].
pub const AHEAD: usize = 32;

/// Largest order below a pageblock that per-CPU lists hold (`PAGE_ALLOC_COSTLY_ORDER`).
const PCP_MAX_ORDER: u8 = 3;

impl KernelTrack {
    /// Applies one page event and appends what policies have to do for it.
    #[inline]
    pub fn page_event(&mut self, event: PageEvent, ops: &mut Vec<Op>) {
        self.count_event(event);
        let event = if self.serves_own { event.without(Tags::OWN) } else { event };
        self.apply(event, ops);
    }

    /// Reads what events will need of the page table, all before the first of them: the processor
    /// then waits for memory once and not once for each.
    #[inline]
    pub fn look_ahead(&self, events: &[PageEvent]) {
        let read = events.iter().fold(0, |read, event| {
            let frames = self.pages.clip(event.range());
            if frames.is_empty() { read } else { read ^ self.pages.read(frames.start) }
        });
        std::hint::black_box(read);
    }

    fn apply(&mut self, event: PageEvent, ops: &mut Vec<Op>) {
        if self.opening.is_some() && event.order() > MAX_PAGE_ORDER {
            // Larger than a chunk of a snapshot: parts of it may have been read before, others
            // after.
            let order = event.order() - 1;
            let second = event.pfn.offset(1 << order);
            self.apply(event.with_block(event.pfn, order), ops);
            self.apply(event.with_block(second, order), ops);
            return;
        }
        match event.kind() {
            PageEventKind::Alloc => self.alloc(event, ops),
            PageEventKind::Free => self.free(event, ops),
            PageEventKind::AllocFailed => failed(event, ops),
            PageEventKind::LruInsertion => self.lru_insertion(event, ops),
            PageEventKind::ZoneLocked => self.list_movement(event, Content::Pcp),
            PageEventKind::PcpuDrain => self.list_movement(event, Content::Free),
        }
    }

    #[inline]
    fn count_event(&mut self, event: PageEvent) {
        let tags = event.tags();
        match event.kind() {
            PageEventKind::Alloc => {
                self.events.allocs += u64::from(!tags.contains(Tags::INFERRED));
            }
            PageEventKind::Free => self.events.frees += 1,
            PageEventKind::AllocFailed => self.events.failed_allocs += 1,
            _ => {}
        }
        if tags.is_empty() {
            return;
        }
        self.events.own_events += u64::from(tags.contains(Tags::OWN));
        self.events.late_events += u64::from(tags.contains(Tags::LATE));
    }

    /// The frames of an event, or `None` (counted) if they are outside the machine or the opening
    /// snapshot contains the event.
    #[inline(always)]
    fn frames_of(&mut self, event: PageEvent) -> Option<Range<Frame>> {
        let frames = self.pages.clip(event.range());
        if frames.is_empty() {
            self.anomalies.outside_events += 1;
            return None;
        }
        if self.opening.is_some() && self.is_in_opening(event) {
            self.anomalies.contained_events += 1;
            return None;
        }
        Some(frames)
    }

    /// Whether the opening snapshot contains an event. It is forgotten with the first event from
    /// which on it contains none.
    #[inline(never)]
    fn is_in_opening(&mut self, event: PageEvent) -> bool {
        if self.is_contained(event.time_ns, event.pfn) {
            return true;
        }
        if self.opening.as_ref().is_some_and(|opening| event.time_ns > opening.over_ns()) {
            self.opening = None;
        }
        false
    }

    fn alloc(&mut self, event: PageEvent, ops: &mut Vec<Op>) {
        let Some(frames) = self.frames_of(event) else { return };
        if self.opening.is_some() && self.all(&frames, Content::is_allocated) {
            // The snapshot was read after this allocation and knows better what it holds.
            self.anomalies.raced_events += 1;
            self.pages.touch(frames, self.pages.tick(event.time_ns));
            return;
        }
        let (tags, content) = (event.tags(), Content::of_allocation(event.gfp));
        if tags.contains(Tags::INFERRED) {
            if !self.all(&frames, Content::is_free) {
                return;
            }
            self.anomalies.backfilled_pages += frames.len() as u64;
        }
        let own = tags.contains(Tags::OWN);
        let inferred = tags.contains(Tags::INFERRED);
        let state = PageState::new(content).owned(own).inferred(inferred);
        let before = self.pages.set(frames.clone(), state);
        self.note_peak();
        self.pages.touch(frames.clone(), self.pages.tick(event.time_ns));
        let taken = before.allocated + before.own - before.own_unknown;
        if taken > 0 && self.opening.is_none() {
            count_order(&mut self.anomalies.unmatched_allocs, event.order());
            self.anomalies.unmatched_alloc_pages += u64::from(taken);
        }
        self.vacate(event, before, ops);
        if !own && !tags.contains(Tags::MIGRATION) {
            let (pfn, gfp, cpu, order) = (frames.start, event.gfp, event.cpu, event.order());
            let step = Step::Alloc { pfn, gfp, cpu, order, content, inferred };
            ops.push(Op { time_ns: event.time_ns, step });
        }
    }

    /// Operations for pages of a new block that were not free.
    fn vacate(&mut self, event: PageEvent, before: Before, ops: &mut Vec<Op>) {
        self.anomalies.resolved_unknown_pages += u64::from(before.unknown);
        self.arrive(event, before, ops);
        if before.allocated + before.unknown > 0 {
            ops.push(free_op(event));
        }
    }

    /// Memory that an event named before anything said that it is there.
    fn arrive(&mut self, event: PageEvent, before: Before, ops: &mut Vec<Op>) {
        if before.absent > 0 {
            self.anomalies.grown_by_event_pages += u64::from(before.absent);
            let frames = self.pages.clip(event.range());
            let step = Step::Grow { start: frames.start, pages: frames.len() as u32 };
            ops.push(Op { time_ns: event.time_ns, step });
        }
    }

    fn free(&mut self, event: PageEvent, ops: &mut Vec<Op>) {
        let Some(frames) = self.frames_of(event) else { return };
        let tick = self.pages.tick(event.time_ns);
        let list = if self.pcp_split && is_pcp_order(event.order()) {
            Content::Pcp
        } else {
            Content::Free
        };
        let arrives = self.frames_arrive(&frames);
        let before = self.pages.set(frames.clone(), PageState::new(list));
        if before.free > 0 && !arrives {
            self.unmatched_free(event, frames.clone(), before);
        }
        self.pages.touch(frames, tick);
        self.anomalies.resolved_unknown_pages += u64::from(before.unknown);
        self.anomalies.released_reserved_pages += u64::from(before.reserved);
        self.arrive(event, before, ops);
        let workload = before.allocated + before.unknown + before.reserved > 0;
        if workload && !event.tags().contains(Tags::MIGRATION) {
            ops.push(free_op(event));
        }
    }

    /// Whether frames are new memory that has been announced and had no event yet: it is given to
    /// the allocator by freeing it.
    fn frames_arrive(&self, frames: &Range<Frame>) -> bool {
        let first = self.pages.state(frames.start);
        first.is_inferred()
            && first.content() == Content::Free
            && self.pages.touched(frames.start) == 0
    }

    fn unmatched_free(&mut self, event: PageEvent, frames: Range<Frame>, before: Before) {
        if self.opening.is_some() {
            self.anomalies.raced_events += 1;
            return;
        }
        count_order(&mut self.anomalies.unmatched_frees, event.order());
        self.anomalies.unmatched_free_pages += u64::from(before.free);
        if self.compactions.iter().any(|zone| zone.contains(event.pfn)) {
            self.anomalies.unmatched_free_pages_in_compaction += u64::from(before.free);
            return;
        }
        if before.free == frames.len() as u32 {
            self.keep_untraced_allocation(event, frames);
        }
    }

    fn keep_untraced_allocation(&mut self, event: PageEvent, frames: Range<Frame>) {
        let Some(kept) = &mut self.unmatched else { return };
        let last = frames.clone().map(|f| self.pages.touched(f)).max().unwrap_or(0);
        let after_ns = match last {
            0 => self.opened_ns,
            tick => self.pages.time_after_tick(tick).max(self.opened_ns),
        };
        let (pfn, order, time_ns) = (frames.start, event.order(), event.time_ns);
        if after_ns < time_ns {
            kept.push(UnmatchedFree { pfn, order, time_ns, after_ns });
        }
    }

    /// A page of an LRU list is allocated and movable, whatever was thought of it.
    fn lru_insertion(&mut self, event: PageEvent, ops: &mut Vec<Op>) {
        let Some(frames) = self.frames_of(event) else { return };
        let (pfn, order, time_ns) = (frames.start, event.order(), event.time_ns);
        let content = Content::Movable;
        if self.all(&frames, Content::is_movable) {
            return;
        }
        self.pages.touch(frames.clone(), self.pages.tick(time_ns));
        if self.all(&frames, Content::is_allocated) {
            let pages = frames.len() as u32;
            for frame in frames {
                let own = self.pages.state(frame).is_own();
                let state = PageState::new(content).owned(own);
                let before = self.pages.set(frame..frame + 1, state);
                self.anomalies.resolved_unknown_pages += u64::from(before.unknown);
            }
            ops.push(Op { time_ns, step: Step::SetContent { pfn, pages, content } });
            return;
        }
        let state = PageState::new(content).inferred(true);
        let before = self.pages.set(frames.clone(), state);
        self.anomalies.repair(RepairSource::LruInsertion, u64::from(before.free));
        self.vacate(event, before, ops);
        if !event.tags().intersects(Tags::OWN | Tags::MIGRATION) {
            let (gfp, cpu) = (Gfp::HIGHUSER_MOVABLE, event.cpu);
            let step = Step::Alloc { pfn, gfp, cpu, order, content, inferred: true };
            ops.push(Op { time_ns, step });
        }
    }

    /// A free block went to a per-CPU list or came back from one.
    fn list_movement(&mut self, event: PageEvent, list: Content) {
        let frames = self.pages.clip(event.range());
        self.pcp_split = true;
        self.types.set(self.pages.geometry(), frames.start, event.order(), event.migratetype());
        if self.opening.as_ref().is_none_or(|o| !o.contains(event.pfn, event.time_ns))
            && self.all(&frames, Content::is_free)
        {
            self.pages.set(frames, PageState::new(list));
        }
    }

    pub(super) fn all(&self, frames: &Range<Frame>, holds: impl Fn(Content) -> bool) -> bool {
        frames.clone().all(|f| holds(self.pages.state(f).content()))
    }

    /// Whether the opening snapshot contains an event of a page at this time.
    pub(super) fn is_contained(&self, time_ns: TimeNs, pfn: Pfn) -> bool {
        self.opening.as_ref().is_some_and(|o| o.contains(pfn, time_ns))
    }
}

fn is_pcp_order(order: u8) -> bool {
    order <= PCP_MAX_ORDER || order == PAGEBLOCK_ORDER
}

fn failed(event: PageEvent, ops: &mut Vec<Op>) {
    if !event.tags().contains(Tags::OWN) {
        let step = Step::Failed { gfp: event.gfp, cpu: event.cpu, order: event.order() };
        ops.push(Op { time_ns: event.time_ns, step });
    }
}

fn free_op(event: PageEvent) -> Op {
    let step = Step::Free { pfn: event.pfn.0 as Frame, cpu: event.cpu, order: event.order() };
    Op { time_ns: event.time_ns, step }
}
