//! The pools of 1 GiB pages of the running kernel.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fragscope_trace::page::{Pfn, REGION_PAGES};

use super::{Host, ProbeError};
use crate::machine::read_zones;
use crate::proc::vmstat::read_meminfo;

const SIZE: &str = "hugepages-1048576kB";
const ALL_NODES: &str = "/sys/kernel/mm/hugepages";
const NODES: &str = "/sys/devices/system/node";
const KPAGEFLAGS: &str = "/proc/kpageflags";
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;
const HUGE: u64 = 1 << 17;

/// The running kernel.
#[derive(Debug)]
pub struct ThisHost {
    nodes: Vec<Option<u16>>,
    /// `nr_hugepages` of each pool.
    settings: Vec<PathBuf>,
    /// Behind the last frame of any zone.
    end: Pfn,
}

impl ThisHost {
    /// Finds the pools: one per node, or one for a kernel without NUMA.
    ///
    /// # Errors
    /// [`ProbeError::NoSuchSize`] where there are none.
    pub fn open() -> Result<ThisHost, ProbeError> {
        let zones = read_zones()?;
        let end = zones.iter().map(|zone| zone.span().end).max().unwrap_or(Pfn(0));
        let (nodes, settings) = pools(Path::new(NODES), Path::new(ALL_NODES))?;
        Ok(ThisHost { nodes, settings, end })
    }
}

/// Nodes with a pool, or the one pool of `all_nodes`.
fn pools(nodes: &Path, all_nodes: &Path) -> Result<(Vec<Option<u16>>, Vec<PathBuf>), ProbeError> {
    let setting = |folder: PathBuf| folder.join(SIZE).join("nr_hugepages");
    let mut found: Vec<(Option<u16>, PathBuf)> = names(nodes)
        .iter()
        .filter_map(|name| Some((name.strip_prefix("node")?.parse().ok()?, name)))
        .map(|(node, name)| (Some(node), setting(nodes.join(name).join("hugepages"))))
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    if found.is_empty() {
        found = vec![(None, setting(all_nodes.to_owned()))];
    }
    if !found[0].1.exists() {
        let sizes = names(all_nodes).join(", ");
        let found = if sizes.is_empty() { "no huge pages at all".to_owned() } else { sizes };
        return Err(ProbeError::NoSuchSize { found });
    }
    Ok(found.into_iter().unzip())
}

/// Names in a folder; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

impl Host for ThisHost {
    fn nodes(&self) -> &[Option<u16>] {
        &self.nodes
    }

    fn pool_pages(&self, pool: usize) -> io::Result<u64> {
        let text = fs::read_to_string(&self.settings[pool])?;
        text.trim().parse().map_err(io::Error::other)
    }

    fn resize(&self, pool: usize, pages: u64) -> io::Result<()> {
        fs::write(&self.settings[pool], pages.to_string())
    }

    fn pages_1g(&self) -> io::Result<BTreeSet<Pfn>> {
        let file = File::open(KPAGEFLAGS)?;
        let flags = |pfn: Pfn| -> io::Result<u64> {
            let mut word = [0; 8];
            let read = file.read_at(&mut word, pfn.0 * 8)?;
            Ok(if read == word.len() { u64::from_le_bytes(word) } else { 0 })
        };
        let regions = (0..self.end.0).step_by(REGION_PAGES as usize).map(Pfn);
        let test = |pfn: Pfn| Ok(is_1g(flags(pfn)?, flags(pfn.offset(REGION_PAGES / 2))?));
        regions.filter_map(|pfn| test(pfn).map(|yes| yes.then_some(pfn)).transpose()).collect()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let meminfo = read_meminfo().map_err(io::Error::other)?;
        let kib = meminfo.get("MemAvailable");
        kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no line MemAvailable"))
    }
}

/// Whether a 1 GiB page begins where the flags are `first`, by those of the frame in its middle:
/// of smaller huge pages one would begin there.
fn is_1g(first: u64, middle: u64) -> bool {
    first & (HUGE | COMPOUND_HEAD) == HUGE | COMPOUND_HEAD
        && middle & (HUGE | COMPOUND_TAIL) == HUGE | COMPOUND_TAIL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "0\n").unwrap();
        }
        dir
    }

    fn found(paths: &[&str]) -> Result<Vec<Option<u16>>, ProbeError> {
        let dir = folder(paths);
        pools(&dir.path().join("node"), &dir.path().join("mm")).map(|(nodes, _)| nodes)
    }

    #[test]
    fn each_node_has_a_pool() {
        let all = "mm/hugepages-1048576kB/nr_hugepages";
        let node = |n| format!("node/node{n}/hugepages/hugepages-1048576kB/nr_hugepages");
        let (ten, two) = (node(10), node(2));
        assert_eq!(found(&[all, &ten, &two, "node/possible"]).unwrap(), [Some(2), Some(10)]);
        assert_eq!(found(&[all]).unwrap(), [None]);
    }

    #[test]
    fn a_missing_size_is_said() {
        let error = found(&["mm/hugepages-2048kB/nr_hugepages"]).unwrap_err().to_string();
        assert!(error.contains("found hugepages-2048kB, expected"), "{error}");
        let error = found(&[]).unwrap_err().to_string();
        assert!(error.contains("no huge pages at all"), "{error}");
    }

    #[test]
    fn smaller_huge_pages_are_told_apart() {
        assert!(is_1g(HUGE | COMPOUND_HEAD, HUGE | COMPOUND_TAIL));
        assert!(!is_1g(HUGE | COMPOUND_HEAD, HUGE | COMPOUND_HEAD), "512 pages of 2 MiB");
        assert!(!is_1g(COMPOUND_HEAD, COMPOUND_TAIL), "no hugetlb page");
        assert!(!is_1g(HUGE | COMPOUND_TAIL, HUGE | COMPOUND_TAIL));
    }
}
