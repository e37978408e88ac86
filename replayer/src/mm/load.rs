//! The initial state: memory as a snapshot found it, or as at boot.
//!
//! `stock-allocator` 5.6 and 5.7. A snapshot is read while the machine runs, so lists may
//! contradict page states in places: the state of a page decides, and a list only says the order
//! among blocks that the states confirm.

use fragscope_trace::machine::Watermarks;
use fragscope_trace::page::{Content, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::{FreeList, PageRun, Snapshot};

use super::buddy::ListEnd;
use super::cache::Cache;
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState, FrameWord, Mark};
use super::geometry::PageblockId;
use super::page_alloc::Mm;
use super::pageblock::BlockFlags;
use super::placement::Placement;

/// A page that is free but on no list yet.
fn unlisted() -> FrameWord {
    FrameWord::free_tail().with_marks(Mark::INFERRED)
}

/// Contents that no allocator placed, and that stay where they are in every start state.
fn is_fixed(content: Content) -> bool {
    matches!(content, Content::Hugetlb | Content::Gigantic | Content::Offline)
}

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Gives the allocator the memory of a snapshot, each page as the kernel has it.
    pub fn load_found(&self, snapshot: &Snapshot) {
        self.load_pageblock_types(snapshot, true);
        self.load_zones(snapshot, true);
        for run in &snapshot.runs {
            self.load_run(run, run.content);
        }
        for list in snapshot.lists.iter().filter(|list| list.cpu.is_none()) {
            self.load_buddy_list(list);
        }
        for list in snapshot.lists.iter().filter(|list| list.cpu.is_some()) {
            self.load_cpu_list(snapshot, list);
        }
        self.list_the_rest(snapshot);
        if self.buddy.settings.page_reporting_ms > 0 {
            self.buddy.zones.iter().for_each(|zone| self.buddy.mark_all_reported(zone));
        }
        P::loaded(&self.buddy);
    }

    /// Gives the allocator the memory of a snapshot as at boot.
    pub fn load_boot(&self, snapshot: &Snapshot) {
        self.load_pageblock_types(snapshot, false);
        self.load_zones(snapshot, false);
        for run in &snapshot.runs {
            let content = match run.content {
                Content::Absent | Content::Reserved => run.content,
                fixed if is_fixed(fixed) => fixed,
                _ => Content::Free,
            };
            self.load_run(run, content);
        }
        self.list_the_rest(snapshot);
        P::loaded(&self.buddy);
    }

    /// Sizes, watermarks and per-CPU figures; `found` also takes over what changes at run time.
    fn load_zones(&self, snapshot: &Snapshot, found: bool) {
        for (zone, host) in self.buddy.zones.iter().zip(&snapshot.machine.zones) {
            zone.present.set(host.present_pages);
            zone.managed.set(host.managed_pages);
        }
        self.load_cpus(&snapshot.machine);
        self.update_zonelists();
        self.set_marks();
        for (zone, host) in self.buddy.zones.iter().zip(&snapshot.machine.zones) {
            if self.buddy.settings.host_watermarks && host.watermarks != Watermarks::default() {
                let mut reserve = [0; 4];
                for (own, theirs) in reserve.iter_mut().zip(&host.lowmem_reserve) {
                    *own = *theirs;
                }
                zone.set_marks(&host.watermarks, &reserve);
                self.cache.set_limits(&self.buddy, zone, self.cpus_for(zone));
            }
            if found {
                zone.boost.set(host.watermark_boost);
                zone.load_flags(host.flags.unwrap_or(0));
                for pageset in &host.pagesets {
                    let cpu = self.buddy.geometry.cpu(pageset.cpu);
                    self.cache.load_state(zone, cpu, pageset);
                }
            }
        }
    }

    /// Types of all pageblocks with memory: as the snapshot says, else as their free pages say,
    /// else as their content suggests. At boot everything but CMA is movable.
    fn load_pageblock_types(&self, snapshot: &Snapshot, found: bool) {
        let blocks = &self.buddy.blocks;
        let mut certainty = vec![0u8; self.buddy.geometry.pageblocks() as usize];
        let mut suggest = |range: PfnRange, migratetype: Migratetype, weight: u8| {
            for block in self.pageblocks_in(range) {
                let known = &mut certainty[block.0 as usize];
                if weight > *known {
                    *known = weight;
                    blocks.set_migratetype(block, migratetype);
                }
            }
        };
        for (range, migratetype) in &snapshot.pageblocks {
            match migratetype {
                Migratetype::Isolate => {}
                Migratetype::Cma => suggest(*range, *migratetype, 5),
                _ if found => suggest(*range, *migratetype, 4),
                _ => {}
            }
        }
        for run in snapshot.runs.iter().filter(|run| run.content != Content::Absent) {
            let weight = match run.content {
                _ if !found || run.migratetype == Migratetype::Isolate => 0,
                Content::Free => 3,
                content if content.taints() => 2,
                _ => 0,
            };
            suggest(run.range(), run.migratetype, weight);
            suggest(run.range(), Migratetype::Movable, 1);
        }
    }

    fn pageblocks_in(&self, range: PfnRange) -> impl Iterator<Item = PageblockId> + use<F, P, C> {
        let order = self.buddy.geometry.pageblock_order;
        let last = u64::from(self.buddy.geometry.pageblocks());
        let first = (range.start.0 >> order).min(last);
        let end = (range.end.0.saturating_sub(1) >> order).saturating_add(1).min(last);
        let end = if range.pages() == 0 { first } else { end };
        (first as u32..end as u32).map(PageblockId)
    }

    /// Sets the frames of one run, pageblock by pageblock.
    fn load_run(&self, run: &PageRun, content: Content) {
        if content == Content::Absent {
            return;
        }
        for block in self.pageblocks_in(run.range()) {
            let inside = self.buddy.geometry.block_in_zone(block);
            let start = u64::from(inside.start).max(run.start.0) as Frame;
            let end = u64::from(inside.end).min(run.range().end.0) as Frame;
            if start < end {
                self.bring_online(block);
                self.load_frames(run, start, end, content);
            }
        }
    }

    pub(super) fn bring_online(&self, block: PageblockId) {
        if self.buddy.blocks.has(block, BlockFlags::ONLINE) {
            return;
        }
        self.buddy.blocks.set(block, BlockFlags::ONLINE);
        let zone = self.buddy.zone_of(self.buddy.geometry.block_start(block));
        let _guard = self.buddy.lock(zone);
        P::pageblock_online(&self.buddy, zone, block);
    }

    fn load_frames(&self, run: &PageRun, start: Frame, end: Frame, content: Content) {
        let frames = &self.buddy.frames;
        let region = self.buddy.geometry.region_of(start);
        let free = content.is_free();
        let counted = if free { Content::Free } else { content };
        self.buddy.census.shift(region, Content::Absent, counted, end - start, start);
        let first = run.start.0 as Frame;
        let mask = (1u32 << run.order.min(31)) - 1;
        for frame in start..end {
            if free {
                frames.set_word(frame, unlisted());
                continue;
            }
            if content == Content::Reserved {
                let (state, migratetype) = (FrameState::Reserved, Migratetype::Unmovable);
                let word = FrameWord::new(state, 0, migratetype, content, Mark::empty());
                frames.set_word(frame, word);
                continue;
            }
            // A run that is not aligned to its order holds no whole block at its start.
            let inner = (frame - first) & mask;
            let head = frame - inner.min(frame - first);
            let whole = head & mask == 0 && u64::from(head) + u64::from(mask) < run.range().end.0;
            let (order, marks) = match (whole, inner) {
                (true, 0) => (run.order, Mark::empty()),
                (true, _) => (0, Mark::TAIL),
                (false, _) => (0, Mark::empty()),
            };
            let word =
                FrameWord::new(FrameState::Allocated, order, run.migratetype, content, marks);
            frames.set_word(frame, word);
            frames.settle(frame, frame);
        }
    }

    /// Whether all frames of a block are free, on no list yet, and of one zone.
    fn is_unlisted_block(&self, frame: Pfn, order: u8) -> bool {
        let end = frame.0.saturating_add(1 << order);
        order <= self.buddy.geometry.max_order
            && frame.is_aligned(order)
            && end <= u64::from(self.buddy.frames.len())
            && (frame.0..end).all(|f| self.buddy.frames.word(f as Frame) == unlisted())
            && self.buddy.geometry.zone_of(frame.0 as Frame)
                == self.buddy.geometry.zone_of((end - 1) as Frame)
    }

    fn clear_unlisted(&self, frame: Frame, order: u8) {
        for inner in frame..frame + (1 << order) {
            self.buddy.frames.set_word(inner, FrameWord::free_tail());
        }
    }

    /// Puts the blocks of a buddy list at the tail of the model's, in the same order.
    fn load_buddy_list(&self, list: &FreeList) {
        for block in list.blocks.iter().filter(|b| self.is_unlisted_block(**b, list.order)) {
            self.list_block(block.0 as Frame, list.order);
        }
    }

    /// Lists a free block with the type of its pageblock; merges where the snapshot saw both
    /// buddies free.
    fn list_block(&self, frame: Frame, order: u8) {
        let buddy = &self.buddy;
        let zone = buddy.zone_of(frame);
        self.clear_unlisted(frame, order);
        let migratetype = buddy.migratetype(frame);
        let _guard = buddy.lock(zone);
        if order > buddy.geometry.pageblock_order {
            buddy.set_types(frame, order, migratetype);
        }
        buddy.free_one_page(zone, frame, order, migratetype, ListEnd::Tail);
    }

    /// Puts the blocks of a per-CPU list at the tail of the model's, in the same order.
    fn load_cpu_list(&self, snapshot: &Snapshot, list: &FreeList) {
        let Some(cpu) = list.cpu else { return };
        if !self.buddy.settings.pcp || usize::from(list.zone) >= snapshot.machine.zones.len() {
            return;
        }
        let cpu = self.buddy.geometry.cpu(cpu);
        for block in list.blocks.iter().filter(|b| self.is_unlisted_block(**b, list.order)) {
            let frame = block.0 as Frame;
            let zone = self.buddy.zone_of(frame);
            let loaded =
                self.cache.load_block(&self.buddy, zone, cpu, frame, list.order, list.migratetype);
            if loaded {
                let head = self.buddy.frames.word(frame);
                self.clear_unlisted(frame, list.order);
                self.buddy.frames.set_word(frame, head);
                self.buddy.shift(frame, list.order, Content::Free, Content::Pcp);
            }
        }
    }

    /// Lists every free page that no list of the snapshot named, in ascending order and in the
    /// largest aligned blocks.
    fn list_the_rest(&self, snapshot: &Snapshot) {
        for run in &snapshot.runs {
            let frames = u64::from(self.buddy.frames.len());
            let (mut frame, end) = (run.start.0, run.range().end.0.min(frames));
            while frame < end {
                if self.buddy.frames.word(frame as Frame) != unlisted() {
                    frame += 1;
                    continue;
                }
                let order = self.largest_unlisted(frame as Frame);
                self.list_block(frame as Frame, order);
                frame += 1 << order;
            }
        }
    }

    fn largest_unlisted(&self, frame: Frame) -> u8 {
        let max = self.buddy.geometry.max_order;
        let fits = |order: &u8| self.is_unlisted_block(Pfn(u64::from(frame)), *order);
        (0..=max).take_while(fits).last().unwrap_or(0)
    }
}
