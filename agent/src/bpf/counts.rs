//! User space's side of the counters by region: see [`fragscope_ebpf::counts`].

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use fragscope_ebpf::counts::{
    self, CLASS_FREED, CLASS_MOVABLE, CLASS_RECLAIMABLE, CLASS_UNMOVABLE, ELEMENT_BYTES,
    EXTRA_PLACES, ORDERS, REGION_BYTES, REGION_COUNTERS, REGION_SHIFT,
};
use fragscope_trace::event::{CountedPlace, OrderCount, RegionCount, TypeOrderCount};
use fragscope_trace::page::{MAX_EVENT_ORDER, Migratetype, Pfn};

use super::memory::MapMemory;

/// Words in which a region's counters are read, two of them in each.
const REGION_WORDS: usize = REGION_BYTES / 8;
const CLASS_TYPES: [(u32, Migratetype); 3] = [
    (CLASS_UNMOVABLE, Migratetype::Unmovable),
    (CLASS_MOVABLE, Migratetype::Movable),
    (CLASS_RECLAIMABLE, Migratetype::Reclaimable),
];

/// Shape of the counters, as the programs were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountShape {
    /// Possible CPUs.
    pub cpus: u32,
    /// Regions of memory; 0 if nothing is ever counted.
    pub regions: u32,
}

impl CountShape {
    /// Counters for the memory below `end`.
    #[must_use]
    pub fn new(cpus: u32, end: Pfn) -> CountShape {
        CountShape { cpus, regions: end.0.div_ceil(1 << REGION_SHIFT) as u32 }
    }

    /// Elements for each CPU.
    #[must_use]
    pub fn elements_per_cpu(self) -> u32 {
        if self.regions == 0 { 0 } else { counts::elements(self.regions) }
    }

    /// Elements of the array.
    #[must_use]
    pub fn elements(self) -> u32 {
        (self.cpus * self.elements_per_cpu()).max(1)
    }

    fn places(self) -> usize {
        (self.regions + EXTRA_PLACES) as usize
    }

    /// What is counted at a place.
    fn place(self, place: usize) -> CountedPlace {
        match (place as u32).checked_sub(self.regions) {
            None => CountedPlace::Region(place as u32),
            Some(0) => CountedPlace::Outside,
            Some(_) => CountedPlace::Failed,
        }
    }
}

/// The reader of the counters.
#[derive(Debug)]
pub struct RegionCounters {
    memory: MapMemory,
    shape: CountShape,
    /// The words as they were read last, by CPU and place.
    last: Vec<u64>,
}

impl RegionCounters {
    /// Maps the memory of `map`.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(map: impl AsFd, shape: CountShape) -> io::Result<RegionCounters> {
        let memory = MapMemory::new(map, shape.elements() as usize * ELEMENT_BYTES)?;
        let words = shape.cpus as usize * shape.places() * REGION_WORDS;
        Ok(RegionCounters { memory, shape, last: vec![0; words] })
    }

    /// What was counted since the last call, by place; places where nothing was are left out.
    pub fn take(&mut self) -> Vec<RegionCount> {
        (0..self.shape.places()).filter_map(|place| self.take_place(place)).collect()
    }

    fn take_place(&mut self, place: usize) -> Option<RegionCount> {
        let mut sums = [0u64; REGION_COUNTERS];
        let mut any = false;
        for cpu in 0..self.shape.cpus as usize {
            let per_cpu = self.shape.elements_per_cpu() as usize * ELEMENT_BYTES;
            let offset = cpu * per_cpu + place * REGION_BYTES;
            let now = self.memory.words(offset, REGION_WORDS);
            let from = (cpu * self.shape.places() + place) * REGION_WORDS;
            let last = &mut self.last[from..from + REGION_WORDS];
            for (pair, (now, last)) in sums.chunks_exact_mut(2).zip(now.iter().zip(last)) {
                let now = now.load(Ordering::Relaxed);
                let before = std::mem::replace(last, now);
                if now != before {
                    any = true;
                    pair[0] += u64::from((now as u32).wrapping_sub(before as u32));
                    pair[1] += u64::from(((now >> 32) as u32).wrapping_sub((before >> 32) as u32));
                }
            }
        }
        any.then(|| region_count(self.shape.place(place), &sums))
    }
}

/// The sums of a place as the trace has them. Orders that no block has are left out: a counter
/// beyond them can only be garbage.
fn region_count(place: CountedPlace, sums: &[u64; REGION_COUNTERS]) -> RegionCount {
    let of = |class: u32| {
        let from = (class * ORDERS) as usize;
        let orders = (0..=MAX_EVENT_ORDER).zip(&sums[from..from + ORDERS as usize]);
        orders.filter(|(_, count)| **count > 0).map(|(order, count)| (order, *count))
    };
    let typed = |(class, migratetype): (u32, Migratetype)| {
        of(class).map(move |(order, count)| TypeOrderCount { migratetype, order, count })
    };
    RegionCount {
        place,
        allocs: CLASS_TYPES.into_iter().flat_map(typed).collect(),
        frees: of(CLASS_FREED).map(|(order, count)| OrderCount { order, count }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_orders_find_their_way() {
        let mut sums = [0; REGION_COUNTERS];
        let mut set = |class, order, count| {
            sums[counts::offset(0, class, order) as usize / size_of::<u32>()] = count;
        };
        set(CLASS_MOVABLE, 9, 7);
        set(CLASS_RECLAIMABLE, 0, 5);
        set(CLASS_FREED, 18, 3);
        let count = region_count(CountedPlace::Region(2), &sums);
        let typed = |migratetype, order, count| TypeOrderCount { migratetype, order, count };
        assert_eq!(
            count.allocs,
            [typed(Migratetype::Movable, 9, 7), typed(Migratetype::Reclaimable, 0, 5)]
        );
        assert_eq!(count.frees, [OrderCount { order: 18, count: 3 }]);
        assert_eq!((count.alloc_events(), count.alloc_pages(|_| true)), (12, 7 * 512 + 5));
        assert_eq!((count.free_events(), count.free_pages()), (3, 3 << 18));
    }

    #[test]
    fn places_behind_the_regions_are_not_regions() {
        let shape = CountShape::new(2, Pfn(5 << 18 | 1));
        assert_eq!((shape.regions, shape.elements_per_cpu(), shape.elements()), (6, 1, 2));
        let places: Vec<_> = (4..8).map(|place| shape.place(place)).collect();
        let region = CountedPlace::Region;
        assert_eq!(places, [region(4), region(5), CountedPlace::Outside, CountedPlace::Failed]);
        assert_eq!(CountShape { cpus: 2, regions: 0 }.elements(), 1);
    }
}
