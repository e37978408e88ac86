//! What did not reach the trace: by cause and CPU, each loss once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fragscope_ebpf::record::{ALL_KINDS, KIND_ALLOC};
use fragscope_trace::event::{LossCause, SideEvent, SideKind, TimeNs};
use fragscope_trace::page::CpuId;

use crate::bpf::tracer::{Misses, Tracer};
use crate::ring::{Channel, RingCounters};

/// Losses so far, and the counters that they were read from.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Counters of each ring at the last look, by ring number.
    rings: Vec<RingCounters>,
    /// Skipped runs at the last look.
    misses: [u64; ALL_KINDS as usize],
    /// Of these, what was entered as lost.
    missed: u64,
    /// Of these, frees that came by another way after all.
    caught: u64,
    /// Skipped runs up to a time: they are lost only if nothing is heard of them for a while.
    waiting: VecDeque<(TimeNs, u64)>,
    /// Rare events lost at the last look.
    sides: u64,
    /// Pages allocated in bulk at the last look: allocations that come with the rare events.
    bulk: u64,
    /// When the rings were looked at last, when the rest was.
    rings_looked_ns: TimeNs,
    rest_looked_ns: TimeNs,
    totals: BTreeMap<(LossCause, Option<CpuId>), u64>,
    /// Page events counted by region because nothing is recorded, by kind.
    counted: [u64; ALL_KINDS as usize],
}

impl Ledger {
    /// A ledger whose first losses lie after `now_ns`.
    #[must_use]
    pub fn new(now_ns: TimeNs) -> Ledger {
        Ledger { rings_looked_ns: now_ns, rest_looked_ns: now_ns, ..Ledger::default() }
    }

    /// Looks at the rings' counters; cheap enough for every pass. Losses since the last look go
    /// to `report`.
    pub fn look_at_rings(
        &mut self,
        channel: &Channel,
        now_ns: TimeNs,
        mut report: impl FnMut(SideEvent),
    ) {
        let shape = channel.shape();
        self.rings.resize((shape.cpus * shape.kinds) as usize, RingCounters::default());
        for cpu in 0..shape.cpus {
            let mut full = 0;
            let mut bad = 0;
            let mut shed = 0;
            for kind in 0..shape.kinds {
                let now = channel.counters(cpu, kind);
                let last = &mut self.rings[(cpu * shape.kinds + kind) as usize];
                full += now.lost_full - last.lost_full;
                bad += now.lost_bad - last.lost_bad;
                shed += now.shed - last.shed;
                *last = now;
            }
            let cpu = Some(CpuId(cpu as u16));
            let losses = [
                (LossCause::RingFull, full),
                (LossCause::BadRecord, bad),
                (LossCause::RateLimit, shed),
            ];
            for (cause, count) in losses {
                self.enter(cause, cpu, count, self.rings_looked_ns, now_ns, &mut report);
            }
        }
        self.rings_looked_ns = now_ns;
    }

    /// Accepts a free that the free program missed. `false` if every miss is accounted for
    /// already: then it was entered as lost, and must not be delivered as well.
    pub fn catch_free(&mut self, misses: impl FnOnce() -> Vec<Misses>) -> bool {
        if self.caught + self.missed >= self.skipped() {
            self.misses(&misses());
        }
        let accepts = self.caught + self.missed < self.skipped();
        self.caught += u64::from(accepts);
        accepts
    }

    fn skipped(&self) -> u64 {
        self.misses.iter().sum()
    }

    /// Runs that were skipped `patience` ago or earlier, and of which nothing was heard.
    fn given_up(&mut self, patience: Duration, now_ns: TimeNs) -> u64 {
        self.waiting.push_back((now_ns, self.skipped()));
        let until_ns = now_ns.saturating_sub(patience.as_nanos() as u64);
        let mut total = 0;
        while let Some((_, skipped)) = self.waiting.front().filter(|(at, _)| *at <= until_ns) {
            total = *skipped;
            self.waiting.pop_front();
        }
        total.saturating_sub(self.caught + self.missed)
    }

    /// Looks at what takes a system call to see: skipped runs, and rare events that were lost.
    /// Skipped frees have so much time to come by another way.
    pub fn look_at_rest(
        &mut self,
        tracer: &Tracer,
        patience: Duration,
        now_ns: TimeNs,
        mut report: impl FnMut(SideEvent),
    ) {
        self.misses(&tracer.misses());
        let skipped = self.given_up(patience, now_ns);
        self.missed += skipped;
        self.bulk = tracer.bulk_allocated();
        let sides_lost = tracer.sides_lost();
        let sides = sides_lost - std::mem::replace(&mut self.sides, sides_lost);
        let since = self.rest_looked_ns;
        self.enter(LossCause::Reentry, None, skipped, since, now_ns, &mut report);
        self.enter(LossCause::RingFull, None, sides, since, now_ns, &mut report);
        self.rest_looked_ns = now_ns;
    }

    fn misses(&mut self, misses: &[Misses]) {
        for Misses { kind, count } in misses {
            self.misses[*kind as usize] = *count;
        }
    }

    /// Enters `count` losses that another part of the agent knows of.
    pub fn enter(
        &mut self,
        cause: LossCause,
        cpu: Option<CpuId>,
        count: u64,
        since_ns: TimeNs,
        now_ns: TimeNs,
        report: &mut impl FnMut(SideEvent),
    ) {
        if count == 0 {
            return;
        }
        *self.totals.entry((cause, cpu)).or_default() += count;
        let kind = SideKind::Lost { cpu, cause, count, since_ns };
        report(SideEvent { time_ns: now_ns, cpu, kind });
    }

    /// Enters page events that only counters know of.
    pub fn count(&mut self, kind: u32, events: u64) {
        self.counted[kind as usize] += events;
    }

    /// Losses by cause and CPU.
    #[must_use]
    pub fn totals(&self) -> &BTreeMap<(LossCause, Option<CpuId>), u64> {
        &self.totals
    }

    /// Events that the kernel offered to the page programs, by kind: those that a program meant
    /// to deliver, those that no program ran for, and those that were only counted.
    #[must_use]
    pub fn emitted(&self, kinds: u32) -> Vec<u64> {
        let kinds_seen = self.misses.iter().zip(&self.counted).take(kinds as usize);
        let mut emitted: Vec<u64> = kinds_seen.map(|(missed, counted)| missed + counted).collect();
        emitted[KIND_ALLOC as usize] += self.bulk;
        for (ring, counters) in self.rings.iter().enumerate() {
            emitted[ring % kinds as usize] += counters.emitted;
        }
        emitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_nanos(10);

    fn misses(count: u64) -> Vec<Misses> {
        vec![Misses { kind: 1, count }]
    }

    #[test]
    fn a_miss_is_lost_when_nothing_was_heard_of_it_in_time() {
        let mut ledger = Ledger::new(0);
        ledger.misses(&misses(3));
        assert_eq!(ledger.given_up(PATIENCE, 5), 0);
        assert!(ledger.catch_free(|| misses(3)));
        assert_eq!(ledger.given_up(PATIENCE, 14), 0);
        assert_eq!(ledger.given_up(PATIENCE, 15), 2);
        ledger.missed += 2;
        assert!(!ledger.catch_free(|| misses(3)), "it is entered as lost");
        assert!(ledger.catch_free(|| misses(4)), "another was missed meanwhile");
    }

    proptest! {
        /// Whatever comes when, each miss is in the end either caught or lost.
        #[test]
        fn every_miss_is_accounted_for_once(steps in prop::collection::vec((0u64..9, 0u8..3), 0..60)) {
            let mut ledger = Ledger::new(0);
            let (mut now, mut total) = (0, 0);
            for (more, what) in steps {
                now += more;
                match what {
                    0 => total += more,
                    1 => {
                        ledger.catch_free(|| misses(total));
                    }
                    _ => {
                        ledger.misses(&misses(total));
                        ledger.missed += ledger.given_up(PATIENCE, now);
                    }
                }
                prop_assert!(ledger.caught + ledger.missed <= total);
            }
            ledger.misses(&misses(total));
            ledger.missed += ledger.given_up(Duration::ZERO, now);
            prop_assert_eq!(ledger.caught + ledger.missed, total);
        }
    }
}
