//! Geometry and settings of this host.

use std::sync::OnceLock;

use fragscope_trace::machine::{Machine, Zone};
use fragscope_trace::page::{MAX_PAGE_ORDER, PAGE_SIZE, PAGEBLOCK_ORDER};

use crate::proc::{self, ProcError, buddyinfo, iomem, pagetypeinfo, settings, topology, zoneinfo};

/// Reads this host's geometry and settings. Counters inside (free pages, pagesets) are those of
/// the moment.
///
/// What only root may read is left at its usual value for others: the pageblock order at 9, the
/// list of RAM empty.
///
/// # Errors
/// If a file that every kernel has cannot be read or understood.
pub fn read_machine() -> Result<Machine, ProcError> {
    let uts = |name| Ok(proc::read(format!("/proc/sys/kernel/{name}"))?.trim().to_owned());
    let cpus = topology::read_cpus()?;
    let zones = read_zones()?;
    let orders = zones.iter().map(|z| z.buddy_blocks.len()).max().unwrap_or(0);
    Ok(Machine {
        hostname: uts("hostname")?,
        kernel_release: uts("osrelease")?,
        arch: std::env::consts::ARCH.to_owned(),
        page_size: PAGE_SIZE,
        pageblock_order: pageblock_order(),
        max_page_order: orders.checked_sub(1).map_or(MAX_PAGE_ORDER, |order| order as u8),
        facts: settings::read_facts(&cpus),
        cpus,
        zones,
        ram: iomem::read()?,
        sysctls: settings::read_sysctls(),
    })
}

/// Read once: it never changes, and for this file the kernel walks all free lists with its locks
/// held.
fn pageblock_order() -> u8 {
    static ORDER: OnceLock<u8> = OnceLock::new();
    if let Some(order) = ORDER.get() {
        return *order;
    }
    match pagetypeinfo::read() {
        Ok(info) => *ORDER.get_or_init(|| info.pageblock_order),
        Err(_) => PAGEBLOCK_ORDER,
    }
}

/// CPUs that this host can have: one more than the highest id.
#[must_use]
pub fn possible_cpus() -> u32 {
    let last = topology::read_cpus().ok().and_then(|cpus| cpus.last().map(|cpu| cpu.id));
    let online = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    last.map_or_else(online, |id| u32::from(id.0) + 1)
}

/// Reads the zones with their free blocks, by node and then by zone index.
///
/// # Errors
/// If `/proc/zoneinfo` or `/proc/buddyinfo` cannot be read or understood.
pub fn read_zones() -> Result<Vec<Zone>, ProcError> {
    let mut zones = zoneinfo::read()?;
    let blocks = buddyinfo::read()?;
    for zone in &mut zones {
        let found = blocks.iter().find(|b| (b.node, b.kind) == (zone.node, zone.kind));
        zone.buddy_blocks = found.map(|b| b.blocks.clone()).unwrap_or_default();
    }
    zones.sort_by_key(|zone| (zone.node, zone.kind));
    Ok(zones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_described() {
        let machine = read_machine().unwrap();
        assert!(machine.kernel_version().is_some());
        assert!(machine.managed_pages() > 0);
        for zone in &machine.zones {
            assert_eq!(zone.buddy_blocks.len(), usize::from(machine.max_page_order) + 1);
            assert!(!zone.pagesets.is_empty(), "{}", zone.label());
        }
    }
}
