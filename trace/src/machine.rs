//! The traced host: its memory geometry, its allocator's settings, and what could be traced.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::page::{CpuId, Pfn, PfnRange};

/// Geometry and settings of a host at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `uname -n`.
    pub hostname: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Machine architecture, for example `x86_64`.
    pub arch: String,
    /// Bytes in a base page; always 4096.
    pub page_size: u64,
    /// `pageblock_order`.
    pub pageblock_order: u8,
    /// `MAX_PAGE_ORDER`.
    pub max_page_order: u8,
    /// CPUs that were ever possible and are known, ascending by id.
    pub cpus: Vec<Cpu>,
    /// Populated zones, by node and then by zone index.
    pub zones: Vec<Zone>,
    /// Page frames that are RAM (`System RAM` in `/proc/iomem`), ascending.
    pub ram: Vec<PfnRange>,
    /// Settings under `/proc/sys/vm` that matter to the allocator, by name; pages or as the
    /// kernel prints them.
    pub sysctls: BTreeMap<String, i64>,
    /// Other facts, as text: THP mode, clock source, per-CPU cache slice (`cpu_cache_slice_bytes`)
    /// and so on.
    pub facts: BTreeMap<String, String>,
}

impl Machine {
    /// Kernel major and minor version, if the release begins with them.
    #[must_use]
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel_release.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// One past the highest pfn that any zone spans.
    #[must_use]
    pub fn end_pfn(&self) -> Pfn {
        self.zones.iter().map(|z| z.span().end).max().unwrap_or_default()
    }

    /// Position in `zones` of the zone whose span holds `pfn`.
    #[must_use]
    pub fn zone_of(&self, pfn: Pfn) -> Option<usize> {
        self.zones.iter().position(|z| z.span().contains(pfn))
    }

    /// Pages that zones give to the buddy allocator.
    #[must_use]
    pub fn managed_pages(&self) -> u64 {
        self.zones.iter().map(|z| z.managed_pages).sum()
    }

    /// Online CPUs of `node`, or all online CPUs where it has none.
    #[must_use]
    pub fn cpus_of_node(&self, node: u16) -> usize {
        let online = || self.cpus.iter().filter(|c| c.online);
        match online().filter(|c| c.node == node).count() {
            0 => online().count().max(1),
            n => n,
        }
    }
}

/// One CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Its id.
    pub id: CpuId,
    /// Its node.
    pub node: u16,
    /// Whether it runs.
    pub online: bool,
}

/// Index of a zone within its node (`enum zone_type` with all zones built).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ZoneKind {
    /// Below 16 MiB.
    Dma = 0,
    /// Below 4 GiB.
    Dma32 = 1,
    /// The rest.
    Normal = 2,
    /// Only for movable pages.
    Movable = 3,
}

impl ZoneKind {
    /// All zones, lowest first.
    pub const ALL: [ZoneKind; 4] =
        [ZoneKind::Dma, ZoneKind::Dma32, ZoneKind::Normal, ZoneKind::Movable];

    /// The zone as `/proc/zoneinfo` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ZoneKind::Dma => "DMA",
            ZoneKind::Dma32 => "DMA32",
            ZoneKind::Normal => "Normal",
            ZoneKind::Movable => "Movable",
        }
    }

    /// The zone with this name in `/proc/zoneinfo`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<ZoneKind> {
        ZoneKind::ALL.into_iter().find(|z| z.name() == name)
    }

    /// Whether the kernel would build a 1 GiB hugetlb page here (6.18: its gfp is not movable).
    #[must_use]
    pub const fn gigantic_obtainable(self) -> bool {
        !matches!(self, ZoneKind::Movable)
    }
}

/// One zone of one node. All sizes are in pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Node id.
    pub node: u16,
    /// Which zone.
    pub kind: ZoneKind,
    /// First pfn of the span.
    pub start_pfn: Pfn,
    /// Pages spanned, holes included.
    pub spanned_pages: u64,
    /// Pages that exist.
    pub present_pages: u64,
    /// Pages given to the buddy allocator.
    pub managed_pages: u64,
    /// `_watermark`, without boost.
    pub watermarks: Watermarks,
    /// `watermark_boost`.
    pub watermark_boost: u64,
    /// `lowmem_reserve`, by zone index of the request.
    pub lowmem_reserve: Vec<u64>,
    /// `NR_FREE_PAGES`.
    pub free_pages: u64,
    /// `nr_reserved_highatomic`, if known.
    pub reserved_highatomic: Option<u64>,
    /// Zone flags (`ZONE_BOOSTED_WATERMARK` and so on) as raw bits, if known.
    pub flags: Option<u64>,
    /// Free blocks by order (`/proc/buddyinfo`).
    pub buddy_blocks: Vec<u64>,
    /// Per-CPU pagesets.
    pub pagesets: Vec<Pageset>,
}

impl Zone {
    /// A zone of which only the span is known: all of it exists and is given to the allocator.
    #[must_use]
    pub fn new(node: u16, kind: ZoneKind, span: PfnRange) -> Zone {
        let pages = span.pages();
        Zone {
            node,
            kind,
            start_pfn: span.start,
            spanned_pages: pages,
            present_pages: pages,
            managed_pages: pages,
            watermarks: Watermarks::default(),
            watermark_boost: 0,
            lowmem_reserve: Vec::new(),
            free_pages: 0,
            reserved_highatomic: None,
            flags: None,
            buddy_blocks: Vec::new(),
            pagesets: Vec::new(),
        }
    }

    /// Frames from the first to the last, holes included.
    #[must_use]
    pub fn span(&self) -> PfnRange {
        PfnRange::new(self.start_pfn, self.spanned_pages)
    }

    /// Pages on all per-CPU lists.
    #[must_use]
    pub fn pcp_pages(&self) -> u64 {
        self.pagesets.iter().map(|p| p.count).sum()
    }

    /// `node 0 Normal`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("node {} {}", self.node, self.kind.name())
    }
}

/// Watermarks of a zone in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermarks {
    /// `WMARK_MIN`
    pub min: u64,
    /// `WMARK_LOW`
    pub low: u64,
    /// `WMARK_HIGH`
    pub high: u64,
    /// `WMARK_PROMO`
    pub promo: u64,
}

/// `struct per_cpu_pages` of one (zone, cpu), in base pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pageset {
    /// Whose.
    pub cpu: CpuId,
    /// Pages on all lists.
    pub count: u64,
    /// Current limit.
    pub high: u64,
    /// Pages moved at once.
    pub batch: u64,
    /// Lower bound of `high`.
    pub high_min: u64,
    /// Upper bound of `high`.
    pub high_max: u64,
    /// Refill doubling, if known.
    pub alloc_factor: Option<u8>,
    /// Frees since the last allocation, if known.
    pub free_count: Option<i64>,
    /// `PCPF_*`, if known.
    pub flags: Option<u8>,
}
