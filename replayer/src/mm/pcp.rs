//! The stock per-CPU lists.
//!
//! `stock-allocator` 1.6 (sizes), 2.4 (allocation), 3.2 and 3.3 (free, drain, decay). Each (zone,
//! CPU) has fourteen lists: three types for each of orders 0 to 3, and two for the pageblock
//! order. The lock of a pageset is only ever tried.

use fragscope_trace::machine::{Machine, Pageset};
use fragscope_trace::page::{Content, Migratetype};

use super::buddy::{Buddy, ListEnd};
use super::cache::Cache;
use super::flags::AllocFlags;
use super::flavour::{Flavour, Guard, Lock, Word};
use super::frames::{Frame, FrameState, FrameWord, HEADS_PER_LINE, ListId, Mark};
use super::geometry::{CpuIndex, Geometry, ZoneSpan};
use super::page_list::PageList;
use super::pcp_limits::{self, Limits, PcpFlags};
use super::per_thread::OwnLine;
use super::placement::Placement;
use super::request::FreeEntry;
use super::rmqueue::RmqueueMode;
use super::virtual_hold::{Hold, Moved};
use super::zone::Zone;

const NR_PCP_LISTS: u32 = 14;
/// List heads from one pageset to the next, so that no two share a cache line.
const LISTS_APART: u32 = NR_PCP_LISTS.next_multiple_of(HEADS_PER_LINE);
const NR_PCP_THP_FIRST: u32 = 12;
/// `PAGE_ALLOC_COSTLY_ORDER`
pub const COSTLY_ORDER: u8 = 3;

/// `struct per_cpu_pages`. Counts are base pages.
#[derive(Debug)]
pub struct PerCpuPages<F: Flavour> {
    lock: F::Lock,
    /// Until when a drain by another CPU holds the lock in a replay. Nobody else tries it.
    hold: Hold<F>,
    first_list: ListId,
    /// The lists of order 0.
    singles: [PageList<F>; Migratetype::PCP_TYPES],
    count: F::U32,
    limits: Limits<F>,
    /// Pages at the last periodic run, to see whether a remote zone's lists are idle.
    seen_count: F::U32,
    /// Periodic runs until an idle remote zone's lists are drained.
    expire: F::U32,
}

/// Pagesets by zone and CPU.
#[derive(Debug)]
pub struct StockPcp<F: Flavour> {
    sets: Box<[OwnLine<PerCpuPages<F>>]>,
    cpus: usize,
    enabled: bool,
}

impl<F: Flavour> StockPcp<F> {
    #[inline]
    fn set(&self, zone: &Zone<F>, cpu: CpuIndex) -> &PerCpuPages<F> {
        &self.sets[usize::from(zone.id.0) * self.cpus + usize::from(cpu.0)]
    }

    fn sets_of(&self, zone: &Zone<F>) -> &[OwnLine<PerCpuPages<F>>] {
        let first = usize::from(zone.id.0) * self.cpus;
        &self.sets[first..first + self.cpus]
    }
}

/// `order_to_pindex`
#[inline]
fn index(order: u8, migratetype: Migratetype) -> u32 {
    if order > COSTLY_ORDER {
        NR_PCP_THP_FIRST + u32::from(migratetype == Migratetype::Movable)
    } else {
        3 * u32::from(order) + migratetype as u32
    }
}

/// The type of the list that caches a page of a pageblock of this type; `None` if none may.
#[inline]
fn cached_type(migratetype: Migratetype) -> Option<Migratetype> {
    match migratetype {
        Migratetype::Isolate => None,
        Migratetype::HighAtomic | Migratetype::Cma => Some(Migratetype::Movable),
        pcp_type => Some(pcp_type),
    }
}

#[inline]
fn cached_word(order: u8, migratetype: Migratetype) -> FrameWord {
    FrameWord::new(FrameState::Pcp, order, migratetype, Content::Pcp, Mark::empty())
}

impl<F: Flavour> PerCpuPages<F> {
    fn new(first_list: u32, geometry: &Geometry, zone: &ZoneSpan) -> PerCpuPages<F> {
        PerCpuPages {
            lock: F::Lock::default(),
            hold: Hold::default(),
            first_list: ListId(first_list),
            singles: PageList::of_pageset(geometry, zone, first_list),
            count: F::U32::default(),
            limits: Limits::default(),
            seen_count: F::U32::default(),
            expire: F::U32::default(),
        }
    }

    /// A list of order 0.
    #[inline(always)]
    fn singles(&self, index: u32) -> Option<&PageList<F>> {
        self.singles.get(index as usize)
    }

    #[inline]
    fn list(&self, index: u32) -> ListId {
        ListId(self.first_list.0 + index)
    }

    /// `rmqueue_bulk`: up to `blocks` blocks to the tail of a list, in the order obtained.
    #[inline(never)]
    fn refill<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
        blocks: u32,
    ) {
        let Some(_guard) = buddy.lock_for(zone, flags) else { return };
        buddy.counters.pcp_refills.add(1);
        let index = index(order, migratetype);
        let mut mode = RmqueueMode::Normal;
        for _ in 0..blocks {
            let Some(frame) = P::rmqueue(buddy, zone, order, migratetype, flags, &mut mode) else {
                break;
            };
            self.push_tail(buddy, index, frame, cached_word(order, migratetype));
            buddy.shift(frame, order, Content::Free, Content::Pcp);
            self.count.set(self.count.get() + (1 << order));
            buddy.counters.pcp_refill_blocks.add(1);
        }
    }

    /// `free_pcppages_bulk`: gives `pages` pages back, beginning with the list `start`, from
    /// list tails.
    #[inline(never)]
    fn drain<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, pages: u32, start: u32) {
        let mut left = pages.min(self.count.get());
        if left == 0 {
            return;
        }
        buddy.counters.pcp_drains.add(1);
        let _guard = buddy.lock(zone);
        let mut index = start;
        while left > 0 {
            let Some(frame) = self.pop_tail(buddy, index) else {
                index = (index + 1) % NR_PCP_LISTS;
                continue;
            };
            if let Some(singles) = self.singles(index) {
                buddy.prefetch_drain(singles);
            }
            let order = self.give_back(buddy, zone, frame);
            left = left.saturating_sub(1 << order);
        }
    }

    /// A free made the lists too long: gives pages back.
    #[cold]
    fn drain_freed<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        pages: u32,
        start: u32,
    ) {
        self.drain(buddy, zone, pages, start);
        pcp_limits::recheck_high(zone);
    }

    /// Frees a block just taken off its list to the zone, whose lock is held. Returns its order.
    fn give_back<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, frame: Frame) -> u8 {
        let order = buddy.frames.word(frame).order();
        buddy.frames.set_word(frame, FrameWord::free_tail());
        self.count.set(self.count.get() - (1 << order));
        buddy.shift(frame, order, Content::Pcp, Content::Free);
        buddy.free_one_page(zone, frame, order, buddy.migratetype(frame), ListEnd::ByChance);
        buddy.counters.pcp_drain_blocks.add(1);
        order
    }

    /// Gives everything back, in batches as `drain_pages_zone` does.
    fn drain_all<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        let _guard = self.lock.guard();
        let before = Moved::so_far(&buddy.counters);
        let batch = self.limits.batch() << buddy.settings.pcp_batch_scale_max;
        while self.count.get() > 0 {
            self.drain(buddy, zone, batch, 0);
        }
        self.hold.begin(&buddy.holds, &buddy.settings, &buddy.counters, before, 0);
    }

    /// Takes the lock if nobody holds it; `fallbacks` counts if somebody does.
    #[inline]
    fn try_guard<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        fallbacks: &F::U64,
    ) -> Option<Guard<'_, F::Lock>> {
        let drained = self.hold.left(&buddy.holds) > 0;
        if !drained && self.lock.try_lock() {
            return Some(Guard::of(&self.lock));
        }
        Self::count_busy(buddy, fallbacks, drained);
        None
    }

    #[cold]
    fn count_busy<P: Placement<F>>(buddy: &Buddy<F, P>, fallbacks: &F::U64, drained: bool) {
        buddy.counters.pcp_busy_drain.add(u64::from(drained));
        buddy.counters.pcp_trylock_failures.add(1);
        fallbacks.add(1);
    }

    /// Takes the first block of a list.
    #[inline(always)]
    fn pop_head<P>(&self, buddy: &Buddy<F, P>, index: u32) -> Option<Frame> {
        match self.singles(index) {
            Some(singles) => singles.pop_head(&buddy.frames),
            None => buddy.frames.pop_head(self.list(index)),
        }
    }

    /// Takes the last block of a list.
    #[inline]
    fn pop_tail<P>(&self, buddy: &Buddy<F, P>, index: u32) -> Option<Frame> {
        match self.singles(index) {
            Some(singles) => singles.pop_tail(&buddy.frames),
            None => buddy.frames.pop_tail(self.list(index)),
        }
    }

    #[inline(always)]
    fn push_head<P>(&self, buddy: &Buddy<F, P>, index: u32, frame: Frame, word: FrameWord) {
        match self.singles(index) {
            Some(singles) => singles.push_head(&buddy.frames, frame, word),
            None => {
                buddy.frames.set_word(frame, word);
                buddy.frames.push_head(self.list(index), frame);
            }
        }
    }

    #[inline]
    fn push_tail<P>(&self, buddy: &Buddy<F, P>, index: u32, frame: Frame, word: FrameWord) {
        match self.singles(index) {
            Some(singles) => singles.push_tail(&buddy.frames, frame, word),
            None => {
                buddy.frames.set_word(frame, word);
                buddy.frames.push_tail(self.list(index), frame);
            }
        }
    }

    /// The first block of a list after a refill of it.
    #[cold]
    fn refill_and_pop<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        let scale = buddy.settings.pcp_batch_scale_max as u32;
        let blocks = self.limits.nr_alloc(zone, self.count.get(), order, scale);
        self.refill(buddy, zone, order, migratetype, flags, blocks);
        self.pop_head(buddy, index(order, migratetype))
    }
}

impl<F: Flavour, P: Placement<F>> Cache<F, P> for StockPcp<F> {
    const NAME: &'static str = "pcp";

    fn list_count(geometry: &Geometry) -> u32 {
        geometry.zones.len() as u32 * u32::from(geometry.cpus) * LISTS_APART
    }

    fn build(buddy: &Buddy<F, P>, machine: &Machine, first_list: u32) -> StockPcp<F> {
        let cpus = usize::from(buddy.geometry.cpus);
        let set = |i: usize| {
            let (geometry, zone) = (&buddy.geometry, &buddy.geometry.zones[i / cpus]);
            OwnLine::new(PerCpuPages::new(first_list + i as u32 * LISTS_APART, geometry, zone))
        };
        let sets: Box<[_]> = (0..buddy.zones.len() * cpus).map(set).collect();
        let slice = pcp_limits::cache_slice_bytes(machine);
        for set in &sets {
            set.limits.set_cache_slice(slice);
        }
        StockPcp { sets, cpus, enabled: buddy.settings.pcp }
    }

    #[inline(always)]
    fn allows(&self, buddy: &Buddy<F, P>, order: u8) -> bool {
        self.enabled && (order <= COSTLY_ORDER || order == buddy.geometry.pageblock_order)
    }

    #[inline(always)]
    fn alloc(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        let set = self.set(zone, cpu);
        let _guard = set.try_guard(buddy, &buddy.counters.pcp_fallbacks_alloc)?;
        set.limits.allocating();
        let frame = match set.pop_head(buddy, index(order, migratetype)) {
            Some(frame) => {
                buddy.counters.pcp_hits.add(1);
                frame
            }
            None => set.refill_and_pop(buddy, zone, order, migratetype, flags)?,
        };
        set.count.set(set.count.get() - (1 << order));
        Some(frame)
    }

    #[inline(always)]
    fn free(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        frame: Frame,
        order: u8,
        from: Content,
        entry: FreeEntry,
    ) -> bool {
        let Some(list_type) = cached_type(buddy.migratetype(frame)) else { return false };
        let set = self.set(zone, cpu);
        let Some(_guard) = set.try_guard(buddy, &buddy.counters.pcp_fallbacks_own) else {
            return false;
        };
        buddy.counters.pcp_local_frees.add(1);
        let index = index(order, list_type);
        set.push_head(buddy, index, frame, cached_word(order, list_type));
        buddy.shift(frame, order, from, Content::Pcp);
        let count = set.count.get() + (1 << order);
        set.count.set(count);
        let scale = buddy.settings.pcp_batch_scale_max as u32;
        let free_high = set.limits.freeing(count, order, scale);
        if entry == FreeEntry::NoLock {
            return true;
        }
        let high = set.limits.nr_high(zone, count, free_high, scale);
        if count >= high {
            let pages = set.limits.nr_free(count, high, free_high, scale);
            set.drain_freed(buddy, zone, pages, index);
        }
        true
    }

    fn drain_zone(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        for set in self.sets_of(zone) {
            set.drain_all(buddy, zone);
        }
    }

    fn drain_cpu(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, cpu: CpuIndex) {
        self.set(zone, cpu).drain_all(buddy, zone);
    }

    fn decay(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        let scale = buddy.settings.pcp_batch_scale_max as u32;
        let node = buddy.geometry.node_index_of_cpu(cpu);
        for zone in &buddy.zones {
            let set = self.set(zone, cpu);
            let _guard = set.lock.guard();
            let batch = set.limits.batch();
            let mut excess = set.limits.decay(set.count.get(), scale);
            while excess > 0 {
                set.drain(buddy, zone, excess.min(batch), 0);
                excess = excess.saturating_sub(batch);
            }
            if zone.node != node && set.idle_for_long() {
                set.drain(buddy, zone, batch, 0);
            }
        }
    }

    fn set_limits(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, online_cpus: u64) {
        let limits = pcp_limits::for_zone(zone, &buddy.tunables, online_cpus);
        for set in self.sets_of(zone) {
            set.limits.set(&limits);
        }
    }

    fn load_state(&self, zone: &Zone<F>, cpu: CpuIndex, pageset: &Pageset) {
        self.set(zone, cpu).limits.load(pageset);
    }

    fn load_block(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) -> bool {
        let allowed = <Self as Cache<F, P>>::allows(self, buddy, order);
        let Some(list_type) = cached_type(migratetype).filter(|_| allowed) else { return false };
        let set = self.set(zone, cpu);
        let index = index(order, list_type);
        set.push_tail(buddy, index, frame, cached_word(order, list_type));
        set.count.set(set.count.get() + (1 << order));
        true
    }

    fn cpu_online(&self, _: &Buddy<F, P>, _: CpuIndex) {}

    fn cpu_offline(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        for zone in &buddy.zones {
            self.set(zone, cpu).drain_all(buddy, zone);
        }
    }

    fn pages(&self, zone: &Zone<F>) -> u64 {
        self.sets_of(zone).iter().map(|set| u64::from(set.count.get())).sum()
    }

    fn check(&self, buddy: &Buddy<F, P>) {
        for (i, set) in self.sets.iter().enumerate() {
            let zone = &buddy.zones[i / self.cpus];
            set.check(buddy, zone);
        }
    }
}

impl<F: Flavour> PerCpuPages<F> {
    /// Whether the lists did not change for three periodic runs and hold pages.
    fn idle_for_long(&self) -> bool {
        let count = self.count.get();
        if count == 0 || count != self.seen_count.get() {
            self.seen_count.set(count);
            self.expire.set(3);
            return false;
        }
        self.expire.set(self.expire.get().saturating_sub(1));
        self.expire.get() == 0
    }

    fn check<P: Placement<F>>(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        let mut pages = 0;
        for i in 0..NR_PCP_LISTS {
            let list = self.list(i);
            buddy.frames.check_list(list);
            let singles = self.singles(i);
            singles.iter().for_each(|singles| singles.check(&buddy.frames));
            let in_ring = singles.into_iter().flat_map(PageList::in_ring);
            for frame in in_ring.chain(buddy.frames.iter(list)) {
                let word = buddy.frames.word(frame);
                assert_eq!(word.state(), FrameState::Pcp, "frame {frame:#x} on a per-CPU list");
                assert_eq!(index(word.order(), word.migratetype()), i, "list of {frame:#x}");
                assert!(buddy.geometry.in_zone(frame, zone.id), "zone of {frame:#x}");
                pages += 1 << word.order();
            }
        }
        assert_eq!(self.count.get(), pages, "pages of a pageset of zone {:?}", zone.id);
    }
}

impl<F: Flavour> Limits<F> {
    pub(super) fn load(&self, pageset: &Pageset) {
        let page_count = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX >> 1);
        self.high.set(page_count(pageset.high));
        self.alloc_factor.set(u32::from(pageset.alloc_factor.unwrap_or(0)));
        self.free_count.set(page_count(pageset.free_count.unwrap_or(0).max(0) as u64));
        let previous = PcpFlags::from_bits_truncate(u32::from(pageset.flags.unwrap_or(0)));
        if previous.contains(PcpFlags::PREV_FREE_HIGH_ORDER) {
            self.set_flag(PcpFlags::PREV_FREE_HIGH_ORDER, true);
        }
    }
}
