//! [`Mm`] as the allocator of a replay track.

use std::collections::BTreeMap;

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::{Machine, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::region::RegionCensus;
use fragscope_trace::snapshot::Snapshot;

use super::allocator::{BuildError, FreeError, MemoryFiles, PageAllocator, TaintChange};
use super::buddy::Buddy;
use super::cache::Cache;
use super::clock::Clock;
use super::fallbacks::Fallbacks;
use super::flags::AllocFlags;
use super::flavour::Flavour;
use super::frames::{Frame, Frames};
use super::free_path::Protocol;
use super::geometry::{PageblockId, RegionId};
use super::page_alloc::Mm;
use super::placement::Placement;
use super::request::{FreeEntry, Refusal, Request};
use super::sequence::UpdateSequence;
use super::settings::Settings;
use super::spb::event::Recorder;
use super::virtual_hold::Stranded;
use super::zone::Zone;

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> PageAllocator for Mm<F, P, C> {
    type Flavour = F;

    fn build(machine: &Machine, settings: &Settings) -> Result<Self, BuildError> {
        let (buddy, cache_first) = Buddy::build(machine, settings, C::list_count)?;
        let cache = C::build(&buddy, machine, cache_first);
        let nodes = buddy.geometry.nodes.len();
        let words = |n: usize| std::iter::repeat_with(F::U32::default).take(n).collect();
        Ok(Mm {
            nofragment: buddy.zones.iter().map(|zone| nofragment_flag(&buddy, zone)).collect(),
            prefers_local: nodes > 1 && !buddy.tunables.defrag_mode,
            cpus_by_node: std::iter::repeat_with(F::U64::default).take(nodes).collect(),
            cpu_runs: words(machine.cpus.len()),
            proactive_wait: words(nodes),
            clock: Clock::default(),
            zonelists: UpdateSequence::new(settings.zonelist_update),
            cache,
            buddy,
        })
    }

    fn load(&self, snapshot: &Snapshot) {
        self.load_found(snapshot);
    }

    fn boot(&self, snapshot: &Snapshot) {
        self.load_boot(snapshot);
    }

    fn frames(&self) -> &Frames<F> {
        &self.buddy.frames
    }

    #[inline(always)]
    fn alloc(&self, request: &Request) -> Result<Frame, Refusal> {
        self.alloc_pages(request)
    }

    fn would_succeed(&self, request: &Request) -> bool {
        request.order <= self.buddy.geometry.max_order
            && self.context(request).is_some_and(|context| self.would_serve(&context))
    }

    fn take(
        &self,
        frame: Frame,
        order: u8,
        content: Content,
        migratetype: Migratetype,
    ) -> Result<(), Frame> {
        self.take_exactly(frame, order, content, migratetype)
    }

    #[inline(always)]
    fn free(&self, frame: Frame, order: u8, cpu: CpuId, entry: FreeEntry) -> Result<(), FreeError> {
        self.free_block(frame, order, cpu, entry)
    }

    #[inline(always)]
    fn prefetch(&self, frame: Frame) {
        self.buddy.frames.prefetch(frame);
        self.buddy.blocks.prefetch(self.buddy.geometry.pageblock(frame));
    }

    fn alloc_contig(&self, order: u8, cpu: CpuId, content: Content) -> Option<Frame> {
        self.alloc_contig_block(order, cpu, content)
    }

    fn set_content(&self, frame: Frame, content: Content) {
        self.buddy.set_content(frame, content);
    }

    #[inline]
    fn advance(&self, now: TimeNs) {
        self.advance_to(now);
    }

    #[inline(always)]
    fn at(&self, now: TimeNs, cpu: CpuId) {
        self.buddy.holds.at(now, self.buddy.geometry.cpu(cpu));
    }

    fn grow(&self, range: PfnRange) {
        self.grow_range(range);
    }

    fn shrink(&self, range: PfnRange) -> u64 {
        self.shrink_range(range)
    }

    fn rebuild_zonelists(&self) {
        self.build_all_zonelists();
    }

    fn cpu_online(&self, cpu: CpuId) {
        self.set_cpu(cpu, true);
    }

    fn cpu_offline(&self, cpu: CpuId) {
        self.set_cpu(cpu, false);
    }

    fn census(&self) -> Vec<RegionCensus> {
        self.buddy.census.rows(&self.buddy.geometry)
    }

    fn free_blocks(&self) -> Vec<u64> {
        let of_order = |order| self.buddy.zones.iter().map(|zone| zone.nr_free(order)).sum();
        (0..=self.buddy.geometry.max_order).map(of_order).collect()
    }

    fn free_pages(&self) -> (u64, u64) {
        let blocks = PageAllocator::free_blocks(self);
        let buddy = blocks.iter().enumerate().map(|(order, blocks)| blocks << order).sum();
        (buddy, self.buddy.zones.iter().map(|zone| self.cache.pages(zone)).sum())
    }

    fn pageblock_type(&self, frame: Frame) -> Migratetype {
        self.buddy.migratetype(frame)
    }

    fn take_touched_blocks(&self) -> Vec<PageblockId> {
        self.buddy.census.take_touched()
    }

    fn tainting_pages(&self, region: RegionId) -> u32 {
        self.buddy.census.tainting_pages(region)
    }

    fn fallbacks(&self) -> Vec<(Pfn, Fallbacks)> {
        self.buddy.fallbacks.rows(&self.buddy.geometry)
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::new();
        self.buddy.counters.all().for_each(|copy| copy.collect(&mut counters));
        P::counters(&self.buddy, &mut counters);
        counters
    }

    fn free_path(&self) -> Option<Protocol> {
        self.cache.free_path()
    }

    fn stranded(&self) -> Stranded {
        self.cache.stranded(&self.buddy)
    }

    fn memory_files(&self) -> MemoryFiles {
        MemoryFiles {
            buddyinfo: self.buddy.buddyinfo(),
            pagetypeinfo: self.buddy.pagetypeinfo(),
            show_mem: self.buddy.show_mem(),
            superpageblocks: P::superpageblocks(&self.buddy),
        }
    }

    fn record_to(&mut self, recorder: &Recorder) {
        self.buddy.placement.record_to(recorder);
    }

    fn has_bit_tainted_1g(&self) -> Option<u64> {
        P::has_bit_tainted(&self.buddy)
    }

    fn block_type_tainted_1g(&self) -> u64 {
        self.buddy.block_type_tainted()
    }

    fn obtainable_now(&self) -> Vec<Frame> {
        self.contig_obtainable()
    }

    fn taint_changes_seen(&self) -> u64 {
        self.buddy.census.changes_seen()
    }

    fn take_taint_changes(&self, into: &mut Vec<TaintChange>) {
        self.buddy.census.take_changes(into);
    }

    fn check_invariants(&self) {
        self.check();
    }
}

/// NOFRAGMENT, if requests that prefer a zone begin with it (`alloc_flags_nofragment`).
fn nofragment_flag<F: Flavour, P: Placement<F>>(buddy: &Buddy<F, P>, zone: &Zone<F>) -> AllocFlags {
    let by_zone = zone.kind == ZoneKind::Normal && begins_nofragment(buddy, usize::from(zone.node));
    if by_zone || buddy.tunables.defrag_mode { AllocFlags::NOFRAGMENT } else { AllocFlags::empty() }
}

/// Whether requests that prefer the NORMAL zone of a node begin with NOFRAGMENT: on a machine of
/// one node always, else where the node has a DMA32 zone to fall back to (or everywhere, by
/// setting `nofragment_needs_dma32`).
fn begins_nofragment<F: Flavour, P: Placement<F>>(buddy: &Buddy<F, P>, node: usize) -> bool {
    let geometry = &buddy.geometry;
    let own = &geometry.nodes[node].zonelist[..geometry.nodes[node].own];
    let kind = |id: &super::geometry::ZoneId| geometry.zones[usize::from(id.0)].kind;
    let everywhere = geometry.nodes.len() == 1 || !buddy.settings.nofragment_needs_dma32;
    everywhere || own.iter().any(|id| kind(id) == ZoneKind::Dma32)
}
