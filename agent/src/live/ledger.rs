//! What did not reach the trace: by cause and CPU, each loss once.

use std::collections::BTreeMap;

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
    /// Of these, what was entered as lost: all that was not caught.
    missed: u64,
    /// Rare events lost at the last look.
    sides: u64,
    /// Pages allocated in bulk at the last look: allocations that come with the rare events.
    bulk: u64,
    /// When the rings were looked at last, when the rest was.
    rings_looked_ns: TimeNs,
    rest_looked_ns: TimeNs,
    totals: BTreeMap<(LossCause, Option<CpuId>), u64>,
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
            for kind in 0..shape.kinds {
                let now = channel.counters(cpu, kind);
                let last = &mut self.rings[(cpu * shape.kinds + kind) as usize];
                full += now.lost_full - last.lost_full;
                bad += now.lost_bad - last.lost_bad;
                *last = now;
            }
            let cpu = Some(CpuId(cpu as u16));
            for (cause, count) in [(LossCause::RingFull, full), (LossCause::BadRecord, bad)] {
                self.enter(cause, cpu, count, self.rings_looked_ns, now_ns, &mut report);
            }
        }
        self.rings_looked_ns = now_ns;
    }

    /// Looks at what takes a system call to see: skipped runs, and rare events that were lost.
    pub fn look_at_rest(
        &mut self,
        tracer: &Tracer,
        now_ns: TimeNs,
        mut report: impl FnMut(SideEvent),
    ) {
        // Misses before catches: every catch follows its miss, so that no miss that is going to be
        // caught is taken for a loss.
        self.misses(&tracer.misses());
        let missed = self.misses.iter().sum::<u64>().saturating_sub(tracer.frees_caught());
        let skipped = missed.saturating_sub(self.missed);
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

    /// Losses by cause and CPU.
    #[must_use]
    pub fn totals(&self) -> &BTreeMap<(LossCause, Option<CpuId>), u64> {
        &self.totals
    }

    /// Events that the kernel offered to the page programs, by kind: those that a program meant
    /// to deliver, and those that no program ran for.
    #[must_use]
    pub fn emitted(&self, kinds: u32) -> Vec<u64> {
        let mut emitted = self.misses[..kinds as usize].to_vec();
        emitted[KIND_ALLOC as usize] += self.bulk;
        for (ring, counters) in self.rings.iter().enumerate() {
            emitted[ring % kinds as usize] += counters.emitted;
        }
        emitted
    }
}
