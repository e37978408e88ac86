//! Settings that steer the allocator: `/proc/sys/vm`, transparent huge pages, the command line.

use std::collections::BTreeMap;

use fragscope_trace::machine::Cpu;

use super::topology;

/// Settings under `/proc/sys/vm` that change what the page allocator, compaction or reclaim do.
/// `lowmem_reserve_ratio` is a list and travels as a fact.
const SYSCTLS: [&str; 15] = [
    "compact_unevictable_allowed",
    "compaction_proactiveness",
    "defrag_mode",
    "extfrag_threshold",
    "hugetlb_optimize_vmemmap",
    "min_free_kbytes",
    "min_slab_ratio",
    "min_unmapped_ratio",
    "nr_hugepages",
    "nr_overcommit_hugepages",
    "percpu_pagelist_high_fraction",
    "swappiness",
    "watermark_boost_factor",
    "watermark_scale_factor",
    "zone_reclaim_mode",
];

/// Facts that are the text of one file.
const FACT_FILES: [(&str, &str); 6] = [
    ("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ("lowmem_reserve_ratio", "/proc/sys/vm/lowmem_reserve_ratio"),
    ("thp_defrag", "/sys/kernel/mm/transparent_hugepage/defrag"),
    ("thp_enabled", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("thp_shmem", "/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
    ("khugepaged_defrag", "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag"),
];

/// Kernel parameters that change how memory reaches the allocator.
const BOOT_PARAMETERS: [&str; 6] = [
    "deferred_init",
    "hugetlb_cma",
    "kernelcore",
    "movablecore",
    "page_alloc.shuffle",
    "page_reporting.page_reporting_order",
];

/// Reads the settings of this host. One that this kernel lacks is left out.
#[must_use]
pub fn read_sysctls() -> BTreeMap<String, i64> {
    let value =
        |name: &str| super::read(format!("/proc/sys/vm/{name}")).ok()?.trim().parse::<i64>().ok();
    SYSCTLS.into_iter().filter_map(|name| Some((name.to_owned(), value(name)?))).collect()
}

/// Reads other facts of this host. One that this kernel does not show is left out.
#[must_use]
pub fn read_facts(cpus: &[Cpu]) -> BTreeMap<String, String> {
    let chosen_of = |(name, path): (&str, &str)| {
        let text = super::read(path).ok()?;
        Some((name.to_owned(), chosen(&text).unwrap_or(text.trim()).to_owned()))
    };
    let mut facts: BTreeMap<_, _> = FACT_FILES.into_iter().filter_map(chosen_of).collect();
    facts.extend(boot_parameters(&super::read("/proc/cmdline").unwrap_or_default()));
    let slice = cpus.iter().find(|cpu| cpu.online);
    if let Some(bytes) = slice.and_then(|cpu| topology::read_cache_slice_bytes(cpu.id)) {
        facts.insert("cpu_cache_slice_bytes".to_owned(), bytes.to_string());
    }
    facts
}

/// Of `always [madvise] never`, what is in brackets.
fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

/// Parameters of interest on a kernel command line; the last of several wins, as in the kernel.
fn boot_parameters(line: &str) -> BTreeMap<String, String> {
    let known = |word: &str| {
        let (name, value) = word.split_once('=')?;
        BOOT_PARAMETERS.contains(&name).then(|| (name.to_owned(), value.to_owned()))
    };
    line.split_whitespace().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_mode_is_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
        assert_eq!((chosen("tsc"), chosen("]x["), chosen("[x")), (None, None, None));
    }

    #[test]
    fn the_last_parameter_wins() {
        let facts = boot_parameters("quiet kernelcore=1G root=/x kernelcore=2G deferred_init=lazy");
        let expected = [("deferred_init", "lazy"), ("kernelcore", "2G")];
        assert!(facts.iter().map(|(k, v)| (&k[..], &v[..])).eq(expected));
    }

    #[test]
    fn this_host_has_the_settings_every_kernel_has() {
        assert!(read_sysctls()["min_free_kbytes"] > 0);
    }
}
