//! What must hold while CPUs and memory come and go, on a machine of two nodes.

use fragscope_trace::event::{PageEvent, PageEventKind, SideEvent, SideKind};
use fragscope_trace::page::CpuId;

use crate::qemu::Results;
use crate::recording::Recording;
use crate::version::check_doctor;

/// Checks the results of the scenario `change`.
pub(crate) fn check(results: &Results, series: &str) {
    check_doctor(results);
    let recording = Recording::read(results, "change");
    recording.check(series);
    check_cpus(&recording);
    check_nodes(&recording);
    check_memory(&recording, &results.text("managed"));
    recording.check_differences();
}

/// The guest leaves it offline for longer, also if the recorder is late to see it gone.
const GONE_NS: u64 = 3_000_000_000;

/// CPU 1 went, came back, and was traced again.
fn check_cpus(recording: &Recording) {
    let turn = |side: &SideEvent| match side.kind {
        SideKind::Cpu { cpu, online } => Some((side.time_ns, cpu, online)),
        _ => None,
    };
    let turns: Vec<_> = recording.sides.iter().filter_map(turn).collect();
    let states: Vec<_> = turns.iter().map(|(_, cpu, online)| (*cpu, *online)).collect();
    assert_eq!(states, [(CpuId(1), false), (CpuId(1), true)]);
    let on_cpu1 = |from: u64, to: u64| {
        let is_it = |e: &&PageEvent| e.cpu == CpuId(1) && (from..to).contains(&e.time_ns);
        recording.pages.iter().filter(is_it).count()
    };
    let (gone, back) = (turns[0].0, turns[1].0);
    assert!(on_cpu1(0, gone) > 1000, "before");
    // The recorder may have seen it back some time after it was.
    assert_eq!(on_cpu1(gone, back.min(gone + GONE_NS)), 0, "while it was gone");
    assert!(on_cpu1(back, u64::MAX) > 1000, "after");
}

/// Each node has zones and CPUs of its own, and both were used.
fn check_nodes(recording: &Recording) {
    let machine = &recording.header.machine;
    for node in 0..2 {
        assert_eq!(machine.cpus_of_node(node), 1, "{:?}", machine.cpus);
        let zones: Vec<_> = machine.zones.iter().filter(|zone| zone.node == node).collect();
        let inside = |e: &&PageEvent| {
            e.kind() == PageEventKind::Alloc && zones.iter().any(|z| z.span().contains(e.pfn))
        };
        let used = recording.pages.iter().filter(inside).count();
        assert!(used > 1000, "{used} allocations on node {node}");
    }
}

/// The memory that came is in the trace, in the closing snapshot, and counted by the kernel.
fn check_memory(recording: &Recording, managed: &str) {
    let (before, after) = managed.split_once(' ').expect("two numbers");
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    let came = number(after) - number(before);
    let grown: u64 = recording
        .sides
        .iter()
        .map(|side| match &side.kind {
            SideKind::Grow { range, node: 1, .. } => range.pages(),
            _ => 0,
        })
        .sum();
    println!("  {came} pages came, {grown} are in the trace");
    assert!(came > 100_000 && grown.abs_diff(came) <= came / 50, "{came} came, {grown} traced");
    let [opening, .., closing] = &recording.snapshots[..] else { panic!("two snapshots") };
    let managed = |s: &fragscope_trace::snapshot::Snapshot| s.machine.managed_pages();
    assert!(managed(closing) >= managed(opening) + came);
    let end = opening.machine.end_pfn();
    let used = recording.pages.iter().filter(|e| e.pfn >= end).count();
    println!("  {used} events in new memory");
    assert!(used > 0);
}
