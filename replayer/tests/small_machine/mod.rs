//! Machines of a few pages, for tests of concurrency.

use std::collections::BTreeMap;

use fragscope_trace::machine::{Cpu, Machine, Zone, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole, SnapshotSource};

/// A machine with one zone, and all of its CPUs on one node.
pub(crate) fn machine(pages: u64, block_order: u8, max_order: u8, cpus: u16) -> Machine {
    let zone = Zone::new(0, ZoneKind::Normal, PfnRange::new(Pfn(0), pages));
    Machine {
        hostname: "small".into(),
        kernel_release: "6.18.0".into(),
        arch: "x86_64".into(),
        page_size: 4096,
        pageblock_order: block_order,
        max_page_order: max_order,
        cpus: (0..cpus).map(|id| Cpu { id: CpuId(id), node: 0, online: true }).collect(),
        zones: vec![zone],
        ram: vec![PfnRange::new(Pfn(0), pages)],
        sysctls: BTreeMap::from([("min_free_kbytes".to_owned(), 0)]),
        facts: BTreeMap::new(),
    }
}

/// A snapshot of the machine with every page free.
pub(crate) fn all_free(machine: &Machine) -> Snapshot {
    let pages = machine.zones[0].spanned_pages;
    let run = PageRun {
        start: Pfn(0),
        pages,
        content: Content::Free,
        order: 0,
        migratetype: Migratetype::Movable,
    };
    Snapshot {
        source: SnapshotSource::Synthetic,
        role: SnapshotRole::Opening,
        begin_ns: 0,
        end_ns: 0,
        machine: machine.clone(),
        chunks: Vec::new(),
        runs: vec![run],
        pageblocks: Vec::new(),
        lists: Vec::new(),
        notes: Vec::new(),
    }
}
