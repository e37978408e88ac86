//! Work that waits for the workers: deferred evacuations (patch 25) and slab shrinks (patch 28).
//!
//! Queueing happens under a zone lock and only notes what is wanted; [`super::workers`] does it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Migratetype, NR_PAGE_ORDERS};

use crate::mm::flavour::{Flavour, Word};
use crate::mm::geometry::ZoneId;
use crate::mm::settings::Settings;

use super::category::Category;
use super::index::Need;
use super::placement::Spb;
use super::search::Search;
use super::superpageblock::Orders;

const TYPES: usize = Migratetype::PCP_TYPES;
const NS_PER_MS: u64 = 1_000_000;

/// A request for a targeted evacuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvacRequest {
    /// Zone whose request was about to taint.
    pub zone: ZoneId,
    /// Order of that request.
    pub order: u8,
    /// Type of that request.
    pub migratetype: Migratetype,
}

/// Throttle and single flight of one zone.
#[derive(Debug)]
struct ZoneGate<F: Flavour> {
    /// `spb_evac_last`, off by one: 0 for never.
    last_ns: [F::U64; TYPES],
    /// `spb_evac_in_flight`: a bit for each order and type.
    in_flight: F::U64,
}

/// What waits, and what was done.
#[derive(Debug)]
pub struct Background<F: Flavour> {
    gates: Box<[ZoneGate<F>]>,
    requests: Mutex<VecDeque<EvacRequest>>,
    shrinks: Box<[F::U32]>,
    pool: usize,
    throttle_ns: u64,
    refusals: F::U64,
    evac_queued: F::U64,
    evac_throttled: F::U64,
    evac_single_flight: F::U64,
    evac_needless: F::U64,
    evac_dropped: F::U64,
    shrink_queued: F::U64,
    /// `spb_slab_shrink_ran`
    pub shrink_ran: F::U64,
    /// Defragmentation passes.
    pub defrag_passes: F::U64,
    /// Passes after which no more pageblocks were free.
    pub defrag_fruitless: F::U64,
    /// Pageblocks that any evacuation worked on.
    pub blocks_evacuated: F::U64,
    /// Pages that evacuations moved or dropped.
    pub pages_evacuated: F::U64,
}

impl<F: Flavour> ZoneGate<F> {
    fn new() -> ZoneGate<F> {
        ZoneGate { last_ns: Default::default(), in_flight: F::U64::default() }
    }
}

const fn flight_bit(order: u8, migratetype: Migratetype) -> u64 {
    1 << (order as usize * TYPES + migratetype as usize)
}

const _: () = assert!(NR_PAGE_ORDERS * TYPES <= 64, "one word holds the in-flight bits");

impl<F: Flavour> Background<F> {
    /// Nothing waits.
    #[must_use]
    pub fn new(zones: usize, nodes: usize, settings: &Settings) -> Background<F> {
        let zero = F::U64::default;
        Background {
            gates: (0..zones).map(|_| ZoneGate::new()).collect(),
            requests: Mutex::default(),
            shrinks: (0..nodes).map(|_| F::U32::default()).collect(),
            pool: usize::try_from(settings.evac_requests).unwrap_or(usize::MAX),
            throttle_ns: settings.evac_throttle_ms.saturating_mul(NS_PER_MS),
            refusals: zero(),
            evac_queued: zero(),
            evac_throttled: zero(),
            evac_single_flight: zero(),
            evac_needless: zero(),
            evac_dropped: zero(),
            shrink_queued: zero(),
            shrink_ran: zero(),
            defrag_passes: zero(),
            defrag_fruitless: zero(),
            blocks_evacuated: zero(),
            pages_evacuated: zero(),
        }
    }

    /// `SPB_HIGHORDER_REFUSED`: refusal 1 turned a request away in one zone.
    pub fn count_refusal(&self) {
        self.refusals.add(1);
    }

    /// `queue_spb_slab_shrink` for a node (by position); once until it ran.
    #[inline]
    pub fn queue_shrink(&self, node: u16) {
        let wanted = &self.shrinks[usize::from(node)];
        if wanted.get() == 0 {
            wanted.set(1);
            self.shrink_queued.add(1);
        }
    }

    /// Takes a node's wish to shrink.
    pub fn take_shrink(&self, node: usize) -> bool {
        self.shrinks[node].swap(0) != 0
    }

    /// The next deferred evacuation. Another like it may be queued again.
    pub fn next_evacuation(&self) -> Option<EvacRequest> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let request = requests.pop_front()?;
        let gate = &self.gates[usize::from(request.zone.0)];
        gate.in_flight.update(|bits| bits & !flight_bit(request.order, request.migratetype));
        Some(request)
    }

    /// The gates that need no look at the superpageblocks: throttle, then single flight.
    fn passes_gates(&self, request: &EvacRequest, now_ns: TimeNs) -> bool {
        let gate = &self.gates[usize::from(request.zone.0)];
        let last = gate.last_ns[request.migratetype.index()].get();
        if last != 0 && now_ns < (last - 1).saturating_add(self.throttle_ns) {
            self.evac_throttled.add(1);
            return false;
        }
        if gate.in_flight.get() & flight_bit(request.order, request.migratetype) != 0 {
            self.evac_single_flight.add(1);
            return false;
        }
        true
    }

    /// The last gate: the pool. Remembers time and flight.
    fn push(&self, request: EvacRequest, now_ns: TimeNs) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= self.pool {
            self.evac_dropped.add(1);
            return;
        }
        requests.push_back(request);
        self.evac_queued.add(1);
        let gate = &self.gates[usize::from(request.zone.0)];
        gate.last_ns[request.migratetype.index()].set(now_ns + 1);
        gate.in_flight.update(|bits| bits | flight_bit(request.order, request.migratetype));
    }

    /// Adds all counters to `into`, by name.
    pub fn add_to(&self, into: &mut BTreeMap<String, u64>) {
        let counters = [
            ("spb_highorder_refused", &self.refusals),
            ("spb_evac_queued", &self.evac_queued),
            ("spb_evac_throttled", &self.evac_throttled),
            ("spb_evac_single_flight", &self.evac_single_flight),
            ("spb_evac_needless", &self.evac_needless),
            ("spb_evac_dropped", &self.evac_dropped),
            ("spb_slab_shrink_queued", &self.shrink_queued),
            ("spb_slab_shrink_ran", &self.shrink_ran),
            ("spb_defrag_passes", &self.defrag_passes),
            ("spb_defrag_fruitless", &self.defrag_fruitless),
            ("spb_blocks_evacuated", &self.blocks_evacuated),
            ("spb_pages_evacuated", &self.pages_evacuated),
        ];
        for (name, counter) in counters {
            into.insert(name.to_owned(), counter.get());
        }
    }
}

impl<F: Flavour> Spb<F> {
    /// `queue_spb_evacuate`: gates in order are type, throttle, single flight, need, pool. There
    /// is no need while a tainted superpageblock has a free block of exactly this order and type:
    /// then the request was turned away, not short of memory.
    pub fn queue_evacuation(&self, search: &Search<'_, F>) {
        let (order, migratetype) = (search.order, search.migratetype);
        if !search.buddy.settings.p25 || migratetype.index() >= TYPES {
            return;
        }
        let request = EvacRequest { zone: search.zone.id, order, migratetype };
        let now_ns = search.spbs.events().now_ns();
        if !self.background().passes_gates(&request, now_ns) {
            return;
        }
        let need = Need::block(migratetype, Orders::just(order));
        let mut tainted = search.spbs.in_category(Category::Tainted);
        if tainted.any(|spb| need.met_by(search.spbs.spb(spb))) {
            self.background().evac_needless.add(1);
            return;
        }
        self.background().push(request, now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;

    fn request(order: u8) -> EvacRequest {
        EvacRequest { zone: ZoneId(0), order, migratetype: Migratetype::Unmovable }
    }

    fn queue(background: &Background<Up>, order: u8, now_ns: TimeNs) -> bool {
        let request = request(order);
        let passes = background.passes_gates(&request, now_ns);
        if passes {
            background.push(request, now_ns);
        }
        passes
    }

    #[test]
    fn p25_one_evacuation_per_ten_milliseconds() {
        let background = Background::<Up>::new(1, 1, &Settings::default());
        let at = [0, 9_999_999, 10_000_000, 19_999_999];
        let queued: Vec<_> = (0..4).map(|i| queue(&background, i as u8, at[i])).collect();
        assert_eq!(queued, [true, false, true, false]);
    }

    #[test]
    fn p25_one_evacuation_of_a_kind_in_flight() {
        let settings = Settings { evac_throttle_ms: 0, ..Settings::default() };
        let background = Background::<Up>::new(1, 1, &settings);
        assert!(queue(&background, 3, 5));
        assert!(!queue(&background, 3, 5) && queue(&background, 2, 5));
        assert_eq!(background.next_evacuation(), Some(request(3)));
        assert!(queue(&background, 3, 5));
    }

    #[test]
    fn p25_the_pool_drops_what_it_cannot_hold() {
        let settings = Settings { evac_throttle_ms: 0, evac_requests: 2, ..Settings::default() };
        let background = Background::<Up>::new(1, 1, &settings);
        (0..4).for_each(|order| _ = queue(&background, order, 0));
        let mut counters = BTreeMap::new();
        background.add_to(&mut counters);
        assert_eq!((counters["spb_evac_queued"], counters["spb_evac_dropped"]), (2, 2));
    }

    #[test]
    fn p28_a_node_shrinks_once_per_wish() {
        let background = Background::<Up>::new(1, 2, &Settings::default());
        background.queue_shrink(1);
        background.queue_shrink(1);
        assert!(!background.take_shrink(0) && background.take_shrink(1));
        assert!(!background.take_shrink(1));
        let mut counters = BTreeMap::new();
        background.add_to(&mut counters);
        assert_eq!(counters["spb_slab_shrink_queued"], 1);
    }
}
