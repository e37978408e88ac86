//! Hosts made up for tests.

use std::collections::BTreeMap;

use fragscope_trace::machine::{Cpu, Machine, Pageset, Zone, ZoneKind};
use fragscope_trace::page::{CpuId, Pfn, PfnRange};

/// A zone without free pages.
pub(crate) fn zone(kind: ZoneKind, start: u64, pages: u64) -> Zone {
    Zone {
        lowmem_reserve: vec![0; 4],
        buddy_blocks: vec![0; 11],
        pagesets: (0..2).map(|id| Pageset { cpu: CpuId(id), ..Pageset::default() }).collect(),
        ..Zone::new(0, kind, PfnRange::new(Pfn(start), pages))
    }
}

/// A host with one zone of `pages` from frame 0, all of it RAM, and two CPUs.
pub(crate) fn machine(pages: u64) -> Machine {
    Machine {
        hostname: "made-up".to_owned(),
        kernel_release: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        page_size: 4096,
        pageblock_order: 9,
        max_page_order: 10,
        cpus: (0..2).map(|id| Cpu { id: CpuId(id), node: 0, online: true }).collect(),
        zones: vec![zone(ZoneKind::Normal, 0, pages)],
        ram: vec![PfnRange::new(Pfn(0), pages)],
        sysctls: BTreeMap::new(),
        facts: BTreeMap::new(),
    }
}
