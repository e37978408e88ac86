//! What is looked at once a second: the kernel's own counters, the agent's cost, CPUs.

use fragscope_trace::event::{SideEvent, SideKind, TimeNs};
use fragscope_trace::machine::Zone;
use fragscope_trace::page::{CpuId, PAGE_SIZE};
use rustix::time::{ClockId, clock_gettime};

use super::suspend::{HostClocks, Suspends};
use crate::machine::read_zones;
use crate::proc::topology::read_cpus;

/// What was seen at the last tick.
#[derive(Debug)]
pub struct Ticker {
    cpu_ns: u64,
    online: Vec<CpuId>,
    managed: Vec<u64>,
    suspends: Suspends<HostClocks>,
}

impl Ticker {
    /// Takes the present state as known.
    #[must_use]
    pub fn new() -> Ticker {
        let zones = read_zones().unwrap_or_default();
        Ticker {
            cpu_ns: own_cpu_ns(),
            online: online_cpus(),
            managed: managed_of(&zones),
            suspends: Suspends::new(HostClocks),
        }
    }

    /// The events of this second. `ring_peak_permille` is the largest fill of any ring since the
    /// last tick.
    pub fn tick(
        &mut self,
        now_ns: TimeNs,
        ring_peak_permille: u32,
        mut report: impl FnMut(SideEvent),
    ) -> Growth {
        let mut at = |cpu, kind| report(SideEvent { time_ns: now_ns, cpu, kind });
        at(None, self.cost(ring_peak_permille));
        if let Some(gap) = self.suspends.since_last() {
            let text = format!("the host was suspended for {:.1} s", gap.as_secs_f64());
            log::warn!("{text}");
            at(None, SideKind::Mark { text });
        }
        let online = online_cpus();
        for (cpu, online) in changes(&self.online, &online) {
            at(Some(cpu), SideKind::Cpu { cpu, online });
        }
        self.online = online;
        let Ok(zones) = read_zones() else { return Growth::None };
        at(None, check(&zones));
        self.growth(managed_of(&zones))
    }

    fn growth(&mut self, managed: Vec<u64>) -> Growth {
        let grown = managed.len() > self.managed.len()
            || managed.iter().zip(&self.managed).any(|(now, before)| now > before);
        self.managed = managed;
        if grown { Growth::Grown } else { Growth::None }
    }

    fn cost(&mut self, ring_peak_permille: u32) -> SideKind {
        let now = own_cpu_ns();
        let cpu_ns = now - std::mem::replace(&mut self.cpu_ns, now);
        SideKind::Cost { cpu_ns, rss_bytes: own_rss_bytes(), ring_peak_permille }
    }
}

impl Default for Ticker {
    fn default() -> Ticker {
        Ticker::new()
    }
}

/// Whether a zone's managed pages grew since the last tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// They did not.
    None,
    /// They did: which pages, only a snapshot can tell.
    Grown,
}

fn managed_of(zones: &[Zone]) -> Vec<u64> {
    zones.iter().map(|z| z.managed_pages).collect()
}

fn check(zones: &[Zone]) -> SideKind {
    SideKind::Check {
        free_pages: zones.iter().map(|z| z.free_pages).collect(),
        pcp_pages: zones.iter().map(Zone::pcp_pages).collect(),
        managed_pages: managed_of(zones),
    }
}

fn online_cpus() -> Vec<CpuId> {
    let cpus = read_cpus().unwrap_or_default();
    cpus.into_iter().filter(|c| c.online).map(|c| c.id).collect()
}

/// CPUs that went (false) and that came (true).
fn changes(before: &[CpuId], now: &[CpuId]) -> Vec<(CpuId, bool)> {
    let gone = before.iter().filter(|c| !now.contains(c)).map(|c| (*c, false));
    let come = now.iter().filter(|c| !before.contains(c)).map(|c| (*c, true));
    gone.chain(come).collect()
}

/// CPU time of this process so far.
#[must_use]
pub fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of the calling thread so far.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory of this process, 0 if it can't be read.
#[must_use]
pub fn own_rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_come_and_go() {
        let ids = |list: &[u16]| list.iter().map(|n| CpuId(*n)).collect::<Vec<_>>();
        let changed = changes(&ids(&[0, 1, 2]), &ids(&[0, 2, 5]));
        assert_eq!(changed, [(CpuId(1), false), (CpuId(5), true)]);
    }

    #[test]
    fn more_managed_pages_and_new_zones_are_growth() {
        let mut ticker = Ticker {
            cpu_ns: 0,
            online: Vec::new(),
            managed: vec![10, 20],
            suspends: Suspends::new(HostClocks),
        };
        assert_eq!(ticker.growth(vec![10, 19]), Growth::None);
        assert_eq!(ticker.growth(vec![10, 20]), Growth::Grown);
        assert_eq!(ticker.growth(vec![10, 20, 5]), Growth::Grown);
        assert_eq!(ticker.growth(vec![10, 20]), Growth::None);
    }
}
