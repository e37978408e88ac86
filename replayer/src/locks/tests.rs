use super::explore::{Exploration, explore, visit};
use super::free_path::Runner;
use super::machine::{LockBuild, Machine};
use super::program::Program;
use super::state::Level;
use super::subject::Subject;
use super::trace::Trace;
use crate::mm::free_path::Protocol;

fn check(subject: Subject) -> Exploration {
    let exploration = explore(subject);
    let reached = exploration.reached();
    assert!(exploration.is_as_expected(), "{}: reached {reached:?}", subject.name());
    exploration
}

fn contexts(trace: &Trace) -> Vec<String> {
    let who = |step: &super::trace::TraceStep| format!("CPU{} {}", step.cpu, step.context);
    trace.steps.iter().map(who).collect()
}

#[test]
fn waiting_for_the_owners_lock_deadlocks_over_the_xarray_lock() {
    let exploration = check(Subject::Blocking);
    let trace = exploration.deadlock().expect("the deadlock of the blocking protocol");
    let circle = [
        "CPU0 task is interrupted by CPU0 hardirq, holding pcp0->lock",
        "CPU0 hardirq waits for xa_lock, held by CPU1 task",
        "CPU1 task waits for pcp0->lock, held by CPU0 task",
    ];
    assert!(circle.iter().all(|line| trace.conclusion.iter().any(|l| l == line)), "{trace:?}");
    let steps: Vec<_> = trace.steps.iter().map(|step| step.what.as_str()).collect();
    let shortest =
        ["spin_lock(pcp0->lock)", "arrives and interrupts CPU0 task", "spin_lock_irqsave(xa_lock)"];
    assert_eq!(steps, shortest);
}

#[test]
fn trying_the_owners_lock_never_deadlocks() {
    check(Subject::TrylockZone);
}

#[test]
fn pushing_on_the_owners_lock_free_list_never_deadlocks() {
    check(Subject::LocalTrylockRemoteLlist);
}

/// CPU0 works on its own lists; CPU1's task and handler free into them.
fn only_remote_frees(protocol: Protocol) -> Machine {
    let mut machine = Machine::new(LockBuild::Honest);
    let program = |cpu, level, page| {
        let mut program = Program::new();
        Runner::new(protocol, cpu, level).free(&mut program, page, 0);
        program
    };
    for (cpu, level, page) in [(0, Level::Task, 0), (1, Level::Task, 1), (1, Level::Hardirq, 2)] {
        machine.run(cpu, level, &[page], program(cpu, level, page));
    }
    machine
}

#[test]
fn remote_frees_go_to_the_zone_only_without_the_lock_free_list() {
    let falls_back = |protocol| {
        let found = visit("only remote frees", &only_remote_frees(protocol));
        found.reached.contains(&"zone_fallback")
    };
    assert!(falls_back(Protocol::TrylockZone));
    assert!(!falls_back(Protocol::LocalTrylockRemoteLlist));
}

#[test]
fn owned_pageblocks_must_leave_their_list_one_by_one() {
    let exploration = check(Subject::OwnedBlocksReinit);
    let trace = exploration.corruption().expect("the corruption after CPU offline");
    let conclusion = trace.conclusion.join("\n");
    assert_eq!(conclusion, "owned_blocks of CPU0 holds nothing, but should hold B1");
}

#[test]
fn one_cpu_needs_try_locks_that_can_fail() {
    check(Subject::Up);
    check(Subject::UpAlwaysSucceeds);
}

#[test]
fn switching_interrupts_off_does_not_keep_an_nmi_out() {
    let exploration = check(Subject::UpIrqsOff);
    let trace = exploration.corruption().expect("the corruption by an NMI");
    assert!(contexts(trace).contains(&"CPU0 NMI".to_owned()));
}

#[test]
fn a_rebuild_with_interrupts_on_can_livelock() {
    check(Subject::Seqlock);
    let exploration = check(Subject::SeqlockIrqsOn);
    let trace = exploration.deadlock().expect("the livelock");
    assert!(trace.conclusion.iter().any(|line| line.contains("for ever")), "{trace:?}");
}

#[test]
fn readers_of_a_counter_never_wait_but_may_fail_for_nothing() {
    check(Subject::Counter);
}
