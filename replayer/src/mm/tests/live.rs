//! The formulas against the running kernel's own figures in /proc.

use std::fs;

use fragscope_trace::machine::ZoneKind;

use crate::mm::pcp_limits::zone_limits;
use crate::mm::settings::Settings;
use crate::mm::testing;
use crate::mm::watermark::{Tunables, lowmem_reserve, watermarks};

/// One populated zone as /proc/zoneinfo prints it.
#[derive(Debug, Default)]
struct ZoneInfo {
    node: u16,
    kind: Option<ZoneKind>,
    managed: u64,
    /// Added to each mark that is printed.
    boost: u64,
    marks: [u64; 3],
    protection: Vec<u64>,
    /// batch, high_min, high_max of the first pageset.
    pageset: Vec<u64>,
    cpus: u64,
}

fn zoneinfo() -> Option<Vec<ZoneInfo>> {
    let text = fs::read_to_string("/proc/zoneinfo").ok()?;
    let mut zones: Vec<ZoneInfo> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Node ") {
            let (node, name) = rest.split_once(", zone")?;
            let kind = ZoneKind::from_name(name.trim());
            zones.push(ZoneInfo { node: node.parse().ok()?, kind, ..ZoneInfo::default() });
            continue;
        }
        let Some(zone) = zones.last_mut() else { continue };
        let line = line.trim();
        let Some((name, value)) = line.split_once([' ', ':']) else { continue };
        let value = value.trim_start_matches(':').trim();
        let number = || value.parse().unwrap_or(0);
        match name {
            "boost" => zone.boost = number(),
            "min" => zone.marks[0] = number(),
            "low" => zone.marks[1] = number(),
            "high" if zone.cpus == 0 => zone.marks[2] = number(),
            "managed" => zone.managed = number(),
            "cpu" => zone.cpus += 1,
            "batch" | "high_min" | "high_max" if zone.cpus == 1 => zone.pageset.push(number()),
            "protection" => {
                let list = value.trim_matches(['(', ')']).split(", ");
                zone.protection = list.filter_map(|n| n.parse().ok()).collect();
            }
            _ => {}
        }
    }
    zones.retain(|zone| zone.managed > 0 && zone.kind.is_some());
    Some(zones)
}

fn sysctl(name: &str) -> Option<i64> {
    fs::read_to_string(format!("/proc/sys/vm/{name}")).ok()?.trim().parse().ok()
}

/// Kernels before 6.7 have no self-tuning of `high`, and their zoneinfo no `high_min`. The test
/// needs nothing but /proc, so it runs wherever Linux does.
#[test]
fn the_running_kernel_agrees() {
    let Some(zones) = zoneinfo().filter(|zones| !zones.is_empty()) else { return };
    let mut machine = testing::machine(9, &[(0, ZoneKind::Normal, 0, 1)]);
    for name in ["min_free_kbytes", "watermark_scale_factor", "percpu_pagelist_high_fraction"] {
        if let Some(value) = sysctl(name) {
            machine.sysctls.insert(name.to_owned(), value);
        }
    }
    let tunables = Tunables::new(&machine, &Settings::default());
    let low = zones.iter().filter(|zone| zone.kind != Some(ZoneKind::Movable));
    let lowmem = low.map(|zone| zone.managed).sum();
    for zone in &zones {
        let Some(kind) = zone.kind else { continue };
        let marks = watermarks(kind, zone.managed, lowmem, &tunables);
        let boosted = [marks.min, marks.low, marks.high].map(|mark| mark + zone.boost);
        assert_eq!(zone.marks, boosted, "watermarks of {zone:?}");
        let mut of_node = [0; 4];
        for other in zones.iter().filter(|other| other.node == zone.node) {
            of_node[other.kind.map_or(0, |k| k as usize)] = other.managed;
        }
        let reserve = lowmem_reserve(kind, &of_node);
        assert_eq!(zone.protection[..4], reserve, "protection of {zone:?}");
        if let [batch, high_min, high_max] = zone.pageset[..] {
            let limits = zone_limits(zone.managed, marks.low, tunables.high_fraction, zone.cpus);
            let own = [limits.batch, limits.high_min, limits.high_max].map(u64::from);
            assert_eq!([batch, high_min, high_max], own, "pageset of {zone:?}");
        }
    }
}
