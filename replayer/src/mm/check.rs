//! Everything re-derived from scratch. For tests and debug builds.
//!
//! What must hold: each frame is in exactly one state, each free block on exactly one list of its
//! order and its pageblock's type; no pageblock stays isolated; counts, accounts and the census are the sums over frames;
//! merging is complete but for buddies of at least a pageblock whose types do not merge, and for
//! zone edges.

use fragscope_trace::page::{Content, Migratetype};

use super::buddy::Buddy;
use super::cache::Cache;
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState, FrameWord, Mark};
use super::geometry::RegionId;
use super::page_alloc::Mm;
use super::pageblock::BlockFlags;
use super::placement::Placement;
use super::zone::Zone;

/// What the frames add up to.
#[derive(Debug, Default)]
struct Sums {
    free: u64,
    cma: u64,
    highatomic: u64,
    in_blocks: u64,
}

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Checks every invariant.
    ///
    /// # Panics
    /// With a description of what does not hold.
    pub fn check(&self) {
        let buddy = &self.buddy;
        buddy.check_frames();
        for block in buddy.blocks.online() {
            let isolated = buddy.blocks.has(block, BlockFlags::ISOLATE);
            assert!(!isolated, "{block:?} is still isolated");
        }
        for zone in &buddy.zones {
            buddy.check_zone(zone);
        }
        self.cache.check(buddy);
        let cached: u64 = buddy.zones.iter().map(|zone| self.cache.pages(zone)).sum();
        let counted: u64 = buddy.total(Content::Pcp);
        assert_eq!(cached, counted, "pages on per-CPU lists against the census");
        P::check(buddy);
    }
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    fn total(&self, content: Content) -> u64 {
        let regions = 0..self.geometry.regions.len() as u32;
        regions.map(|region| u64::from(self.census.pages(RegionId(region), content))).sum()
    }

    /// Walks all frames block by block: states, and the census.
    fn check_frames(&self) {
        let mut census = vec![[0u32; Content::COUNT]; self.geometry.regions.len()];
        let mut frame = 0;
        while frame < self.frames.len() {
            let word = self.frames.word(frame);
            let pages = self.check_block(frame, word);
            if word.state() != FrameState::Absent {
                for inner in frame..frame + pages {
                    let region = self.geometry.region_of(inner);
                    let content = match word.state() {
                        FrameState::Allocated => self.frames.word(inner).content(),
                        _ => word.content(),
                    };
                    census[region.0 as usize][content.index()] += 1;
                }
            }
            frame += pages;
        }
        for (region, counted) in census.iter().enumerate() {
            for content in Content::ALL.into_iter().filter(|c| *c != Content::Absent) {
                let kept = self.census.pages(RegionId(region as u32), content);
                let counted = counted[content.index()];
                assert_eq!(kept, counted, "pages of {content:?} in region {region}");
            }
            let tainting = Content::ALL.into_iter().filter(|c| c.taints());
            let counted: u32 = tainting.map(|c| counted[c.index()]).sum();
            let kept = self.census.tainting_pages(RegionId(region as u32));
            assert_eq!(kept, counted, "tainting pages in region {region}");
        }
    }

    /// Checks the block that begins at a frame; returns its pages.
    fn check_block(&self, frame: Frame, word: FrameWord) -> u32 {
        match word.state() {
            FrameState::Absent | FrameState::Reserved => return 1,
            FrameState::FreeTail => panic!("frame {frame:#x} is the inside of no free block"),
            FrameState::Allocated => {
                assert!(!word.marks().contains(Mark::TAIL), "{frame:#x} is the tail of no block");
            }
            FrameState::Buddy | FrameState::Pcp | FrameState::Isolated => {}
        }
        let pages = 1 << word.order();
        assert_eq!(frame & (pages - 1), 0, "{frame:#x} of order {} is not aligned", word.order());
        for inner in frame + 1..frame + pages {
            let tail = self.frames.word(inner);
            let sound = if word.state() == FrameState::Allocated {
                tail.state() == FrameState::Allocated && tail.marks().contains(Mark::TAIL)
            } else {
                tail == FrameWord::free_tail()
            };
            assert!(sound, "{inner:#x} inside {frame:#x} {word:?} is {tail:?}");
        }
        pages
    }

    fn check_zone(&self, zone: &Zone<F>) {
        let mut sums = Sums::default();
        for order in 0..=self.geometry.max_order {
            for migratetype in Migratetype::ALL {
                let blocks = self.check_list(zone, order, migratetype);
                let kept = zone.blocks(order, migratetype);
                assert_eq!(kept, blocks, "blocks of order {order} {migratetype} in {:?}", zone.id);
                let bit = zone.orders(migratetype) >> order & 1 == 1;
                assert_eq!(bit, blocks > 0, "order bit {order} of {migratetype} in {:?}", zone.id);
                sums.add(order, migratetype, blocks, self.geometry.pageblock_order);
            }
        }
        assert_eq!(zone.free_pages.get(), sums.free, "NR_FREE_PAGES of {:?}", zone.id);
        assert_eq!(zone.free_cma.get(), sums.cma, "NR_FREE_CMA_PAGES of {:?}", zone.id);
        assert_eq!(zone.free_highatomic.get(), sums.highatomic, "nr_free_highatomic");
        assert_eq!(zone.free_pages_blocks.get(), sums.in_blocks, "NR_FREE_PAGES_BLOCKS");
        self.check_off_lists(zone);
    }

    /// Checks the lists of one order and type; returns their blocks.
    fn check_list(&self, zone: &Zone<F>, order: u8, migratetype: Migratetype) -> u32 {
        let mut blocks = 0;
        for list in P::lists(self, zone, order, migratetype) {
            self.frames.check_list(list);
            for frame in self.frames.iter(list) {
                let word = self.frames.word(frame);
                let reported = word.marks() & Mark::REPORTED;
                let listed = FrameWord::buddy(order, migratetype).with_marks(reported);
                assert_eq!(word, listed, "{frame:#x} on its list");
                assert!(self.geometry.in_zone(frame, zone.id), "{frame:#x} in {:?}", zone.id);
                let own = self.placement.list(zone, frame, order, migratetype);
                assert_eq!(own, list, "list of {frame:#x}");
                self.check_types(frame, order, migratetype);
                self.check_merged(zone, frame, order);
                blocks += 1;
            }
        }
        blocks
    }

    fn check_types(&self, frame: Frame, order: u8, migratetype: Migratetype) {
        for block in self.pageblocks_of(frame, order) {
            let kind = self.blocks.migratetype(block);
            assert_eq!(kind, migratetype, "type of {block:?} under free {frame:#x} of {order}");
        }
    }

    fn check_merged(&self, zone: &Zone<F>, frame: Frame, order: u8) {
        let buddy = frame ^ 1 << order;
        if order >= self.geometry.max_order || !self.frames.word(buddy).is_buddy_of(order) {
            return;
        }
        if !self.geometry.in_zone(buddy, zone.id) {
            return;
        }
        let (own, other) = (self.migratetype(frame), self.migratetype(buddy));
        let unlike = own != other && !(own.is_mergeable() && other.is_mergeable());
        // Giving up a reserve retypes its pageblocks where they are and merges nothing.
        let unreserved = self.counters.all().any(|copy| copy.highatomic_unreserved.get() > 0);
        let apart = order >= self.geometry.pageblock_order && (unlike || unreserved);
        assert!(apart, "{frame:#x} and {buddy:#x} of order {order} are not merged");
    }

    /// Checks the blocks that are free but on no buddy or per-CPU list.
    fn check_off_lists(&self, zone: &Zone<F>) {
        self.frames.check_list(zone.deferred);
        let parked = self.frames.iter(zone.deferred).count();
        assert_eq!(zone.deferred_blocks.get() as usize, parked, "deferred frees");
        for order in 0..=self.geometry.max_order {
            let list = zone.compaction.list(order);
            assert_eq!(self.frames.first(list), None, "compaction left isolated blocks");
        }
    }
}

impl Sums {
    fn add(&mut self, order: u8, migratetype: Migratetype, blocks: u32, pageblock_order: u8) {
        let pages = u64::from(blocks) << order;
        match migratetype {
            Migratetype::Isolate => return,
            Migratetype::Cma => self.cma += pages,
            Migratetype::HighAtomic => self.highatomic += pages,
            _ => {}
        }
        self.free += pages;
        if order >= pageblock_order {
            self.in_blocks += pages;
        }
    }
}
