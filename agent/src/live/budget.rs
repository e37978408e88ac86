//! When to count events instead of recording them, so that a session keeps its budgets.
//!
//! A budget is spent in windows of one second. When it is spent, events are shed until the window is
//! over, and recording is then taken up again. A host that spends the budget at once again is left
//! alone for twice as long each time, because every beginning costs a snapshot.

use std::time::Duration;

use fragscope_trace::event::{Budget, SideKind, TimeNs};

/// For how long a budget is.
const WINDOW_NS: TimeNs = 1_000_000_000;
/// Windows that shedding lasts at most before it is tried again to record.
const HOLD_WINDOWS_MAX: u64 = 64;

/// What a session may use; no limit where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Page events recorded in a second.
    pub events_per_second: Option<u64>,
    /// CPU time of the process, without snapshots, in thousandths of one CPU.
    pub cpu_permille: Option<u32>,
}

impl Budgets {
    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Budgets::default()
    }
}

/// What was used up to a time, since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Page events offered by the kernel.
    pub events: u64,
    /// CPU time.
    pub cpu_ns: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Shed from now on; what says so in the trace.
    Shed(SideKind),
    /// Record again; what says so in the trace.
    Record(SideKind),
}

/// Keeps the budgets of a session.
#[derive(Debug)]
pub struct Shedder {
    budgets: Budgets,
    window_ns: TimeNs,
    at_window: Used,
    shedding: Option<Shedding>,
    /// How long the last shedding was, in windows.
    held: u64,
}

#[derive(Clone, Copy, Debug)]
struct Shedding {
    until_ns: TimeNs,
    budget: Budget,
    limit: u64,
}

impl Shedder {
    /// Begins to keep `budgets`.
    #[must_use]
    pub fn new(budgets: Budgets, now_ns: TimeNs) -> Shedder {
        let at_window = Used::default();
        Shedder { budgets, window_ns: now_ns, at_window, shedding: None, held: 0 }
    }

    /// Whether events are shed.
    #[must_use]
    pub fn is_shedding(&self) -> bool {
        self.shedding.is_some()
    }

    /// Looks at what was used up to now.
    pub fn look(&mut self, now_ns: TimeNs, used: Used) -> Option<Turn> {
        if let Some(Shedding { until_ns, budget, limit }) = self.shedding {
            if now_ns < until_ns {
                return None;
            }
            self.shedding = None;
            self.begin_window(now_ns, used);
            return Some(Turn::Record(SideKind::Shed { budget, begin: false, limit, found: 0 }));
        }
        if let Some((budget, limit, found)) = self.spent(used) {
            // A window that was kept since the last shedding has reset this.
            self.held = (2 * self.held).clamp(1, HOLD_WINDOWS_MAX);
            let until_ns = self.window_ns + self.held * WINDOW_NS;
            self.shedding = Some(Shedding { until_ns, budget, limit });
            return Some(Turn::Shed(SideKind::Shed { budget, begin: true, limit, found }));
        }
        if now_ns >= self.window_ns + WINDOW_NS {
            self.held = 0;
            self.begin_window(now_ns, used);
        }
        None
    }

    fn begin_window(&mut self, now_ns: TimeNs, used: Used) {
        self.window_ns = now_ns;
        self.at_window = used;
    }

    /// The budget that this window has spent, its limit, and what was used, in its unit.
    fn spent(&self, used: Used) -> Option<(Budget, u64, u64)> {
        let events = used.events.saturating_sub(self.at_window.events);
        let cpu = used.cpu_ns.saturating_sub(self.at_window.cpu_ns) / (WINDOW_NS / 1000);
        let limits = [
            (Budget::EventsPerSecond, self.budgets.events_per_second, events),
            (Budget::CpuPermille, self.budgets.cpu_permille.map(u64::from), cpu),
        ];
        let spent = |(budget, limit, found): (Budget, Option<u64>, u64)| {
            limit.filter(|limit| found > *limit).map(|limit| (budget, limit, found))
        };
        limits.into_iter().find_map(spent)
    }
}

/// Rounded up, so that something is allowed.
#[must_use]
pub fn permille(percent: f64) -> u32 {
    (percent * 10.0).ceil() as u32
}

/// Memory of the rings and of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShares {
    /// Bytes of each ring, if `rings` of them are made.
    pub ring_bytes: u64,
    /// Events that may wait in the queue.
    pub queue_events: usize,
}

/// Divides a budget of memory: half of it for the rings, rounded down to a power of two each, and
/// what is left for the queue.
#[must_use]
pub fn divide_memory(bytes: u64, rings: u64, event_bytes: u64) -> MemoryShares {
    let rings = rings.max(1);
    let each = (bytes / 2 / rings).max(4096);
    let ring_bytes = 1 << each.ilog2();
    let left = bytes.saturating_sub(ring_bytes * rings);
    MemoryShares { ring_bytes, queue_events: (left / event_bytes).max(1) as usize }
}

/// How often counters are read where nothing else is said.
pub const COUNT_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: TimeNs = 1_000_000;

    fn events(limit: u64) -> Shedder {
        let budgets = Budgets { events_per_second: Some(limit), cpu_permille: None };
        Shedder::new(budgets, 0)
    }

    fn used(events: u64) -> Used {
        Used { events, cpu_ns: 0 }
    }

    #[test]
    fn a_spent_budget_is_shed_until_the_window_is_over() {
        let mut shedder = events(100);
        assert_eq!(shedder.look(500 * MS, used(100)), None);
        let kind = |begin, found| {
            let budget = Budget::EventsPerSecond;
            SideKind::Shed { budget, begin, limit: 100, found }
        };
        assert_eq!(shedder.look(600 * MS, used(101)), Some(Turn::Shed(kind(true, 101))));
        assert_eq!(shedder.look(999 * MS, used(5000)), None);
        assert!(shedder.is_shedding());
        assert_eq!(shedder.look(1000 * MS, used(5000)), Some(Turn::Record(kind(false, 0))));
        assert_eq!(shedder.look(1001 * MS, used(5100)), None);
    }

    #[test]
    fn a_host_that_spends_it_at_once_again_is_left_alone_longer() {
        let mut shedder = events(10);
        let (mut now, mut offered, mut holds) = (0, 0, Vec::new());
        for _ in 0..9 {
            offered += 100;
            assert!(matches!(shedder.look(now, used(offered)), Some(Turn::Shed(_))));
            let begun = now;
            while shedder.look(now, used(offered)).is_none() {
                now += 100 * MS;
            }
            holds.push((now - begun) / (1000 * MS));
        }
        assert_eq!(holds, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        // A window within the budget forgets that.
        assert_eq!(shedder.look(now + 1000 * MS, used(offered + 5)), None);
        let again = now + 1100 * MS;
        assert!(matches!(shedder.look(again, used(offered + 100)), Some(Turn::Shed(_))));
        assert!(matches!(shedder.look(now + 2000 * MS, used(offered)), Some(Turn::Record(_))));
    }

    #[test]
    fn cpu_time_is_a_budget_too() {
        let budgets = Budgets { events_per_second: None, cpu_permille: Some(30) };
        let mut shedder = Shedder::new(budgets, 0);
        assert_eq!(shedder.look(10 * MS, Used { events: 0, cpu_ns: 30 * MS }), None);
        let Some(Turn::Shed(kind)) = shedder.look(20 * MS, Used { events: 0, cpu_ns: 31 * MS })
        else {
            panic!("31 ms of 30 are too many");
        };
        let budget = Budget::CpuPermille;
        assert_eq!(kind, SideKind::Shed { budget, begin: true, limit: 30, found: 31 });
        assert_eq!((permille(3.0), permille(0.01)), (30, 1));
    }

    proptest! {
        /// Whatever happens, turns alternate, and without a budget there are none.
        #[test]
        fn turns_alternate(steps in prop::collection::vec((0u64..400, 0u64..50), 0..200), limit in 0u64..60) {
            let (mut shedder, mut free) = (events(limit), Shedder::new(Budgets::default(), 0));
            let (mut now, mut offered, mut shedding) = (0, 0, false);
            for (wait, more) in steps {
                now += wait * MS;
                offered += more;
                prop_assert_eq!(free.look(now, used(offered)), None);
                match shedder.look(now, used(offered)) {
                    Some(Turn::Shed(_)) => prop_assert!(!std::mem::replace(&mut shedding, true)),
                    Some(Turn::Record(_)) => prop_assert!(std::mem::replace(&mut shedding, false)),
                    None => {}
                }
                prop_assert_eq!(shedder.is_shedding(), shedding);
            }
        }

        /// What is divided is not more than there was, but for the least that works.
        #[test]
        fn memory_is_not_exceeded(bytes in 1u64 << 20..1 << 40, rings in 1u64..3000) {
            let shares = divide_memory(bytes, rings, 24);
            prop_assert!(shares.ring_bytes.is_power_of_two() && shares.ring_bytes >= 4096);
            if bytes / 2 / rings >= 4096 {
                prop_assert!(shares.ring_bytes * rings + shares.queue_events as u64 * 24 <= bytes);
                prop_assert!(shares.ring_bytes * rings * 4 > bytes - 4 * rings);
            }
        }
    }
}
