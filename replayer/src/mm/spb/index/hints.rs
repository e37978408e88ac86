//! Hints (patch 31): the superpageblock that last served a (order, type) from its own list, per
//! CPU and per zone, is looked at before walking.
//!
//! Each zone has tables of its own, so a hint can never name a superpageblock of another zone;
//! upstream keeps the per-CPU table by zone *index*, which repeats on every node, and stores the
//! zone beside the hint to check it.

use fragscope_trace::page::{Migratetype, NR_PAGE_ORDERS};

use crate::mm::flavour::{Flavour, Word};
use crate::mm::spb::geometry::SpbId;
use crate::mm::spb::lists::ListName;
use crate::mm::spb::zone::SpbZone;

use super::linear::Linear;
use super::{Need, SpbIndex};

const SLOTS: usize = NR_PAGE_ORDERS * Migratetype::PCP_TYPES;

/// One table of hints, stored off by one: 0 is no hint.
type Table<F> = [<F as Flavour>::U32; SLOTS];

/// The zone's table and one for each CPU, in front of the linear walk.
#[derive(Debug)]
pub struct Hints<F: Flavour> {
    zone: Table<F>,
    cpus: Box<[Table<F>]>,
}

impl<F: Flavour> Hints<F> {
    /// No hints, for `cpus` CPUs.
    #[must_use]
    pub fn new(cpus: u16) -> Hints<F> {
        let table = || std::array::from_fn(|_| F::U32::default());
        Hints { zone: table(), cpus: (0..cpus).map(|_| table()).collect() }
    }
}

fn slot(order: u8, migratetype: Migratetype) -> usize {
    usize::from(order) * Migratetype::PCP_TYPES + migratetype.index()
}

impl<F: Flavour> SpbIndex<F> for Hints<F> {
    #[inline]
    fn next_in(
        &self,
        zone: &SpbZone<F>,
        list: ListName,
        need: Need,
        at: Option<SpbId>,
        visited: &mut u32,
    ) -> Option<SpbId> {
        Linear.next_in(zone, list, need, at, visited)
    }

    /// The CPU's hint, then the zone's if it differs. Types beyond the first three have none.
    fn hints(&self, cpu: u16, order: u8, migratetype: Migratetype) -> [Option<SpbId>; 2] {
        if migratetype.index() >= Migratetype::PCP_TYPES {
            return [None; 2];
        }
        let slot = slot(order, migratetype);
        let read = |table: &Table<F>| table[slot].get().checked_sub(1).map(SpbId);
        let warm = self.cpus.get(usize::from(cpu)).and_then(read);
        [warm, read(&self.zone).filter(|hint| warm != Some(*hint))]
    }

    fn served(&self, cpu: u16, order: u8, migratetype: Migratetype, spb: SpbId) {
        if migratetype.index() >= Migratetype::PCP_TYPES {
            return;
        }
        let slot = slot(order, migratetype);
        self.zone[slot].set(spb.0 + 1);
        if let Some(table) = self.cpus.get(usize::from(cpu)) {
            table[slot].set(spb.0 + 1);
        }
    }

    fn forget(&self) {
        self.cpus.iter().flatten().chain(&self.zone).for_each(|hint| hint.set(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;

    #[test]
    fn p31_remembers_per_cpu_and_per_zone() {
        let hints = Hints::<Up>::new(2);
        let movable = Migratetype::Movable;
        assert_eq!(SpbIndex::<Up>::hints(&hints, 0, 3, movable), [None; 2]);
        hints.served(0, 3, movable, SpbId(5));
        hints.served(1, 3, movable, SpbId(6));
        assert_eq!(hints.hints(0, 3, movable), [Some(SpbId(5)), Some(SpbId(6))]);
        assert_eq!(hints.hints(1, 3, movable), [Some(SpbId(6)), None]);
        assert_eq!(hints.hints(1, 2, movable), [None; 2]);
        hints.served(1, 3, Migratetype::HighAtomic, SpbId(6));
        assert_eq!(hints.hints(1, 3, Migratetype::HighAtomic), [None; 2]);
        hints.forget();
        assert_eq!(hints.hints(0, 3, movable), [None; 2]);
    }
}
