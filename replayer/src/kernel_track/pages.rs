//! What is known of every page frame of the traced kernel: one byte of state, the time of its
//! last event, and one bit that says whether it is free.

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, PfnRange};
use fragscope_trace::region::RegionCensus;

use super::free_blocks::FreeBits;
use crate::mm::allocator::{BuildError, TaintChange};
use crate::mm::census::Census;
use crate::mm::flavour::Up;
use crate::mm::frames::{Frame, by_bits};
use crate::mm::geometry::{Geometry, PageblockId, RegionId};
use crate::mm::huge_pages;
use crate::observe::FreeBlocks;

/// log2 of the nanoseconds in a tick of a page's clock: 65.5 µs, so that 32 bits hold 78 hours.
const TICK_SHIFT: u32 = 16;

/// Contents by the bits of a state.
static CONTENTS: [Content; 32] = by_bits(Content::ALL);

const OWN: u8 = 1 << 5;
const INFERRED: u8 = 1 << 6;

/// What one frame holds, who caused it, and how it is known.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PageState(u8);

const _: () = assert!(Content::COUNT <= OWN as usize, "a content must fit five bits");

impl PageState {
    /// Seen, not deduced, and not the recorder's.
    #[must_use]
    pub fn new(content: Content) -> PageState {
        PageState(content as u8)
    }

    /// The same, marked as the recorder's own if `own` holds.
    #[must_use]
    pub fn owned(self, own: bool) -> PageState {
        PageState(if own { self.0 | OWN } else { self.0 })
    }

    /// The same, marked as deduced if `inferred` holds.
    #[must_use]
    pub fn inferred(self, inferred: bool) -> PageState {
        PageState(if inferred { self.0 | INFERRED } else { self.0 })
    }

    /// What it holds.
    #[must_use]
    #[inline]
    pub fn content(self) -> Content {
        CONTENTS[usize::from(self.0 & 31)]
    }

    /// The recorder allocated it.
    #[must_use]
    #[inline]
    pub fn is_own(self) -> bool {
        self.0 & OWN != 0
    }

    /// Deduced from something else than its own event.
    #[must_use]
    pub fn is_inferred(self) -> bool {
        self.0 & INFERRED != 0
    }
}

/// Pages that were changed, by what they held before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Free, wherever cached.
    pub free: u32,
    /// Handed out, as far as was known, but not to the recorder.
    pub allocated: u32,
    /// Handed out to the recorder, whatever they held.
    pub own: u32,
    /// Of `own`: what a correction made unknown.
    pub own_unknown: u32,
    /// Not known.
    pub unknown: u32,
    /// Not there.
    pub absent: u32,
    /// Reserved at boot.
    pub reserved: u32,
}

impl Before {
    fn count(&mut self, state: PageState, pages: u32) {
        if state.is_own() && state.content() == Content::Unknown {
            self.own_unknown += pages;
        }
        let part = match state.content() {
            _ if state.is_own() => &mut self.own,
            Content::Unknown => &mut self.unknown,
            Content::Absent => &mut self.absent,
            Content::Reserved => &mut self.reserved,
            content if content.is_free() => &mut self.free,
            _ => &mut self.allocated,
        };
        *part += pages;
    }
}

/// All frames.
#[derive(Debug)]
pub struct PageTable {
    states: Vec<PageState>,
    touched: Vec<u32>,
    /// Free pages that are not known to be on a per-CPU list.
    buddy: FreeBits,
    census: Census<Up>,
    geometry: Geometry,
    clock_base_ns: TimeNs,
    unmovable_pages: u64,
    free_pages: u64,
}

impl std::fmt::Debug for PageState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own = if self.is_own() { " own" } else { "" };
        let inferred = if self.is_inferred() { " inferred" } else { "" };
        write!(f, "{:?}{own}{inferred}", self.content())
    }
}

impl PageTable {
    /// A table of absent frames. Its clock counts from `clock_base_ns`.
    ///
    /// # Errors
    /// If the machine has more frames than can be named, or none.
    pub fn new(machine: &Machine, clock_base_ns: TimeNs) -> Result<PageTable, BuildError> {
        let geometry = Geometry::new(machine, u64::from(fragscope_trace::page::REGION_ORDER))?;
        let frames = geometry.frames() as usize;
        let touched = vec![0; frames];
        huge_pages::advise(&touched);
        Ok(PageTable {
            states: vec![PageState::default(); frames],
            touched,
            buddy: FreeBits::new(frames),
            census: Census::new(&geometry),
            geometry,
            clock_base_ns,
            unmovable_pages: 0,
            free_pages: 0,
        })
    }

    /// Where everything is.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Number of frames, holes included.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.states.len() as u32
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The part of a range that the table covers.
    #[must_use]
    #[inline]
    pub fn clip(&self, range: PfnRange) -> std::ops::Range<Frame> {
        let len = self.states.len() as u64;
        range.start.0.min(len) as u32..range.end.0.min(len) as u32
    }

    /// State of one frame.
    #[must_use]
    #[inline]
    pub fn state(&self, frame: Frame) -> PageState {
        self.states[frame as usize]
    }

    /// The tick of a time; 0 is kept for "never".
    #[must_use]
    #[inline]
    pub fn tick(&self, time_ns: TimeNs) -> u32 {
        let ticks = (time_ns.saturating_sub(self.clock_base_ns) >> TICK_SHIFT) + 1;
        ticks.min(u64::from(u32::MAX)) as u32
    }

    /// The first time after a tick.
    #[must_use]
    pub fn time_after_tick(&self, tick: u32) -> TimeNs {
        self.clock_base_ns + (u64::from(tick) << TICK_SHIFT)
    }

    /// Tick of the last event of a frame, 0 if there was none.
    #[must_use]
    #[inline]
    pub fn touched(&self, frame: Frame) -> u32 {
        self.touched[frame as usize]
    }

    /// Something of all that is known of a frame.
    #[inline]
    pub(super) fn read(&self, frame: Frame) -> u32 {
        u32::from(self.states[frame as usize].0) ^ self.touched[frame as usize]
    }

    /// Says that an event named these frames.
    #[inline]
    pub fn touch(&mut self, frames: std::ops::Range<Frame>, tick: u32) {
        match &mut self.touched[frames.start as usize..frames.end as usize] {
            [page] => *page = tick,
            pages => pages.fill(tick),
        }
    }

    /// Sets the state of frames and tells what they held. Frames outside every zone are passed
    /// over.
    #[inline]
    pub fn set(&mut self, frames: std::ops::Range<Frame>, new: PageState) -> Before {
        let mut before = Before::default();
        if frames.len() == 1 {
            let place = self.geometry.place_of(frames.start);
            if let Some((_, region)) = place {
                let old = std::mem::replace(&mut self.states[frames.start as usize], new);
                before.count(old, 1);
                self.count_change(frames.start, 1, region, old, new);
            }
            return before;
        }
        self.set_range(frames, new, &mut before);
        before
    }

    fn set_range(&mut self, frames: std::ops::Range<Frame>, new: PageState, before: &mut Before) {
        let mut at = frames.start;
        while at < frames.end {
            let old = self.states[at as usize];
            let block_end = (at | (self.geometry.pageblock_pages() - 1)).saturating_add(1);
            let limit = block_end.min(frames.end);
            let run = self.states[at as usize..limit as usize].iter();
            let pages = run.take_while(|s| **s == old).count() as u32;
            if let Some((_, region)) = self.geometry.place_of(at) {
                before.count(old, pages);
                self.states[at as usize..(at + pages) as usize].fill(new);
                self.count_change(at, pages, region, old, new);
            }
            at += pages;
        }
    }

    /// Counts frames of a region that turned from one state to another.
    #[inline]
    fn count_change(
        &mut self,
        at: Frame,
        pages: u32,
        region: RegionId,
        old: PageState,
        new: PageState,
    ) {
        let (from, to) = (old.content(), new.content());
        if from == to {
            return;
        }
        let count = u64::from(pages);
        self.unmovable_pages -= if from.taints() { count } else { 0 };
        self.unmovable_pages += if to.taints() { count } else { 0 };
        if (from == Content::Free) != (to == Content::Free) {
            self.buddy.set(at, pages, to == Content::Free);
        }
        if from.is_free() != to.is_free() {
            self.free_pages -= if from.is_free() { count } else { 0 };
            self.free_pages += if to.is_free() { count } else { 0 };
        }
        if pages == 1 {
            self.census.shift_page(region, from, to, at, self.geometry.pageblock(at));
        } else {
            self.census.shift(region, from, to, pages, at);
        }
    }

    /// Pages that stand in the way of a 1 GiB page, on the whole machine.
    #[must_use]
    pub fn unmovable_pages(&self) -> u64 {
        self.unmovable_pages
    }

    /// Free pages, wherever they are cached.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        self.free_pages
    }

    /// Pages that the recorder holds, as far as its allocations were traced. Counted anew.
    #[must_use]
    pub fn own_pages(&self) -> u64 {
        self.states.iter().filter(|state| state.is_own()).count() as u64
    }

    /// Pages by content for every region.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionCensus> {
        self.census.rows(&self.geometry)
    }

    /// Pageblocks of which a page has changed since the last call, and what they hold now.
    pub fn take_touched_blocks(
        &self,
    ) -> impl Iterator<Item = (PageblockId, impl Iterator<Item = Content>)> {
        let order = self.geometry.pageblock_order;
        self.census.take_touched().into_iter().map(move |block| {
            let frames = (block.0 as usize) << order..(block.0 as usize + 1) << order;
            (block, self.states[frames].iter().map(|state| state.content()))
        })
    }

    /// Free blocks by order if every free page were merged as far as it can be, but for those
    /// known to be on per-CPU lists: what the buddy lists would be if all types merged.
    #[must_use]
    pub fn free_blocks(&self) -> Vec<u64> {
        self.buddy.merged_blocks(self.geometry.max_order)
    }

    /// The same of one pageblock.
    #[must_use]
    pub fn free_blocks_of(&self, block: PageblockId) -> FreeBlocks {
        let order = self.geometry.pageblock_order;
        let mut free = FreeBlocks::default();
        for (order, count) in (0..).zip(self.buddy.merged_within(block.0 << order, order)) {
            free.add_many(order, count);
        }
        free
    }

    /// How many regions turned tainted or clean so far.
    #[must_use]
    #[inline]
    pub fn taint_changes_seen(&self) -> u64 {
        self.census.changes_seen()
    }

    /// Moves the taint changes since the last call to the end of `into`.
    pub fn take_taint_changes(&mut self, into: &mut Vec<TaintChange>) {
        self.census.take_changes(into);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::machine;

    #[test]
    fn a_state_keeps_its_parts() {
        for content in Content::ALL {
            let state = PageState::new(content).owned(true).inferred(true);
            assert_eq!(
                (state.content(), state.is_own(), state.is_inferred()),
                (content, true, true)
            );
            let plain = PageState::new(content);
            assert_eq!((plain.is_own(), plain.is_inferred()), (false, false));
        }
    }

    #[test]
    fn before_tells_what_was_there() {
        let mut table = PageTable::new(&machine(&[4096]), 0).unwrap();
        table.set(0..2048, PageState::new(Content::Free));
        table.set(5..7, PageState::new(Content::Slab).owned(true));
        let before = table.set(0..16, PageState::new(Content::Anon));
        let expected = Before { free: 14, own: 2, ..Before::default() };
        assert_eq!(before, expected);
        let before = table.set(2040..2056, PageState::new(Content::Anon));
        assert_eq!((before.free, before.absent), (8, 8));
        assert_eq!((table.free_pages(), table.unmovable_pages()), (2048 - 16 - 8, 0));
    }

    #[test]
    fn ticks_begin_at_one_and_invert() {
        let table = PageTable::new(&machine(&[1024]), 1000).unwrap();
        assert_eq!((table.tick(0), table.tick(1000)), (1, 1));
        for time in [1000, 70_000, 1 << 40] {
            let tick = table.tick(time);
            assert!(table.time_after_tick(tick) > time);
            assert!(table.time_after_tick(tick) - time <= 1 << TICK_SHIFT);
        }
    }
}
