//! Where memory is: zones, nodes, pageblocks, regions and CPUs, fixed for a track's lifetime.
//!
//! `stock-allocator` 1.1 and 1.2. Orders are parameters, so that a checker can run the same code
//! over pageblocks of four pages.

use fragscope_trace::machine::{Machine, ZoneKind};
use fragscope_trace::page::{CpuId, Pfn};
use fragscope_trace::region::RegionCensus;

use super::allocator::BuildError;
use super::frames::{Frame, MAX_FRAMES};

/// A zone, by its position in the machine's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneId(pub u16);

/// A 1 GiB region (superpageblock) of a zone, by its position in the census.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u32);

/// A pageblock, by pfn / pages per pageblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageblockId(pub u32);

/// A CPU, by its position in the machine's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuIndex(pub u16);

/// A zone's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneSpan {
    /// Position of its node in [`Geometry::nodes`].
    pub node: u16,
    /// Which zone of the node.
    pub kind: ZoneKind,
    /// First frame.
    pub start: Frame,
    /// One past the last frame.
    pub end: Frame,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The kernel's id.
    pub id: u16,
    /// Zones in the order in which a request on this node tries them.
    pub zonelist: Box<[ZoneId]>,
    /// How many of these are the node's own.
    pub own: usize,
    /// Those of them that requests with each highest zone may use, of all nodes and of its own.
    usable: [[Box<[ZoneId]>; 4]; 2],
}

impl Node {
    /// Zones that a request may use, in the order in which it tries them; with `own_only` no
    /// other node's (`__GFP_THISNODE`).
    #[must_use]
    #[inline]
    pub fn usable(&self, highest: ZoneKind, own_only: bool) -> &[ZoneId] {
        &self.usable[usize::from(own_only)][highest as usize]
    }
}

/// A region's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its zone.
    pub zone: ZoneId,
    /// First frame.
    pub start: Frame,
    /// One past the last frame.
    pub end: Frame,
}

#[derive(Clone, Copy, Debug)]
struct BlockPlace {
    region: RegionId,
    zone: ZoneId,
}

const NO_ZONE: ZoneId = ZoneId(u16::MAX);

/// Where everything is.
#[derive(Debug)]
pub struct Geometry {
    /// `pageblock_order`.
    pub pageblock_order: u8,
    /// `MAX_PAGE_ORDER`.
    pub max_order: u8,
    /// log2 of the pages in a region.
    pub region_order: u8,
    /// Zones in the machine's order.
    pub zones: Box<[ZoneSpan]>,
    /// Nodes with memory or CPUs, ascending by id.
    pub nodes: Box<[Node]>,
    /// Regions by zone, then address.
    pub regions: Box<[Region]>,
    /// Number of CPUs.
    pub cpus: u16,
    blocks: Box<[BlockPlace]>,
    cpu_nodes: Box<[u16]>,
    cpu_by_id: Box<[CpuIndex]>,
}

impl Geometry {
    /// The geometry of a machine.
    ///
    /// # Errors
    /// If the machine cannot be modelled.
    pub fn new(machine: &Machine, region_order: u64) -> Result<Geometry, BuildError> {
        check(machine, region_order)?;
        let region_order = region_order as u8;
        let node_ids = node_ids(machine);
        let node_of = |id: u16| node_ids.binary_search(&id).unwrap_or(0) as u16;
        let zones: Box<[ZoneSpan]> = machine
            .zones
            .iter()
            .map(|z| ZoneSpan {
                node: node_of(z.node),
                kind: z.kind,
                start: z.span().start.0 as Frame,
                end: z.span().end.0 as Frame,
            })
            .collect();
        let regions = regions(&zones, region_order);
        let blocks = blocks(machine, &zones, &regions);
        let nodes = nodes(&node_ids, &zones);
        let highest = machine.cpus.iter().map(|c| usize::from(c.id.0)).max().unwrap_or(0);
        let mut cpu_by_id = vec![CpuIndex(0); highest + 1];
        for (index, cpu) in machine.cpus.iter().enumerate() {
            cpu_by_id[usize::from(cpu.id.0)] = CpuIndex(index as u16);
        }
        Ok(Geometry {
            pageblock_order: machine.pageblock_order,
            max_order: machine.max_page_order,
            region_order,
            zones,
            nodes,
            regions,
            cpus: machine.cpus.len() as u16,
            blocks,
            cpu_nodes: machine.cpus.iter().map(|c| node_of(c.node)).collect(),
            cpu_by_id: cpu_by_id.into(),
        })
    }

    /// Frames of the table: up to the end of the highest block of the largest order.
    #[must_use]
    pub fn frames(&self) -> u64 {
        (self.blocks.len() as u64) << self.pageblock_order
    }

    /// Number of pageblocks.
    #[must_use]
    pub fn pageblocks(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Pages in a pageblock.
    #[must_use]
    #[inline]
    pub fn pageblock_pages(&self) -> u32 {
        1 << self.pageblock_order
    }

    /// The pageblock that holds a frame.
    #[must_use]
    #[inline]
    pub fn pageblock(&self, frame: Frame) -> PageblockId {
        PageblockId(frame >> self.pageblock_order)
    }

    /// First frame of a pageblock.
    #[must_use]
    #[inline]
    pub fn block_start(&self, block: PageblockId) -> Frame {
        block.0 << self.pageblock_order
    }

    /// The region that holds a frame of a zone.
    #[must_use]
    #[inline]
    pub fn region_of(&self, frame: Frame) -> RegionId {
        self.region_of_block(self.pageblock(frame))
    }

    /// The region that holds a pageblock of a zone.
    #[must_use]
    #[inline]
    pub fn region_of_block(&self, block: PageblockId) -> RegionId {
        self.blocks[block.0 as usize].region
    }

    /// The zone that holds a frame, or `None` for a hole between zones or beyond them.
    #[must_use]
    #[inline]
    pub fn zone_of(&self, frame: Frame) -> Option<ZoneId> {
        let place = self.blocks.get((frame >> self.pageblock_order) as usize)?;
        (place.zone != NO_ZONE).then_some(place.zone)
    }

    /// The number of the zone that holds a frame of the table; of a hole one that no zone has.
    #[inline]
    pub(super) fn zone_number(&self, frame: Frame) -> u16 {
        self.blocks[self.pageblock(frame).0 as usize].zone.0
    }

    /// The zone and region that hold a frame, or `None` for a hole.
    #[must_use]
    #[inline]
    pub fn place_of(&self, frame: Frame) -> Option<(ZoneId, RegionId)> {
        let place = self.blocks.get((frame >> self.pageblock_order) as usize)?;
        (place.zone != NO_ZONE).then_some((place.zone, place.region))
    }

    /// Whether a frame's pageblock belongs to `zone`.
    #[must_use]
    #[inline]
    pub fn in_zone(&self, frame: Frame, zone: ZoneId) -> bool {
        self.zone_of(frame) == Some(zone)
    }

    /// The frames of a pageblock that lie inside its zone's span.
    #[must_use]
    pub fn block_in_zone(&self, block: PageblockId) -> std::ops::Range<Frame> {
        let start = self.block_start(block);
        let Some(zone) = self.zone_of(start) else { return start..start };
        let span = &self.zones[usize::from(zone.0)];
        start.max(span.start)..(start + self.pageblock_pages()).min(span.end)
    }

    /// Whether a whole pageblock lies inside its zone's span.
    #[must_use]
    pub fn block_is_whole(&self, block: PageblockId) -> bool {
        self.block_in_zone(block).len() == self.pageblock_pages() as usize
    }

    /// The CPU with an id; ids that the machine does not list are served by its first CPU.
    #[must_use]
    #[inline]
    pub fn cpu(&self, id: CpuId) -> CpuIndex {
        match self.cpu_by_id.get(usize::from(id.0)) {
            Some(cpu) => *cpu,
            None => CpuIndex(0),
        }
    }

    /// The node of a CPU.
    #[must_use]
    #[inline]
    pub fn node_of_cpu(&self, cpu: CpuIndex) -> &Node {
        &self.nodes[usize::from(self.cpu_nodes[usize::from(cpu.0)])]
    }

    /// The kernel's id of a node's first CPU; of the machine's first where the node has none.
    #[must_use]
    pub fn first_cpu_of(&self, node: u16) -> CpuId {
        let index = self.cpu_nodes.iter().position(|n| *n == node).unwrap_or(0);
        let id = self.cpu_by_id.iter().position(|cpu| usize::from(cpu.0) == index).unwrap_or(0);
        CpuId(id as u16)
    }

    /// Position in [`Geometry::nodes`] of the node of a CPU.
    #[must_use]
    #[inline]
    pub fn node_index_of_cpu(&self, cpu: CpuIndex) -> u16 {
        self.cpu_nodes[usize::from(cpu.0)]
    }

    /// An empty census of all regions.
    #[must_use]
    pub fn empty_census(&self) -> Vec<RegionCensus> {
        let census = |region: &Region| RegionCensus {
            zone: region.zone.0,
            start: Pfn(u64::from(region.start)),
            span_pages: u64::from(region.end - region.start),
            obtainable: self.zones[usize::from(region.zone.0)].kind.gigantic_obtainable(),
            pages: [0; fragscope_trace::page::Content::COUNT],
        };
        self.regions.iter().map(census).collect()
    }
}

fn check(machine: &Machine, region_order: u64) -> Result<(), BuildError> {
    let limit = |what, found: u64, ok: bool, expected| {
        if ok { Ok(()) } else { Err(BuildError::Geometry { what, found, expected }) }
    };
    if machine.zones.is_empty() {
        return Err(BuildError::NoZones);
    }
    if machine.cpus.is_empty() {
        return Err(BuildError::NoCpus);
    }
    let (block, max) = (u64::from(machine.pageblock_order), u64::from(machine.max_page_order));
    limit("the largest order", max, (1..=10).contains(&max), "1 to 10")?;
    limit("the pageblock order", block, (1..=max).contains(&block), "1 to the largest order")?;
    let regions = (max..=18).contains(&region_order);
    limit("the region order", region_order, regions, "the largest order to 18")?;
    limit("the number of zones", machine.zones.len() as u64, machine.zones.len() < 4096, "< 4096")?;
    limit(
        "the number of CPUs",
        machine.cpus.len() as u64,
        machine.cpus.len() < 1 << 15,
        "< 32768",
    )?;
    for zone in &machine.zones {
        let sound = zone.spanned_pages > 0 && zone.start_pfn.0 < MAX_FRAMES;
        limit("a zone's span", zone.spanned_pages, sound, "at least one page")?;
        let end = zone.start_pfn.0.saturating_add(zone.spanned_pages);
        if end > MAX_FRAMES - (1 << 18) {
            return Err(BuildError::TooLarge { end, max: MAX_FRAMES - (1 << 18) });
        }
    }
    Ok(())
}

fn node_ids(machine: &Machine) -> Vec<u16> {
    let zones = machine.zones.iter().map(|z| z.node);
    let mut ids: Vec<u16> = zones.chain(machine.cpus.iter().map(|c| c.node)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn regions(zones: &[ZoneSpan], region_order: u8) -> Box<[Region]> {
    let mut regions = Vec::new();
    for (index, zone) in zones.iter().enumerate() {
        let mut start = zone.start;
        while start < zone.end {
            let end = (((start >> region_order) + 1) << region_order).min(zone.end);
            regions.push(Region { zone: ZoneId(index as u16), start, end });
            start = end;
        }
    }
    regions.into()
}

/// Zone and region of every pageblock. Where zones overlap (interleaved nodes) the shortest span
/// wins, since the longer one reaches around it.
fn blocks(machine: &Machine, zones: &[ZoneSpan], regions: &[Region]) -> Box<[BlockPlace]> {
    let order = machine.pageblock_order;
    let end = zones.iter().map(|z| z.end).max().unwrap_or(0);
    let granule = machine.max_page_order.max(order);
    let frames = (u64::from(end)).next_multiple_of(1 << granule);
    let nowhere = BlockPlace { region: RegionId(u32::MAX), zone: NO_ZONE };
    let mut blocks = vec![nowhere; (frames >> order) as usize];
    let mut by_length: Vec<usize> = (0..regions.len()).collect();
    let span = |i: usize| &zones[usize::from(regions[i].zone.0)];
    by_length.sort_by_key(|i| std::cmp::Reverse(span(*i).end - span(*i).start));
    for index in by_length {
        let region = &regions[index];
        let place = BlockPlace { region: RegionId(index as u32), zone: region.zone };
        let last = (region.end - 1) >> order;
        blocks[(region.start >> order) as usize..=last as usize].fill(place);
    }
    blocks.into()
}

/// Own zones from highest to lowest, then those of the other nodes, beginning with the next
/// node: distances are not in a trace, and among equals the kernel deals nodes out in turn.
fn nodes(ids: &[u16], zones: &[ZoneSpan]) -> Box<[Node]> {
    let of_node = |node: usize| {
        let own = |z: &(usize, &ZoneSpan)| usize::from(z.1.node) == node;
        let mut list: Vec<(usize, &ZoneSpan)> = zones.iter().enumerate().filter(own).collect();
        list.sort_by_key(|(_, z)| std::cmp::Reverse(z.kind));
        list.into_iter().map(|(i, _)| ZoneId(i as u16)).collect::<Vec<_>>()
    };
    let node = |(index, id): (usize, &u16)| {
        let mut zonelist = of_node(index);
        let own = zonelist.len();
        for step in 1..ids.len() {
            zonelist.extend(of_node((index + step) % ids.len()));
        }
        let up_to = |list: &[ZoneId], highest: usize| {
            let kind = |zone: &&ZoneId| zones[usize::from(zone.0)].kind as usize;
            list.iter().filter(|zone| kind(zone) <= highest).copied().collect()
        };
        let usable = [&zonelist[..], &zonelist[..own]]
            .map(|list| std::array::from_fn(|highest| up_to(list, highest)));
        Node { id: *id, zonelist: zonelist.into(), own, usable }
    };
    ids.iter().enumerate().map(node).collect()
}
