//! What one struct page says about its frame.
//!
//! A pure function of the words of the page (and, for the head of a compound page, of the words
//! that follow). The order of the tests is the order of certainty: what the kernel writes down
//! (reserved, type, compound) before what must be concluded.

use std::sync::atomic::{AtomicU64, Ordering};

use fragscope_trace::page::{Content, MAX_PAGE_ORDER, REGION_ORDER};

use super::layout::Field;
use super::layout::page::{PageLayout, TypeTest};

/// Weight of one pin in the reference count of a small page (`GUP_PIN_COUNTING_BIAS`).
const PIN_BIAS: i64 = 1024;
/// Low bits of `mapping`: anonymous memory (both bits: merged by KSM), and, up to 6.16, movable by
/// its driver.
const MAPPING_BITS: u64 = 3;
const MAPPING_ANON: u64 = 1;
const MAPPING_MOVABLE: u64 = 2;
/// Addresses from here on are the kernel's, with page tables of four levels as with five.
pub(crate) const KERNEL_SPACE: u64 = 0xff00_0000_0000_0000;

/// What a frame holds, as far as its own struct page tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A block of `1 << order` frames with this content.
    Block(Content, u8),
    /// A slab of this order, of the cache at this address.
    Slab { order: u8, cache: u64 },
    /// The first frame of a free block.
    Buddy(u8),
    /// A single kernel page, perhaps the first of a block that is not compound.
    Kernel,
    /// No reference, no type, not compound: on a per-CPU list, in flight, or behind the first
    /// frame of a block that is not compound.
    Idle,
    /// Part of a compound page whose head says something else.
    StrayTail,
}

/// The struct pages from one frame to the end of the chunk.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'a> {
    layout: &'a PageLayout,
    words: &'a [AtomicU64],
}

impl<'a> Pages<'a> {
    /// `words` begins with the struct page in question.
    pub(crate) fn new(layout: &'a PageLayout, words: &'a [AtomicU64]) -> Pages<'a> {
        Pages { layout, words }
    }

    /// The word at byte `offset` from the first page; 0 beyond the chunk.
    fn word(&self, offset: u64) -> u64 {
        self.words.get(offset as usize / 8).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    /// The number of `bytes` (1, 2, 4 or 8) at byte `offset`.
    fn number(&self, offset: u64, bytes: u64) -> u64 {
        let shifted = self.word(offset) >> (offset % 8 * 8);
        if bytes >= 8 { shifted } else { shifted & ((1 << (bytes * 8)) - 1) }
    }

    fn field(&self, field: Field) -> u64 {
        self.number(field.offset, field.bytes)
    }

    fn flags(&self) -> u64 {
        self.word(self.layout.flags)
    }

    fn has(&self, flag: u64) -> bool {
        self.flags() & flag != 0
    }

    fn page_type(&self) -> u32 {
        self.number(self.layout.page_type, 4) as u32
    }

    fn refcount(&self) -> i32 {
        self.number(self.layout.refcount, 4) as i32
    }

    fn mapping(&self) -> u64 {
        self.word(self.layout.mapping)
    }

    /// `list.next` and `list.prev`.
    pub(crate) fn links(&self) -> (u64, u64) {
        (self.word(self.layout.list), self.word(self.layout.list + 8))
    }

    /// Decides.
    pub(crate) fn see(&self) -> Seen {
        if self.flags() == 0 && self.page_type() == 0 && self.refcount() == 0 {
            // An initialised page has a map count of -1: this one was never initialised.
            return Seen::Block(Content::Absent, 0);
        }
        let flag = &self.layout.flag;
        if self.has(flag.reserved) {
            return Seen::Block(Content::Reserved, 0);
        }
        if self.word(self.layout.compound_head) & 1 == 1 {
            return Seen::StrayTail;
        }
        if let Some(seen) = self.typed().or_else(|| self.flagged()) {
            return seen;
        }
        if self.has(flag.lru) {
            return Seen::Block(self.lru_content(), self.order());
        }
        match (self.refcount(), self.has(flag.head)) {
            // A large folio whose count is frozen for the moment: being freed or migrated.
            (0, true) => Seen::Block(Content::Unknown, self.order()),
            (0, false) => Seen::Idle,
            _ => self.referenced(),
        }
    }

    /// By its type.
    fn typed(&self) -> Option<Seen> {
        let (types, page_type) = (&self.layout.types, self.page_type());
        let is = |test: TypeTest| test.matches(page_type);
        Some(match () {
            () if is(types.buddy) => match self.word(self.layout.private) {
                order if order <= u64::from(MAX_PAGE_ORDER) => Seen::Buddy(order as u8),
                _ => Seen::Block(Content::Unknown, 0),
            },
            () if is(types.slab) => self.slab(),
            () if is(types.table) => Seen::Block(Content::PageTable, self.order()),
            () if is(types.hugetlb) => self.hugetlb(),
            () if is(types.large_kmalloc) => Seen::Block(Content::Kernel, self.order()),
            () if is(types.zsmalloc) => Seen::Block(Content::MovableOps, self.order()),
            () if is(types.offline) && self.movable_ops() => {
                Seen::Block(Content::MovableOps, self.order())
            }
            () if is(types.offline) => Seen::Block(Content::Offline, self.order()),
            () if is(types.guard) => Seen::Block(Content::Isolated, 0),
            // The kernel keeps unaccepted memory in blocks of the largest order.
            () if is(types.unaccepted) => Seen::Block(Content::Absent, MAX_PAGE_ORDER),
            () => return None,
        })
    }

    /// By flags that were types' predecessors, and by damage.
    fn flagged(&self) -> Option<Seen> {
        let flag = &self.layout.flag;
        if self.has(flag.slab) {
            return Some(self.slab());
        }
        if self.has(flag.head) && self.is_flagged_hugetlb() {
            return Some(self.hugetlb());
        }
        self.has(flag.hwpoison).then_some(Seen::Block(Content::Offline, 0))
    }

    fn is_flagged_hugetlb(&self) -> bool {
        let second = self.word(self.layout.bytes + self.layout.flags);
        let by_dtor = |(field, value): (Field, u64)| self.field(field) == value;
        second & self.layout.flag.second_hugetlb != 0
            || self.layout.hugetlb_dtor.is_some_and(by_dtor)
    }

    fn hugetlb(&self) -> Seen {
        match self.order() {
            REGION_ORDER => Seen::Block(Content::Gigantic, REGION_ORDER),
            order => Seen::Block(Content::Hugetlb, order),
        }
    }

    fn slab(&self) -> Seen {
        let cache = self.layout.slab_cache.map_or(0, |at| self.word(at));
        Seen::Slab { order: self.order(), cache }
    }

    /// For pages of a type whose drivers may move them.
    fn movable_ops(&self) -> bool {
        self.has(self.layout.flag.movable_ops) || self.is_mapped_movable()
    }

    /// Movable by its driver, where `mapping` says so and not a flag.
    fn is_mapped_movable(&self) -> bool {
        self.layout.flag.movable_ops == 0 && self.mapping() & MAPPING_BITS == MAPPING_MOVABLE
    }

    /// A page on an LRU list.
    fn lru_content(&self) -> Content {
        if self.is_pinned() {
            Content::Pinned
        } else if self.is_anon() || self.has(self.layout.flag.swapbacked) {
            Content::Anon
        } else {
            Content::File
        }
    }

    fn is_anon(&self) -> bool {
        self.mapping() & MAPPING_ANON != 0
    }

    /// Long-term references: the count of pins of a large folio; of a small page, references
    /// far beyond those of its mappings.
    fn is_pinned(&self) -> bool {
        if self.has(self.layout.flag.head) {
            return self.layout.pincount.is_some_and(|field| self.field(field) as i32 > 0);
        }
        let mapped = i64::from(self.page_type() as i32) + 1;
        i64::from(self.refcount()) - mapped.max(0) >= PIN_BIAS
    }

    /// A page in use that is neither typed nor on an LRU list. Anonymous and file pages on their
    /// way to the LRU, or off it for reclaim or migration, can move all the same.
    fn referenced(&self) -> Seen {
        let flag = &self.layout.flag;
        let mapping = self.mapping();
        let io = flag.uptodate | flag.locked | flag.dirty | flag.writeback;
        let of_file = mapping & MAPPING_BITS == 0 && mapping >= KERNEL_SPACE && self.has(io);
        if self.is_anon() || of_file {
            return Seen::Block(self.lru_content(), self.order());
        }
        if self.is_mapped_movable() {
            return Seen::Block(Content::MovableOps, self.order());
        }
        match self.order() {
            0 => Seen::Kernel,
            order => Seen::Block(Content::Kernel, order),
        }
    }

    /// Order of the compound page that begins here, 0 if none does. A head whose second page is
    /// not a tail is about to appear or to vanish.
    fn order(&self) -> u8 {
        let second_is_tail = self.word(self.layout.bytes + self.layout.compound_head) & 1 == 1;
        if !self.has(self.layout.flag.head) || !second_is_tail {
            return 0;
        }
        match self.number(self.layout.compound_order, 1) as u8 {
            order if order <= REGION_ORDER => order,
            _ => 0,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::layout::tests::layout_6_18;

    /// A struct page under construction, with the offsets of `layout_6_18`.
    #[derive(Clone)]
    pub(crate) struct Page(pub(crate) [u64; 8]);

    impl Page {
        pub(crate) fn new() -> Page {
            Page([0, 0, 0, 0, 0, 0, 0xffff_ffff, 0])
        }

        pub(crate) fn flags(mut self, flags: u64) -> Page {
            self.0[0] |= flags;
            self
        }

        pub(crate) fn refs(mut self, count: u32) -> Page {
            self.0[6] |= u64::from(count) << 32;
            self
        }

        pub(crate) fn page_type(mut self, value: u32) -> Page {
            self.0[6] = self.0[6] >> 32 << 32 | u64::from(value);
            self
        }

        pub(crate) fn typed(self, top: u32) -> Page {
            self.page_type(top << 24)
        }

        pub(crate) fn mapping(mut self, mapping: u64) -> Page {
            self.0[3] = mapping;
            self
        }

        pub(crate) fn private(mut self, private: u64) -> Page {
            self.0[5] = private;
            self
        }

        pub(crate) fn links(mut self, next: u64, prev: u64) -> Page {
            (self.0[1], self.0[2]) = (next, prev);
            self
        }

        pub(crate) fn tail_of_order(mut self, order: u64) -> Page {
            self.0[0] |= order;
            self.0[1] = 1;
            self
        }
    }

    pub(crate) fn words(pages: &[Page]) -> Vec<AtomicU64> {
        pages.iter().flat_map(|p| p.0.map(AtomicU64::new)).collect()
    }

    fn see(pages: &[Page]) -> Seen {
        let layout = layout_6_18();
        Pages::new(&layout.page, &words(pages)).see()
    }

    const KERNEL_POINTER: u64 = 0xffff_8881_0000_1000;

    #[test]
    fn single_pages() {
        let layout = layout_6_18();
        let f = layout.page.flag;
        let block = |c| Seen::Block(c, 0);
        let table = [
            (Page([0; 8]), block(Content::Absent)),
            (Page::new().flags(f.reserved).refs(1), block(Content::Reserved)),
            (Page::new(), Seen::Idle),
            (Page::new().refs(1), Seen::Kernel),
            (Page::new().typed(0xf0).private(7), Seen::Buddy(7)),
            (Page::new().typed(0xf0).private(99), block(Content::Unknown)),
            (Page::new().typed(0xf2).refs(1), block(Content::PageTable)),
            (Page::new().typed(0xf1).refs(1), block(Content::Offline)),
            (Page::new().typed(0xf1).refs(1).flags(f.movable_ops), block(Content::MovableOps)),
            (Page::new().typed(0xf6).refs(1), block(Content::MovableOps)),
            (Page::new().typed(0xf5), Seen::Slab { order: 0, cache: 0 }),
            (Page::new().flags(f.lru).refs(2), block(Content::File)),
            (Page::new().flags(f.lru | f.swapbacked).refs(2), block(Content::Anon)),
            (Page::new().flags(f.lru).mapping(KERNEL_POINTER | 1).refs(2), block(Content::Anon)),
            // Frozen for migration, still on the LRU.
            (Page::new().flags(f.lru), block(Content::File)),
            // On the way to the LRU.
            (Page::new().mapping(KERNEL_POINTER | 1).refs(1), block(Content::Anon)),
            (Page::new().mapping(KERNEL_POINTER).flags(f.uptodate).refs(2), block(Content::File)),
            (Page::new().mapping(KERNEL_POINTER).refs(2), Seen::Kernel),
            (Page::new().flags(f.hwpoison).refs(1), block(Content::Offline)),
        ];
        for (n, (page, expected)) in table.into_iter().enumerate() {
            assert_eq!(see(&[page]), expected, "row {n}");
        }
    }

    #[test]
    fn many_mappings_are_not_pins() {
        let lru = layout_6_18().page.flag.lru;
        let page = |mapped: u32, refs| Page::new().flags(lru).page_type(mapped - 1).refs(refs);
        assert_eq!(see(&[page(3000, 3002)]), Seen::Block(Content::File, 0));
        assert_eq!(see(&[page(1, 1026)]), Seen::Block(Content::Pinned, 0));
    }

    #[test]
    fn compound_pages_have_an_order() {
        let f = layout_6_18().page.flag;
        let second = Page::new().tail_of_order(9);
        let see = |head: Page| see(&[head, second.clone()]);
        let anon = Page::new().flags(f.head | f.lru | f.swapbacked).refs(1);
        assert_eq!(see(anon), Seen::Block(Content::Anon, 9));
        let huge = Page::new().flags(f.head).typed(0xf4).refs(1);
        assert_eq!(see(huge), Seen::Block(Content::Hugetlb, 9));
        assert_eq!(see(Page::new().flags(f.head).refs(1)), Seen::Block(Content::Kernel, 9));
        assert_eq!(see(Page::new().flags(f.head)), Seen::Block(Content::Unknown, 9));
        assert_eq!(see(second.clone()), Seen::StrayTail);
    }

    #[test]
    fn a_head_without_tails_is_a_single_page() {
        let head = layout_6_18().page.flag.head;
        assert_eq!(see(&[Page::new().flags(head).refs(1), Page::new()]), Seen::Kernel);
        assert_eq!(see(&[Page::new().flags(head).refs(1)]), Seen::Kernel);
    }

    proptest! {
        #[test]
        fn any_words_are_seen_as_something(pages: Vec<[u64; 8]>) {
            let pages: Vec<Page> = pages.into_iter().map(Page).collect();
            let seen = see(&pages);
            if let Seen::Block(_, order) | Seen::Slab { order, .. } | Seen::Buddy(order) = seen {
                prop_assert!(order <= REGION_ORDER);
            }
        }
    }
}
