//! Where the kernel keeps its zones and their per-CPU pagesets.
//!
//! No symbol tells (kallsyms has no data symbols on many kernels), but the pages on their lists
//! point to them: the head of a free list lies inside its `struct zone`, at a place that order and
//! type decide, and the head of a per-CPU list inside a `struct per_cpu_pages`. Each guess is
//! checked against what `/proc/zoneinfo` says.

use std::collections::HashMap;

use fragscope_trace::machine::{Machine, Zone};
use fragscope_trace::page::{CpuId, Migratetype, PAGEBLOCK_ORDER};

use super::kernel::{Bytes, ReadError, ReadKernel, mapped};
use super::layout::{Field, Layout};
use super::lists::{Head, Links};

/// List heads that are tried per zone before it is given up: a page in flight may point anywhere.
const HEADS_TRIED: u32 = 64;
/// Orders of per-CPU lists below that of huge pages (`PAGE_ALLOC_COSTLY_ORDER` + 1).
const SMALL_ORDERS: u32 = 4;
/// Per-CPU areas begin on page boundaries.
const PER_CPU_ALIGN: u64 = 4096;

/// A list that pages are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Position in the machine's zones.
    pub(crate) zone: u16,
    /// Whose per-CPU list; `None` for the zone's free lists.
    pub(crate) cpu: Option<CpuId>,
    pub(crate) order: u8,
    pub(crate) migratetype: Migratetype,
}

/// Addresses of zones and per-CPU offsets, as far as they were found. They never change while a
/// kernel runs, so they are kept from one snapshot to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// (node, zone start) -> (address of `struct zone`, its `per_cpu_pageset`).
    zones: HashMap<(u16, u64), (u64, u64)>,
    /// What to add to a per-CPU pointer, by CPU.
    per_cpu: HashMap<CpuId, u64>,
}

impl Places {
    fn zone(&self, zone: &Zone) -> Option<(u64, u64)> {
        self.zones.get(&(zone.node, zone.start_pfn.0)).copied()
    }

    /// Whether all zones with pages are known.
    pub(crate) fn has_zones(&self, machine: &Machine) -> bool {
        machine.zones.iter().all(|zone| zone.managed_pages == 0 || self.zone(zone).is_some())
    }

    /// Whether the per-CPU lists of all online CPUs are known.
    pub(crate) fn has_cpus(&self, machine: &Machine) -> bool {
        machine.cpus.iter().all(|cpu| !cpu.online || self.per_cpu.contains_key(&cpu.id))
    }

    /// Finds zones that are not known yet through the free blocks that point to them.
    ///
    /// # Errors
    /// If the program that reads memory cannot be run.
    pub(crate) fn find_zones(
        &mut self,
        layout: &Layout,
        machine: &Machine,
        links: &Links<'_>,
        kernel: &mut dyn ReadKernel,
    ) -> Result<(), ReadError> {
        let mut tried = vec![0; machine.zones.len()];
        for (head, node) in links.ends() {
            let (Some(order), Some(index)) = (node.order, machine.zone_of(node.pfn)) else {
                continue;
            };
            let zone = &machine.zones[index];
            if self.zone(zone).is_some() || tried[index] >= HEADS_TRIED {
                continue;
            }
            tried[index] += 1;
            let Some(first) = layout.zone_of_list(head, order) else { continue };
            for migratetype in 0..u64::from(layout.zone.types) {
                let address = first.wrapping_sub(migratetype * 16);
                if self.check_zone(layout, zone, address, kernel)? {
                    self.find_neighbours(layout, machine, zone.node, address, kernel)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The zones of a node lie one behind the other.
    fn find_neighbours(
        &mut self,
        layout: &Layout,
        machine: &Machine,
        node: u16,
        address: u64,
        kernel: &mut dyn ReadKernel,
    ) -> Result<(), ReadError> {
        for zone in machine.zones.iter().filter(|zone| zone.node == node) {
            for step in -4i64..=4 {
                let address = address.wrapping_add_signed(step * layout.zone.bytes as i64);
                if self.zone(zone).is_some() || self.check_zone(layout, zone, address, kernel)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Keeps `address` if the zone lies there.
    fn check_zone(
        &mut self,
        layout: &Layout,
        zone: &Zone,
        address: u64,
        kernel: &mut dyn ReadKernel,
    ) -> Result<bool, ReadError> {
        let Some(bytes) = mapped(kernel.read_struct(address, layout.zone.bytes))? else {
            return Ok(false);
        };
        let start = bytes.word(layout.zone.start_pfn);
        let spanned = bytes.word(layout.zone.spanned_pages);
        let same = (start, spanned) == (zone.start_pfn.0, zone.spanned_pages);
        if same {
            let key = (zone.node, zone.start_pfn.0);
            self.zones.insert(key, (address, bytes.word(layout.zone.pageset)));
        }
        Ok(same)
    }

    /// Finds the per-CPU areas through pages on per-CPU lists. `slots` are addresses of one
    /// per-CPU object by CPU: they tell the distances between the areas, the pages tell where
    /// one of them is.
    ///
    /// # Errors
    /// If the program that reads memory cannot be run.
    pub(crate) fn find_cpus(
        &mut self,
        layout: &Layout,
        machine: &Machine,
        links: &Links<'_>,
        slots: &[(CpuId, u64)],
        kernel: &mut dyn ReadKernel,
    ) -> Result<(), ReadError> {
        let mut votes: HashMap<u64, u32> = HashMap::new();
        for (head, node) in links.ends().filter(|(_, node)| node.order.is_none()) {
            let zone = machine.zone_of(node.pfn).and_then(|z| self.zone(&machine.zones[z]));
            let Some((_, pageset)) = zone else { continue };
            let Some(offset) = layout.per_cpu_offset(head, pageset) else { continue };
            for (_, slot) in slots {
                *votes.entry(offset.wrapping_sub(*slot)).or_default() += 1;
            }
        }
        let mut guesses: Vec<(u64, u32)> = votes.into_iter().collect();
        guesses.sort_unstable_by_key(|(guess, votes)| (std::cmp::Reverse(*votes), *guess));
        for (base, _) in guesses.into_iter().take(HEADS_TRIED as usize) {
            let cpus = slots.iter().map(|(cpu, slot)| (*cpu, base.wrapping_add(*slot)));
            let cpus: HashMap<CpuId, u64> = cpus.collect();
            if self.check_cpus(layout, machine, &cpus, kernel)? {
                self.per_cpu = cpus;
                break;
            }
        }
        Ok(())
    }

    /// Whether every pageset found this way has the batch and limits that the zone shows.
    fn check_cpus(
        &self,
        layout: &Layout,
        machine: &Machine,
        cpus: &HashMap<CpuId, u64>,
        kernel: &mut dyn ReadKernel,
    ) -> Result<bool, ReadError> {
        for zone in &machine.zones {
            let Some((_, pageset)) = self.zone(zone) else { continue };
            for shown in &zone.pagesets {
                let Some(offset) = cpus.get(&shown.cpu) else { continue };
                let address = pageset.wrapping_add(*offset);
                let Some(bytes) = mapped(kernel.read_struct(address, layout.pageset.bytes))? else {
                    return Ok(false);
                };
                if number(&bytes, layout.pageset.batch) != shown.batch {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// All lists of zones and CPUs, by the address of their heads.
    pub(crate) fn owners(&self, layout: &Layout, machine: &Machine) -> HashMap<Head, Owner> {
        let mut owners = HashMap::new();
        for (index, zone) in machine.zones.iter().enumerate() {
            let Some((address, pageset)) = self.zone(zone) else { continue };
            layout.free_lists(address, index as u16, &mut owners);
            for (cpu, offset) in &self.per_cpu {
                layout.cpu_lists(pageset.wrapping_add(*offset), index as u16, *cpu, &mut owners);
            }
        }
        owners
    }

    /// Adds what only the kernel's structures tell to the zones: flags, the reserve, and the
    /// state of pagesets.
    ///
    /// # Errors
    /// If the program that reads memory cannot be run.
    pub(crate) fn complete(
        &self,
        layout: &Layout,
        machine: &mut Machine,
        kernel: &mut dyn ReadKernel,
    ) -> Result<(), ReadError> {
        for zone in &mut machine.zones {
            let Some((address, pageset)) = self.zone(zone) else { continue };
            if let Some(bytes) = mapped(kernel.read_struct(address, layout.zone.bytes))? {
                zone.reserved_highatomic = layout.zone.reserved_highatomic.map(|at| bytes.word(at));
                zone.flags = layout.zone.flags.map(|at| bytes.word(at));
            }
            for shown in &mut zone.pagesets {
                let Some(offset) = self.per_cpu.get(&shown.cpu) else { continue };
                let address = pageset.wrapping_add(*offset);
                let Some(bytes) = mapped(kernel.read_struct(address, layout.pageset.bytes))? else {
                    continue;
                };
                let of = |field: Option<Field>| field.map(|field| number(&bytes, field));
                shown.count = number(&bytes, layout.pageset.count);
                shown.high = number(&bytes, layout.pageset.high);
                shown.alloc_factor = of(layout.pageset.alloc_factor).map(|n| n as u8);
                shown.free_count = of(layout.pageset.free_count).map(|n| i64::from(n as i16));
                shown.flags = of(layout.pageset.flags).map(|n| n as u8);
            }
        }
        Ok(())
    }
}

fn number(bytes: &Bytes, field: Field) -> u64 {
    bytes.number(field.offset, field.bytes)
}

impl Layout {
    /// Where the zone would be if `head` were its free list of this order and of type 0.
    fn zone_of_list(&self, head: Head, order: u8) -> Option<u64> {
        let zone = &self.zone;
        let lists = u64::from(order) * zone.free_area_bytes + zone.free_area + zone.free_list;
        head.0.checked_sub(lists)
    }

    /// What was added to `pageset` to get the pageset that `head` lies in. Areas begin on page
    /// boundaries and lists within a page of that, so the remainder tells which list it is.
    fn per_cpu_offset(&self, head: Head, pageset: u64) -> Option<u64> {
        let distance = head.0.wrapping_sub(pageset).wrapping_sub(self.pageset.lists);
        let list = distance % PER_CPU_ALIGN;
        let lists = u64::from(self.pageset.lists_len) * 16;
        (list.is_multiple_of(16) && list < lists).then(|| distance - list)
    }

    fn free_lists(&self, address: u64, zone: u16, owners: &mut HashMap<Head, Owner>) {
        for order in 0..self.zone.orders {
            let area = self.zone.free_area + u64::from(order) * self.zone.free_area_bytes;
            for (number, migratetype) in self.migratetypes.iter().enumerate() {
                let at = area + self.zone.free_list + number as u64 * 16;
                let order = order as u8;
                let owner = Owner { zone, cpu: None, order, migratetype: *migratetype };
                owners.insert(Head(address.wrapping_add(at)), owner);
            }
        }
    }

    fn cpu_lists(&self, pageset: u64, zone: u16, cpu: CpuId, owners: &mut HashMap<Head, Owner>) {
        for list in 0..self.pageset.lists_len {
            let at = self.pageset.lists + u64::from(list) * 16;
            let (order, migratetype) = cpu_list(list);
            let owner = Owner { zone, cpu: Some(cpu), order, migratetype };
            owners.insert(Head(pageset.wrapping_add(at)), owner);
        }
    }
}

/// Order and type of a per-CPU list by its index: three types for each small order, then one
/// list of huge pages (up to 6.9), or two: for other and for movable pages.
fn cpu_list(index: u32) -> (u8, Migratetype) {
    let types = Migratetype::PCP_TYPES as u32;
    match index.checked_sub(SMALL_ORDERS * types) {
        None => {
            let number = (index % types) as usize;
            let migratetype = Migratetype::from_index(number).unwrap_or(Migratetype::Unmovable);
            ((index / types) as u8, migratetype)
        }
        Some(0) => (PAGEBLOCK_ORDER, Migratetype::Unmovable),
        Some(_) => (PAGEBLOCK_ORDER, Migratetype::Movable),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use fragscope_trace::page::Pfn;

    use super::*;
    use crate::bpf::calibrate::Vmemmap;
    use crate::snapshot::layout::tests::layout_6_18;
    use crate::snapshot::scan::Node;
    use crate::snapshot::synthetic;

    const VMEMMAP: Vmemmap = Vmemmap { base: 0xffff_ea00_0000_0000, page_bytes: 64 };
    const ZONE: u64 = 0xffff_8881_0000_4000;
    const PAGESET: u64 = 0x2_a040;
    const AREAS: [u64; 2] = [0xffff_8882_0001_0000, 0xffff_8882_0009_0000];

    /// A kernel with one zone and two CPUs; everything else is unmapped.
    struct Kernel {
        memory: HashMap<u64, Vec<u64>>,
        buffer: Vec<AtomicU64>,
    }

    impl Kernel {
        fn new(pages: u64) -> Kernel {
            let layout = layout_6_18();
            let mut zone = vec![0; 256];
            zone[layout.zone.start_pfn as usize / 8] = 0;
            zone[layout.zone.spanned_pages as usize / 8] = pages;
            zone[layout.zone.pageset as usize / 8] = PAGESET;
            let mut pageset = vec![0; 32];
            pageset[2] = 63 << 32;
            let mut memory = HashMap::from([(ZONE, zone)]);
            memory.extend(AREAS.map(|area| (area + PAGESET, pageset.clone())));
            Kernel { memory, buffer: Vec::new() }
        }
    }

    impl ReadKernel for Kernel {
        fn read(&mut self, address: u64, bytes: usize) -> Result<&[AtomicU64], ReadError> {
            let unmapped = ReadError::Unmapped { address, errno: 14 };
            let words = self.memory.get(&address).ok_or(unmapped)?;
            self.buffer = words[..bytes / 8].iter().copied().map(AtomicU64::new).collect();
            Ok(&self.buffer)
        }
    }

    fn node(pfn: u64, order: Option<u8>, head: u64) -> Node {
        Node { pfn: Pfn(pfn), order, next: head, prev: head }
    }

    #[test]
    fn zones_and_cpus_are_found_from_list_heads() {
        let layout = layout_6_18();
        let mut machine = synthetic::machine(4096);
        for pageset in &mut machine.zones[0].pagesets {
            pageset.batch = 63;
        }
        let free = ZONE + 192 + 3 * 88 + 2 * 16;
        let pcp = AREAS[1] + PAGESET + 32 + 5 * 16;
        let nodes = [node(8, Some(3), free), node(64, None, pcp), node(99, None, ZONE + (1 << 20))];
        let links = Links::new(&nodes, VMEMMAP, 8, Pfn(4096));
        let mut kernel = Kernel::new(4096);
        let mut places = Places::default();
        places.find_zones(&layout, &machine, &links, &mut kernel).unwrap();
        assert!(places.has_zones(&machine));
        // Objects of another per-CPU variable: only their distance is right.
        let slots = [(CpuId(0), 0x5000), (CpuId(1), 0x5000 + AREAS[1] - AREAS[0])];
        places.find_cpus(&layout, &machine, &links, &slots, &mut kernel).unwrap();
        assert!(places.has_cpus(&machine));

        let owners = places.owners(&layout, &machine);
        let of_zone = Owner { zone: 0, cpu: None, order: 3, migratetype: Migratetype::Reclaimable };
        let of_cpu =
            Owner { zone: 0, cpu: Some(CpuId(1)), order: 1, migratetype: Migratetype::Reclaimable };
        assert_eq!(owners.get(&Head(free)), Some(&of_zone));
        assert_eq!(owners.get(&Head(pcp)), Some(&of_cpu));
        assert_eq!(owners.len(), 11 * 5 + 2 * 14);
    }

    #[test]
    fn a_zone_that_does_not_answer_is_not_taken() {
        let layout = layout_6_18();
        let machine = synthetic::machine(4096);
        let nodes = [node(8, Some(3), ZONE + 192 + 3 * 88)];
        let links = Links::new(&nodes, VMEMMAP, 8, Pfn(4096));
        let mut places = Places::default();
        places.find_zones(&layout, &machine, &links, &mut Kernel::new(4095)).unwrap();
        assert!(!places.has_zones(&machine));
        assert!(places.owners(&layout, &machine).is_empty());
    }

    #[test]
    fn per_cpu_lists_by_index() {
        assert_eq!(cpu_list(0), (0, Migratetype::Unmovable));
        assert_eq!(cpu_list(11), (3, Migratetype::Reclaimable));
        assert_eq!(cpu_list(12), (9, Migratetype::Unmovable));
        assert_eq!(cpu_list(13), (9, Migratetype::Movable));
    }
}
