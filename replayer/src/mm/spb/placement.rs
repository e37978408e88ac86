//! The superpageblock policy behind the seams of [`Placement`].

use std::collections::BTreeMap;

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::Migratetype;

use crate::mm::allocator::BuildError;
use crate::mm::buddy::Buddy;
use crate::mm::cache::Cache;
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::{Frame, ListId};
use crate::mm::geometry::{CpuIndex, Geometry, PageblockId, ZoneId};
use crate::mm::page_alloc::Mm;
use crate::mm::per_thread::PerThread;
use crate::mm::placement::{Placement, Reader, Relax};
use crate::mm::request::{Entry, Request};
use crate::mm::rmqueue::{self, RmqueueMode};
use crate::mm::settings::Settings;
use crate::mm::zone::Zone;

use super::background::Background;
use super::category::Category;
use super::debugfs::{self, DebugfsZone};
use super::event::Recorder;
use super::geometry::SpbGeometry;
use super::search::Search;
use super::zone::{LISTS_PER_SPB, SpbZone};
use super::{claim, compaction, contig, evacuate, passes, refill, relax, start, workers};

/// The superpageblocks of every zone, and their workers.
#[derive(Debug)]
pub struct Spb<F: Flavour> {
    zones: Box<[SpbZone<F>]>,
    background: Background<F>,
    /// The CPU that serves a request, for its hints. With several threads it may be another's,
    /// which a hint survives.
    cpu: PerThread<F, F::U32>,
}

impl<F: Flavour> Spb<F> {
    /// The superpageblocks of a zone.
    #[inline]
    pub fn zone(&self, zone: ZoneId) -> &SpbZone<F> {
        &self.zones[usize::from(zone.0)]
    }

    /// Those of all zones.
    pub fn zones(&self) -> &[SpbZone<F>] {
        &self.zones
    }

    /// Work that waits.
    #[inline]
    pub fn background(&self) -> &Background<F> {
        &self.background
    }

    /// The CPU whose hints are used.
    #[inline]
    pub fn cpu(&self) -> u16 {
        self.cpu.get() as u16
    }

    /// Tainted superpageblocks of all zones.
    pub fn tainted(&self) -> u64 {
        self.zones.iter().map(|zone| zone.in_category(Category::Tainted).count() as u64).sum()
    }
}

fn spb_geometry(geometry: &Geometry, zone: usize) -> SpbGeometry {
    let span = &geometry.zones[zone];
    SpbGeometry {
        start: span.start,
        end: span.end,
        pageblock_order: geometry.pageblock_order,
        blocks_shift: geometry.region_order - geometry.pageblock_order,
    }
}

/// List heads of one zone: those of its superpageblocks and its own.
fn lists_of_zone(geometry: &Geometry, zone: usize) -> u32 {
    (spb_geometry(geometry, zone).spb_count() + 1) * LISTS_PER_SPB
}

impl<F: Flavour> Placement<F> for Spb<F> {
    const NAME: &'static str = "spb";

    fn list_count(geometry: &Geometry) -> u32 {
        (0..geometry.zones.len()).map(|zone| lists_of_zone(geometry, zone)).sum()
    }

    fn build(geometry: &Geometry, settings: &Settings, first: u32) -> Result<Self, BuildError> {
        let mut first = first;
        let zone = |zone: usize| {
            let spans = spb_geometry(geometry, zone);
            let built = SpbZone::new(zone as u16, spans, settings, geometry.cpus, first);
            first += lists_of_zone(geometry, zone);
            built
        };
        Ok(Spb {
            zones: (0..geometry.zones.len()).map(zone).collect(),
            background: Background::new(geometry.zones.len(), geometry.nodes.len(), settings),
            cpu: PerThread::default(),
        })
    }

    fn owns_pageblocks(settings: &Settings) -> bool {
        settings.p02
    }

    #[inline]
    fn list(&self, zone: &Zone<F>, frame: Frame, order: u8, migratetype: Migratetype) -> ListId {
        self.zone(zone.id).list_at(frame, order, migratetype)
    }

    fn lists(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
    ) -> impl Iterator<Item = ListId> {
        let spbs = buddy.placement.zone(zone.id);
        let of_spbs =
            spbs.geometry().spbs().map(move |spb| spbs.block_list(spb, order, migratetype));
        of_spbs.chain(std::iter::once(spbs.zone_list(order, migratetype)))
    }

    fn lists_for(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        reader: Reader,
    ) -> impl Iterator<Item = ListId> {
        let settings = &buddy.settings;
        let sees_superpageblocks = match reader {
            Reader::Statistics => true,
            Reader::Reporting => settings.p29,
            Reader::ShowMem => settings.p30,
            Reader::Hibernation => settings.p33,
        };
        let all = Self::lists(buddy, zone, order, migratetype);
        let of_spbs = buddy.placement.zone(zone.id).geometry().spbs().count();
        all.skip(if sees_superpageblocks { 0 } else { of_spbs })
    }

    #[inline]
    fn block_added(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) {
        buddy.placement.zone(zone.id).block_added(frame, order, migratetype);
    }

    #[inline]
    fn block_removed(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) {
        let spbs = buddy.placement.zone(zone.id);
        spbs.block_removed(&buddy.frames, frame, order, migratetype);
    }

    #[inline]
    fn block_taken(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) {
        let spbs = buddy.placement.zone(zone.id);
        spbs.block_allocated(&buddy.blocks, frame, order, migratetype);
    }

    fn block_isolated(buddy: &Buddy<F, Self>, zone: &Zone<F>, frame: Frame, order: u8) {
        buddy.placement.zone(zone.id).block_isolated(&buddy.blocks, frame, order);
    }

    fn pageblocks_freed(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) -> Migratetype {
        let spbs = buddy.placement.zone(zone.id);
        let mut list = migratetype;
        for block in buddy.pageblocks_of(frame, order) {
            if let Some(fallen_back) = spbs.pageblock_freed(&buddy.blocks, block) {
                buddy.blocks.set_migratetype(block, fallen_back);
                list = fallen_back;
            }
        }
        if list != migratetype {
            zone.unaccount(1 << order, migratetype);
            zone.account(1 << order, list);
        }
        list
    }

    fn pageblock_online(buddy: &Buddy<F, Self>, zone: &Zone<F>, block: PageblockId) {
        let spbs = buddy.placement.zone(zone.id);
        spbs.pageblock_initialised(&buddy.blocks, block, buddy.blocks.own_type(block));
    }

    fn pageblock_offline(buddy: &Buddy<F, Self>, zone: &Zone<F>, block: PageblockId) {
        buddy.placement.zone(zone.id).pageblock_removed(&buddy.blocks, block);
    }

    fn page_arrived(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        frame: Frame,
        migratetype: Migratetype,
    ) {
        let spbs = buddy.placement.zone(zone.id);
        spbs.page_arrived(&buddy.blocks, buddy.pageblock(frame), migratetype);
    }

    fn loaded(buddy: &Buddy<F, Self>) {
        buddy.blocks.online().for_each(|block| start::derive_bits(buddy, block));
        start::mark_gigantic(buddy);
        buddy.placement.zones.iter().for_each(SpbZone::set_live);
    }

    fn rmqueue(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
        mode: &mut RmqueueMode,
    ) -> Option<Frame> {
        if relax::has_cheap_fallback(buddy, migratetype, flags) {
            return relax::rmqueue_or_refuse(buddy, zone, order, migratetype, flags, mode);
        }
        rmqueue::by_modes(buddy, zone, order, migratetype, flags, mode)
    }

    #[inline]
    fn rmqueue_smallest(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        let mut search = Search::new(buddy, zone, order, migratetype, flags);
        passes::rmqueue_smallest(&mut search, false).0
    }

    fn rmqueue_claim(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        claim::rmqueue_claim(&mut Search::new(buddy, zone, order, migratetype, flags))
    }

    fn rmqueue_steal(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        claim::rmqueue_steal(&mut Search::new(buddy, zone, order, migratetype, flags))
    }

    fn whole_pageblock(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        refill::whole_pageblock(buddy, zone, migratetype, flags)
    }

    fn partial_pageblocks(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        adopt: &mut dyn FnMut(Frame, u8) -> bool,
    ) {
        refill::partial_pageblocks(buddy, zone, order, migratetype, adopt);
    }

    #[inline]
    fn request_begins(buddy: &Buddy<F, Self>, cpu: CpuIndex) {
        buddy.placement.cpu.set(u32::from(cpu.0));
    }

    /// Patch 12 (bulk) and patch 36 (nolock).
    fn begins_nofragment(buddy: &Buddy<F, Self>, entry: Entry) -> bool {
        match entry {
            Entry::Normal => true,
            Entry::Bulk => buddy.settings.p12,
            Entry::NoLock => buddy.settings.p36,
        }
    }

    fn slow_flags(
        buddy: &Buddy<F, Self>,
        request: &Request,
        flags: AllocFlags,
        nofragment: AllocFlags,
    ) -> AllocFlags {
        relax::slow_flags(buddy, request, flags, nofragment)
    }

    fn relax(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        request: &Request,
        flags: AllocFlags,
    ) -> Relax {
        relax::relax(buddy, zone, request, flags)
    }

    fn before_compaction<C: Cache<F, Self>>(mm: &Mm<F, Self, C>, request: &Request) -> bool {
        contig::before_compaction(mm, request) || evacuate::before_compaction(mm, request)
    }

    fn last_resort<C: Cache<F, Self>>(
        mm: &Mm<F, Self, C>,
        request: &Request,
        flags: AllocFlags,
    ) -> bool {
        evacuate::last_resort(mm, request, flags)
    }

    fn drops_nofragment_last(buddy: &Buddy<F, Self>) -> bool {
        buddy.settings.p20 || buddy.tunables.defrag_mode
    }

    fn next_source(buddy: &Buddy<F, Self>, zone: &Zone<F>, block: PageblockId) -> PageblockId {
        compaction::next_source(buddy, zone, block)
    }

    fn is_target(buddy: &Buddy<F, Self>, zone: &Zone<F>, block: PageblockId) -> bool {
        compaction::is_target(buddy, zone, block)
    }

    fn preferred_targets(
        buddy: &Buddy<F, Self>,
        zone: &Zone<F>,
        limit_order: u8,
        pages: u32,
        into: &mut Vec<Frame>,
    ) {
        compaction::preferred_targets(buddy, zone, limit_order, pages, into);
    }

    fn contig_candidates(buddy: &Buddy<F, Self>, zone: &Zone<F>, order: u8, into: &mut Vec<Frame>) {
        contig::candidates(buddy, zone, order, into);
    }

    fn contig_changed(buddy: &Buddy<F, Self>, frame: Frame, order: u8, taken: bool) {
        contig::changed(buddy, frame, order, taken);
    }

    fn tick<C: Cache<F, Self>>(mm: &Mm<F, Self, C>, now: TimeNs) {
        workers::run(mm, now);
    }

    fn counters(buddy: &Buddy<F, Self>, into: &mut BTreeMap<String, u64>) {
        for spbs in &buddy.placement.zones {
            spbs.events().add_to(into);
        }
        buddy.placement.background.add_to(into);
    }

    fn superpageblocks(buddy: &Buddy<F, Self>) -> Option<Vec<DebugfsZone>> {
        Some(debugfs::state(buddy))
    }

    fn record_to(&mut self, recorder: &Recorder) {
        self.zones.iter_mut().for_each(|zone| zone.events_mut().record_to(recorder.clone()));
    }

    fn has_bit_tainted(buddy: &Buddy<F, Self>) -> Option<u64> {
        Some(buddy.placement.tainted())
    }

    fn check(buddy: &Buddy<F, Self>) {
        for spbs in &buddy.placement.zones {
            spbs.check(&buddy.frames, &buddy.blocks);
        }
    }
}
