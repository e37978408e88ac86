//! Small machines, snapshots and traces for tests.

use std::collections::BTreeMap;

use fragscope_trace::event::{EventBatch, PageEvent, SideEvent, SideKind, TimeNs};
use fragscope_trace::header::{Header, TraceMode};
use fragscope_trace::machine::{Cpu, Machine, Watermarks, Zone, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole, SnapshotSource};

/// A machine with two CPUs and zones of these sizes in pages, one behind the other: `DMA32` and
/// then `Normal`.
pub(crate) fn machine(zones: &[u64]) -> Machine {
    let mut start = 0;
    let kinds = [ZoneKind::Dma32, ZoneKind::Normal];
    let zones = zones.iter().zip(kinds).map(|(pages, kind)| {
        let zone = zone(kind, start, *pages);
        start += pages;
        zone
    });
    let cpu = |id| Cpu { id: CpuId(id), node: 0, online: true };
    Machine {
        hostname: "test".into(),
        kernel_release: "6.18.0".into(),
        arch: "x86_64".into(),
        page_size: 4096,
        pageblock_order: 9,
        max_page_order: 10,
        cpus: vec![cpu(0), cpu(1)],
        zones: zones.collect(),
        ram: Vec::new(),
        sysctls: BTreeMap::new(),
        facts: BTreeMap::new(),
    }
}

fn zone(kind: ZoneKind, start: u64, pages: u64) -> Zone {
    Zone {
        watermarks: Watermarks { min: 16, low: 20, high: 24, promo: 28 },
        lowmem_reserve: vec![0; 4],
        ..Zone::new(0, kind, PfnRange::new(Pfn(start), pages))
    }
}

/// A header whose clock begins at 0.
pub(crate) fn header(machine: &Machine) -> Header {
    Header {
        recorder: "test".into(),
        started_unix_ns: 0,
        started_ns: 0,
        machine: machine.clone(),
        capabilities: Vec::new(),
        command: None,
        mode: TraceMode::Full,
    }
}

/// A snapshot read at one moment, with the content of each page of the machine.
pub(crate) fn snapshot(
    machine: &Machine,
    role: SnapshotRole,
    time_ns: TimeNs,
    content: impl Fn(u64) -> Content,
) -> Snapshot {
    let end = machine.end_pfn().0;
    let mut runs: Vec<PageRun> = Vec::new();
    for pfn in 0..end {
        let content = content(pfn);
        match runs.last_mut() {
            Some(run) if run.content == content => run.pages += 1,
            _ => runs.push(PageRun {
                start: Pfn(pfn),
                pages: 1,
                content,
                order: 0,
                migratetype: Migratetype::Movable,
            }),
        }
    }
    Snapshot {
        source: SnapshotSource::Synthetic,
        role,
        begin_ns: time_ns,
        end_ns: time_ns,
        machine: machine.clone(),
        chunks: Vec::new(),
        runs,
        pageblocks: vec![(PfnRange::new(Pfn(0), end), Migratetype::Movable)],
        lists: Vec::new(),
        notes: Vec::new(),
    }
}

/// A batch of page events.
pub(crate) fn batch(pages: Vec<PageEvent>) -> EventBatch {
    EventBatch { pages, sides: Vec::new() }
}

/// A side event.
pub(crate) fn side(time_ns: TimeNs, kind: SideKind) -> SideEvent {
    SideEvent { time_ns, cpu: None, kind }
}
