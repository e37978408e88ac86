//! Virtual time: what the kernel's periodic workers do, at deterministic points.
//!
//! `stock-allocator` 3.3 (decay of per-CPU lists) and 4.1 (proactive compaction). Time comes from
//! the events of a trace; a long silence runs each worker as often as still makes a difference.

use fragscope_trace::event::TimeNs;

use super::cache::Cache;
use super::flavour::{Flavour, Word};
use super::geometry::CpuIndex;
use super::page_alloc::Mm;
use super::placement::Placement;

/// Granularity of virtual time: a scheduler tick at HZ=100.
const TICK_NS: TimeNs = 10_000_000;
/// After so many runs in a row without events a periodic worker finds nothing more to do: `high`
/// of per-CPU lists falls by an eighth in each.
const CATCH_UP_MAX: u64 = 64;
const NS_PER_MS: u64 = 1_000_000;

/// Virtual time and what is due when.
#[derive(Debug)]
pub struct Clock<F: Flavour> {
    now: F::U64,
    next_tick: F::U64,
    next_decay: F::U64,
    next_kcompactd: F::U64,
    next_reporting: F::U64,
}

impl<F: Flavour> Default for Clock<F> {
    fn default() -> Self {
        let word = F::U64::default;
        Clock {
            now: word(),
            next_tick: word(),
            next_decay: word(),
            next_kcompactd: word(),
            next_reporting: word(),
        }
    }
}

impl<F: Flavour> Clock<F> {
    /// The latest time known.
    pub fn now(&self) -> TimeNs {
        self.now.get()
    }
}

/// How many runs of a worker are due at `now`; moves its next time on. A worker starts with its
/// first full interval.
fn due<F: Flavour>(next: &F::U64, interval_ms: u64, now: TimeNs) -> u64 {
    let interval = interval_ms * NS_PER_MS;
    if interval == 0 {
        return 0;
    }
    if next.get() == 0 {
        next.set(now + interval);
        return 0;
    }
    if now < next.get() {
        return 0;
    }
    let runs = (now - next.get()) / interval + 1;
    next.set(next.get() + runs * interval);
    runs
}

impl<F: Flavour, P: Placement<F>, C: Cache<F, P>> Mm<F, P, C> {
    /// Lets virtual time pass up to `now`.
    #[inline]
    pub fn advance_to(&self, now: TimeNs) {
        if now >= self.clock.next_tick.get() {
            self.tick(now);
        }
    }

    fn tick(&self, now: TimeNs) {
        self.clock.now.set(now);
        self.clock.next_tick.set(now - now % TICK_NS + TICK_NS);
        let settings = &self.buddy.settings;
        let decays = due::<F>(&self.clock.next_decay, settings.pcp_decay_interval_ms, now);
        for _ in 0..decays.min(CATCH_UP_MAX) {
            for cpu in 0..self.buddy.geometry.cpus {
                self.cache.decay(&self.buddy, CpuIndex(cpu));
            }
        }
        self.kswapd_tick();
        let interval = settings.kcompactd_interval_ms;
        if due::<F>(&self.clock.next_kcompactd, interval, now) > 0 {
            self.kcompactd_tick();
        }
        if due::<F>(&self.clock.next_reporting, settings.page_reporting_ms, now) > 0 {
            for zone in &self.buddy.zones {
                self.buddy.report_free_pages(zone);
            }
        }
        P::tick(self, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;
    use std::cell::Cell;

    #[test]
    fn a_worker_runs_once_per_interval() {
        let next = Cell::new(0);
        let runs = [5, 6, 1_000_005, 1_000_006, 4_000_006].map(|now| due::<Up>(&next, 1, now));
        assert_eq!(runs, [0, 0, 1, 0, 3]);
        assert_eq!(due::<Up>(&next, 0, u64::MAX), 0, "an interval of 0 switches it off");
    }
}
