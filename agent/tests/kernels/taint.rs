//! What must hold when a region without non-movable pages gets some: the recording names who made the
//! first, and all that it names are those that the guest's own ftrace saw.

use std::collections::BTreeSet;

use fragscope_trace::event::{PageEvent, PageEventKind};
use fragscope_trace::page::{Migratetype, Pfn, PfnRange, REGION_PAGES};
use fragscope_trace::region::census;

use crate::makers;
use crate::qemu::Results;
use crate::recording::Recording;

/// How far the clocks of both tracers may be apart, under emulation.
const APART_NS: u64 = 100_000_000;

/// Checks the results of the scenario `taint`.
pub(crate) fn check(results: &Results, series: &str) {
    let Ok(start) = results.text("region").parse() else {
        println!("  nothing to taint: unmovable pages are in every region after booting");
        return;
    };
    let region = PfnRange::new(Pfn(start), REGION_PAGES);
    let recording = Recording::read(results, "taint");
    recording.check(series);
    let opening = &recording.snapshots[0];
    let found = census(opening).into_iter().find(|census| census.start == region.start);
    assert_eq!(found.expect("a region").tainting_pages(), 0, "at the beginning");

    let told = makers::told(&recording.sides, |_| true);
    let told: Vec<_> =
        told.into_iter().filter(|((pfn, _), _)| region.contains(Pfn(*pfn))).collect();
    makers::assert_seen(&told, &makers::parse(&results.text("ftrace")), APART_NS);
    let taints = |e: &&PageEvent| {
        e.kind() == PageEventKind::Alloc
            && e.migratetype() != Migratetype::Movable
            && region.contains(e.pfn)
            && e.time_ns > opening.end_ns
    };
    let first = recording.pages.iter().find(taints).expect("a non-movable allocation");
    let maker = told.iter().find(|(block, maker)| {
        *block == (first.pfn.0, first.order()) && maker.time_ns.abs_diff(first.time_ns) < APART_NS
    });
    let (_, maker) = maker.expect("who made the first");
    let names: BTreeSet<&str> = told.iter().map(|(_, maker)| maker.comm.as_str()).collect();
    println!("  {:?} by {:?}; {} told of {names:?}", first, maker.stack, told.len());
}
