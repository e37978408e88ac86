//! Types of pageblocks as far as they are known: from the snapshot, then from the events that
//! show one in passing.

use fragscope_trace::page::{Content, Migratetype};
use fragscope_trace::snapshot::Snapshot;

use crate::mm::frames::Frame;
use crate::mm::geometry::{Geometry, PageblockId};

const NOT_KNOWN: u8 = u8::MAX;

/// One type for each pageblock.
#[derive(Debug)]
pub struct BlockTypes {
    types: Vec<u8>,
    /// Whether a snapshot told the types of all blocks.
    complete: bool,
}

impl BlockTypes {
    /// Nothing is known.
    #[must_use]
    pub fn new(pageblocks: u32) -> BlockTypes {
        BlockTypes { types: vec![NOT_KNOWN; pageblocks as usize], complete: false }
    }

    /// Takes the types of a snapshot. Blocks without memory have none.
    pub fn load(&mut self, snapshot: &Snapshot, geometry: &Geometry) {
        for (range, migratetype) in &snapshot.pageblocks {
            let end = range.end.0.min(geometry.frames());
            let first = range.start.0.min(end) >> geometry.pageblock_order;
            let last = end.div_ceil(1 << geometry.pageblock_order);
            self.types[first as usize..last as usize].fill(*migratetype as u8);
        }
        self.complete = !snapshot.pageblocks.is_empty();
        for run in snapshot.runs.iter().filter(|run| run.content == Content::Absent) {
            let whole = 1u64 << geometry.pageblock_order;
            let (start, end) = (run.start.0, (run.start.0 + run.pages).min(geometry.frames()));
            let blocks = start.div_ceil(whole) as usize..(end / whole) as usize;
            if let Some(absent) = self.types.get_mut(blocks) {
                absent.fill(NOT_KNOWN);
            }
        }
    }

    /// Says what type the pageblocks of a block of `order` have.
    #[inline]
    pub fn set(&mut self, geometry: &Geometry, frame: Frame, order: u8, migratetype: Migratetype) {
        let PageblockId(first) = geometry.pageblock(frame);
        let blocks = 1 << order.saturating_sub(geometry.pageblock_order).min(10);
        for block in first..first + blocks {
            if let Some(known) = self.types.get_mut(block as usize) {
                *known = migratetype as u8;
            }
        }
    }

    /// Type of a frame's pageblock, if known.
    #[must_use]
    pub fn of(&self, geometry: &Geometry, frame: Frame) -> Option<Migratetype> {
        let PageblockId(block) = geometry.pageblock(frame);
        Migratetype::from_index(usize::from(*self.types.get(block as usize)?))
    }

    /// Regions with a pageblock of unmovable, reclaimable or highatomic type; `None` unless a
    /// snapshot told all types.
    #[must_use]
    pub fn tainted_regions(&self, geometry: &Geometry) -> Option<u64> {
        const TAINTING: [Migratetype; 3] =
            [Migratetype::Unmovable, Migratetype::Reclaimable, Migratetype::HighAtomic];
        let tainting = |t: &u8| TAINTING.iter().any(|m| *m as u8 == *t);
        let tainted = |region: &&crate::mm::geometry::Region| {
            let last = region.end.saturating_sub(1);
            let blocks = geometry.pageblock(region.start).0..=geometry.pageblock(last).0;
            self.types[*blocks.start() as usize..=*blocks.end() as usize].iter().any(tainting)
        };
        self.complete.then(|| geometry.regions.iter().filter(tainted).count() as u64)
    }
}
