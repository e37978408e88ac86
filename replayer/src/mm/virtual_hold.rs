//! How long operations of a replay would have held the locks of per-CPU lists.
//!
//! In a replay an operation takes no time, so no two ever meet. Here each holds the lock that it
//! takes for a virtual time from its event on (settings `hold_hit_ns`, `hold_refill_ns`,
//! `hold_drain_ns`), and an operation of another CPU inside that time finds the lock held. A CPU
//! never meets itself: that its next event came shows that it went on. Nothing is held before
//! [`VirtualHolds::at`] has told a time. With real threads ([`Flavour::REPLAYS`] is false) none of
//! this exists.

use fragscope_trace::event::TimeNs;

use super::counters::Counters;
use super::flavour::{Flavour, Word};
use super::geometry::CpuIndex;
use super::settings::Settings;

/// Pages pushed on the lock-free lists of other CPUs. They are free and in no count until their
/// owner takes them in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stranded {
    /// Now.
    #[serde(rename = "stranded_remote_pages")]
    pub pages: u64,
    /// At most, at one time.
    #[serde(rename = "stranded_remote_pages_max")]
    pub pages_max: u64,
    /// The longest time that a list went without being taken in, those that still wait included.
    #[serde(rename = "stranded_remote_age_max_ns")]
    pub age_max_ns: u64,
}

/// The operation that runs now, and what waits on lock-free lists.
#[derive(Debug)]
pub struct VirtualHolds<F: Flavour> {
    now: F::U64,
    cpu: F::U32,
    pages: F::U64,
    pages_max: F::U64,
    age_max_ns: F::U64,
}

impl<F: Flavour> Default for VirtualHolds<F> {
    fn default() -> Self {
        VirtualHolds {
            now: F::U64::default(),
            cpu: F::U32::default(),
            pages: F::U64::default(),
            pages_max: F::U64::default(),
            age_max_ns: F::U64::default(),
        }
    }
}

impl<F: Flavour> VirtualHolds<F> {
    /// The next operation happens at this time, on this CPU.
    #[inline]
    pub fn at(&self, now: TimeNs, cpu: CpuIndex) {
        self.now.set(now);
        self.cpu.set(u32::from(cpu.0));
    }

    /// Pages were pushed on a lock-free list.
    pub fn pushed(&self, waiting: &Waiting<F>, pages: u64) {
        if !F::REPLAYS {
            return;
        }
        if waiting.since.get() == 0 {
            waiting.since.set(self.now.get());
        }
        self.pages.add(pages);
        self.pages_max.set(self.pages_max.get().max(self.pages.get()));
    }

    /// A lock-free list was taken in.
    pub fn absorbed(&self, waiting: &Waiting<F>, pages: u64) {
        if !F::REPLAYS {
            return;
        }
        self.age_max_ns.set(self.age_max_ns.get().max(self.age(waiting)));
        waiting.since.set(0);
        self.pages.sub(pages);
    }

    fn age(&self, waiting: &Waiting<F>) -> u64 {
        match waiting.since.get() {
            0 => 0,
            since => self.now.get().saturating_sub(since),
        }
    }

    /// What waits, and waited, on the lock-free lists, of which `waiting` are all.
    pub fn stranded<'a>(&self, waiting: impl Iterator<Item = &'a Waiting<F>>) -> Stranded {
        let oldest = waiting.map(|waiting| self.age(waiting)).max().unwrap_or(0);
        Stranded {
            pages: self.pages.get(),
            pages_max: self.pages_max.get(),
            age_max_ns: self.age_max_ns.get().max(oldest),
        }
    }
}

/// Since when pages wait on one lock-free list; 0 for none.
#[derive(Debug)]
pub struct Waiting<F: Flavour> {
    since: F::U64,
}

impl<F: Flavour> Default for Waiting<F> {
    fn default() -> Self {
        Waiting { since: F::U64::default() }
    }
}

/// What an operation did under the lock, in the order of how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Deed {
    /// Took or put one block.
    Hit,
    /// Took blocks from the zone.
    Refill,
    /// Gave blocks back to the zone.
    Drain,
}

/// Until when, by whom and for what one lock is held.
#[derive(Debug)]
pub struct Hold<F: Flavour> {
    until: F::U64,
    by: F::U32,
    deed: F::U32,
}

impl<F: Flavour> Default for Hold<F> {
    fn default() -> Self {
        Hold { until: F::U64::default(), by: F::U32::default(), deed: F::U32::default() }
    }
}

/// The blocks that refills and drains have moved when an operation begins.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    refilled: u64,
    drained: u64,
}

impl Moved {
    /// So far.
    pub fn so_far<F: Flavour>(counters: &Counters<F>) -> Moved {
        Moved {
            refilled: counters.pcp_refill_blocks.get(),
            drained: counters.pcp_drain_blocks.get(),
        }
    }
}

impl<F: Flavour> Hold<F> {
    /// How much longer another CPU holds the lock, in ns; 0 if it is free.
    #[inline]
    pub fn left(&self, holds: &VirtualHolds<F>) -> u64 {
        if !F::REPLAYS || self.until.get() <= holds.now.get() || self.by.get() == holds.cpu.get() {
            return 0;
        }
        self.until.get() - holds.now.get()
    }

    /// What it is held for.
    pub fn deed(&self) -> Deed {
        match self.deed.get() {
            0 => Deed::Hit,
            1 => Deed::Refill,
            _ => Deed::Drain,
        }
    }

    /// The operation that runs now takes the lock after `waited` ns and does what was moved since
    /// `before`.
    #[inline(never)]
    pub fn begin(
        &self,
        holds: &VirtualHolds<F>,
        settings: &Settings,
        counters: &Counters<F>,
        before: Moved,
        waited: u64,
    ) {
        let now = holds.now.get();
        if !F::REPLAYS || now == 0 {
            return;
        }
        let moved = Moved::so_far(counters);
        let (refilled, drained) =
            (moved.refilled - before.refilled, moved.drained - before.drained);
        let moving = settings.hold_refill_ns * refilled + settings.hold_drain_ns * drained;
        let deed = match (refilled, drained) {
            (0, 0) => Deed::Hit,
            (_, 0) => Deed::Refill,
            _ => Deed::Drain,
        };
        self.until.set(now + waited + settings.hold_hit_ns + moving);
        self.by.set(holds.cpu.get());
        self.deed.set(deed as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::{Smp, Up};

    fn taken_at<F: Flavour>(now: TimeNs, later: TimeNs, by: u16) -> u64 {
        let (holds, hold) = (VirtualHolds::<F>::default(), Hold::<F>::default());
        let (settings, counters) = (Settings::default(), Counters::<F>::default());
        holds.at(now, CpuIndex(0));
        let before = Moved::so_far(&counters);
        counters.pcp_drain_blocks.add(10);
        hold.begin(&holds, &settings, &counters, before, 0);
        holds.at(later, CpuIndex(by));
        hold.left(&holds)
    }

    #[test]
    fn another_cpu_finds_a_lock_held_for_as_long_as_the_deed_takes() {
        let settings = Settings::default();
        let whole = settings.hold_hit_ns + 10 * settings.hold_drain_ns;
        assert_eq!(taken_at::<Up>(1000, 1001, 1), whole - 1);
        assert_eq!(taken_at::<Up>(1000, 1000 + whole, 1), 0);
        assert_eq!(taken_at::<Up>(1000, 1001, 0), 0, "a CPU does not meet itself");
        assert_eq!(taken_at::<Up>(0, 1, 1), 0, "no time is known");
        assert_eq!(taken_at::<Smp>(1000, 1001, 1), 0, "threads meet in earnest");
    }

    #[test]
    fn what_waits_is_counted_until_it_is_taken_in() {
        let (holds, waiting) = (VirtualHolds::<Up>::default(), Waiting::<Up>::default());
        for (now, pages) in [(100, 4), (150, 1)] {
            holds.at(now, CpuIndex(1));
            holds.pushed(&waiting, pages);
        }
        holds.at(400, CpuIndex(0));
        let seen = Stranded { pages: 5, pages_max: 5, age_max_ns: 300 };
        assert_eq!(holds.stranded([&waiting].into_iter()), seen);
        holds.absorbed(&waiting, 5);
        holds.at(900, CpuIndex(0));
        assert_eq!(holds.stranded([&waiting].into_iter()), Stranded { pages: 0, ..seen });
    }
}
