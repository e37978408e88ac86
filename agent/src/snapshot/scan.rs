//! The walk over all struct pages: runs of what each says, and the links of pages on lists.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use fragscope_trace::page::{Content, MAX_PAGE_ORDER, Pfn, PfnRange};

use super::classify::{KERNEL_SPACE, Pages, Seen};
use super::layout::page::PageLayout;
use super::runs::{Block, RunBuilder, State};
use crate::bpf::calibrate::Vmemmap;

/// A page that is, or may be, on a free list or a per-CPU list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) pfn: Pfn,
    /// Order of a buddy block; `None` for a page that may be on a per-CPU list, whose order only
    /// the list tells.
    pub(crate) order: Option<u8>,
    /// `list.next`: another page's list field, or the list head.
    pub(crate) next: u64,
    /// `list.prev`.
    pub(crate) prev: u64,
}

/// Progress of one scan.
pub(crate) struct Scan<'a> {
    layout: &'a PageLayout,
    vmemmap: Vmemmap,
    pub(crate) runs: RunBuilder,
    /// Ascending by pfn.
    pub(crate) nodes: Vec<Node>,
    /// Whether the cache of slabs at an address is reclaimable.
    caches: HashMap<u64, bool>,
    /// Slabs whose cache was not known yet.
    unsorted: Vec<(Pfn, u8, u64)>,
    /// Slabs found to be reclaimable after they were pushed.
    pub(crate) reclaimable: Vec<Block>,
    /// Everything below is done; a gigantic page reaches beyond its chunk.
    done: Pfn,
    /// Idle pages below that are on no list belong to the kernel block that began last.
    block_end: Pfn,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(layout: &'a PageLayout, vmemmap: Vmemmap) -> Scan<'a> {
        Scan {
            layout,
            vmemmap,
            runs: RunBuilder::default(),
            nodes: Vec::new(),
            caches: HashMap::new(),
            unsorted: Vec::new(),
            reclaimable: Vec::new(),
            done: Pfn(0),
            block_end: Pfn(0),
        }
    }

    /// Adds the frames of `range`, whose struct pages are `words`. Ranges ascend.
    pub(crate) fn chunk(&mut self, range: PfnRange, words: &[AtomicU64]) {
        let per_page = self.layout.words();
        let mut at = range.start.max(self.done);
        while at < range.end {
            let from = (at.0 - range.start.0) as usize * per_page;
            let pages = Pages::new(self.layout, &words[from..]);
            at = self.page(at, &pages);
        }
        self.done = at;
    }

    /// Adds what begins at `at`; gives the frame behind it.
    fn page(&mut self, at: Pfn, pages: &Pages<'_>) -> Pfn {
        match pages.see() {
            Seen::Idle => return self.idle(at, pages),
            Seen::Kernel => {
                self.push(at, Content::Kernel, 0);
                let order = at.0.trailing_zeros().min(u32::from(MAX_PAGE_ORDER));
                self.block_end = at.offset(1 << order);
                return at.offset(1);
            }
            Seen::Buddy(order) if at.is_aligned(order) => {
                self.node(at, Some(order), pages.links());
                self.push(at, Content::Free, order);
                self.block_end = at;
                return at.offset(1 << order);
            }
            // A torn read: the order was written before the type, or after.
            Seen::Buddy(_) | Seen::StrayTail => self.push(at, Content::Unknown, 0),
            Seen::Block(content, order) => return self.block(at, content, order),
            Seen::Slab { order, cache } => {
                let content = self.slab(at, order, cache);
                return self.block(at, content, order);
            }
        }
        self.block_end = at;
        at.offset(1)
    }

    fn block(&mut self, at: Pfn, content: Content, order: u8) -> Pfn {
        let order = if at.is_aligned(order) { order } else { 0 };
        self.push(at, content, order);
        self.block_end = at;
        at.offset(1 << order)
    }

    fn slab(&mut self, at: Pfn, order: u8, cache: u64) -> Content {
        match self.caches.get(&cache) {
            Some(true) => Content::Reclaimable,
            Some(false) => Content::Slab,
            None => {
                self.unsorted.push((at, order, cache));
                Content::Slab
            }
        }
    }

    /// Asks about the caches met for the first time. Reading them overwrites the chunk, so this
    /// comes after it.
    pub(crate) fn sort_slabs(&mut self, mut is_reclaimable: impl FnMut(u64) -> bool) {
        for (start, order, cache) in std::mem::take(&mut self.unsorted) {
            let known = self.caches.entry(cache).or_insert_with(|| is_reclaimable(cache));
            if *known && start.is_aligned(order) {
                let state = State::new(Content::Reclaimable, order);
                self.reclaimable.push(Block { start, state });
            }
        }
    }

    /// A page without reference or type.
    fn idle(&mut self, at: Pfn, pages: &Pages<'_>) -> Pfn {
        let (next, prev) = pages.links();
        // Initialised at boot and never on a list: both links lead to itself.
        let own = self.vmemmap.page_address(at.0) + self.layout.list;
        if self.is_link(next) && self.is_link(prev) && next != own {
            self.node(at, None, (next, prev));
            self.push(at, Content::Unknown, 0);
            self.block_end = at;
        } else if at < self.block_end {
            // The kernel leaves no trace on the tails of a block that is not compound.
            self.push(at, Content::Kernel, 0);
        } else {
            self.push(at, Content::Unknown, 0);
        }
        at.offset(1)
    }

    /// Whether a word can be a link of a list: an aligned kernel address, and inside the struct
    /// pages only the list field of one. Removed entries hold poison, never used ones 0.
    fn is_link(&self, word: u64) -> bool {
        word >= KERNEL_SPACE
            && word.is_multiple_of(8)
            && word.checked_sub(self.vmemmap.base).is_none_or(|offset| {
                // The array ends far below the highest frame that x86-64 can have.
                offset >= self.layout.bytes << 40 || offset % self.layout.bytes == self.layout.list
            })
    }

    fn node(&mut self, pfn: Pfn, order: Option<u8>, (next, prev): (u64, u64)) {
        self.nodes.push(Node { pfn, order, next, prev });
    }

    fn push(&mut self, at: Pfn, content: Content, order: u8) {
        self.runs.push(at, 1 << order, State::new(content, order));
    }
}

#[cfg(test)]
mod tests {
    use fragscope_trace::snapshot::PageRun;

    use super::*;
    use crate::snapshot::classify::tests::{Page, words};
    use crate::snapshot::layout::tests::layout_6_18;

    const VMEMMAP: Vmemmap = Vmemmap { base: 0xffff_ea00_0000_0000, page_bytes: 64 };
    const ZONE: u64 = 0xffff_8881_0000_0000;
    const POISON: u64 = 0xdead_0000_0000_0100;

    fn scan(pages: &[Page]) -> (Vec<PageRun>, Vec<Node>) {
        let layout = layout_6_18();
        let mut scan = Scan::new(&layout.page, VMEMMAP);
        let range = PfnRange::new(Pfn(0), pages.len() as u64);
        scan.chunk(range, &words(pages));
        scan.sort_slabs(|cache| cache == ZONE);
        scan.reclaimable.sort_unstable_by_key(|b| b.start);
        let runs = crate::snapshot::runs::overlay(&scan.runs.finish(), &scan.reclaimable);
        (runs, scan.nodes)
    }

    fn contents(runs: &[PageRun]) -> Vec<(u64, u64, Content, u8)> {
        runs.iter().map(|r| (r.start.0, r.pages, r.content, r.order)).collect()
    }

    fn listed(page: Page) -> Page {
        page.links(VMEMMAP.page_address(9) + 8, ZONE + 16)
    }

    #[test]
    fn blocks_are_skipped_whole_and_listed_pages_noted() {
        let removed = || Page::new().links(POISON, POISON + 0x22);
        let own = VMEMMAP.page_address(10) + 8;
        let pages = [
            listed(Page::new().typed(0xf0).private(1)),
            // What lies in a free block is not looked at.
            Page::new().refs(5),
            listed(Page::new()),
            Page::new().refs(1),
            // Two pages behind a kernel page of order 2 at most, in an aligned block.
            Page::new().refs(1),
            removed(),
            removed(),
            Page::new().refs(1),
            removed(),
            Page::new().typed(0xf2).refs(1),
            // Never on a list since boot.
            Page::new().links(own, own),
        ];
        let (runs, nodes) = scan(&pages);
        let expected = [
            (0, 2, Content::Free, 1),
            (2, 1, Content::Unknown, 0),
            (3, 5, Content::Kernel, 0),
            (8, 1, Content::Unknown, 0),
            (9, 1, Content::PageTable, 0),
            (10, 1, Content::Unknown, 0),
        ];
        assert_eq!(contents(&runs), expected);
        let found: Vec<_> = nodes.iter().map(|n| (n.pfn.0, n.order)).collect();
        assert_eq!(found, [(0, Some(1)), (2, None)]);
    }

    #[test]
    fn links_lead_to_list_fields_or_out_of_the_array() {
        let layout = layout_6_18();
        let scan = Scan::new(&layout.page, VMEMMAP);
        let page = VMEMMAP.page_address(77);
        assert!(scan.is_link(page + 8) && scan.is_link(ZONE));
        assert!(!scan.is_link(page) && !scan.is_link(page + 16));
        assert!(!scan.is_link(0) && !scan.is_link(POISON) && !scan.is_link(ZONE + 1));
    }

    #[test]
    fn slabs_are_sorted_by_their_cache() {
        let head = layout_6_18().page.flag.head;
        let slab = |cache| Page::new().typed(0xf5).flags(head).links(cache, 0);
        let tail = || Page::new().tail_of_order(1);
        let (runs, _) = scan(&[slab(ZONE), tail(), slab(ZONE + 64), tail()]);
        let expected = [(0, 2, Content::Reclaimable, 1), (2, 2, Content::Slab, 1)];
        assert_eq!(contents(&runs), expected);
    }
}
