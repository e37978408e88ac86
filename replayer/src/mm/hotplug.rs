//! Memory and CPUs that come and go, and the watermarks and limits that follow.
//!
//! `stock-allocator` 1.5 (recomputation), 5.3 (hotplug rows).

use std::ops::Range;

use fragscope_trace::machine::{Machine, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, PfnRange};

use super::buddy::ListEnd;
use super::cache::Cache;
use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameState, FrameWord};
use super::geometry::{CpuIndex, PageblockId};
use super::page_alloc::Mm;
use super::pageblock::BlockFlags;
use super::placement::Placement;
use super::watermark;
use super::zone::Zone;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// `build_all_zonelists`: zones that have memory are on the zonelists, in the order of
    /// [`super::geometry::Node::zonelist`]. A request that runs meanwhile may find none of them.
    pub(super) fn build_all_zonelists(&self) {
        self.buddy.counters.zonelist_rebuilds.add(1);
        self.zonelists.rebuild(|| {
            let zones = &self.buddy.zones;
            zones.iter().for_each(|zone| zone.listed.set(0));
            zones.iter().for_each(|zone| zone.listed.set(u32::from(zone.managed.get() > 0)));
        });
    }

    /// Rebuilds the zonelists if a zone got its first memory or lost its last.
    pub(super) fn update_zonelists(&self) {
        let changed = |zone: &Zone<F>| (zone.managed.get() > 0) != (zone.listed.get() != 0);
        if self.buddy.zones.iter().any(changed) {
            self.build_all_zonelists();
        }
    }

    /// `setup_per_zone_wmarks` and `setup_per_zone_lowmem_reserve` for all zones, and the limits
    /// of their per-CPU lists.
    pub(super) fn set_marks(&self) {
        let zones = &self.buddy.zones;
        let low = zones.iter().filter(|zone| zone.kind != ZoneKind::Movable);
        let lowmem = low.map(|zone| zone.managed.get()).sum();
        for zone in zones {
            let mut of_node = [0; 4];
            for other in zones.iter().filter(|other| other.node == zone.node) {
                of_node[other.kind as usize] += other.managed.get();
            }
            let tunables = &self.buddy.tunables;
            let marks = watermark::watermarks(zone.kind, zone.managed.get(), lowmem, tunables);
            zone.set_marks(&marks, &watermark::lowmem_reserve(zone.kind, &of_node));
            self.cache.set_limits(&self.buddy, zone, self.cpus_for(zone));
        }
    }

    /// Which CPUs run.
    pub(super) fn load_cpus(&self, machine: &Machine) {
        for (runs, cpu) in self.cpu_runs.iter().zip(&machine.cpus) {
            runs.set(u32::from(cpu.online));
        }
        self.count_cpus();
    }

    fn count_cpus(&self) {
        for node in &self.cpus_by_node {
            node.set(0);
        }
        for (index, runs) in self.cpu_runs.iter().enumerate() {
            let node = self.buddy.geometry.node_index_of_cpu(CpuIndex(index as u16));
            self.cpus_by_node[usize::from(node)].add(u64::from(runs.get()));
        }
    }

    /// Online CPUs of a zone's node, or all where it has none.
    pub(super) fn cpus_for(&self, zone: &Zone<F>) -> u64 {
        match self.cpus_by_node[usize::from(zone.node)].get() {
            0 => self.cpus_by_node.iter().map(Word::get).sum::<u64>().max(1),
            cpus => cpus,
        }
    }

    /// A CPU begins to run or stops.
    pub(super) fn set_cpu(&self, cpu: CpuId, online: bool) {
        let cpu = self.buddy.geometry.cpu(cpu);
        self.cpu_runs[usize::from(cpu.0)].set(u32::from(online));
        self.count_cpus();
        if online {
            self.cache.cpu_online(&self.buddy, cpu);
        } else {
            self.cache.cpu_offline(&self.buddy, cpu);
        }
        for zone in &self.buddy.zones {
            self.cache.set_limits(&self.buddy, zone, self.cpus_for(zone));
        }
    }

    /// Gives the allocator the pages of a range that it does not have yet (absent, or reserved at
    /// boot until now), as hotplug does: in the largest aligned blocks, to list tails. Returns
    /// the pages.
    pub(super) fn grow_range(&self, range: PfnRange) -> u64 {
        let frames = u64::from(self.buddy.frames.len());
        let (mut frame, end) = (range.start.0, range.end.0.min(frames));
        let mut pages = 0;
        while frame < end {
            let new = self.largest_new(frame as Frame, end);
            if let Some((order, from)) = new {
                self.grow_block(frame as Frame, order, from);
                pages += 1 << order;
            }
            frame += 1 << new.map_or(0, |(order, _)| order);
        }
        if pages > 0 {
            self.buddy.counters.grown_pages.add(pages);
            self.update_zonelists();
            self.set_marks();
        }
        pages
    }

    /// The order of the largest aligned block of new pages at a frame, below `end` and inside its
    /// zone, and what these pages are so far.
    fn largest_new(&self, frame: Frame, end: u64) -> Option<(u8, Content)> {
        let buddy = &self.buddy;
        let zone = buddy.zone(buddy.geometry.zone_of(frame)?);
        let state = buddy.frames.word(frame).state();
        let from = match state {
            FrameState::Absent => Content::Absent,
            FrameState::Reserved => Content::Reserved,
            _ => return None,
        };
        let fits = |order: &u8| {
            let last = u64::from(frame) + (1 << order) - 1;
            frame & ((1 << order) - 1) == 0
                && last < end
                && (zone.start..zone.end).contains(&frame)
                && last < u64::from(zone.end)
                && buddy.geometry.in_zone(last as Frame, zone.id)
                && (frame..=last as Frame).all(|f| buddy.frames.word(f).state() == state)
        };
        (0..=buddy.geometry.max_order).take_while(fits).last().map(|order| (order, from))
    }

    fn grow_block(&self, frame: Frame, order: u8, from: Content) {
        let buddy = &self.buddy;
        let zone = buddy.zone_of(frame);
        for block in buddy.pageblocks_of(frame, order) {
            if !buddy.blocks.has(block, BlockFlags::ONLINE) {
                buddy.blocks.set_migratetype(block, Migratetype::Movable);
            }
            self.bring_online(block);
        }
        for inner in frame..frame + (1 << order) {
            buddy.frames.set_word(inner, FrameWord::free_tail());
        }
        buddy.shift(frame, order, from, Content::Free);
        zone.managed.add(1 << order);
        if from == Content::Absent {
            zone.present.add(1 << order);
        }
        let _guard = buddy.lock(zone);
        buddy.free_pieces(zone, frame, order, Content::Free, ListEnd::Tail);
    }

    /// `offline_pages`: takes the pages of a range away, moving out what can move. Returns how
    /// many went; the others stay.
    pub(super) fn shrink_range(&self, range: PfnRange) -> u64 {
        let mut pages = 0;
        for zone in &self.buddy.zones {
            let start = range.start.0.max(u64::from(zone.start)) as Frame;
            let end = range.end.0.min(u64::from(zone.end)) as Frame;
            if start < end {
                pages += self.shrink_zone(zone, start..end);
            }
        }
        if pages > 0 {
            self.buddy.counters.shrunk_pages.add(pages);
            self.update_zonelists();
            self.set_marks();
        }
        pages
    }

    fn shrink_zone(&self, zone: &Zone<F>, range: Range<Frame>) -> u64 {
        let buddy = &self.buddy;
        let online = |block: &PageblockId| {
            let own = buddy.geometry.in_zone(buddy.geometry.block_start(*block), zone.id);
            own && buddy.blocks.has(*block, BlockFlags::ONLINE)
        };
        let blocks = buddy.blocks_touching(&range).filter(online);
        self.isolate_pageblocks(zone, blocks.clone());
        let mut pages = 0;
        for frame in range {
            self.move_out(&(frame..frame + 1), buddy.geometry.first_cpu_of(zone.node));
            pages += u64::from(self.remove_page(zone, frame));
        }
        let _guard = buddy.lock(zone);
        buddy.unisolate_pageblocks(zone, blocks.clone());
        for block in blocks {
            let mut frames = buddy.geometry.block_in_zone(block);
            if frames.all(|frame| buddy.frames.word(frame) == FrameWord::ABSENT) {
                buddy.blocks.clear(block, BlockFlags::ONLINE);
                P::pageblock_offline(buddy, zone, block);
            }
        }
        pages
    }

    fn remove_page(&self, zone: &Zone<F>, frame: Frame) -> bool {
        let own = self.buddy.geometry.in_zone(frame, zone.id);
        let absent = self.buddy.frames.word(frame) == FrameWord::ABSENT;
        if !own || absent || self.isolate_exactly(frame, 0).is_err() {
            return false;
        }
        self.buddy.frames.set_word(frame, FrameWord::ABSENT);
        self.buddy.shift(frame, 0, Content::Free, Content::Absent);
        zone.managed.sub(1);
        zone.present.sub(1);
        true
    }
}
