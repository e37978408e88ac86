//! Types of pageblocks.
//!
//! A free block lies on the list of its pageblock's type, so each pageblock with a free block
//! tells its type. The kernel's own table (`struct mem_section_usage`) tells the others, where it
//! can be found.

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, Migratetype, Pfn, PfnRange};

use super::runs::Block;

/// The type of each pageblock, where it is known.
#[derive(Clone, Debug)]
pub(crate) struct PageblockTypes {
    order: u8,
    /// By pageblock number.
    types: Vec<Option<Migratetype>>,
}

impl PageblockTypes {
    /// No type is known.
    pub(crate) fn new(machine: &Machine) -> PageblockTypes {
        let order = machine.pageblock_order;
        let blocks = machine.end_pfn().0.div_ceil(1 << order);
        PageblockTypes { order, types: vec![None; blocks as usize] }
    }

    /// The types that free blocks tell.
    pub(crate) fn of_blocks(blocks: &[Block], machine: &Machine) -> PageblockTypes {
        let mut types = PageblockTypes::new(machine);
        for block in blocks.iter().filter(|block| block.state.content == Content::Free) {
            let first = types.index(block.start);
            let last = types.index(block.start.offset((1 << block.state.order) - 1));
            for at in first..=last {
                types.set(at, block.state.migratetype);
            }
        }
        types
    }

    fn index(&self, pfn: Pfn) -> usize {
        (pfn.0 >> self.order) as usize
    }

    fn set(&mut self, index: usize, migratetype: Migratetype) {
        if let Some(slot) = self.types.get_mut(index) {
            *slot = Some(migratetype);
        }
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

    pub(crate) fn note(&self) -> String {
        let known = self.types.iter().flatten().count();
        format!(
            "types of pageblocks are known where one has a free block: {known} of {}; elsewhere \
             the content suggests one",
            self.types.len()
        )
    }
}
