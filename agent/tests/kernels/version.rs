//! What must hold on every version.

use std::collections::HashSet;

use fragscope_trace::event::{PageEvent, PageEventKind, SideKind, TimeNs};
use fragscope_trace::page::{PfnRange, REGION_ORDER, REGION_PAGES};

use crate::documented;
use crate::qemu::Results;
use crate::recording::Recording;

/// Checks the results of the scenario `version`.
pub(crate) fn check(results: &Results, series: &str) {
    check_doctor(results);
    documented::check(series, &serde_json::from_str(&results.text("facts")).unwrap());
    check_mixed(&Recording::read(results, "mixed"), series);
    check_gigantic(&Recording::read(results, "gigantic"), results, series);
    results.assert_succeeded("live");
}

/// All that the agent can use is there on an ordinary kernel.
pub(crate) fn check_doctor(results: &Results) {
    results.assert_succeeded("doctor");
    let report: serde_json::Value = serde_json::from_str(&results.text("doctor.out")).unwrap();
    for capability in report["capabilities"].as_array().unwrap() {
        assert_eq!(capability["available"], true, "{}: {capability}", results.name);
    }
    assert_eq!((&report["can_record"], &report["can_snapshot"]), (&true.into(), &true.into()));
}

fn check_mixed(recording: &Recording, series: &str) {
    recording.check(series);
    assert!(recording.named_stacks() > 10, "{} stacks with names", recording.named_stacks());
    let compactions = recording.count(|k| matches!(k, SideKind::Compaction { begin: true, .. }));
    let sum = |of: fn(&SideKind) -> u64| recording.sides.iter().map(|side| of(&side.kind)).sum();
    let moved: u64 = sum(|kind| match kind {
        SideKind::Move { order, .. } => 1 << order,
        _ => 0,
    });
    let migrated: u64 = sum(|kind| match kind {
        SideKind::Migrated { succeeded, .. } => *succeeded,
        _ => 0,
    });
    println!("  {compactions} compactions, {moved} pages moved, {migrated} says the kernel");
    assert!(compactions > 0 && moved > 0, "{compactions} compactions, {moved} pages moved");
    assert_eq!(moved, migrated, "pages moved, and what migration says of itself");
    recording.check_differences();
}

/// A page of 1 GiB is in the trace, and its free, if and only if the kernel gave one: where unmovable
/// pages lie after booting is a matter of chance.
fn check_gigantic(recording: &Recording, results: &Results, series: &str) {
    recording.check(series);
    let granted: usize = results.text("gigantic.err").trim().parse().expect("a number");
    println!("  {granted} pages of 1 GiB");
    let whole: Vec<(TimeNs, PfnRange)> = recording
        .sides
        .iter()
        .filter_map(|side| match side.kind {
            SideKind::ContigTest { range, stopped_at } => {
                let is_it = range.pages() == REGION_PAGES && stopped_at >= range.end;
                is_it.then_some((side.time_ns, range))
            }
            _ => None,
        })
        .collect();
    assert_eq!(whole.len(), granted, "contiguous allocations");
    for (since, range) in whole {
        check_gigantic_free(recording, since, range, series);
    }
    recording.check_differences();
}

/// Since Linux 6.12 such a page is freed as one, before page by page.
fn check_gigantic_free(recording: &Recording, since: TimeNs, range: PfnRange, series: &str) {
    let mut freed = HashSet::new();
    let mut is_first_free = |e: &&PageEvent| {
        e.kind() == PageEventKind::Free
            && e.time_ns > since
            && range.contains(e.pfn)
            && freed.insert(e.pfn)
    };
    let frees: Vec<_> = recording.pages.iter().filter(|e| is_first_free(e)).collect();
    assert_eq!(frees.iter().map(|free| free.pages()).sum::<u64>(), REGION_PAGES, "{range:?}");
    let order = if series == "6.1" { 0 } else { REGION_ORDER };
    assert!(frees.iter().all(|free| free.order() == order), "not all of order {order}");
}
