//! Readers of `/proc` and `/sys`.
//!
//! Each file has a parser, a pure function of its text. A parser names the line that it did not
//! understand; fields that newer kernels add are skipped.

pub mod buddyinfo;
pub mod iomem;
pub mod pagetypeinfo;
pub mod settings;
pub mod topology;
pub mod vmstat;
pub mod zoneinfo;

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::privileges::held;

/// Why a file of `/proc` or `/sys` could not be used.
#[derive(Debug, Error)]
pub enum ProcError {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It holds something unexpected.
    #[error("{file}, line {line}: expected {expected}, found {found:?}")]
    Parse {
        /// Name of the file.
        file: &'static str,
        /// Line, counted from 1; 0 for the file as a whole.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is there, cut to a readable length.
        found: String,
    },
}

impl ProcError {
    fn parse(file: &'static str, line: usize, expected: &'static str, found: &str) -> ProcError {
        let found = found.trim().chars().take(80).collect();
        ProcError::Parse { file, line, expected, found }
    }
}

/// Reads a whole file as text, also one that is held open; bytes that are not UTF-8 are replaced.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String, ProcError> {
    let path = path.as_ref();
    let failed = |source| ProcError::Io { path: path.display().to_string(), source };
    let bytes = held::read(path).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Parses `Node 0, zone   Normal` at the beginning of a line; gives node, zone name and rest.
fn node_and_zone(line: &str) -> Option<(u16, &str, &str)> {
    let (node, rest) = line.strip_prefix("Node")?.split_once(", zone")?;
    let rest = rest.trim_start();
    let name_len = rest.find([' ', ',']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(name_len);
    Some((node.trim().parse().ok()?, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_named_alike_everywhere() {
        assert_eq!(node_and_zone("Node 0, zone      DMA"), Some((0, "DMA", "")));
        assert_eq!(node_and_zone("Node    12, zone   Normal, type X"), {
            Some((12, "Normal", ", type X"))
        });
        assert_eq!(node_and_zone("Node x, zone DMA"), None);
        assert_eq!(node_and_zone(""), None);
    }
}
