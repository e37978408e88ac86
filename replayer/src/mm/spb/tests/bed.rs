//! A small machine to watch the policy on: one NORMAL zone of superpageblocks of 32 pageblocks of
//! 16 pages.

use std::cell::Cell;
use std::collections::BTreeMap;

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};

use crate::mm::allocator::PageAllocator;
use crate::mm::flags::AllocFlags;
use crate::mm::frames::Frame;
use crate::mm::geometry::{PageblockId, ZoneId};
use crate::mm::placement::Placement;
use crate::mm::request::{Entry, FreeEntry, Refusal, Request};
use crate::mm::rmqueue::RmqueueMode;
use crate::mm::settings::Settings;
use crate::mm::spb::category::Counts;
use crate::mm::spb::event::{RecordedEvent, Recorder, SpbEvent};
use crate::mm::spb::geometry::SpbId;
use crate::mm::spb::{Spb, zone::SpbZone};
use crate::mm::zone::Zone;
use crate::mm::{SpbMm, flavour::Up, testing};

/// log2 of the pages in a pageblock.
pub(super) const BLOCK_ORDER: u8 = 4;
/// Pages in a pageblock.
pub(super) const BLOCK: u32 = 1 << BLOCK_ORDER;
/// Pageblocks in a superpageblock.
pub(super) const BLOCKS: u32 = 32;
/// Pages in a superpageblock.
pub(super) const SPB: u32 = BLOCK * BLOCKS;

pub(super) const UNMOVABLE: Gfp = Gfp::KERNEL;
pub(super) const RECLAIMABLE: Gfp = Gfp::KERNEL.union(Gfp::RECLAIMABLE);
pub(super) const MOVABLE: Gfp = Gfp::HIGHUSER_MOVABLE;

/// Settings of the tests: no per-CPU lists, so that each request reaches the zone at once.
pub(super) fn settings() -> Settings {
    Settings {
        pcp: false,
        region_order: u64::from(BLOCK_ORDER) + 5,
        compaction: false,
        kcompactd_interval_ms: 0,
        direct_reclaim: false,
        adoption_floor_pages: u64::from(BLOCK / 4),
        min_free_kbytes: Some(0),
        ..Settings::default()
    }
}

/// The superpageblock of a frame.
pub(super) fn spb_of(frame: Frame) -> u32 {
    frame / SPB
}

/// The allocator under test.
pub(super) struct Bed {
    pub(super) mm: SpbMm,
    recorder: Recorder,
    next_pfn: Cell<u32>,
}

impl Bed {
    /// A zone of `spbs` empty superpageblocks.
    pub(super) fn new(spbs: u32, settings: &Settings) -> Bed {
        Bed::with(spbs, settings, &[])
    }

    /// The same with pages that are there at the start: (frame, pages, content).
    pub(super) fn with(spbs: u32, settings: &Settings, runs: &[(u64, u64, Content)]) -> Bed {
        let zone = (0, ZoneKind::Normal, 0, u64::from(spbs * SPB));
        let machine = testing::machine(BLOCK_ORDER, &[zone]);
        let mut mm = SpbMm::build(&machine, settings).unwrap();
        let recorder = Recorder::default();
        mm.buddy.placement.record_to(&recorder);
        let mut snapshot = testing::snapshot(&machine, runs);
        snapshot.pageblocks = pageblock_types(runs);
        mm.load(&snapshot);
        let _ = recorder.take();
        Bed { mm, recorder, next_pfn: Cell::new(0) }
    }

    pub(super) fn zone(&self) -> &Zone<Up> {
        &self.mm.buddy.zones[0]
    }

    pub(super) fn spbs(&self) -> &SpbZone<Up> {
        self.mm.buddy.placement.zone(ZoneId(0))
    }

    pub(super) fn counts(&self, spb: u32) -> Counts {
        self.spbs().spb(SpbId(spb)).counts()
    }

    /// Superpageblocks that are tainted, ascending.
    pub(super) fn tainted(&self) -> Vec<u32> {
        let has = |spb: &u32| self.counts(*spb).unmovable + self.counts(*spb).reclaimable > 0;
        (0..self.spbs().len()).filter(has).collect()
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.counters()[name]
    }

    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        self.mm.counters()
    }

    /// The tracepoints since the last call.
    pub(super) fn events(&self) -> Vec<SpbEvent> {
        self.recorder.take().into_iter().map(|RecordedEvent { event, .. }| event).collect()
    }

    pub(super) fn try_alloc(&self, request: &Request) -> Result<Frame, Refusal> {
        let frame = self.mm.alloc(request)?;
        for inner in frame..frame + (1 << request.order) {
            // Any pfn without a page will do as the logical name.
            let free = |pfn: &u32| self.mm.frames().place(*pfn).is_none();
            let all = self.mm.frames().len();
            let from = self.next_pfn.get();
            let pfn = (0..all).map(|i| (from + i) % all).find(free).unwrap();
            self.next_pfn.set(pfn + 1);
            self.mm.frames().settle(pfn, inner);
        }
        if cfg!(debug_assertions) {
            self.mm.check_invariants();
        }
        Ok(frame)
    }

    pub(super) fn alloc(&self, order: u8, gfp: Gfp) -> Frame {
        self.try_alloc(&Request::new(order, gfp, CpuId(0))).unwrap()
    }

    pub(super) fn alloc_on(&self, cpu: u16, order: u8, gfp: Gfp) -> Frame {
        self.try_alloc(&Request::new(order, gfp, CpuId(cpu))).unwrap()
    }

    pub(super) fn enter(&self, entry: Entry, order: u8, gfp: Gfp) -> Result<Frame, Refusal> {
        self.try_alloc(&Request { entry, ..Request::new(order, gfp, CpuId(0)) })
    }

    /// Takes pages straight from the zone with these flags, as one attempt of a request does.
    pub(super) fn rmqueue(
        &self,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        let mut mode = RmqueueMode::Normal;
        let (buddy, zone) = (&self.mm.buddy, self.zone());
        let frame = Spb::rmqueue(buddy, zone, order, migratetype, flags, &mut mode)?;
        let content = match migratetype {
            Migratetype::Movable => Content::Movable,
            Migratetype::Reclaimable => Content::Reclaimable,
            _ => Content::Kernel,
        };
        buddy.mark_allocated(frame, order, migratetype, content, Default::default());
        buddy.shift(frame, order, Content::Free, content);
        self.mm.check_invariants();
        Some(frame)
    }

    pub(super) fn free(&self, frame: Frame, order: u8) {
        self.free_on(0, frame, order);
    }

    /// The logical pages of an allocated block, which stay the same when it moves.
    pub(super) fn pages(&self, frame: Frame, order: u8) -> Vec<u32> {
        (frame..frame + (1 << order)).map(|inner| self.mm.frames().owner(inner)).collect()
    }

    /// Frees the logical pages of a block wherever they are now: as the block they were, or page
    /// by page if a move has parted them. Pages that were reclaimed are forgotten.
    pub(super) fn free_pages(&self, pages: &[u32]) {
        let places: Vec<_> = pages.iter().map(|pfn| self.mm.frames().place(*pfn)).collect();
        let together = places[0].filter(|head| {
            (*head..).zip(&places).all(|(frame, place)| *place == Some(frame))
                && head % pages.len() as u32 == 0
        });
        if let Some(head) = together {
            return self.free(head, pages.len().ilog2() as u8);
        }
        for (pfn, place) in pages.iter().zip(places) {
            match place {
                Some(frame) => self.free(frame, 0),
                None => self.mm.frames().unsettle(*pfn),
            }
        }
    }

    pub(super) fn free_on(&self, cpu: u16, frame: Frame, order: u8) {
        for inner in frame..frame + (1 << order) {
            let pfn = self.mm.frames().owner(inner);
            if pfn != crate::mm::frames::NOWHERE {
                self.mm.frames().unsettle(pfn);
            }
        }
        self.mm.free(frame, order, CpuId(cpu), FreeEntry::Normal).unwrap();
        if cfg!(debug_assertions) {
            self.mm.check_invariants();
        }
    }

    /// Takes pages off the free lists wherever they are, one by one.
    pub(super) fn occupy(&self, frames: impl IntoIterator<Item = Frame>, gfp: Gfp) {
        let request = Request::new(0, gfp, CpuId(0));
        for frame in frames {
            self.mm.take(frame, 0, request.content, request.migratetype()).unwrap();
            self.mm.frames().settle(frame, frame);
        }
        self.mm.check_invariants();
    }

    pub(super) fn block_type(&self, frame: Frame) -> Migratetype {
        self.mm.buddy.migratetype(frame)
    }

    pub(super) fn block(&self, frame: Frame) -> PageblockId {
        self.mm.buddy.pageblock(frame)
    }

    /// Lets `ms` of virtual time pass from `from_ms`.
    pub(super) fn advance_ms(&self, now_ms: u64) {
        self.mm.advance(now_ms * 1_000_000);
        self.mm.check_invariants();
    }
}

/// Pageblocks with kernel pages are unmovable, those with reclaimable ones reclaimable.
pub(super) fn pageblock_types(runs: &[(u64, u64, Content)]) -> Vec<(PfnRange, Migratetype)> {
    let of = |(start, pages, content): &(u64, u64, Content)| {
        let migratetype = match content {
            Content::Reclaimable => Migratetype::Reclaimable,
            c if c.taints() && *c != Content::Pinned => Migratetype::Unmovable,
            _ => return None,
        };
        Some((PfnRange::new(Pfn(*start), *pages), migratetype))
    };
    runs.iter().filter_map(of).collect()
}

/// `Settings` with one patch off.
pub(super) fn without(patch: &str) -> Settings {
    let mut off = settings();
    off.set(patch, "off").unwrap();
    off
}
