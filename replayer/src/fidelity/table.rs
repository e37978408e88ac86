//! A fidelity report as text: one figure per line, each with its definition.

use super::fallback_counts::{FACTOR_LIMIT, FallbackCounts};
use super::measure::Measures;
use super::report::FidelityReport;
use super::verdict::Criterion;
use crate::cli::output::{Lines, duration, grouped, percent};
use crate::compare::table::put_trace;

/// The whole report.
#[must_use]
pub fn text(report: &FidelityReport) -> String {
    let mut lines = Lines::default();
    put_trace(&mut lines, &report.trace);
    let last = &report.last;
    lines.raw("");
    lines.raw(&format!(
        "Stock model, as found, against the kernel {} later (null model: nothing changed)",
        duration(last.after_ns)
    ));
    put_measures(&mut lines, last);
    put_untraced(&mut lines, report);
    put_probe(&mut lines, report);
    put_series(&mut lines, &report.checkpoints);
    lines.raw("");
    report.criteria.iter().for_each(|criterion| lines.raw(&judgement(criterion)));
    let verdict = if report.holds { "All of it holds." } else { "Not all of it holds." };
    lines.raw(verdict);
    lines.into_text()
}

fn put_measures(lines: &mut Lines, m: &Measures) {
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
    let mut row = |value: String, null: String, meaning: &str| {
        lines.raw(&format!("{value:>12} {null:>12}  {meaning}"));
    };
    row("model".into(), "null model".into(), "");
    row(
        percent(m.free_pages_error_ratio),
        percent(m.null_free_pages_error_ratio),
        "free pages (buddy and per-CPU) apart, of managed memory",
    );
    row(percent(m.free_pages_raw_error_ratio), String::new(), "  untraced pages included");
    row(
        percent(m.buddy_free_error_ratio),
        percent(m.null_buddy_free_error_ratio),
        "pages on buddy lists apart, of managed memory",
    );
    row(percent(m.pcp_pages_error_ratio), String::new(), "pages on per-CPU lists apart");
    row(ratio(m.order_distance), ratio(m.null_order_distance), "order distance");
    let types = &m.types;
    row(
        grouped(types.type_error),
        grouped(types.type_changes_kernel),
        "pageblocks of another type than the kernel's",
    );
    row(
        grouped(types.type_error_by_region),
        grouped(types.null_type_error_by_region),
        "  by their numbers in each region",
    );
    row(
        grouped(types.type_error_by_machine),
        grouped(types.null_type_error_by_machine),
        "  by their numbers on the machine",
    );
    row(ratio(types.type_change_precision), String::new(), "type changes: precision");
    row(ratio(types.type_change_recall), String::new(), "type changes: recall");
    row(
        grouped(m.tainted_regions_difference),
        grouped(m.null_tainted_regions_difference),
        "regions tainted in one and not the other",
    );
    lines.raw(&format!(
        "             tainted regions: kernel {}, model {}",
        m.tainted_regions_kernel, m.tainted_regions_stock,
    ));
    put_fallbacks(lines, &m.fallbacks);
}

fn put_fallbacks(lines: &mut Lines, f: &FallbackCounts) {
    let mut row = |what: &str, kernel: u64, model: u64, missed: u64, judged: u64| {
        lines.raw(&format!(
            "             {what}: kernel {}, model {}; more than {FACTOR_LIMIT} times apart in \
             {missed} of {judged} regions with enough to tell",
            grouped(kernel),
            grouped(model),
        ));
    };
    let (claims, steals) = (f.claims_missed_regions, f.steals_missed_regions);
    row("claims", f.kernel_claims, f.stock_claims, claims, f.claims_judged_regions);
    row("steals", f.kernel_steals, f.stock_steals, steals, f.steals_judged_regions);
}

fn put_untraced(lines: &mut Lines, report: &FidelityReport) {
    lines.raw("");
    lines.raw("Pages that later snapshots set right in the kernel track, by cause");
    for (cause, pages) in &report.untraced_pages {
        lines.raw(&format!("{:>12}  {cause:?}", grouped(*pages)));
    }
    lines.raw(&format!("{:>12}  unmatched frees", grouped(report.unmatched_frees)));
    lines.raw(&format!("{:>12}  pages put back by their frees", grouped(report.backfilled_pages)));
    lines.raw(&format!("{:>12}  lost events", grouped(report.lost_events)));
}

fn put_probe(lines: &mut Lines, report: &FidelityReport) {
    let Some(probe) = &report.probe else { return };
    lines.raw("");
    lines.raw(&format!(
        "1 GiB pages at the end: {} granted, {} to {} predicted; {} wrongly obtainable, {} \
         wrongly not",
        probe.granted_pfns.len(),
        probe.predicted_1g.min,
        probe.predicted_1g.max,
        probe.wrongly_obtainable_pfns.len(),
        probe.wrongly_unobtainable_pfns.len(),
    ));
}

/// The main figures at every snapshot.
fn put_series(lines: &mut Lines, checkpoints: &[Measures]) {
    if checkpoints.len() < 2 {
        return;
    }
    lines.raw("");
    lines.raw("      after  free apart  order dist.   (null)  type error   (null)  tainted apart");
    for m in checkpoints {
        lines.raw(&format!(
            "{:>11} {:>11} {:>12.4} {:>8.4} {:>11} {:>8} {:>14}",
            duration(m.after_ns),
            percent(m.free_pages_error_ratio),
            m.order_distance.unwrap_or(0.0),
            m.null_order_distance.unwrap_or(0.0),
            m.types.type_error,
            m.types.type_changes_kernel,
            m.tainted_regions_difference,
        ));
    }
}

fn judgement(criterion: &Criterion) -> String {
    let Criterion { name, meaning, value, plus_minus, limit, holds, open } = criterion;
    let holds = if *holds { "holds" } else { "fails" };
    let open = if *open { ", but its error bar leaves that open" } else { "" };
    format!("{holds}: {name} {value:.5} +- {plus_minus:.5} (at most {limit}){open}: {meaning}")
}
