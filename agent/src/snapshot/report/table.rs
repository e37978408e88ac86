//! The report as text.

use std::fmt::{self, Write as _};

use fragscope_trace::region::Bounds;
use fragscope_trace::snapshot::SnapshotSource;

use super::{Pages, Report, Row};

/// The table for people. Pages are counts; a column without any page is left out.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { kernel_release, duration_ns, .. } = self;
        let source = source_name(self.source);
        let millis = *duration_ns as f64 / 1e6;
        writeln!(f, "Linux {kernel_release}, read from {source} in {millis:.0} ms")?;
        writeln!(f)?;
        write_table(f, &self.regions, &self.totals)?;
        writeln!(f)?;
        self.write_totals(f)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("free now", self.free_1g),
            ("evacuable, each by itself", self.evacuable_1g),
            ("obtainable together", self.obtainable_1g),
            ("tainted", self.tainted_1g),
        ];
        writeln!(f, "1 GiB regions, of {} whole ones:", self.whole_1g)?;
        for (name, bounds) in lines {
            writeln!(f, "  {name:<26} {:>6}", range(bounds))?;
        }
        let mut cost = String::new();
        for (index, pages) in steps(&self.cost_pages) {
            write!(cost, "  {} for {pages}", index + 1)?;
        }
        if !cost.is_empty() {
            writeln!(f, "  obtained for pages moved: {cost}")?;
        }
        Ok(())
    }
}

/// Some elements of the cost curve: all of a short one, else doubling steps and the last.
fn steps(cost: &[u64]) -> Vec<(usize, u64)> {
    const SHORT: usize = 8;
    let wanted = |n: usize| cost.len() <= SHORT || n.is_power_of_two() || n == cost.len();
    let numbered = cost.iter().copied().enumerate();
    numbered.filter(|(index, _)| wanted(index + 1)).collect()
}

fn range(bounds: Bounds) -> String {
    match bounds {
        Bounds { min, max } if min == max => min.to_string(),
        Bounds { min, max } => format!("{min}..{max}"),
    }
}

/// The source as people call it.
fn source_name(source: SnapshotSource) -> &'static str {
    match source {
        SnapshotSource::StructPages => "struct pages",
        SnapshotSource::KpageFlags => "/proc/kpageflags",
        SnapshotSource::Debugfs => "debugfs",
        SnapshotSource::Synthetic => "a generator",
    }
}

type Column = (&'static str, fn(&Pages) -> u64);

const COLUMNS: [Column; 13] = [
    ("free", |p| p.free_pages),
    ("pcp", |p| p.pcp_pages),
    ("isolated", |p| p.isolated_pages),
    ("movable", |p| p.movable_pages),
    ("pinned", |p| p.pinned_pages),
    ("slab", |p| p.slab_pages),
    ("pgtable", |p| p.pagetable_pages),
    ("kernel", |p| p.kernel_pages),
    ("offline", |p| p.offline_pages),
    ("hugetlb", |p| p.hugetlb_pages),
    ("reserved", |p| p.reserved_pages),
    ("absent", |p| p.absent_pages),
    ("unknown", |p| p.unknown_pages),
];

fn write_table(f: &mut fmt::Formatter<'_>, rows: &[Row], totals: &Pages) -> fmt::Result {
    let columns: Vec<Column> = COLUMNS.into_iter().filter(|(_, of)| of(totals) > 0).collect();
    write!(f, "{:<4} {:<8} {:>10} {:<9}", "node", "zone", "start_pfn", "state")?;
    for (name, _) in &columns {
        write!(f, " {name:>8}")?;
    }
    writeln!(f)?;
    for row in rows {
        let state = row.state.name();
        let start = row.start_pfn.to_string();
        write!(f, "{:<4} {:<8} {start:>10} {state:<9}", row.node, row.zone)?;
        write_pages(f, &columns, &row.pages)?;
    }
    write!(f, "{:<34}", "all")?;
    write_pages(f, &columns, totals)
}

fn write_pages(f: &mut fmt::Formatter<'_>, columns: &[Column], pages: &Pages) -> fmt::Result {
    for (_, of) in columns {
        write!(f, " {:>8}", of(pages))?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;

    #[test]
    fn every_page_is_in_one_column() {
        let report = Report::new(&snapshot());
        let columns: u64 = COLUMNS.iter().map(|(_, of)| of(&report.totals)).sum();
        assert_eq!(columns, report.totals.sum());
    }

    #[test]
    fn the_text_shows_states_and_bounds() {
        let text = Report::new(&snapshot()).to_string();
        assert!(text.starts_with("Linux 6.18.0, read from /proc/kpageflags in 1 ms\n"), "{text}");
        assert!(text.contains("free now                     3..4"), "{text}");
        assert!(text.ends_with("note: a remark\n"));
    }

    #[test]
    fn a_long_cost_curve_is_thinned() {
        let cost: Vec<u64> = (1..=20).map(|n| n * 10).collect();
        let shown: Vec<usize> = steps(&cost).into_iter().map(|(i, _)| i + 1).collect();
        assert_eq!(shown, [1, 2, 4, 8, 16, 20]);
        assert_eq!(steps(&cost[..3]).len(), 3);
    }
}
