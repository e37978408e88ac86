//! The per-CPU buddy lists (patches 02 and 03): a CPU owns whole pageblocks, merges their pages
//! on its own lists, and gets them back when another CPU frees them.
//!
//! `spb-allocator` 1.5 and 3. Each (zone, CPU) has a list for every order up to the pageblock's
//! and each of three types. [`refill`] takes from the zone in phases, [`drain`] merges and gives
//! back, [`remote`] is the way of pages freed elsewhere.
//!
//! Invariants: a page marked [`Mark::PCP_BUDDY`] is on the lists of the CPU that owns its
//! pageblock; after a drain no two such pages are buddies of one order; ownership ends when the
//! whole pageblock is free in the zone.

mod drain;
mod either;
mod refill;
mod remote;

use fragscope_trace::machine::{Machine, Pageset};
use fragscope_trace::page::{Content, Migratetype};

use super::buddy::Buddy;
use super::cache::Cache;
use super::flags::AllocFlags;
use super::flavour::{Fault, Flavour, Guard, Lock, Word};
use super::frames::{Frame, FrameState, FrameWord, HEADS_PER_LINE, ListId, Mark};
use super::free_path::Protocol;
use super::geometry::{CpuIndex, Geometry, ZoneSpan};
use super::page_list::PageList;
use super::pcp_limits::{self, Limits};
use super::per_thread::OwnLine;
use super::placement::Placement;
use super::request::FreeEntry;
use super::virtual_hold::{Deed, Hold, Moved, Stranded};
use super::zone::Zone;

pub use either::EitherPcp;

use drain::Fresh;
use remote::{RemoteFrees, Whose};

const TYPES: u32 = Migratetype::PCP_TYPES as u32;

/// `struct per_cpu_pages` of one (zone, CPU). Counts are base pages; the lock guards all but the
/// remote frees.
#[derive(Debug)]
pub struct OwningPcp<F: Flavour> {
    lock: F::Lock,
    protocol: Protocol,
    /// Until when the lock is held in a replay.
    hold: Hold<F>,
    /// Owner word of pageblocks that this CPU owns.
    owner: u32,
    /// Number of its list of owned pageblocks that have fragments in the zone.
    owned: u32,
    first_list: u32,
    /// List heads: orders up to the pageblock's times types, and a few that are never used.
    lists: u32,
    count: F::U32,
    /// For each type the orders whose list is not empty.
    occupied: [F::U32; Migratetype::PCP_TYPES],
    /// The lists of order 0.
    singles: [PageList<F>; Migratetype::PCP_TYPES],
    limits: Limits<F>,
    remote: RemoteFrees<F>,
    /// Blocks put on the lists since the last merge.
    fresh: Fresh<F>,
    /// `PCPF_CPU_DEAD`
    dead: F::U32,
    /// Pages at the last periodic run, to see whether a remote zone's lists are idle.
    seen_count: F::U32,
    /// Periodic runs until an idle remote zone's lists are drained.
    expire: F::U32,
}

/// The lock of a pageset, taken.
struct Held<'a, F: Flavour> {
    _guard: Guard<'a, F::Lock>,
    /// Where somebody looks how long it is held: what was moved before, and how long it was
    /// waited for.
    timed: Option<(Moved, u64)>,
}

/// Pagesets by zone and CPU.
#[derive(Debug)]
pub struct PcpBuddy<F: Flavour> {
    sets: Box<[OwnLine<OwningPcp<F>>]>,
    cpus: usize,
    enabled: bool,
}

/// A block on its way onto the lists.
#[derive(Clone, Copy, Debug)]
struct Cached {
    frame: Frame,
    order: u8,
    /// Type of the list, one of the first three.
    list: Migratetype,
    marks: Mark,
}

/// The type of the list that caches pages of a pageblock of this type; `None` if none may.
#[inline]
fn cached_type(migratetype: Migratetype) -> Option<Migratetype> {
    match migratetype {
        Migratetype::Isolate => None,
        Migratetype::HighAtomic | Migratetype::Cma => Some(Migratetype::Movable),
        pcp_type => Some(pcp_type),
    }
}

impl<F: Flavour> PcpBuddy<F> {
    #[inline]
    fn set(&self, zone: &Zone<F>, cpu: CpuIndex) -> &OwningPcp<F> {
        &self.sets[usize::from(zone.id.0) * self.cpus + usize::from(cpu.0)]
    }

    fn sets_of(&self, zone: &Zone<F>) -> &[OwnLine<OwningPcp<F>>] {
        let first = usize::from(zone.id.0) * self.cpus;
        &self.sets[first..first + self.cpus]
    }

    /// The pagesets of one CPU with their zones.
    fn sets_on<'a, P: Placement<F>>(
        &'a self,
        buddy: &'a Buddy<F, P>,
        cpu: CpuIndex,
    ) -> impl Iterator<Item = (&'a Zone<F>, &'a OwningPcp<F>)> {
        buddy.zones.iter().map(move |zone| (zone, self.set(zone, cpu)))
    }
}

impl<F: Flavour> OwningPcp<F> {
    fn new(
        protocol: Protocol,
        cpu: CpuIndex,
        number: u32,
        first_list: u32,
        geometry: &Geometry,
        zone: &ZoneSpan,
    ) -> OwningPcp<F> {
        let lists = lists_per_set(geometry);
        let first_list = first_list + number * lists;
        OwningPcp {
            lock: F::Lock::default(),
            protocol,
            hold: Hold::default(),
            owner: u32::from(cpu.0) + 1,
            owned: number,
            first_list,
            lists,
            count: F::U32::default(),
            occupied: Default::default(),
            singles: PageList::of_pageset(geometry, zone, first_list),
            limits: Limits::default(),
            remote: RemoteFrees::new(),
            fresh: Fresh::default(),
            dead: F::U32::default(),
            seen_count: F::U32::default(),
            expire: F::U32::default(),
        }
    }

    #[inline]
    fn list(&self, order: u8, migratetype: Migratetype) -> ListId {
        ListId(self.first_list + TYPES * u32::from(order) + migratetype as u32)
    }

    #[inline]
    fn is_dead(&self) -> bool {
        self.dead.get() != 0
    }

    /// Takes the lock for an operation of the free path or for an allocation. It is waited for by
    /// tasks (`may_wait`) in [`Protocol::Blocking`], and else tried. `None` if it is held, which
    /// `fallbacks` counts. [`OwningPcp::unlock`] gives it back.
    #[inline(always)]
    fn lock<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        may_wait: bool,
        fallbacks: &F::U64,
    ) -> Option<Held<'_, F>> {
        let left = self.hold.left(&buddy.holds);
        let guard = if left == 0 && self.lock.try_lock() {
            Guard::of(&self.lock)
        } else {
            self.lock_busy(buddy, may_wait, fallbacks, left)?
        };
        // In v2 nobody else tries this lock, so nobody looks how long it was held.
        let timed = F::REPLAYS && self.protocol != Protocol::LocalTrylockRemoteLlist;
        let timed = timed.then(|| (Moved::so_far(&buddy.counters), left));
        Some(Held { _guard: guard, timed })
    }

    /// The operation under the lock is over.
    #[inline(always)]
    fn unlock<P: Placement<F>>(&self, buddy: &Buddy<F, P>, held: Held<'_, F>) {
        if let Some((before, left)) = held.timed {
            self.hold.begin(&buddy.holds, &buddy.settings, &buddy.counters, before, left);
        }
        drop(held);
    }

    /// Waits for the lock where that is allowed; in a replay it is held for `left` ns more.
    #[cold]
    fn lock_busy<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        may_wait: bool,
        fallbacks: &F::U64,
        left: u64,
    ) -> Option<Guard<'_, F::Lock>> {
        let counters = &buddy.counters;
        if left > 0 {
            self.count_busy(buddy);
        }
        if !may_wait || self.protocol != Protocol::Blocking {
            counters.pcp_trylock_failures.add(1);
            fallbacks.add(1);
            return None;
        }
        counters.pcp_lock_waits.add(1);
        counters.pcp_lock_wait_ns.add(left);
        Some(self.lock.guard())
    }

    fn count_busy<P: Placement<F>>(&self, buddy: &Buddy<F, P>) {
        let counters = &buddy.counters;
        let cause = match self.hold.deed() {
            Deed::Hit => &counters.pcp_busy_hit,
            Deed::Refill => &counters.pcp_busy_refill,
            Deed::Drain => &counters.pcp_busy_drain,
        };
        cause.add(1);
    }

    #[inline(always)]
    fn occupy(&self, block: &Cached) {
        let orders = &self.occupied[block.list.index()];
        orders.set(orders.get() | 1 << block.order);
        self.count.set(self.count.get() + (1 << block.order));
    }

    #[inline]
    fn word(block: &Cached) -> FrameWord {
        let Cached { order, list, marks, .. } = *block;
        FrameWord::new(FrameState::Pcp, order, list, Content::Pcp, marks)
    }

    #[inline(always)]
    fn push_head<P: Placement<F>>(&self, buddy: &Buddy<F, P>, block: &Cached) {
        if block.order == 0 {
            let singles = &self.singles[block.list.index()];
            singles.push_head(&buddy.frames, block.frame, Self::word(block));
        } else {
            buddy.frames.set_word(block.frame, Self::word(block));
            buddy.frames.push_head(self.list(block.order, block.list), block.frame);
        }
        self.occupy(block);
    }

    #[inline]
    fn push_tail<P: Placement<F>>(&self, buddy: &Buddy<F, P>, block: &Cached) {
        if block.order == 0 {
            let singles = &self.singles[block.list.index()];
            singles.push_tail(&buddy.frames, block.frame, Self::word(block));
        } else {
            buddy.frames.set_word(block.frame, Self::word(block));
            buddy.frames.push_tail(self.list(block.order, block.list), block.frame);
        }
        self.occupy(block);
    }

    /// Takes a listed block off its list; its head becomes an inner frame of nothing.
    #[inline]
    fn remove<P: Placement<F>>(&self, buddy: &Buddy<F, P>, frame: Frame) -> Cached {
        let word = buddy.frames.word(frame);
        debug_assert_eq!(word.state(), FrameState::Pcp);
        let (order, list) = (word.order(), word.migratetype());
        if order == 0 {
            self.singles[list.index()].remove(&buddy.frames, frame);
        } else {
            buddy.frames.unlink(frame);
        }
        buddy.frames.set_word(frame, FrameWord::free_tail());
        self.taken(buddy, order, list);
        Cached { frame, order, list, marks: word.marks() }
    }

    /// A block left a list.
    #[inline(always)]
    fn taken<P: Placement<F>>(&self, buddy: &Buddy<F, P>, order: u8, list: Migratetype) {
        let empty = match order {
            0 => self.singles[list.index()].is_empty(&buddy.frames),
            _ => buddy.frames.first(self.list(order, list)).is_none(),
        };
        if empty {
            let orders = &self.occupied[list.index()];
            orders.set(orders.get() & !(1 << order));
        }
        self.count.set(self.count.get() - (1 << order));
    }

    /// The last block of a list.
    fn last<P: Placement<F>>(&self, buddy: &Buddy<F, P>, index: u32) -> Option<Frame> {
        match self.singles.get(index as usize) {
            Some(singles) => singles.last(&buddy.frames),
            None => buddy.frames.last(ListId(self.first_list + index)),
        }
    }

    /// Every block of a list, from its head.
    fn blocks<'a, P: Placement<F>>(
        &'a self,
        buddy: &'a Buddy<F, P>,
        index: u32,
    ) -> impl Iterator<Item = Frame> + 'a {
        let in_ring = self.singles.get(index as usize).into_iter().flat_map(PageList::in_ring);
        in_ring.chain(buddy.frames.iter(ListId(self.first_list + index)))
    }

    /// Takes a block from the lists, refilling them if need be. The lock is held.
    #[inline(always)]
    fn alloc_locked<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        self.limits.allocating();
        self.absorb(buddy);
        if let Some(frame) = self.pop(buddy, order, migratetype) {
            buddy.counters.pcp_hits.add(1);
            return Some(frame);
        }
        // High-order atomic requests have a reserve in the zone.
        if flags.contains(AllocFlags::HIGHATOMIC) {
            return None;
        }
        self.refill_and_pop(buddy, zone, order, migratetype, flags)
    }

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
        self.pop(buddy, order, migratetype)
    }

    /// The first block of a type's lists from an order upwards, split down to that order; the
    /// upper halves go to the heads of the lists below and keep its mark.
    #[inline(always)]
    fn pop<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        order: u8,
        migratetype: Migratetype,
    ) -> Option<Frame> {
        let orders = self.occupied[migratetype.index()].get() >> order;
        if orders & 1 == 0 {
            return self.pop_larger(buddy, order, migratetype, orders);
        }
        let frame = match order {
            0 => self.singles[migratetype.index()].pop_head(&buddy.frames)?,
            _ => buddy.frames.pop_head(self.list(order, migratetype))?,
        };
        buddy.frames.set_word(frame, FrameWord::free_tail());
        self.fresh.taken(frame);
        self.taken(buddy, order, migratetype);
        Some(frame)
    }

    /// [`OwningPcp::pop`] where no block has the wanted order itself; `orders` are those from it
    /// on that are not empty.
    #[inline(never)]
    fn pop_larger<P: Placement<F>>(
        &self,
        buddy: &Buddy<F, P>,
        order: u8,
        migratetype: Migratetype,
        orders: u32,
    ) -> Option<Frame> {
        if orders == 0 {
            return None;
        }
        let found = order + orders.trailing_zeros() as u8;
        let frame = buddy.frames.first(self.list(found, migratetype))?;
        let block = self.remove(buddy, frame);
        for half in (order..found).rev() {
            self.push_head(buddy, &Cached { frame: frame + (1 << half), order: half, ..block });
        }
        Some(frame)
    }

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
        for i in 0..self.lists {
            let list = ListId(self.first_list + i);
            buddy.frames.check_list(list);
            for frame in self.blocks(buddy, i) {
                let word = buddy.frames.word(frame);
                assert_eq!(word.state(), FrameState::Pcp, "frame {frame:#x} on a per-CPU list");
                assert_eq!(self.list(word.order(), word.migratetype()), list, "of {frame:#x}");
                assert!(buddy.geometry.in_zone(frame, zone.id), "zone of {frame:#x}");
                if word.marks().contains(Mark::PCP_BUDDY) {
                    let owner = buddy.blocks.owner(buddy.pageblock(frame));
                    assert_eq!(owner, self.owner, "owner of marked frame {frame:#x}");
                }
                pages += 1 << word.order();
            }
            let (order, of_type) = (i / TYPES, (i % TYPES) as usize);
            let occupied = self.occupied[of_type].get() >> order & 1 == 1;
            assert_eq!(occupied, self.last(buddy, i).is_some(), "occupancy of {list:?}");
        }
        self.singles.iter().for_each(|singles| singles.check(&buddy.frames));
        assert_eq!(self.count.get(), pages, "pages of a pageset of zone {:?}", zone.id);
        self.check_owned(buddy);
    }

    fn check_owned<P: Placement<F>>(&self, buddy: &Buddy<F, P>) {
        let next = |block: &_| buddy.blocks.next_owned(*block);
        for block in std::iter::successors(buddy.blocks.first_owned(self.owned), next) {
            assert_eq!(buddy.blocks.owner(block), self.owner, "owner of listed {block:?}");
        }
    }
}

impl<F: Flavour, P: Placement<F>> Cache<F, P> for PcpBuddy<F> {
    const NAME: &'static str = "pcp_buddy";

    fn list_count(geometry: &Geometry) -> u32 {
        let sets = geometry.zones.len() as u32 * u32::from(geometry.cpus);
        sets * lists_per_set(geometry)
    }

    fn build(buddy: &Buddy<F, P>, machine: &Machine, first_list: u32) -> PcpBuddy<F> {
        let cpus = usize::from(buddy.geometry.cpus);
        let protocol = buddy.settings.protocol();
        let set = |i: usize| {
            let cpu = CpuIndex((i % cpus) as u16);
            let (geometry, zone) = (&buddy.geometry, &buddy.geometry.zones[i / cpus]);
            OwnLine::new(OwningPcp::new(protocol, cpu, i as u32, first_list, geometry, zone))
        };
        let sets: Box<[_]> = (0..buddy.zones.len() * cpus).map(set).collect();
        let slice = pcp_limits::cache_slice_bytes(machine);
        sets.iter().for_each(|set: &OwnLine<OwningPcp<F>>| set.limits.set_cache_slice(slice));
        PcpBuddy { sets, cpus, enabled: buddy.settings.pcp }
    }

    #[inline(always)]
    fn allows(&self, buddy: &Buddy<F, P>, order: u8) -> bool {
        self.enabled && order <= buddy.geometry.pageblock_order
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
        let may_wait = !flags.contains(AllocFlags::TRYLOCK);
        let held = set.lock(buddy, may_wait, &buddy.counters.pcp_fallbacks_alloc)?;
        let frame = set.alloc_locked(buddy, zone, order, migratetype, flags);
        set.unlock(buddy, held);
        frame
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
        let Some(list) = cached_type(buddy.migratetype(frame)) else { return false };
        let owner = buddy.blocks.owner(buddy.pageblock(frame));
        let block = Cached { frame, order, list, marks: Mark::empty() };
        let home = CpuIndex(owner.wrapping_sub(1) as u16);
        if owner == 0 || home == cpu {
            return self.set(zone, cpu).free_locked(buddy, zone, block, from, entry, Whose::Own);
        }
        let home = self.set(zone, home);
        if home.protocol == Protocol::LocalTrylockRemoteLlist {
            home.free_remote(buddy, block, from)
        } else {
            home.free_locked(buddy, zone, block, from, entry, Whose::Other)
        }
    }

    fn drain_zone(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        for set in self.sets_of(zone) {
            set.drain_all(buddy, zone);
        }
    }

    fn decay(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        let scale = buddy.settings.pcp_batch_scale_max as u32;
        let node = buddy.geometry.node_index_of_cpu(cpu);
        for (zone, set) in self.sets_on(buddy, cpu) {
            let _guard = set.lock.guard();
            let batch = set.limits.batch();
            let mut excess = set.limits.decay(set.count.get(), scale);
            while excess > 0 {
                set.drain(buddy, zone, excess.min(batch));
                excess = excess.saturating_sub(batch);
            }
            if zone.node != node && set.idle_for_long() {
                set.drain(buddy, zone, batch);
            }
        }
    }

    fn set_limits(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, online_cpus: u64) {
        let limits = pcp_limits::for_zone(zone, &buddy.tunables, online_cpus);
        self.sets_of(zone).iter().for_each(|set| set.limits.set(&limits));
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
        let Some(list) = cached_type(migratetype).filter(|_| allowed) else { return false };
        let block = Cached { frame, order, list, marks: Mark::empty() };
        self.set(zone, cpu).push_tail(buddy, &block);
        true
    }

    /// Clears the dead mark and takes in what raced with the CPU's end.
    fn cpu_online(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        for (_, set) in self.sets_on(buddy, cpu) {
            let _guard = set.lock.guard();
            set.dead.set(0);
            if !F::has(Fault::OnlineWithoutAbsorb) {
                set.absorb(buddy);
            }
        }
    }

    fn cpu_offline(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        for (zone, set) in self.sets_on(buddy, cpu) {
            set.retire(buddy, zone);
        }
    }

    fn pages(&self, zone: &Zone<F>) -> u64 {
        self.sets_of(zone).iter().map(|set| u64::from(set.count.get())).sum()
    }

    fn free_path(&self) -> Option<Protocol> {
        self.sets.first().map(|set| set.protocol)
    }

    fn stranded(&self, buddy: &Buddy<F, P>) -> Stranded {
        buddy.holds.stranded(self.sets.iter().map(|set| set.waiting()))
    }

    fn check(&self, buddy: &Buddy<F, P>) {
        for (i, set) in self.sets.iter().enumerate() {
            set.check(buddy, &buddy.zones[i / self.cpus]);
        }
    }
}

/// List heads from one pageset to the next, so that no two share a cache line.
fn lists_per_set(geometry: &Geometry) -> u32 {
    let lists = TYPES * (u32::from(geometry.pageblock_order) + 1);
    lists.next_multiple_of(HEADS_PER_LINE)
}
