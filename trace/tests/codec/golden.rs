//! The format does not change by accident: a committed trace decodes to known values, and the
//! same values encode to the committed payloads.
//!
//! `UPDATE_GOLDEN=1 cargo test -p fragscope-trace golden` writes the file anew, after a change
//! that was meant (and a new format version).

use std::path::Path;

use fragscope_trace::event::{
    Budget, CountedPlace, EventBatch, LossCause, OrderCount, PageEvent, PageEventKind, ProbeStop,
    RegionCount, RepairSource, SideEvent, SideKind, Tags, TypeOrderCount,
};
use fragscope_trace::frame::Frame;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::{
    ChunkTime, FreeList, PageRun, Snapshot, SnapshotRole, SnapshotSource,
};
use fragscope_trace::writer::TraceWriter;

use crate::arbitrary::{small_end, small_header, small_machine};
use crate::raw;

fn snapshot() -> Snapshot {
    let run = |start, pages, content, order, migratetype| PageRun {
        start: Pfn(start),
        pages,
        content,
        order,
        migratetype,
    };
    let list = |cpu, order, blocks: &[u64]| FreeList {
        zone: 0,
        cpu,
        order,
        migratetype: Migratetype::Movable,
        blocks: blocks.iter().map(|pfn| Pfn(*pfn)).collect(),
    };
    Snapshot {
        source: SnapshotSource::StructPages,
        role: SnapshotRole::Opening,
        begin_ns: 5_000_000_100,
        end_ns: 5_000_900_000,
        machine: small_machine(),
        chunks: vec![ChunkTime {
            range: PfnRange::new(Pfn(0), 1 << 20),
            begin_ns: 5_000_000_200,
            end_ns: 5_000_800_000,
        }],
        runs: vec![
            run(0, 1, Content::Reserved, 0, Migratetype::Unmovable),
            run(1, 1023, Content::Kernel, 0, Migratetype::Unmovable),
            run(1024, 3072, Content::Free, 10, Migratetype::Movable),
            run(4096, (1 << 20) - 4096, Content::Anon, 9, Migratetype::Movable),
        ],
        pageblocks: vec![
            (PfnRange::new(Pfn(0), 1024), Migratetype::Unmovable),
            (PfnRange::new(Pfn(1024), (1 << 20) - 1024), Migratetype::Movable),
        ],
        lists: vec![
            list(None, 10, &[2048, 1024, 3072]),
            list(Some(CpuId(0)), 0, &[]),
            list(Some(CpuId(1)), 0, &[77, 76]),
        ],
        notes: vec!["a note".into()],
    }
}

fn region_counts() -> Vec<RegionCount> {
    let (migratetype, order, count) = (Migratetype::Movable, 0, 300);
    let allocs = vec![
        TypeOrderCount { migratetype, order, count },
        TypeOrderCount { migratetype: Migratetype::Reclaimable, order: 3, count: 1 },
    ];
    let frees = vec![OrderCount { order: 0, count: 299 }, OrderCount { order: 18, count: 1 }];
    let failed = TypeOrderCount { migratetype, order: 9, count: 2 };
    vec![
        RegionCount { place: CountedPlace::Region(4), allocs, frees: frees.clone() },
        RegionCount { place: CountedPlace::Outside, allocs: vec![], frees },
        RegionCount { place: CountedPlace::Failed, allocs: vec![failed], frees: vec![] },
    ]
}

fn side_kinds() -> Vec<SideKind> {
    let range = PfnRange::new(Pfn(512), 1024);
    let source = RepairSource::Snapshot;
    vec![
        SideKind::Move { from: Pfn(1), to: Pfn(2), order: 3 },
        SideKind::ExtFrag {
            pfn: Pfn(512),
            alloc_order: 0,
            fallback_order: 9,
            alloc_type: Migratetype::Unmovable,
            fallback_type: Migratetype::Movable,
            change_ownership: true,
        },
        SideKind::Context {
            pfn: Pfn(100),
            order: 0,
            gfp: Gfp::KERNEL,
            pid: 4711,
            comm: "cc1".into(),
            cgroup: 99,
            stack: 1,
        },
        SideKind::Stack { id: 1, frames: vec!["alloc_pages+0x10".into(), "0x77".into()] },
        SideKind::Lost { cpu: None, cause: LossCause::Reentry, count: 5, since_ns: 6 },
        SideKind::Filtered { count: 7, since_ns: 8 },
        SideKind::ContigTest { range, stopped_at: Pfn(600) },
        SideKind::Grow { node: 0, zone: 2, range, source: RepairSource::ManagedGrowth },
        SideKind::Shrink { range, source },
        SideKind::Resync { range, content: Content::Slab, source },
        SideKind::Cpu { cpu: CpuId(3), online: false },
        SideKind::Compaction { begin: true, zone: range },
        SideKind::Migrated { succeeded: 32, failed: 1, reason: 5 },
        SideKind::Mark { text: "here".into() },
        SideKind::Cost { cpu_ns: 1, rss_bytes: 2, ring_peak_permille: 3 },
        SideKind::Check { free_pages: vec![10], pcp_pages: vec![11, 12], managed_pages: vec![13] },
        SideKind::Probe1g {
            begin_ns: 14,
            granted: 2,
            pages: vec![Pfn(1 << 18), Pfn(3 << 18)],
            stopped: ProbeStop::LowMemory,
        },
        SideKind::Cgroup { id: 99, path: "/system.slice/build.service".into() },
        SideKind::RegionCounts { since_ns: 15, regions: region_counts() },
        SideKind::Shed { budget: Budget::CpuPermille, begin: true, limit: 30, found: 31 },
    ]
}

fn batch() -> EventBatch {
    let cpu = CpuId(1);
    let mut batch = EventBatch::default();
    let mut push = |event| batch.pages.push(event);
    push(PageEvent::alloc(5_001_000_000, cpu, Pfn(100), 0, Gfp::KERNEL));
    push(PageEvent::alloc(5_001_000_900, cpu, Pfn(101), 0, Gfp::KERNEL));
    push(PageEvent::alloc(5_001_001_000, CpuId(300), Pfn(1 << 34), 9, Gfp::HIGHUSER_MOVABLE));
    push(PageEvent::free(5_001_000_950, cpu, Pfn(100), 0).tagged(Tags::LATE));
    push(PageEvent::free(5_009_000_000, cpu, Pfn(u64::MAX), 18).tagged(Tags::OWN));
    let (order, migratetype) = (2, Migratetype::Cma);
    for kind in PageEventKind::ALL {
        let time_ns = 5_009_000_000 + kind as u64;
        let gfp = Gfp::from_bits_retain(0xffff_0000 + kind as u32);
        push(PageEvent::new(kind, time_ns, cpu, Pfn(7), order, migratetype, gfp));
    }
    for (at, kind) in side_kinds().into_iter().enumerate() {
        let time_ns = 5_001_000_000 + at as u64;
        let cpu = (at % 2 == 0).then_some(CpuId(at as u16));
        batch.sides.push((at as u32 / 2, SideEvent { time_ns, cpu, kind }));
    }
    batch
}

/// A trace with everything in it.
pub(crate) fn trace() -> Vec<u8> {
    let mut writer = TraceWriter::new(Vec::new(), &small_header()).unwrap();
    writer.snapshot(&snapshot()).unwrap();
    writer.events(&batch()).unwrap();
    writer.end(&small_end()).unwrap();
    writer.into_inner()
}

fn golden() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden.fst");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, trace()).unwrap();
    }
    std::fs::read(path).unwrap()
}

#[test]
fn the_golden_trace_decodes_to_known_values() {
    let bytes = golden();
    let mut reader = TraceReader::new(&bytes[..]).unwrap();
    assert_eq!(*reader.header(), small_header());
    let expected = [
        Frame::Snapshot(Box::new(snapshot())),
        Frame::Events(batch()),
        Frame::End(Box::new(small_end())),
    ];
    for frame in expected {
        assert_eq!(reader.next_frame().unwrap(), Some(frame));
    }
    assert_eq!((reader.next_frame().unwrap(), reader.truncated()), (None, None));
}

/// Compressed bytes may differ with the version of zstd; payloads may not.
#[test]
fn known_values_encode_to_the_golden_payloads() {
    assert_eq!(raw::split(&trace()), raw::split(&golden()));
}

#[test]
fn the_golden_trace_has_every_kind_of_side_event() {
    let numbers: Vec<u64> = side_kinds().iter().map(SideKind::number).collect();
    assert_eq!(numbers, (0..SideKind::COUNT).collect::<Vec<_>>());
    for kind in side_kinds() {
        let bytes = postcard::to_allocvec(&kind).unwrap();
        assert_eq!(u64::from(bytes[0]), kind.number(), "{}", kind.name());
        let json = serde_json::to_value(&kind).unwrap();
        assert!(json.get(kind.name()).is_some(), "{json}");
    }
}
