//! A snapshot as a table of regions, for people and for programs.
//!
//! States and totals are those of [`fragscope_trace::region`]; here they only get names. The
//! field names of [`Report`] are the JSON format.

mod table;

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Content, Pfn, REGION_PAGES};
use fragscope_trace::region::{Bounds, RegionCensus, RegionState, RegionTotals, census};
use fragscope_trace::snapshot::{Snapshot, SnapshotSource};
use serde::Serialize;

/// What `fragscope-agent snapshot --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `struct_pages` or `kpageflags`.
    pub source: SnapshotSource,
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -n`.
    pub hostname: String,
    /// When reading began, on `CLOCK_MONOTONIC`.
    pub begin_ns: TimeNs,
    /// How long it took.
    pub duration_ns: u64,
    /// Pages in a whole region: 262,144.
    pub region_pages: u64,
    /// Regions free now.
    pub free_1g: Bounds,
    /// Regions free now or after migrating their movable pages, each by itself.
    pub evacuable_1g: Bounds,
    /// Regions obtainable together, above the watermarks.
    pub obtainable_1g: Bounds,
    /// Regions with content that cannot move.
    pub tainted_1g: Bounds,
    /// Of these, such with at most 512 tainting pages.
    pub nearly_clean_1g: u64,
    /// Regions with hugetlb pages.
    pub hugetlb_1g: u64,
    /// Regions clipped by a zone's edge, with holes or with reserved pages.
    pub partial_1g: u64,
    /// Regions of which only unexplained pages are unclear.
    pub unknown_1g: u64,
    /// Whole regions: all but absent and partial ones.
    pub whole_1g: u64,
    /// Element k: pages to migrate to obtain k+1 regions.
    pub cost_pages: Vec<u64>,
    /// All pages by content, over all zones.
    pub totals: Pages,
    /// One row per zone and region, by zone and address.
    pub regions: Vec<Row>,
    /// Remarks: what is unknown and why.
    pub notes: Vec<String>,
}

/// One zone's part of one aligned GiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Name of the zone, as in `/proc/zoneinfo`.
    pub zone: &'static str,
    /// Its node.
    pub node: u16,
    /// First frame.
    pub start_pfn: Pfn,
    /// Frames; the page counts add up to this.
    pub span_pages: u64,
    /// See [`RegionState`].
    pub state: RegionState,
    /// Whether the kernel builds 1 GiB pages in this zone.
    pub obtainable: bool,
    /// Its pages.
    #[serde(flatten)]
    pub pages: Pages,
}

/// Pages by content. Every page is in exactly one field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// Free in the buddy allocator.
    pub free_pages: u64,
    /// Free, on a per-CPU list.
    pub pcp_pages: u64,
    /// Free, but taken off the lists for the moment (compaction, isolation, reporting).
    pub isolated_pages: u64,
    /// Anonymous, page cache, or movable by its driver.
    pub movable_pages: u64,
    /// Movable, but held by a long-term reference.
    pub pinned_pages: u64,
    /// Slab, reclaimable or not.
    pub slab_pages: u64,
    /// Page tables.
    pub pagetable_pages: u64,
    /// Other kernel memory.
    pub kernel_pages: u64,
    /// Logically offline.
    pub offline_pages: u64,
    /// In hugetlb pages of any size.
    pub hugetlb_pages: u64,
    /// Reserved at boot.
    pub reserved_pages: u64,
    /// Holes, and memory that the allocator was not given.
    pub absent_pages: u64,
    /// Unexplained.
    pub unknown_pages: u64,
}

impl Pages {
    fn add(&mut self, content: Content, pages: u64) {
        let field = match content {
            Content::Free => &mut self.free_pages,
            Content::Pcp => &mut self.pcp_pages,
            Content::Isolated => &mut self.isolated_pages,
            Content::Movable | Content::Anon | Content::File | Content::MovableOps => {
                &mut self.movable_pages
            }
            Content::Pinned => &mut self.pinned_pages,
            Content::Slab | Content::Reclaimable => &mut self.slab_pages,
            Content::PageTable => &mut self.pagetable_pages,
            Content::Kernel => &mut self.kernel_pages,
            Content::Offline => &mut self.offline_pages,
            Content::Hugetlb | Content::Gigantic => &mut self.hugetlb_pages,
            Content::Reserved => &mut self.reserved_pages,
            Content::Absent => &mut self.absent_pages,
            Content::Unknown => &mut self.unknown_pages,
        };
        *field += pages;
    }

    /// Counts `pages_of` over all contents.
    fn of(pages_of: impl Fn(Content) -> u64) -> Pages {
        let mut pages = Pages::default();
        for content in Content::ALL {
            pages.add(content, pages_of(content));
        }
        pages
    }

    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let Pages {
            free_pages,
            pcp_pages,
            isolated_pages,
            movable_pages,
            pinned_pages,
            slab_pages,
            pagetable_pages,
            kernel_pages,
            offline_pages,
            hugetlb_pages,
            reserved_pages,
            absent_pages,
            unknown_pages,
        } = *self;
        free_pages
            + pcp_pages
            + isolated_pages
            + movable_pages
            + pinned_pages
            + slab_pages
            + pagetable_pages
            + kernel_pages
            + offline_pages
            + hugetlb_pages
            + reserved_pages
            + absent_pages
            + unknown_pages
    }
}

impl Report {
    /// Derives the report from a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Report {
        let regions = census(snapshot);
        let totals = RegionTotals::new(&snapshot.machine, &regions);
        let by_content = snapshot.totals();
        Report {
            source: snapshot.source,
            kernel_release: snapshot.machine.kernel_release.clone(),
            hostname: snapshot.machine.hostname.clone(),
            begin_ns: snapshot.begin_ns,
            duration_ns: snapshot.end_ns.saturating_sub(snapshot.begin_ns),
            region_pages: REGION_PAGES,
            free_1g: totals.free_1g,
            evacuable_1g: totals.evacuable_1g,
            obtainable_1g: totals.obtainable_1g,
            tainted_1g: totals.tainted_1g,
            nearly_clean_1g: totals.nearly_clean_1g,
            hugetlb_1g: totals.hugetlb_1g,
            partial_1g: totals.partial_1g,
            unknown_1g: totals.unknown_1g,
            whole_1g: totals.whole_1g,
            cost_pages: totals.cost_pages,
            totals: Pages::of(|content| by_content[content.index()]),
            regions: regions.iter().map(|region| row(snapshot, region)).collect(),
            notes: snapshot.notes.clone(),
        }
    }
}

fn row(snapshot: &Snapshot, region: &RegionCensus) -> Row {
    let zone = &snapshot.machine.zones[usize::from(region.zone)];
    Row {
        zone: zone.kind.name(),
        node: zone.node,
        start_pfn: region.start,
        span_pages: region.span_pages,
        state: region.state(),
        obtainable: region.obtainable,
        pages: Pages::of(|content| u64::from(region.pages[content.index()])),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use fragscope_trace::page::{Migratetype, REGION_PAGES};
    use fragscope_trace::snapshot::{PageRun, SnapshotRole};

    use super::*;
    use crate::snapshot::synthetic;

    /// One region for each content that fills it alone.
    pub(crate) fn snapshot() -> Snapshot {
        let regions = Content::COUNT as u64;
        let runs = Content::ALL.iter().zip(0..).map(|(content, region)| PageRun {
            start: Pfn(region * REGION_PAGES),
            pages: REGION_PAGES,
            content: *content,
            order: 0,
            migratetype: Migratetype::Movable,
        });
        Snapshot {
            source: SnapshotSource::KpageFlags,
            role: SnapshotRole::Standalone,
            begin_ns: 5,
            end_ns: 1_000_005,
            machine: synthetic::machine(regions * REGION_PAGES),
            chunks: Vec::new(),
            runs: runs.collect(),
            pageblocks: Vec::new(),
            lists: Vec::new(),
            notes: vec!["a remark".to_owned()],
        }
    }

    #[test]
    fn every_page_is_in_one_column() {
        let report = Report::new(&snapshot());
        assert_eq!(report.regions.len(), Content::COUNT);
        for row in &report.regions {
            assert_eq!(row.pages.sum(), row.span_pages, "{row:?}");
        }
        assert_eq!(report.totals.sum(), Content::COUNT as u64 * REGION_PAGES);
    }

    #[test]
    fn json_has_the_documented_names() {
        let json = serde_json::to_value(Report::new(&snapshot())).unwrap();
        let expected = [
            "zone",
            "node",
            "start_pfn",
            "state",
            "free_pages",
            "pcp_pages",
            "movable_pages",
            "slab_pages",
            "pagetable_pages",
            "kernel_pages",
            "pinned_pages",
            "reserved_pages",
            "absent_pages",
            "unknown_pages",
        ];
        for name in expected {
            assert!(json["regions"][0].get(name).is_some(), "{name}");
        }
        for name in ["free_1g", "evacuable_1g", "obtainable_1g", "tainted_1g"] {
            assert!(json[name]["min"].is_u64() && json[name]["max"].is_u64(), "{name}");
        }
        assert_eq!(json["source"], "kpageflags");
        assert_eq!(json["regions"][Content::Slab.index()]["state"], "tainted");
    }
}
