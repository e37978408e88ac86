//! The free memory and the pageblocks of one allocator at one time: what a model and the kernel
//! are compared by.

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Content, MAX_PAGE_ORDER, Migratetype, Pfn};
use fragscope_trace::region::{RegionCensus, census};
use fragscope_trace::snapshot::Snapshot;

use crate::mm::allocator::PageAllocator;
use crate::mm::fallbacks::Fallbacks;
use crate::mm::frames::Frame;

/// An allocator's state as far as fidelity is measured by it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// When it was taken.
    pub time_ns: TimeNs,
    /// Free blocks on the zones' buddy lists, by order, all types.
    pub buddy_blocks: Vec<u64>,
    /// Free pages on per-CPU lists.
    pub pcp_pages: u64,
    /// Type of each pageblock from pfn 0 on; `None` where it is not known or there is no memory.
    pub pageblocks: Vec<Option<Migratetype>>,
    /// Pages by content for every region.
    pub regions: Vec<RegionCensus>,
    /// Fallbacks to other types since the start: every region's first frame and counts. None for
    /// a snapshot, which does not tell.
    pub fallbacks: Vec<(Pfn, Fallbacks)>,
}

impl Survey {
    /// What a snapshot found.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> Survey {
        let mut buddy_blocks = vec![0; usize::from(MAX_PAGE_ORDER) + 1];
        let mut pcp_pages = 0;
        for run in &snapshot.runs {
            match run.content {
                Content::Free => {
                    let order = usize::from(run.order.min(MAX_PAGE_ORDER));
                    buddy_blocks[order] += run.pages >> order;
                }
                Content::Pcp => pcp_pages += run.pages,
                _ => {}
            }
        }
        Survey {
            time_ns: snapshot.end_ns,
            buddy_blocks,
            pcp_pages,
            pageblocks: pageblocks_of(snapshot),
            regions: census(snapshot),
            fallbacks: Vec::new(),
        }
    }

    /// What an allocator has, `pageblock_order` being the log2 of its pageblocks' pages.
    #[must_use]
    pub fn of_allocator<A: PageAllocator>(
        allocator: &A,
        pageblock_order: u8,
        time_ns: TimeNs,
    ) -> Survey {
        let blocks = allocator.frames().len() >> pageblock_order;
        let start = |block: Frame| block << pageblock_order;
        Survey {
            time_ns,
            buddy_blocks: allocator.free_blocks(),
            pcp_pages: allocator.free_pages().1,
            pageblocks: (0..blocks).map(|b| Some(allocator.pageblock_type(start(b)))).collect(),
            regions: allocator.census(),
            fallbacks: allocator.fallbacks(),
        }
    }

    /// Pages on the buddy lists.
    #[must_use]
    pub fn buddy_pages(&self) -> u64 {
        self.buddy_blocks.iter().enumerate().map(|(order, blocks)| blocks << order).sum()
    }

    /// Free pages, wherever cached.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        self.buddy_pages() + self.pcp_pages
    }
}

/// Types by pageblock, but for those that are wholly absent.
fn pageblocks_of(snapshot: &Snapshot) -> Vec<Option<Migratetype>> {
    let order = snapshot.machine.pageblock_order;
    let end = snapshot.machine.end_pfn().0;
    let mut types = vec![None; (end >> order) as usize];
    for (range, migratetype) in &snapshot.pageblocks {
        let blocks = (range.start.0 >> order)..range.end.0.min(end).div_ceil(1 << order);
        if let Some(types) = types.get_mut(blocks.start as usize..blocks.end as usize) {
            types.fill(Some(*migratetype));
        }
    }
    for run in snapshot.runs.iter().filter(|run| run.content == Content::Absent) {
        let (start, end) = (run.range().start.0.div_ceil(1 << order), run.range().end.0 >> order);
        if let Some(absent) = types.get_mut(start as usize..end.max(start) as usize) {
            absent.fill(None);
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use fragscope_trace::page::PfnRange;
    use fragscope_trace::snapshot::{PageRun, SnapshotRole};

    use super::*;
    use crate::mm::StockMm;
    use crate::mm::settings::Settings;
    use crate::testing::{machine, snapshot};

    /// 4096 pages: 1024 absent, 8 cached, one used, the rest in blocks of order 0.
    fn content(pfn: u64) -> Content {
        match pfn {
            0..1024 => Content::Absent,
            2048..2056 => Content::Pcp,
            3000 => Content::Kernel,
            _ => Content::Free,
        }
    }

    #[test]
    fn a_snapshot_is_counted() {
        let machine = machine(&[4096]);
        let mut found = snapshot(&machine, SnapshotRole::Closing, 5, content);
        let run = |r: &&mut PageRun| r.start == Pfn(1024);
        let first = found.runs.iter_mut().find(run).expect("the first free run");
        first.order = 10;
        let unmovable = PfnRange::new(Pfn(3584), 512);
        found.pageblocks.push((unmovable, Migratetype::Unmovable));
        let survey = Survey::of_snapshot(&found);
        assert_eq!((survey.buddy_blocks[10], survey.pcp_pages), (1, 8));
        assert_eq!(survey.buddy_pages(), 4096 - 1024 - 8 - 1);
        assert_eq!(survey.free_pages(), 4096 - 1024 - 1);
        assert_eq!(survey.pageblocks[..2], [None, None]);
        assert_eq!(survey.pageblocks[2], Some(Migratetype::Movable));
        assert_eq!(survey.pageblocks[7], Some(Migratetype::Unmovable));
    }

    #[test]
    fn an_allocator_that_loaded_a_snapshot_has_what_was_found() {
        let machine = machine(&[4096]);
        let found = snapshot(&machine, SnapshotRole::Opening, 5, content);
        let allocator = StockMm::build(&machine, &Settings::default()).unwrap();
        allocator.load(&found);
        let (kernel, model) =
            (Survey::of_snapshot(&found), Survey::of_allocator(&allocator, 9, found.end_ns));
        assert_eq!(kernel.free_pages(), model.free_pages());
        assert_eq!(kernel.pageblocks[2..], model.pageblocks[2..]);
    }
}
