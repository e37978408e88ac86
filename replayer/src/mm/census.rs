//! What each region holds, kept up to date with every change, and the taint changes it implies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use fragscope_trace::page::Content;
use fragscope_trace::region::RegionCensus;

use super::allocator::TaintChange;
use super::flavour::{Flavour, Word};
use super::frames::Frame;
use super::geometry::{Geometry, PageblockId, RegionId};
use super::per_thread::PerThread;

/// Taint changes kept for a caller that does not ask for them; later ones are only counted.
const CHANGES_MAX: usize = 1 << 16;

const TAINTING: u32 = {
    let mut mask = 0;
    let mut i = 0;
    while i < Content::COUNT {
        if Content::ALL[i].taints() {
            mask |= 1 << i;
        }
        i += 1;
    }
    mask
};

/// Pages of one region by content, or what a thread added to them and took away.
type Row<F> = [<F as Flavour>::U32; Content::COUNT];

/// Pages by content for every region. Absent pages are what is left of a region's span.
#[derive(Debug)]
pub struct Census<F: Flavour> {
    /// The sums over the copies count.
    pages: PerThread<F, Box<[Row<F>]>>,
    /// By region, pages of contents that taint.
    tainting: Box<[F::U32]>,
    changes_seen: F::U64,
    changes: Mutex<Vec<TaintChange>>,
    /// By pageblock: whether something in it has changed since somebody looked. Orders nothing,
    /// so it is no part of what is checked for races.
    touched: Box<[AtomicBool]>,
    pageblock_order: u8,
}

impl<F: Flavour> Census<F> {
    /// A census of absent pages.
    #[must_use]
    pub fn new(geometry: &Geometry) -> Census<F> {
        let regions = geometry.regions.len();
        Census {
            pages: PerThread::new(|| F::U32::zeroed(regions)),
            tainting: std::iter::repeat_with(F::U32::default).take(regions).collect(),
            changes_seen: F::U64::default(),
            changes: Mutex::default(),
            touched: (0..geometry.pageblocks()).map(|_| AtomicBool::new(false)).collect(),
            pageblock_order: geometry.pageblock_order,
        }
    }

    /// Says that `pages` pages of a region (one at least), the first of them `frame`, turned from one content
    /// to another.
    pub fn shift(&self, region: RegionId, from: Content, to: Content, pages: u32, frame: Frame) {
        self.count(region, from, to, pages, frame);
        let last = (frame + (pages - 1)) >> self.pageblock_order;
        (frame >> self.pageblock_order..=last).for_each(|block| self.touch(block));
    }

    /// [`Census::shift`] of one page, which lies in `block`.
    #[inline(always)]
    pub fn shift_page(
        &self,
        region: RegionId,
        from: Content,
        to: Content,
        frame: Frame,
        block: PageblockId,
    ) {
        self.count(region, from, to, 1, frame);
        self.touch(block.0);
    }

    #[inline(always)]
    fn count(&self, region: RegionId, from: Content, to: Content, pages: u32, frame: Frame) {
        let row = &self.pages[region.0 as usize];
        row[from.index()].sub(pages);
        row[to.index()].add(pages);
        let (from, to) = (TAINTING >> from.index() & 1, TAINTING >> to.index() & 1);
        // Which of them it is cannot be foreseen, so a replay asks only whether the region turned.
        // Threads had better leave a word alone that all of them share.
        if F::REPLAYS || from != to {
            let change = to.wrapping_sub(from).wrapping_mul(pages);
            self.shift_taint(region, change, frame);
        }
    }

    /// Says that something in a pageblock changed.
    #[inline(always)]
    fn touch(&self, block: u32) {
        let touched = &self.touched[block as usize];
        // Threads that only look may all have the cache line.
        if !touched.load(Ordering::Relaxed) {
            touched.store(true, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn shift_taint(&self, region: RegionId, change: u32, frame: Frame) {
        let tainting = &self.tainting[region.0 as usize];
        let before = tainting.get();
        tainting.add(change);
        let after = tainting.get();
        if (before == 0) != (after == 0) {
            self.note(TaintChange { region: region.0, frame, tainted: before == 0 });
        }
    }

    #[cold]
    fn note(&self, change: TaintChange) {
        self.changes_seen.add(1);
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() < CHANGES_MAX {
            changes.push(change);
        }
    }

    /// Taint changes so far.
    pub fn changes_seen(&self) -> u64 {
        self.changes_seen.get()
    }

    /// Moves the kept taint changes to the end of `into`.
    pub fn take_changes(&self, into: &mut Vec<TaintChange>) {
        into.append(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Pageblocks of which a page has changed since the last call, ascending.
    pub fn take_touched(&self) -> Vec<PageblockId> {
        let touched = self.touched.iter().enumerate();
        touched
            .filter(|(_, touched)| touched.load(Ordering::Relaxed))
            .map(|(block, touched)| {
                touched.store(false, Ordering::Relaxed);
                PageblockId(block as u32)
            })
            .collect()
    }

    /// Pages of a region that hold `content`, absent ones excepted.
    pub fn pages(&self, region: RegionId, content: Content) -> u32 {
        let copies = self.pages.all().map(|rows| rows[region.0 as usize][content.index()].get());
        copies.fold(0, u32::wrapping_add)
    }

    /// Pages of a region that stand in the way of a 1 GiB page.
    pub fn tainting_pages(&self, region: RegionId) -> u32 {
        self.tainting[region.0 as usize].get()
    }

    /// The rows as everybody else knows them.
    pub fn rows(&self, geometry: &Geometry) -> Vec<RegionCensus> {
        let mut regions = geometry.empty_census();
        for (id, region) in regions.iter_mut().enumerate() {
            for content in Content::ALL {
                region.pages[content.index()] = self.pages(RegionId(id as u32), content);
            }
            // Absent pages are counted down from 0 as memory arrives.
            let absent = &mut region.pages[Content::Absent.index()];
            *absent = absent.wrapping_add(region.span_pages as u32);
        }
        regions
    }
}
