//! Rules that every machine and snapshot in a trace keeps.
//!
//! Consumers size tables by spans and walk runs in order; the writer refuses what breaks these
//! rules and the reader does not deliver it, so nobody else needs to look.

use std::fmt;

use thiserror::Error;

use crate::machine::{Machine, Watermarks, Zone};
use crate::page::{MAX_EVENT_ORDER, PAGE_SIZE, Pfn, PfnRange};
use crate::snapshot::{PageRun, Snapshot};

/// One past the largest pfn of a zone, run or range: physical addresses have 64 bits at most.
pub const MAX_PFN: u64 = 1 << 52;
/// Most pages that all zones of a machine span together, and most of any count of pages, so that
/// sums over zones and CPUs do not overflow: 1 PiB.
pub const MAX_SPANNED_PAGES: u64 = 1 << 38;
/// Most zones of a machine.
pub const MAX_ZONES: usize = 4096;

/// A rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: found {found}, expected {expected}")]
pub struct Broken {
    /// What was looked at.
    pub what: String,
    /// What it is.
    pub found: String,
    /// What it must be.
    pub expected: String,
}

fn require(
    holds: bool,
    what: impl FnOnce() -> String,
    found: &dyn fmt::Display,
    expected: &dyn fmt::Display,
) -> Result<(), Broken> {
    if holds {
        return Ok(());
    }
    Err(Broken { what: what(), found: found.to_string(), expected: expected.to_string() })
}

/// The end of `pages` pages from `start`, if it is no further than [`MAX_PFN`].
fn end_of(what: &str, start: Pfn, pages: u64) -> Result<Pfn, Broken> {
    let end = start.0.checked_add(pages).filter(|end| *end <= MAX_PFN);
    let found = || format!("{pages} pages from {start}");
    end.map(Pfn).ok_or_else(|| Broken {
        what: what.to_owned(),
        found: found(),
        expected: format!("an end of at most {MAX_PFN:#x}"),
    })
}

/// Checks the geometry of a machine.
pub fn check_machine(machine: &Machine) -> Result<(), Broken> {
    let size = machine.page_size;
    require(size == PAGE_SIZE, || "page size".into(), &size, &PAGE_SIZE)?;
    for (name, order) in
        [("pageblock order", machine.pageblock_order), ("max page order", machine.max_page_order)]
    {
        let limit = format!("at most {MAX_EVENT_ORDER}");
        require(order <= MAX_EVENT_ORDER, || name.into(), &order, &limit)?;
    }
    let zones = machine.zones.len();
    require(zones <= MAX_ZONES, || "zones".into(), &zones, &format_args!("at most {MAX_ZONES}"))?;
    let mut spanned = 0u64;
    for zone in &machine.zones {
        end_of(&zone.label(), zone.start_pfn, zone.spanned_pages)?;
        check_counts(zone)?;
        spanned = spanned.saturating_add(zone.spanned_pages);
    }
    let limit = format!("at most {MAX_SPANNED_PAGES}");
    require(spanned <= MAX_SPANNED_PAGES, || "spanned pages".into(), &spanned, &limit)?;
    for (index, range) in machine.ram.iter().enumerate() {
        check_range(&format!("RAM range {index}"), *range)?;
    }
    Ok(())
}

fn check_counts(zone: &Zone) -> Result<(), Broken> {
    let Watermarks { min, low, high, promo } = zone.watermarks;
    let sizes = [zone.present_pages, zone.managed_pages, zone.free_pages, zone.watermark_boost];
    let cached = zone.pagesets.iter().map(|pageset| pageset.count);
    let largest = sizes.into_iter().chain([min, low, high, promo]).chain(cached).max();
    let largest = largest.unwrap_or(0);
    let what = || format!("largest count of {}", zone.label());
    let limit = format!("at most {MAX_SPANNED_PAGES} pages");
    require(largest <= MAX_SPANNED_PAGES, what, &largest, &limit)
}

fn check_range(what: &str, range: PfnRange) -> Result<(), Broken> {
    let (start, end) = (range.start.0, range.end.0);
    let found = format_args!("{start:#x}..{end:#x}");
    let expected = format_args!("start <= end <= {MAX_PFN:#x}");
    require(start <= end && end <= MAX_PFN, || what.to_owned(), &found, &expected)
}

/// Checks a snapshot: its machine, and that its parts ascend without overlap.
pub fn check_snapshot(snapshot: &Snapshot) -> Result<(), Broken> {
    check_machine(&snapshot.machine)?;
    check_runs(&snapshot.runs)?;
    check_ascending("chunk", snapshot.chunks.iter().map(|chunk| chunk.range))?;
    check_ascending("pageblock run", snapshot.pageblocks.iter().map(|(range, _)| *range))?;
    for (index, list) in snapshot.lists.iter().enumerate() {
        let zones = snapshot.machine.zones.len();
        let zone = usize::from(list.zone);
        require(
            zone < zones && list.order <= MAX_EVENT_ORDER,
            || format!("list {index}"),
            &format_args!("zone {zone}, order {}", list.order),
            &format_args!("one of {zones} zones, order at most {MAX_EVENT_ORDER}"),
        )?;
    }
    Ok(())
}

fn check_runs(runs: &[PageRun]) -> Result<(), Broken> {
    let mut last = Pfn(0);
    for (index, run) in runs.iter().enumerate() {
        let end = end_of("page run", run.start, run.pages)?;
        let aligned = || (run.start.0 | run.pages) & ((1 << run.order) - 1) == 0;
        let holds = run.start >= last && run.pages > 0 && run.order <= MAX_EVENT_ORDER && aligned();
        require(
            holds,
            || format!("page run {index}"),
            &format_args!("{} pages of order {} at {}", run.pages, run.order, run.start),
            &format_args!("whole aligned blocks at {last} or higher"),
        )?;
        last = end;
    }
    Ok(())
}

fn check_ascending(what: &str, ranges: impl Iterator<Item = PfnRange>) -> Result<(), Broken> {
    let mut last = Pfn(0);
    for (index, range) in ranges.enumerate() {
        let name = || format!("{what} {index}");
        check_range(&name(), range)?;
        require(range.start >= last, name, &range.start, &format_args!("{last} or higher"))?;
        last = range.end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Content, Migratetype};

    fn run(start: u64, pages: u64, order: u8) -> PageRun {
        let (content, migratetype) = (Content::Free, Migratetype::Movable);
        PageRun { start: Pfn(start), pages, content, order, migratetype }
    }

    #[test]
    fn runs_are_whole_aligned_blocks_in_order() {
        assert_eq!(check_runs(&[run(0, 4, 2), run(4, 1, 0), run(8, 16, 3)]), Ok(()));
        let broken = [
            vec![run(4, 4, 0), run(7, 1, 0)],
            vec![run(2, 4, 2)],
            vec![run(0, 6, 2)],
            vec![run(0, 0, 0)],
            vec![run(0, 1 << 31, 31)],
            vec![run(u64::MAX, 1, 0)],
            vec![run(0, MAX_PFN + 1, 0)],
        ];
        for runs in broken {
            assert!(check_runs(&runs).is_err(), "{runs:?}");
        }
        let error = check_runs(&[run(4, 4, 0), run(7, 1, 0)]).unwrap_err().to_string();
        let expected = "page run 1: found 1 pages of order 0 at 0x7, expected whole aligned blocks \
                        at 0x8 or higher";
        assert_eq!(error, expected);
    }

    #[test]
    fn ranges_ascend() {
        let range = |start, end| PfnRange { start: Pfn(start), end: Pfn(end) };
        let check = |ranges: &[PfnRange]| check_ascending("chunk", ranges.iter().copied());
        assert_eq!(check(&[range(0, 5), range(5, 5), range(9, 10)]), Ok(()));
        assert!(check(&[range(0, 5), range(4, 6)]).is_err());
        assert!(check(&[range(5, 4)]).is_err());
        assert!(check(&[range(0, MAX_PFN + 1)]).is_err());
    }
}
