//! Types of pageblocks.
//!
//! A free block lies on the list of its pageblock's type, so each pageblock with a free block
//! tells its type. The kernel's own table (`struct mem_section_usage`) tells the others, where it
//! can be found.

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::PageRun;

use super::runs::Block;

/// The type of each pageblock, where it is known.
#[derive(Clone, Debug)]
pub(crate) struct PageblockTypes {
    order: u8,
    /// Whether they come from the kernel's table.
    from_table: bool,
    /// By pageblock number.
    types: Vec<Option<Migratetype>>,
}

impl PageblockTypes {
    /// No type is known.
    pub(crate) fn new(machine: &Machine) -> PageblockTypes {
        let order = machine.pageblock_order;
        let blocks = machine.end_pfn().0.div_ceil(1 << order);
        PageblockTypes { order, from_table: false, types: vec![None; blocks as usize] }
    }

    /// The types that free blocks tell.
    pub(crate) fn of_blocks(blocks: &[Block], machine: &Machine) -> PageblockTypes {
        let mut types = PageblockTypes::new(machine);
        for block in blocks.iter().filter(|block| block.state.content == Content::Free) {
            let first = types.index(block.start);
            let last = types.index(block.start.offset((1 << block.state.order) - 1));
            for at in first..=last {
                if let Some(slot) = types.types.get_mut(at) {
                    *slot = Some(block.state.migratetype);
                }
            }
        }
        types
    }

    /// Enters the type that the kernel's table shows for the pageblock at `start`.
    pub(crate) fn enter(&mut self, start: Pfn, migratetype: Migratetype) {
        let index = self.index(start);
        self.from_table = true;
        if let Some(slot) = self.types.get_mut(index) {
            *slot = Some(migratetype);
        }
    }

    /// Forgets the types of pageblocks without memory.
    pub(crate) fn forget_absent(&mut self, runs: &[PageRun]) {
        for run in runs.iter().filter(|run| run.content == Content::Absent) {
            let first = run.start.0.div_ceil(1 << self.order);
            let last = run.range().end.0 >> self.order;
            for slot in self.types.iter_mut().take(last as usize).skip(first as usize) {
                *slot = None;
            }
        }
    }

    fn index(&self, pfn: Pfn) -> usize {
        (pfn.0 >> self.order) as usize
    }

    /// The type of the pageblock that holds `pfn`.
    pub(crate) fn of(&self, pfn: Pfn) -> Option<Migratetype> {
        self.types.get(self.index(pfn)).copied().flatten()
    }

    /// Stretches of pageblocks with equal known types.
    pub(crate) fn runs(&self) -> Vec<(PfnRange, Migratetype)> {
        let mut runs: Vec<(PfnRange, Migratetype)> = Vec::new();
        for (number, migratetype) in self.types.iter().enumerate() {
            let Some(migratetype) = *migratetype else { continue };
            let range = PfnRange::new(Pfn((number as u64) << self.order), 1 << self.order);
            match runs.last_mut() {
                Some((last, t)) if last.end == range.start && *t == migratetype => {
                    last.end = range.end;
                }
                _ => runs.push((range, migratetype)),
            }
        }
        runs
    }

    /// Where the types come from, unless all are known from the table.
    pub(crate) fn note(&self) -> Option<String> {
        let known = self.types.iter().flatten().count();
        (!self.from_table).then(|| {
            format!(
                "the kernel's table of pageblock types was not found: types are known where a \
                 pageblock has a free block ({known} pageblocks); elsewhere the content suggests one"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use fragscope_trace::page::PAGEBLOCK_PAGES;

    use super::*;
    use crate::snapshot::runs::State;
    use crate::snapshot::synthetic;

    fn block(pageblock: u64, order: u8, migratetype: Migratetype) -> Block {
        let state = State { content: Content::Free, order, migratetype };
        Block { start: Pfn(pageblock * PAGEBLOCK_PAGES), state }
    }

    #[test]
    fn free_blocks_tell_the_types_of_all_they_cover() {
        let machine = synthetic::machine(16 * PAGEBLOCK_PAGES);
        let blocks = [block(1, 0, Migratetype::Reclaimable), block(2, 10, Migratetype::Movable)];
        let types = PageblockTypes::of_blocks(&blocks, &machine);
        let known = [None, Some(Migratetype::Reclaimable), Some(Migratetype::Movable)];
        let found = [0, 1, 3].map(|b: u64| types.of(Pfn(b * PAGEBLOCK_PAGES + 511)));
        assert_eq!(found, known);
        assert_eq!(types.runs().len(), 2);
        assert!(types.note().is_some());
    }

    #[test]
    fn pageblocks_without_memory_have_no_type() {
        let machine = synthetic::machine(8 * PAGEBLOCK_PAGES);
        let mut types = PageblockTypes::new(&machine);
        for pageblock in 0..8 {
            types.enter(Pfn(pageblock * PAGEBLOCK_PAGES), Migratetype::Movable);
        }
        let absent = PageRun {
            start: Pfn(3 * PAGEBLOCK_PAGES - 1),
            pages: 2 * PAGEBLOCK_PAGES,
            content: Content::Absent,
            order: 0,
            migratetype: Migratetype::Movable,
        };
        types.forget_absent(&[absent]);
        let runs = types.runs();
        let blocks: Vec<_> = runs.iter().map(|(r, _)| (r.start.0 >> 9, r.end.0 >> 9)).collect();
        assert_eq!(blocks, [(0, 3), (4, 8)]);
        assert_eq!(types.note(), None);
    }
}
