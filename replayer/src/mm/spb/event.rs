//! The series' tracepoints as values (patch 40), counted and optionally recorded.
//!
//! Field meanings and numbers are those of the series' `include/trace/events/kmem.h`. Zones are
//! named by their position in the machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fragscope_trace::event::TimeNs;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::Migratetype;
use serde::Serialize;

use crate::mm::flavour::{Flavour, Word};
use crate::mm::frames::Frame;

use super::visits::Visits;

/// How a walk for a block ended (`spb_alloc_walk.outcome`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// Nothing found.
    NoPage = 0,
    /// Own list, preferred category (hints included).
    Pass1 = 1,
    /// A wholly free pageblock of a tainted superpageblock was relabelled.
    Pass2 = 2,
    /// A partly free movable pageblock of a tainted superpageblock was relabelled.
    Pass2b = 3,
    /// Borrowed from the other non-movable type.
    Pass2c = 4,
    /// From an empty superpageblock.
    Pass3 = 5,
    /// Movable, from a tainted superpageblock above its reserve.
    Pass4 = 6,
    /// From the zone's own lists: memory without superpageblocks.
    ZoneFallback = 7,
    /// Borrowed from a movable pageblock of a tainted superpageblock.
    Pass2d = 8,
}

impl Outcome {
    /// All outcomes by number.
    pub const ALL: [Outcome; 9] = [
        Outcome::NoPage,
        Outcome::Pass1,
        Outcome::Pass2,
        Outcome::Pass2b,
        Outcome::Pass2c,
        Outcome::Pass3,
        Outcome::Pass4,
        Outcome::ZoneFallback,
        Outcome::Pass2d,
    ];

    /// Name of its counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::NoPage => "no_page",
            Outcome::Pass1 => "pass_1",
            Outcome::Pass2 => "pass_2",
            Outcome::Pass2b => "pass_2b",
            Outcome::Pass2c => "pass_2c",
            Outcome::Pass3 => "pass_3",
            Outcome::Pass4 => "pass_4",
            Outcome::ZoneFallback => "zone_fallback",
            Outcome::Pass2d => "pass_2d",
        }
    }
}

/// Why a pageblock was not claimed (`spb_claim_block_refused.reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ClaimRefusal {
    /// It is isolated.
    Isolate = 0,
    /// It belongs to CMA.
    Cma = 1,
    /// The zone's edge cuts it.
    ZoneBoundary = 2,
    /// Unmovable against reclaimable, and not wholly free.
    CrossTypeNotFree = 3,
    /// Fewer than half of its pages are free or alike.
    InsufficientCompat = 4,
}

impl ClaimRefusal {
    /// All reasons by number.
    pub const ALL: [ClaimRefusal; 5] = [
        ClaimRefusal::Isolate,
        ClaimRefusal::Cma,
        ClaimRefusal::ZoneBoundary,
        ClaimRefusal::CrossTypeNotFree,
        ClaimRefusal::InsufficientCompat,
    ];

    /// Name of its counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ClaimRefusal::Isolate => "claim_refused_isolate",
            ClaimRefusal::Cma => "claim_refused_cma",
            ClaimRefusal::ZoneBoundary => "claim_refused_zone_boundary",
            ClaimRefusal::CrossTypeNotFree => "claim_refused_cross_type_not_free",
            ClaimRefusal::InsufficientCompat => "claim_refused_insufficient_compat",
        }
    }
}

/// What happened at the end of a failed walk over all zones (`spb_alloc_atomic_relax.step`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RelaxStep {
    /// NORETRY: refused.
    NoretrySkip = 0,
    /// Steals from tainted superpageblocks are allowed now.
    AddTaintedOk = 1,
    /// Everything is allowed now.
    DropNofragment = 2,
    /// Optional high order that a lower one could serve: refused.
    NowarnLowerOrder = 3,
}

impl RelaxStep {
    /// All steps by number.
    pub const ALL: [RelaxStep; 4] = [
        RelaxStep::NoretrySkip,
        RelaxStep::AddTaintedOk,
        RelaxStep::DropNofragment,
        RelaxStep::NowarnLowerOrder,
    ];

    /// Name of its counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RelaxStep::NoretrySkip => "relax_noretry_skip",
            RelaxStep::AddTaintedOk => "relax_add_tainted_ok",
            RelaxStep::DropNofragment => "relax_drop_nofragment",
            RelaxStep::NowarnLowerOrder => "relax_nowarn_lower_order",
        }
    }
}

/// What one walk over tainted superpageblocks saw (patch 26): taken before any is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct WalkSnapshot {
    /// Some tainted superpageblock has a free page.
    pub saw_free_pages: bool,
    /// Some has a wholly free pageblock.
    pub saw_free_pb: bool,
    /// Some has no more free pageblocks than its reserve.
    pub saw_below_reserve: bool,
}

/// One tracepoint of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum SpbEvent {
    /// A has-bit changed.
    SpbPbTaint {
        /// First frame of the pageblock.
        pfn: Frame,
        /// The type of the bit (unmovable, reclaimable or movable).
        migratetype: Migratetype,
        /// Set, or cleared.
        set: bool,
        /// The superpageblock's counter went from 0 to 1, or from 1 to 0.
        is_first_or_last: bool,
    },
    /// A pageblock was not claimed.
    SpbClaimBlockRefused {
        /// First frame of the free block that was found.
        pfn: Frame,
        /// Type asked for.
        start_type: Migratetype,
        /// Type of the pageblock.
        block_type: Migratetype,
        /// Why.
        reason: ClaimRefusal,
    },
    /// A targeted evacuation ended.
    SpbEvacuateForOrderDone {
        /// Order of the request that asked for it.
        order: u8,
        /// Type of that request.
        migratetype: Migratetype,
        /// Pageblocks tried.
        phase1_attempts: u32,
        /// Always 0: the two phases were merged.
        phase2_attempts: u32,
        /// Whether any pageblock was evacuated.
        did_evacuate: bool,
    },
    /// All zones failed a request with NOFRAGMENT that cannot reclaim.
    SpbAllocAtomicRelax {
        /// Order of the request.
        order: u8,
        /// Its type.
        migratetype: Migratetype,
        /// Its flags.
        gfp_mask: Gfp,
        /// What was done.
        step: RelaxStep,
    },
    /// One walk ended.
    SpbAllocWalk {
        /// Order of the request.
        order: u8,
        /// Its type.
        migratetype: Migratetype,
        /// `ALLOC_*` flags.
        alloc_flags: u32,
        /// Where a block was found.
        outcome: Outcome,
        /// Superpageblocks looked at; 0 after a hint.
        n_spbs_visited: u32,
    },
    /// Nothing in tainted superpageblocks could serve a request that took a snapshot.
    SpbAllocFallThrough {
        /// Order of the request.
        order: u8,
        /// Its type.
        migratetype: Migratetype,
        /// `ALLOC_*` flags.
        alloc_flags: u32,
        /// Tainted superpageblocks.
        n_tainted: u32,
        /// Those with a free block of the request's order or more on its own list.
        n_tainted_with_buddy: u32,
        /// What the walk saw.
        #[serde(flatten)]
        saw: WalkSnapshot,
    },
}

impl SpbEvent {
    /// Names of all tracepoints of the series.
    pub const NAMES: [&'static str; 6] = [
        "spb_pb_taint",
        "spb_claim_block_refused",
        "spb_evacuate_for_order_done",
        "spb_alloc_atomic_relax",
        "spb_alloc_walk",
        "spb_alloc_fall_through",
    ];

    /// Name of its tracepoint.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        SpbEvent::NAMES[match self {
            SpbEvent::SpbPbTaint { .. } => 0,
            SpbEvent::SpbClaimBlockRefused { .. } => 1,
            SpbEvent::SpbEvacuateForOrderDone { .. } => 2,
            SpbEvent::SpbAllocAtomicRelax { .. } => 3,
            SpbEvent::SpbAllocWalk { .. } => 4,
            SpbEvent::SpbAllocFallThrough { .. } => 5,
        }]
    }
}

/// An event with its place and virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedEvent {
    /// When: the workers' tick before it, every 10 ms of virtual time.
    pub time_ns: TimeNs,
    /// Position of the zone in the machine.
    pub zone: u16,
    /// What.
    #[serde(flatten)]
    pub event: SpbEvent,
}

/// Where a recorder brings its events.
type Sink = Box<dyn FnMut(&[RecordedEvent]) + Send>;

/// Events that a recorder with a sink keeps at most.
const KEPT_MAX: usize = 4096;

#[derive(Default)]
struct Recorded {
    events: Vec<RecordedEvent>,
    sink: Option<Sink>,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorded {{ {} events }}", self.events.len())
    }
}

impl Recorded {
    fn flush(&mut self) {
        if let Some(sink) = &mut self.sink {
            sink(&self.events);
            self.events.clear();
        }
    }
}

/// Takes recorded events, in order: keeps them all, or brings them to a sink in small batches.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

impl Recorder {
    /// A recorder that hands its events to `sink`.
    pub fn to(sink: impl FnMut(&[RecordedEvent]) + Send + 'static) -> Recorder {
        let sink: Option<Sink> = Some(Box::new(sink));
        Recorder(Arc::new(Mutex::new(Recorded { events: Vec::new(), sink })))
    }

    fn inner(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: RecordedEvent) {
        let mut recorded = self.inner();
        recorded.events.push(event);
        if recorded.events.len() >= KEPT_MAX {
            recorded.flush();
        }
    }

    /// Hands over what the sink has not got yet.
    pub fn flush(&self) {
        self.inner().flush();
    }

    /// The events since the last call that no sink took.
    #[must_use]
    pub fn take(&self) -> Vec<RecordedEvent> {
        std::mem::take(&mut self.inner().events)
    }
}

/// The tracepoints of one zone.
#[derive(Debug)]
pub struct Events<F: Flavour> {
    zone: u16,
    now_ns: F::U64,
    outcomes: [F::U64; Outcome::ALL.len()],
    refusals: [F::U64; ClaimRefusal::ALL.len()],
    steps: [F::U64; RelaxStep::ALL.len()],
    bits_set: F::U64,
    bits_cleared: F::U64,
    tainted: F::U64,
    cleaned: F::U64,
    fall_throughs: F::U64,
    fall_throughs_missed: F::U64,
    evacuations: F::U64,
    evacuations_done: F::U64,
    blocks_tried: F::U64,
    /// Superpageblocks looked at by each walk that found something.
    pub visits: Visits<F>,
    recorder: Option<Recorder>,
}

fn add<W: Word<u64>>(counter: &W, n: u64) {
    counter.update(|c| c + n);
}

impl<F: Flavour> Events<F> {
    /// No events yet, of the zone at position `zone`.
    #[must_use]
    pub fn new(zone: u16) -> Events<F> {
        let zeros = || F::U64::default();
        Events {
            zone,
            now_ns: zeros(),
            outcomes: std::array::from_fn(|_| zeros()),
            refusals: std::array::from_fn(|_| zeros()),
            steps: std::array::from_fn(|_| zeros()),
            bits_set: zeros(),
            bits_cleared: zeros(),
            tainted: zeros(),
            cleaned: zeros(),
            fall_throughs: zeros(),
            fall_throughs_missed: zeros(),
            evacuations: zeros(),
            evacuations_done: zeros(),
            blocks_tried: zeros(),
            visits: Visits::new(),
            recorder: None,
        }
    }

    /// Sends events to `recorder` from now on.
    pub fn record_to(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Tells the virtual time of the events to come.
    pub fn set_time(&self, now_ns: TimeNs) {
        self.now_ns.set(now_ns);
    }

    /// The virtual time that was last told.
    #[must_use]
    pub fn now_ns(&self) -> TimeNs {
        self.now_ns.get()
    }

    /// Counts an event, and records it if somebody listens.
    #[inline]
    pub fn emit(&self, event: SpbEvent) {
        self.count(&event);
        if let Some(recorder) = &self.recorder {
            recorder.push(RecordedEvent { time_ns: self.now_ns.get(), zone: self.zone, event });
        }
    }

    fn count(&self, event: &SpbEvent) {
        match *event {
            SpbEvent::SpbPbTaint { migratetype, set, is_first_or_last, .. } => {
                self.count_bit(migratetype, set, is_first_or_last);
            }
            SpbEvent::SpbClaimBlockRefused { reason, .. } => {
                add(&self.refusals[reason as usize], 1);
            }
            SpbEvent::SpbEvacuateForOrderDone { phase1_attempts, did_evacuate, .. } => {
                add(&self.evacuations, 1);
                add(&self.evacuations_done, did_evacuate.into());
                add(&self.blocks_tried, phase1_attempts.into());
            }
            SpbEvent::SpbAllocAtomicRelax { step, .. } => add(&self.steps[step as usize], 1),
            SpbEvent::SpbAllocWalk { outcome, n_spbs_visited, .. } => {
                add(&self.outcomes[outcome as usize], 1);
                self.visits.count(n_spbs_visited);
            }
            SpbEvent::SpbAllocFallThrough { n_tainted_with_buddy, .. } => {
                add(&self.fall_throughs, 1);
                add(&self.fall_throughs_missed, u64::from(n_tainted_with_buddy > 0));
            }
        }
    }

    fn count_bit(&self, migratetype: Migratetype, set: bool, first_or_last: bool) {
        add(if set { &self.bits_set } else { &self.bits_cleared }, 1);
        if first_or_last && migratetype != Migratetype::Movable {
            add(if set { &self.tainted } else { &self.cleaned }, 1);
        }
    }

    /// Adds all counters to `into`, by name.
    pub fn add_to(&self, into: &mut BTreeMap<String, u64>) {
        let mut put = |name: &str, counter: &F::U64| {
            *into.entry(name.to_owned()).or_default() += counter.get();
        };
        for outcome in Outcome::ALL {
            put(outcome.name(), &self.outcomes[outcome as usize]);
        }
        for reason in ClaimRefusal::ALL {
            put(reason.name(), &self.refusals[reason as usize]);
        }
        for step in RelaxStep::ALL {
            put(step.name(), &self.steps[step as usize]);
        }
        put("has_bits_set", &self.bits_set);
        put("has_bits_cleared", &self.bits_cleared);
        put("spb_first_of_type", &self.tainted);
        put("spb_last_of_type", &self.cleaned);
        put("fall_throughs", &self.fall_throughs);
        put("fall_throughs_with_buddy", &self.fall_throughs_missed);
        put("targeted_evacuations", &self.evacuations);
        put("targeted_evacuations_done", &self.evacuations_done);
        put("targeted_evacuation_blocks", &self.blocks_tried);
        *into.entry("spbs_visited".to_owned()).or_default() += self.visits.total();
        for bucket in self.visits.buckets() {
            *into.entry(bucket.name()).or_default() += bucket.walks;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;

    fn taint(migratetype: Migratetype, set: bool, first: bool) -> SpbEvent {
        SpbEvent::SpbPbTaint { pfn: 512, migratetype, set, is_first_or_last: first }
    }

    #[test]
    fn p40_events_are_counted_and_recorded() {
        let mut events = Events::<Up>::new(3);
        events.emit(taint(Migratetype::Unmovable, true, true));
        let recorder = Recorder::default();
        events.record_to(recorder.clone());
        events.set_time(7);
        events.emit(taint(Migratetype::Movable, true, true));
        events.emit(taint(Migratetype::Unmovable, false, true));
        let got = recorder.take();
        assert_eq!(got.len(), 2);
        assert_eq!((got[1].time_ns, got[1].zone), (7, 3));
        let mut counters = BTreeMap::new();
        events.add_to(&mut counters);
        assert_eq!((counters["has_bits_set"], counters["has_bits_cleared"]), (2, 1));
        assert_eq!((counters["spb_first_of_type"], counters["spb_last_of_type"]), (1, 1));
    }

    #[test]
    fn p40_a_sink_gets_every_event_once_in_order() {
        let got = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&got);
        let recorder = Recorder::to(move |batch| into.lock().unwrap().extend_from_slice(batch));
        let mut events = Events::<Up>::new(0);
        events.record_to(recorder.clone());
        for pfn in 0..10_000 {
            let taint = SpbEvent::SpbPbTaint {
                pfn,
                migratetype: Migratetype::Unmovable,
                set: true,
                is_first_or_last: false,
            };
            events.emit(taint);
        }
        recorder.flush();
        let pfns = got
            .lock()
            .unwrap()
            .iter()
            .map(|e| match e.event {
                SpbEvent::SpbPbTaint { pfn, .. } => pfn,
                _ => panic!("only taints were emitted"),
            })
            .collect::<Vec<_>>();
        assert!(pfns.into_iter().eq(0..10_000));
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn recorded_events_carry_the_tracepoint_names() {
        let event = SpbEvent::SpbAllocWalk {
            order: 0,
            migratetype: Migratetype::Movable,
            alloc_flags: 0x100,
            outcome: Outcome::Pass2b,
            n_spbs_visited: 4,
        };
        let line = serde_json::to_string(&RecordedEvent { time_ns: 1, zone: 0, event }).unwrap();
        assert!(line.contains(&format!(r#""event":"{}""#, event.name())), "{line}");
        assert!(line.contains(r#""outcome":"pass2b""#), "{line}");
    }
}
