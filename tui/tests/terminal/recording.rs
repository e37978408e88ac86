//! A small recording, made up and written as the agent would.

use std::collections::BTreeMap;
use std::path::Path;

use fragscope_trace::event::{EventBatch, PageEvent};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::{End, EndReason, Header, Totals, TraceMode};
use fragscope_trace::machine::{Cpu, Machine, Pageset, Watermarks, Zone, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange, REGION_PAGES};
use fragscope_trace::snapshot::{ChunkTime, PageRun, Snapshot, SnapshotRole, SnapshotSource};
use fragscope_trace::writer::TraceWriter;

const START_NS: u64 = 1_000_000_000;
/// Where memory begins: the third GiB.
const BASE: u64 = 2 * REGION_PAGES;
const REGIONS: u64 = 4;

/// Three seconds of a machine with four regions: one holds slab, one is half full, two are free.
pub(crate) fn write_open(path: &Path) -> TraceWriter<std::fs::File> {
    let machine = machine();
    let header = Header {
        recorder: "test".to_owned(),
        started_unix_ns: 1_763_733_780_000_000_000,
        started_ns: START_NS,
        machine: machine.clone(),
        capabilities: Vec::new(),
        command: None,
        mode: TraceMode::Full,
    };
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = TraceWriter::new(file, &header).expect("written");
    writer.snapshot(&snapshot(machine)).expect("written");
    for tenth in 1..=30 {
        writer.events(&events(START_NS + tenth * 100_000_000)).expect("written");
    }
    writer
}

/// The same, closed in order.
pub(crate) fn write(path: &Path) {
    let end = End {
        reason: EndReason::Generated,
        time_ns: START_NS + 3_000_000_000,
        closing_snapshot: false,
        totals: Totals::default(),
    };
    write_open(path).end(&end).expect("written");
}

fn machine() -> Machine {
    let pages = REGIONS * REGION_PAGES;
    let pageset = Pageset { cpu: CpuId(0), batch: 63, high: 500, ..Pageset::default() };
    let zone = Zone {
        watermarks: Watermarks { min: 1000, low: 2000, high: 3000, promo: 4000 },
        lowmem_reserve: vec![0; 4],
        free_pages: 2 * REGION_PAGES + REGION_PAGES / 2,
        pagesets: vec![pageset],
        ..Zone::new(0, ZoneKind::Normal, PfnRange::new(Pfn(BASE), pages))
    };
    Machine {
        hostname: "testhost".to_owned(),
        kernel_release: "6.18.1".to_owned(),
        arch: "x86_64".to_owned(),
        page_size: 4096,
        pageblock_order: 9,
        max_page_order: 10,
        cpus: vec![Cpu { id: CpuId(0), node: 0, online: true }],
        zones: vec![zone],
        ram: vec![PfnRange::new(Pfn(BASE), pages)],
        sysctls: BTreeMap::new(),
        facts: BTreeMap::new(),
    }
}

fn snapshot(machine: Machine) -> Snapshot {
    let run = |start: u64, pages: u64, content: Content, order: u8, migratetype| PageRun {
        start: Pfn(BASE + start),
        pages,
        content,
        order,
        migratetype,
    };
    let half = REGION_PAGES / 2;
    let movable = Migratetype::Movable;
    let runs = vec![
        run(0, 4096, Content::Slab, 0, Migratetype::Unmovable),
        run(4096, REGION_PAGES - 4096, Content::Anon, 0, movable),
        run(REGION_PAGES, half, Content::Anon, 0, movable),
        run(REGION_PAGES + half, 2 * REGION_PAGES + half, Content::Free, 10, movable),
    ];
    let range = PfnRange::new(Pfn(BASE), REGIONS * REGION_PAGES);
    Snapshot {
        source: SnapshotSource::Synthetic,
        role: SnapshotRole::Opening,
        begin_ns: START_NS,
        end_ns: START_NS + 1000,
        machine,
        chunks: vec![ChunkTime { range, begin_ns: START_NS, end_ns: START_NS + 1000 }],
        runs,
        pageblocks: Vec::new(),
        lists: Vec::new(),
        notes: Vec::new(),
    }
}

/// A hundred pages allocated and freed again.
fn events(time_ns: u64) -> EventBatch {
    let first = BASE + 2 * REGION_PAGES;
    let gfp = Gfp::HIGHUSER_MOVABLE;
    let alloc = |i: u64| PageEvent::alloc(time_ns + i, CpuId(0), Pfn(first + i), 0, gfp);
    let free = |i: u64| PageEvent::free(time_ns + 1000 + i, CpuId(0), Pfn(first + i), 0);
    let pages = (0..100).map(alloc).chain((0..100).map(free)).collect();
    EventBatch { pages, sides: Vec::new() }
}
