//! The series' debugfs file `superpageblocks`: printed from the model, and parsed, so that a
//! model and a patched kernel compare line by line.
//!
//! Each populated zone has a header, the lists that are not empty, and a line for each
//! superpageblock:
//!
//! ```text
//! Node 0, zone Normal: 2 superpageblocks, base_pfn=0x100000
//!   empty: 1
//!   tainted/75pct: 1
//!   sb[0] pfn=0x100000: unmov=400 recl=2 mov=100 rsv=0 free=10 total=512 free_pages=6000
//!   sb[1] pfn=0x140000: unmov=0 recl=0 mov=0 rsv=0 free=512 total=512 free_pages=262144
//! ```
//!
//! A superpageblock that one contiguous allocation holds says `contig_allocated` instead of its
//! counters.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use thiserror::Error;

use crate::mm::buddy::Buddy;
use crate::mm::flavour::Flavour;

use super::category::{Category, Counts, Fullness};
use super::geometry::SpbId;
use super::lists::ListName;
use super::placement::Spb;
use super::zone::SpbZone;

/// One zone of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DebugfsZone {
    /// Node id.
    pub node: u16,
    /// Name of the zone.
    pub zone: String,
    /// `superpageblock_base_pfn`
    pub base_pfn: u64,
    /// Superpageblocks on each list that is not empty, by the list's name.
    pub lists: BTreeMap<String, u32>,
    /// All superpageblocks, by position.
    pub superpageblocks: Vec<DebugfsSpb>,
}

/// One superpageblock of the file. Counters but for `free_pages` are pageblocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DebugfsSpb {
    /// First pfn.
    pub pfn: u64,
    /// Whether one contiguous allocation holds it; then all counters but `total` are 0.
    pub contig_allocated: bool,
    /// `nr_unmovable`
    pub unmovable: u32,
    /// `nr_reclaimable`
    pub reclaimable: u32,
    /// `nr_movable`
    pub movable: u32,
    /// `nr_reserved`
    pub reserved: u32,
    /// `nr_free`
    pub free: u32,
    /// `total_pageblocks`
    pub total: u32,
    /// `nr_free_pages`
    pub free_pages: u32,
}

/// A line that is not of this format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: expected {expected}, found {found:?}")]
pub struct DebugfsError {
    /// Counted from 1.
    pub line: usize,
    /// What could stand there.
    pub expected: &'static str,
    /// What stands there.
    pub found: String,
}

/// Name of a list in the file; the ten others are `category/fullness`.
fn list_label(list: ListName) -> String {
    match list {
        ListName::Empty => "empty".to_owned(),
        ListName::Isolated => "contig_alloc".to_owned(),
        ListName::Of(category, fullness) => format!("{}/{}", category.name(), fullness.name()),
    }
}

/// Lists in the order of the file.
fn lists() -> impl Iterator<Item = ListName> {
    let of = |category| Fullness::ALL.into_iter().map(move |f| ListName::Of(category, f));
    let first = [ListName::Empty, ListName::Isolated];
    first.into_iter().chain(Category::ALL.into_iter().flat_map(of))
}

/// The state of every zone that has superpageblocks.
pub fn state<F: Flavour>(buddy: &Buddy<F, Spb<F>>) -> Vec<DebugfsZone> {
    let zones = buddy.zones.iter().zip(buddy.placement.zones());
    let populated = zones.filter(|(_, spbs)| !spbs.is_empty());
    populated
        .map(|(zone, spbs)| DebugfsZone {
            node: buddy.geometry.nodes[usize::from(zone.node)].id,
            zone: zone.kind.name().to_owned(),
            base_pfn: spbs.geometry().base().into(),
            lists: lists()
                .map(|list| (list_label(list), spbs.lists().len(list)))
                .filter(|(_, len)| *len > 0)
                .collect(),
            superpageblocks: (0..spbs.len()).map(|spb| one(spbs, SpbId(spb))).collect(),
        })
        .collect()
}

fn one<F: Flavour>(spbs: &SpbZone<F>, id: SpbId) -> DebugfsSpb {
    let pfn = spbs.geometry().spb_start(id).into();
    let Counts { free, unmovable, reclaimable, movable, reserved, total, contig_allocated } =
        spbs.spb(id).counts();
    if contig_allocated {
        return DebugfsSpb { pfn, contig_allocated, total, ..DebugfsSpb::default() };
    }
    let free_pages = spbs.spb(id).free_pages();
    DebugfsSpb {
        pfn,
        contig_allocated,
        unmovable,
        reclaimable,
        movable,
        reserved,
        free,
        total,
        free_pages,
    }
}

/// Prints zones in the format of the file.
#[must_use]
pub fn print(zones: &[DebugfsZone]) -> String {
    let mut text = String::new();
    for zone in zones {
        print_zone(&mut text, zone);
    }
    text
}

fn print_zone(text: &mut String, zone: &DebugfsZone) {
    let DebugfsZone { node, zone: name, base_pfn, lists: counts, superpageblocks } = zone;
    let count = superpageblocks.len();
    // Writing to a string cannot fail.
    let _ =
        writeln!(text, "Node {node}, zone {name}: {count} superpageblocks, base_pfn={base_pfn:#x}");
    for label in lists().map(list_label) {
        if let Some(len) = counts.get(&label) {
            let _ = writeln!(text, "  {label}: {len}");
        }
    }
    for (i, spb) in superpageblocks.iter().enumerate() {
        let _ = write!(text, "  sb[{i}] pfn={:#x}: ", spb.pfn);
        let _ = if spb.contig_allocated {
            writeln!(text, "contig_allocated total={}", spb.total)
        } else {
            let DebugfsSpb { unmovable, reclaimable, movable, .. } = spb;
            let DebugfsSpb { reserved, free, total, free_pages, .. } = spb;
            writeln!(
                text,
                "unmov={unmovable} recl={reclaimable} mov={movable} rsv={reserved} free={free} \
                 total={total} free_pages={free_pages}"
            )
        };
    }
}

/// Parses the file.
///
/// # Errors
/// The first line that is not of the format.
pub fn parse(text: &str) -> Result<Vec<DebugfsZone>, DebugfsError> {
    let mut zones: Vec<DebugfsZone> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let error = |expected| DebugfsError {
            line: index + 1,
            expected,
            found: trimmed.chars().take(80).collect(),
        };
        if trimmed.is_empty() {
            continue;
        }
        if trimmed.starts_with("Node ") {
            zones.push(parse_header(trimmed).ok_or_else(|| {
                error("`Node N, zone NAME: COUNT superpageblocks, base_pfn=HEX`")
            })?);
            continue;
        }
        let zone = zones.last_mut().ok_or_else(|| error("a line that begins with `Node `"))?;
        if trimmed.starts_with("sb[") {
            let at = zone.superpageblocks.len();
            let spb = parse_spb(trimmed, at)
                .ok_or_else(|| error("`sb[I] pfn=HEX: unmov=N .. total=N free_pages=N`"))?;
            zone.superpageblocks.push(spb);
        } else {
            let (label, len) =
                parse_list(trimmed).ok_or_else(|| error("`LIST: COUNT` or `sb[I] ..`"))?;
            zone.lists.insert(label, len);
        }
    }
    Ok(zones)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

fn parse_header(line: &str) -> Option<DebugfsZone> {
    let (node, rest) = line.strip_prefix("Node ")?.split_once(", zone ")?;
    let (zone, rest) = rest.split_once(':')?;
    let base = rest.split_once("base_pfn=")?.1;
    Some(DebugfsZone {
        node: node.trim().parse().ok()?,
        zone: zone.trim().to_owned(),
        base_pfn: hex(base.trim())?,
        ..DebugfsZone::default()
    })
}

fn parse_list(line: &str) -> Option<(String, u32)> {
    let (label, len) = line.split_once(": ")?;
    let known = lists().map(list_label).any(|name| name == label);
    if known { Some((label.to_owned(), len.trim().parse().ok()?)) } else { None }
}

fn parse_spb(line: &str, at: usize) -> Option<DebugfsSpb> {
    let (index, rest) = line.strip_prefix("sb[")?.split_once(']')?;
    if index.parse() != Ok(at) {
        return None;
    }
    let (pfn, rest) = rest.trim().strip_prefix("pfn=")?.split_once(':')?;
    let mut spb = DebugfsSpb { pfn: hex(pfn)?, ..DebugfsSpb::default() };
    for word in rest.split_whitespace() {
        if word == "contig_allocated" {
            spb.contig_allocated = true;
            continue;
        }
        let (name, value) = word.split_once('=')?;
        let field = match name {
            "unmov" => &mut spb.unmovable,
            "recl" => &mut spb.reclaimable,
            "mov" => &mut spb.movable,
            "rsv" => &mut spb.reserved,
            "free" => &mut spb.free,
            "total" => &mut spb.total,
            "free_pages" => &mut spb.free_pages,
            _ => return None,
        };
        *field = value.parse().ok()?;
    }
    Some(spb)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "\
Node 0, zone Normal: 2 superpageblocks, base_pfn=0x100000
  contig_alloc: 1
  tainted/75pct: 1
  sb[0] pfn=0x100000: unmov=400 recl=2 mov=100 rsv=0 free=10 total=512 free_pages=6000
  sb[1] pfn=0x140000: contig_allocated total=512
";

    #[test]
    fn prints_what_it_parsed() {
        let zones = parse(FILE).unwrap();
        assert_eq!(print(&zones), FILE);
        assert_eq!((zones[0].node, zones[0].base_pfn), (0, 0x10_0000));
        assert_eq!(zones[0].lists["tainted/75pct"], 1);
        let [first, second] = zones[0].superpageblocks[..] else { panic!("two lines") };
        assert_eq!((first.unmovable, first.free, first.free_pages), (400, 10, 6000));
        assert!(second.contig_allocated && second.total == 512);
    }

    #[test]
    fn mistakes_name_line_and_format() {
        let error = parse("Node 0, zone Normal: 1 superpageblocks, base_pfn=0\n  odd: 3\n");
        let text = error.unwrap_err().to_string();
        assert!(text.contains("line 2") && text.contains("odd: 3"), "{text}");
        assert!(parse("sb[0] pfn=0: free=1").is_err(), "no zone yet");
        let gap = "Node 0, zone DMA: 1 superpageblocks, base_pfn=0\nsb[1] pfn=0: free=1";
        assert!(parse(gap).is_err(), "the first one is missing");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(Node |sb\\[|[ -~\n]){0,200}") {
            let _ = parse(&text);
        }
    }
}
