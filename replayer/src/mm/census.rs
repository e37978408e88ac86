//! What each region holds, kept up to date with every change, and the taint changes it implies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use fragscope_trace::page::Content;
use fragscope_trace::region::RegionCensus;

use super::allocator::TaintChange;
use super::flavour::{Flavour, Word};
use super::frames::Frame;
use super::geometry::{Geometry, PageblockId, RegionId};

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

#[derive(Debug)]
struct Row<F: Flavour> {
    pages: [F::U32; Content::COUNT],
    tainting: F::U32,
}

/// Pages by content for every region. Absent pages are what is left of a region's span.
#[derive(Debug)]
pub struct Census<F: Flavour> {
    rows: Box<[Row<F>]>,
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
        let row = || Row { pages: Default::default(), tainting: F::U32::default() };
        Census {
            rows: std::iter::repeat_with(row).take(geometry.regions.len()).collect(),
            changes_seen: F::U64::default(),
            changes: Mutex::default(),
            touched: (0..geometry.pageblocks()).map(|_| AtomicBool::new(false)).collect(),
            pageblock_order: geometry.pageblock_order,
        }
    }

    /// Says that `pages` pages of a region, the first of them `frame`, turned from one content
    /// to another.
    #[inline]
    pub fn shift(&self, region: RegionId, from: Content, to: Content, pages: u32, frame: Frame) {
        let row = &self.rows[region.0 as usize];
        row.pages[from.index()].sub(pages);
        row.pages[to.index()].add(pages);
        let last = frame + pages.saturating_sub(1);
        for block in frame >> self.pageblock_order..=last >> self.pageblock_order {
            self.touched[block as usize].store(true, Ordering::Relaxed);
        }
        if (1 << from.index() | 1 << to.index()) & TAINTING != 0 {
            self.shift_taint(region, from.taints(), to.taints(), pages, frame);
        }
    }

    fn shift_taint(&self, region: RegionId, from: bool, to: bool, pages: u32, frame: Frame) {
        let tainting = &self.rows[region.0 as usize].tainting;
        let before = tainting.get();
        if from == to {
            return;
        }
        if to {
            tainting.add(pages);
        } else {
            tainting.sub(pages);
        }
        if (before == 0) != (tainting.get() == 0) {
            self.note(TaintChange { region: region.0, frame, tainted: to });
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
        self.rows[region.0 as usize].pages[content.index()].get()
    }

    /// Pages of a region that stand in the way of a 1 GiB page.
    pub fn tainting_pages(&self, region: RegionId) -> u32 {
        self.rows[region.0 as usize].tainting.get()
    }

    /// The rows as everybody else knows them.
    pub fn rows(&self, geometry: &Geometry) -> Vec<RegionCensus> {
        let mut regions = geometry.empty_census();
        for (region, row) in regions.iter_mut().zip(&self.rows) {
            for (pages, kept) in region.pages.iter_mut().zip(&row.pages) {
                *pages = kept.get();
            }
            // Absent pages are counted down from 0 as memory arrives.
            let absent = &mut region.pages[Content::Absent.index()];
            *absent = absent.wrapping_add(region.span_pages as u32);
        }
        regions
    }
}
