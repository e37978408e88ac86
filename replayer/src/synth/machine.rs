//! A synthetic machine: zones as x86-64 lays them out, marks and per-CPU limits by the kernel's
//! formulas, and the state in which it boots.
//!
//! `stock-allocator` 1.2 (zones), 1.5 (watermarks), 1.6 (per-CPU limits).

use std::collections::BTreeMap;

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::{Cpu, Machine, Pageset, Watermarks, Zone, ZoneKind};
use fragscope_trace::page::{
    Content, CpuId, MAX_PAGE_ORDER, Migratetype, NR_PAGE_ORDERS, PAGE_SIZE, PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES, Pfn, PfnRange, REGION_PAGES,
};
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole, SnapshotSource};
use serde::{Deserialize, Serialize};

use super::SynthError;
use crate::mm::pcp_limits::zone_limits;
use crate::mm::settings::Settings;
use crate::mm::watermark::{Tunables, default_min_free_kbytes, lowmem_reserve, watermarks};

const MIB_PAGES: u64 = (1 << 20) / PAGE_SIZE;
/// The DMA zone ends here.
const DMA_END: u64 = 16 * MIB_PAGES;
/// The DMA32 zone ends here.
const DMA32_END: u64 = 4 * REGION_PAGES;
/// Conventional memory below the legacy hole.
const LOW_RAM: PfnRange = PfnRange { start: Pfn(1), end: Pfn(0x9f) };
/// Where memory goes on after the legacy hole.
const HIGH_RAM: u64 = 0x100;
/// Kernel image, initial RAM disk and early tables.
const IMAGE_PAGES: u64 = 64 * MIB_PAGES;
/// Bytes of `struct page`.
const STRUCT_PAGE_BYTES: u64 = 64;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// RAM in bytes; a multiple of 128 MiB.
    pub memory_bytes: u64,
    /// Of this, what lies below the PCI hole; the rest starts at 4 GiB.
    pub low_bytes: u64,
    /// Online CPUs, spread evenly over the nodes.
    pub cpus: u16,
    /// Nodes. Only node 0 has memory below 4 GiB.
    pub nodes: u16,
}

impl MachineSpec {
    /// One node with 3 GiB below the PCI hole.
    #[must_use]
    pub fn new(memory_bytes: u64, cpus: u16) -> MachineSpec {
        MachineSpec { memory_bytes, low_bytes: memory_bytes.min(3 << 30), cpus, nodes: 1 }
    }

    fn check(&self) -> Result<(), SynthError> {
        let section = 128 << 20;
        let fault = |what: &str, found: u64, expected: &str| {
            let (what, found, expected) = (what.into(), found.to_string(), expected.into());
            Err(SynthError::Config { what, found, expected })
        };
        let limit = 4u64 << 40;
        if !self.memory_bytes.is_multiple_of(section)
            || !(256 << 20..=limit).contains(&self.memory_bytes)
        {
            let expected = "a multiple of 128 MiB from 256 MiB to 4 TiB";
            return fault("memory", self.memory_bytes, expected);
        }
        let low = self.low_bytes;
        if !low.is_multiple_of(section)
            || low > self.memory_bytes
            || !(256 << 20..=4 << 30).contains(&low)
        {
            let expected = "a multiple of 128 MiB from 256 MiB to 4 GiB, and no more than there is";
            return fault("memory below 4 GiB", low, expected);
        }
        if !(1..=1024).contains(&self.cpus) {
            return fault("cpus", self.cpus.into(), "1 to 1024");
        }
        let high_gib = (self.memory_bytes - low) >> 30;
        if !(1..=64).contains(&self.nodes) || u64::from(self.nodes) > high_gib.max(1) {
            let expected = "1 to 64, with at least 1 GiB above 4 GiB for each";
            return fault("nodes", self.nodes.into(), expected);
        }
        Ok(())
    }

    /// Memory above 4 GiB of each node. All but the last get whole GiB.
    fn high_ranges(&self) -> Vec<PfnRange> {
        let pages = (self.memory_bytes - self.low_bytes) / PAGE_SIZE;
        let each = pages / u64::from(self.nodes) / REGION_PAGES * REGION_PAGES;
        let mut start = Pfn(DMA32_END);
        let mut ranges = Vec::new();
        for node in 0..self.nodes {
            let last = node + 1 == self.nodes;
            let taken = each * u64::from(node);
            let range = PfnRange::new(start, if last { pages - taken } else { each });
            start = range.end;
            ranges.push(range);
        }
        ranges
    }
}

/// A machine and what the boot left of it.
#[derive(Clone, Debug)]
pub struct Booted {
    /// Its geometry.
    pub machine: Machine,
    /// Frames reserved at boot, ascending.
    pub reserved: Vec<PfnRange>,
}

impl Booted {
    /// Lays out and boots a machine.
    ///
    /// # Errors
    /// If the specification is not a possible machine.
    pub fn new(spec: &MachineSpec, facts: BTreeMap<String, String>) -> Result<Booted, SynthError> {
        spec.check()?;
        let high = spec.high_ranges();
        let low_end = Pfn(spec.low_bytes / PAGE_SIZE);
        let below_4g = PfnRange { start: Pfn(HIGH_RAM), end: low_end };
        let ram = [LOW_RAM, below_4g].into_iter().chain(high.iter().copied().filter(not_empty));
        let reserved = reserved_at_boot(spec, &high);
        let cpu = |id: u16| Cpu { id: CpuId(id), node: id % spec.nodes, online: true };
        let mut machine = Machine {
            hostname: "synthetic".into(),
            kernel_release: "6.18.0-synthetic".into(),
            arch: "x86_64".into(),
            page_size: PAGE_SIZE,
            pageblock_order: PAGEBLOCK_ORDER,
            max_page_order: MAX_PAGE_ORDER,
            cpus: (0..spec.cpus).map(cpu).collect(),
            zones: zones(low_end, &high, &reserved),
            ram: ram.collect(),
            sysctls: BTreeMap::new(),
            facts,
        };
        machine.sysctls = sysctls(&machine);
        set_limits(&mut machine);
        let mut booted = Booted { machine, reserved };
        booted.count_free_blocks();
        Ok(booted)
    }

    /// The state of every frame at boot.
    #[must_use]
    pub fn snapshot(&self, time_ns: TimeNs) -> Snapshot {
        Snapshot {
            source: SnapshotSource::Synthetic,
            role: SnapshotRole::Opening,
            begin_ns: time_ns,
            end_ns: time_ns,
            machine: self.machine.clone(),
            chunks: Vec::new(),
            runs: self.runs(),
            pageblocks: self
                .machine
                .zones
                .iter()
                .map(|zone| (zone.span(), Migratetype::Movable))
                .collect(),
            lists: Vec::new(),
            notes: vec!["An empty machine: only what the boot reserves is in use.".into()],
        }
    }

    fn runs(&self) -> Vec<PageRun> {
        let mut runs = Vec::new();
        for zone in &self.machine.zones {
            let span = zone.span();
            let mut at = span.start;
            while at < span.end {
                let (content, end) = self.stretch(at, span.end);
                push_run(&mut runs, content, PfnRange { start: at, end });
                at = end;
            }
        }
        runs
    }

    /// What a frame holds, and up to where that goes on.
    fn stretch(&self, at: Pfn, limit: Pfn) -> (Content, Pfn) {
        let holding = |ranges: &[PfnRange]| ranges.iter().find(|r| r.contains(at)).copied();
        let next = |ranges: &[PfnRange]| {
            ranges.iter().map(|r| r.start).find(|s| *s > at).unwrap_or(limit).min(limit)
        };
        match (holding(&self.machine.ram), holding(&self.reserved)) {
            (None, _) => (Content::Absent, next(&self.machine.ram)),
            (Some(_), Some(reserved)) => (Content::Reserved, reserved.end.min(limit)),
            (Some(ram), None) => (Content::Free, ram.end.min(next(&self.reserved))),
        }
    }

    fn count_free_blocks(&mut self) {
        let runs = self.runs();
        for zone in &mut self.machine.zones {
            let span = zone.span();
            let free = runs.iter().filter(|run| run.content == Content::Free);
            for run in free.filter(|run| span.contains(run.start)) {
                zone.buddy_blocks[usize::from(run.order)] += run.pages >> run.order;
                zone.free_pages += run.pages;
            }
        }
    }
}

fn not_empty(range: &PfnRange) -> bool {
    range.pages() > 0
}

/// Frames that the boot keeps: the first 640 KiB, the kernel image, and each node's memory map,
/// which lies behind the image where it fits into the first GiB, else at the end of its node.
fn reserved_at_boot(spec: &MachineSpec, high: &[PfnRange]) -> Vec<PfnRange> {
    let mut image = PfnRange::new(Pfn(DMA_END), IMAGE_PAGES);
    let mut maps = Vec::new();
    for (node, range) in high.iter().enumerate() {
        let low_pages = if node == 0 { spec.low_bytes / PAGE_SIZE } else { 0 };
        let bytes = (range.pages() + low_pages) * STRUCT_PAGE_BYTES;
        let pages = bytes.div_ceil(PAGE_SIZE).next_multiple_of(PAGEBLOCK_PAGES);
        let room = (REGION_PAGES).min(spec.low_bytes / PAGE_SIZE / 2);
        if node == 0 && image.end.0 + pages <= room {
            image.end = image.end.offset(pages);
        } else {
            maps.push(PfnRange { start: Pfn(range.end.0 - pages), end: range.end });
        }
    }
    [LOW_RAM, image].into_iter().chain(maps).collect()
}

fn zones(low_end: Pfn, high: &[PfnRange], reserved: &[PfnRange]) -> Vec<Zone> {
    let dma = PfnRange { start: Pfn(1), end: Pfn(DMA_END) };
    let hole = HIGH_RAM - LOW_RAM.end.0;
    let dma32 = PfnRange { start: Pfn(DMA_END), end: low_end };
    let mut zones = vec![
        zone(0, ZoneKind::Dma, dma, hole, reserved),
        zone(0, ZoneKind::Dma32, dma32, 0, reserved),
    ];
    for (node, range) in high.iter().enumerate().filter(|(_, range)| range.pages() > 0) {
        zones.push(zone(node as u16, ZoneKind::Normal, *range, 0, reserved));
    }
    zones
}

fn zone(node: u16, kind: ZoneKind, span: PfnRange, holes: u64, reserved: &[PfnRange]) -> Zone {
    let kept: u64 = reserved.iter().filter_map(|r| r.intersect(span)).map(PfnRange::pages).sum();
    let present_pages = span.pages() - holes;
    Zone {
        node,
        kind,
        start_pfn: span.start,
        spanned_pages: span.pages(),
        present_pages,
        managed_pages: present_pages - kept,
        watermarks: Watermarks::default(),
        watermark_boost: 0,
        lowmem_reserve: Vec::new(),
        free_pages: 0,
        reserved_highatomic: Some(0),
        flags: Some(0),
        buddy_blocks: vec![0; NR_PAGE_ORDERS],
        pagesets: Vec::new(),
    }
}

/// `min_free_kbytes` as khugepaged raises it where transparent huge pages are on, and the
/// kernel's defaults.
fn sysctls(machine: &Machine) -> BTreeMap<String, i64> {
    let zones = machine.zones.iter().filter(|z| z.kind <= ZoneKind::Normal).count() as u64;
    let recommended = PAGEBLOCK_PAGES * zones * 2 + PAGEBLOCK_PAGES * zones * 9;
    let raised = recommended.min(machine.managed_pages() / 20) * (PAGE_SIZE >> 10);
    let min_free_kbytes = default_min_free_kbytes(machine).max(raised);
    [
        ("min_free_kbytes", min_free_kbytes as i64),
        ("watermark_scale_factor", 10),
        ("watermark_boost_factor", 15_000),
        ("percpu_pagelist_high_fraction", 0),
        ("compaction_proactiveness", 20),
        ("extfrag_threshold", 500),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Watermarks, reserves and per-CPU limits of all zones.
fn set_limits(machine: &mut Machine) {
    let tunables = Tunables::new(machine, &Settings::default());
    let lowmem = machine.managed_pages();
    let limits: Vec<_> = machine
        .zones
        .iter()
        .map(|zone| {
            let marks = watermarks(zone.kind, zone.managed_pages, lowmem, &tunables);
            let cpus = machine.cpus_of_node(zone.node) as u64;
            let pcp = zone_limits(zone.managed_pages, marks.low, tunables.high_fraction, cpus);
            (marks, lowmem_reserve(zone.kind, &managed_of_node(machine, zone.node)), pcp)
        })
        .collect();
    for (zone, (marks, reserve, pcp)) in machine.zones.iter_mut().zip(limits) {
        zone.watermarks = marks;
        zone.lowmem_reserve = reserve.to_vec();
        let pageset = |cpu: &Cpu| Pageset {
            cpu: cpu.id,
            batch: pcp.batch.into(),
            high_min: pcp.high_min.into(),
            high_max: pcp.high_max.into(),
            alloc_factor: Some(0),
            free_count: Some(0),
            flags: Some(0),
            ..Pageset::default()
        };
        zone.pagesets = machine.cpus.iter().map(pageset).collect();
    }
}

/// Managed pages of a node by zone kind.
fn managed_of_node(machine: &Machine, node: u16) -> [u64; 4] {
    let mut managed = [0; 4];
    for zone in machine.zones.iter().filter(|zone| zone.node == node) {
        managed[zone.kind as usize] += zone.managed_pages;
    }
    managed
}

/// Appends a stretch as runs of the largest aligned blocks (free) or of single pages (others).
fn push_run(runs: &mut Vec<PageRun>, content: Content, range: PfnRange) {
    let movable = Migratetype::Movable;
    let mut push = |start: Pfn, pages: u64, order: u8| {
        runs.push(PageRun { start, pages, content, order, migratetype: movable });
    };
    if content != Content::Free {
        push(range.start, range.pages(), 0);
        return;
    }
    let mut at = range.start;
    while at < range.end {
        let left = range.end.0 - at.0;
        let order = (at.0.trailing_zeros().min(left.ilog2()) as u8).min(MAX_PAGE_ORDER);
        let pages = if order == MAX_PAGE_ORDER { left >> order << order } else { 1 << order };
        push(at, pages, order);
        at = at.offset(pages);
    }
}

#[cfg(test)]
mod tests {
    use fragscope_trace::region::{RegionState, census};
    use fragscope_trace::rules::check_snapshot;

    use super::*;

    fn boot(spec: &MachineSpec) -> Booted {
        Booted::new(spec, BTreeMap::new()).unwrap()
    }

    /// A machine of 16 GiB: 13 whole GiB in Normal, as the series' smaller machine.
    #[test]
    fn sixteen_gib_have_thirteen_normal_regions() {
        let booted = boot(&MachineSpec::new(16 << 30, 8));
        let snapshot = booted.snapshot(1);
        check_snapshot(&snapshot).unwrap();
        let regions = census(&snapshot);
        let free = regions.iter().filter(|r| r.zone == 2 && r.state() == RegionState::Free);
        assert_eq!(free.count(), 13);
        assert_eq!(booted.machine.zones[0].managed_pages, 3840);
        assert_eq!(booted.machine.zones[0].present_pages, 3998);
        // Three zones with transparent huge pages: 16896 pages.
        assert_eq!(booted.machine.sysctls["min_free_kbytes"], 67_584);
    }

    /// Every frame of every zone is there once, and the zones' counts are those of the runs.
    #[test]
    fn counts_agree_with_runs() {
        for (gib, nodes) in [(1, 1), (2, 1), (4, 1), (16, 2), (64, 1), (245, 1), (256, 4)] {
            let booted = boot(&MachineSpec { nodes, ..MachineSpec::new(gib << 30, 8) });
            let snapshot = booted.snapshot(1);
            check_snapshot(&snapshot).unwrap();
            let present: u64 = booted.machine.zones.iter().map(|z| z.present_pages).sum();
            let ram: u64 = booted.machine.ram.iter().map(|r| r.pages()).sum();
            assert_eq!(ram, present, "{gib} GiB");
            let totals = snapshot.totals();
            assert_eq!(totals[Content::Free.index()], booted.machine.managed_pages());
            assert_eq!(totals[Content::Reserved.index()], present - booted.machine.managed_pages());
            for zone in &booted.machine.zones {
                assert_eq!(zone.free_pages, zone.managed_pages, "{}", zone.label());
                let in_blocks = zone.buddy_blocks.iter().enumerate().map(|(o, n)| n << o);
                assert_eq!(in_blocks.sum::<u64>(), zone.free_pages);
            }
        }
    }

    #[test]
    fn only_node_0_reaches_below_4_gib() {
        let booted = boot(&MachineSpec { nodes: 2, ..MachineSpec::new(16 << 30, 4) });
        let kinds: Vec<_> = booted.machine.zones.iter().map(|z| (z.node, z.kind)).collect();
        let (dma, dma32, normal) = (ZoneKind::Dma, ZoneKind::Dma32, ZoneKind::Normal);
        assert_eq!(kinds, [(0, dma), (0, dma32), (0, normal), (1, normal)]);
        assert_eq!(booted.machine.cpus_of_node(1), 2);
    }

    #[test]
    fn impossible_machines_are_refused_with_what_is_possible() {
        let refused =
            |spec: &MachineSpec| Booted::new(spec, BTreeMap::new()).unwrap_err().to_string();
        assert!(refused(&MachineSpec::new(5 << 40, 1)).contains("4 TiB"));
        assert!(refused(&MachineSpec::new((1 << 30) + 1, 1)).contains("128 MiB"));
        assert!(refused(&MachineSpec::new(1 << 30, 0)).contains("1 to 1024"));
        assert!(
            refused(&MachineSpec { nodes: 9, ..MachineSpec::new(8 << 30, 1) }).contains("nodes")
        );
    }
}
