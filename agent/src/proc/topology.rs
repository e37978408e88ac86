//! CPUs, their nodes and their caches, from `/sys/devices/system`.

use std::path::Path;

use fragscope_trace::machine::Cpu;
use fragscope_trace::page::CpuId;

use super::ProcError;

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";
/// Ids above this are taken for damage rather than for CPUs.
const ID_MAX: u32 = 65_535;

/// Reads the possible CPUs of this host.
///
/// # Errors
/// If the kernel's lists cannot be read or understood.
pub fn read_cpus() -> Result<Vec<Cpu>, ProcError> {
    let possible = read_list(&format!("{CPUS}/possible"))?;
    let online = read_list(&format!("{CPUS}/online"))?;
    let nodes = read_nodes()?;
    let node_of =
        |id: u16| nodes.iter().find(|(_, cpus)| cpus.contains(&id)).map_or(0, |(node, _)| *node);
    let cpu = |id: u16| Cpu { id: CpuId(id), node: node_of(id), online: online.contains(&id) };
    Ok(possible.into_iter().map(cpu).collect())
}

/// (node, its CPUs). A kernel without NUMA has one node with no entry.
fn read_nodes() -> Result<Vec<(u16, Vec<u16>)>, ProcError> {
    if !Path::new(NODES).exists() {
        return Ok(Vec::new());
    }
    let nodes = read_list(&format!("{NODES}/online"))?;
    nodes.into_iter().map(|n| Ok((n, read_list(&format!("{NODES}/node{n}/cpulist"))?))).collect()
}

fn read_list(path: &str) -> Result<Vec<u16>, ProcError> {
    let text = super::read(path)?;
    parse_list(&text)
        .ok_or_else(|| ProcError::parse("a list of ids", 1, "ids and ranges such as 0-3,8", &text))
}

/// Parses the kernel's format of sets: `0-3,8`; a line without ids is the empty set.
#[must_use]
pub fn parse_list(text: &str) -> Option<Vec<u16>> {
    let mut ids = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if first > last || last > ID_MAX {
            return None;
        }
        ids.extend((first..=last).map(|id| id as u16));
    }
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

/// The data cache that one CPU may call its own, in bytes: the size of its unified or data cache
/// of the highest level, divided by the CPUs that share it. The kernel compares it with a batch
/// of pages to choose how much a per-CPU list frees at once (`per_cpu_cacheinfo.data_slice_size`).
/// `None` where the host does not show its caches.
#[must_use]
pub fn read_cache_slice_bytes(cpu: CpuId) -> Option<u64> {
    let caches = format!("{CPUS}/cpu{}/cache", cpu.0);
    let entries = std::fs::read_dir(caches).ok()?;
    let read = |path: &Path, file| super::read(path.join(file)).ok();
    let caches = entries.filter_map(Result::ok).filter_map(|entry| {
        let path = entry.path();
        if read(&path, "type")?.trim() == "Instruction" {
            return None;
        }
        let level: u32 = read(&path, "level")?.trim().parse().ok()?;
        let sharers = parse_list(&read(&path, "shared_cpu_list")?)?.len().max(1) as u64;
        Some((level, parse_size(&read(&path, "size")?)? / sharers))
    });
    caches.max().map(|(_, bytes)| bytes)
}

/// Parses `1024K` or `32M`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(['K', 'M']);
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_and_sizes() {
        assert_eq!(parse_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("\n"), Some(vec![]));
        assert_eq!((parse_list("3-1"), parse_list("0-99999999")), (None, None));
        assert_eq!((parse_size("1024K\n"), parse_size("2M")), (Some(1 << 20), Some(2 << 20)));
        assert_eq!((parse_size("1KM"), parse_size("99999999999999999M")), (None, None));
    }

    proptest! {
        #[test]
        fn lists_ascend(text in "([0-9]{1,5}(-[0-9]{1,5})?,?){0,6}") {
            if let Some(ids) = parse_list(&text) {
                prop_assert!(ids.windows(2).all(|w| w[0] < w[1]));
            }
        }
    }

    #[test]
    fn this_host_has_an_online_cpu() {
        assert!(read_cpus().unwrap().iter().any(|cpu| cpu.online));
    }
}
