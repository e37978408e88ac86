//! What is explored: each protocol, and the variants that are known to be right or wrong, with
//! what the exploration must find.

use super::free_path::{Runner, Teardown};
use super::machine::{LockBuild, Machine};
use super::program::{List, Op, Program, Reached};
use super::state::Level;
use super::zonelist::Sequence;
use crate::mm::free_path::Protocol;

/// What is explored under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Frees wait for the owner's lock.
    Blocking,
    /// Frees try the owner's lock, else go to the zone.
    TrylockZone,
    /// Frees try the own lock, and push on other owners' lists.
    LocalTrylockRemoteLlist,
    /// The same, but a CPU that goes offline re-initialises its list of owned pageblocks.
    OwnedBlocksReinit,
    /// One processor, whose try-locks fail when nested.
    Up,
    /// One processor, whose try-locks always succeed.
    UpAlwaysSucceeds,
    /// The same with interrupts off around the lock.
    UpIrqsOff,
    /// A rebuild of the zonelist under a sequence lock, interrupts off.
    Seqlock,
    /// The same with interrupts on.
    SeqlockIrqsOn,
    /// A rebuild under a plain counter.
    Counter,
}

/// What an exploration must find, no more and no less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// A deadlock or livelock.
    pub deadlock: bool,
    /// A lost or doubled page, or a broken list.
    pub corruption: bool,
    /// A wait for a lock against its interrupt class.
    pub against_class: bool,
    /// What it comes by.
    pub reached: &'static [Reached],
}

const SOUND: Expected =
    Expected { deadlock: false, corruption: false, against_class: false, reached: &[] };

impl Subject {
    /// All of them, the protocols first.
    pub const ALL: [Subject; 10] = [
        Subject::Blocking,
        Subject::TrylockZone,
        Subject::LocalTrylockRemoteLlist,
        Subject::OwnedBlocksReinit,
        Subject::Up,
        Subject::UpAlwaysSucceeds,
        Subject::UpIrqsOff,
        Subject::Seqlock,
        Subject::SeqlockIrqsOn,
        Subject::Counter,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Subject::Blocking => Protocol::Blocking.name(),
            Subject::TrylockZone => Protocol::TrylockZone.name(),
            Subject::LocalTrylockRemoteLlist => Protocol::LocalTrylockRemoteLlist.name(),
            Subject::OwnedBlocksReinit => "owned-blocks-reinit",
            Subject::Up => "up",
            Subject::UpAlwaysSucceeds => "up-always-succeeds",
            Subject::UpIrqsOff => "up-irqs-off",
            Subject::Seqlock => "seqlock",
            Subject::SeqlockIrqsOn => "seqlock-irqs-on",
            Subject::Counter => "counter",
        }
    }

    /// The subject of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Subject> {
        Subject::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// What it is, in a line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Subject::Blocking => "a task waits for the per-CPU lock of the pageblock's owner",
            Subject::TrylockZone => "the owner's per-CPU lock is tried; if busy, the zone frees",
            Subject::LocalTrylockRemoteLlist => {
                "the own per-CPU lock is tried; for another owner, a lock-free list takes the page"
            }
            Subject::OwnedBlocksReinit => {
                "the same; CPU offline re-initialises owned_blocks instead of emptying it"
            }
            Subject::Up => "one CPU; a nested try-lock fails",
            Subject::UpAlwaysSucceeds => "one CPU; a try-lock always succeeds",
            Subject::UpIrqsOff => "one CPU; a try-lock always succeeds, interrupts off around it",
            Subject::Seqlock => "zonelist rebuild: sequence lock, writer with interrupts off",
            Subject::SeqlockIrqsOn => "zonelist rebuild: sequence lock, writer with interrupts on",
            Subject::Counter => "zonelist rebuild: counter; no reader waits",
        }
    }

    /// What must be found.
    #[must_use]
    pub const fn expected(self) -> Expected {
        use Reached::{
            Absorbed, Deferred, FoundDead, LatePush, RemotePush, SpuriousFailure, ZoneFallback,
        };
        match self {
            Subject::Blocking => Expected {
                deadlock: true,
                against_class: true,
                reached: &[ZoneFallback, Deferred, FoundDead],
                ..SOUND
            },
            Subject::TrylockZone => {
                Expected { reached: &[ZoneFallback, Deferred, FoundDead], ..SOUND }
            }
            Subject::LocalTrylockRemoteLlist => Expected {
                reached: &[ZoneFallback, RemotePush, LatePush, Absorbed, Deferred, FoundDead],
                ..SOUND
            },
            Subject::OwnedBlocksReinit => Expected {
                corruption: true,
                reached: &[RemotePush, LatePush, Absorbed, Deferred, FoundDead],
                ..SOUND
            },
            Subject::Up => Expected { reached: &[ZoneFallback, Deferred], ..SOUND },
            Subject::UpAlwaysSucceeds | Subject::UpIrqsOff => {
                Expected { corruption: true, ..SOUND }
            }
            Subject::Seqlock => SOUND,
            Subject::SeqlockIrqsOn => Expected { deadlock: true, ..SOUND },
            Subject::Counter => Expected { reached: &[SpuriousFailure], ..SOUND },
        }
    }

    /// The machines to explore, by name.
    #[must_use]
    pub fn machines(self) -> Vec<(&'static str, Machine)> {
        match self {
            Subject::Blocking => of_protocol(Protocol::Blocking),
            Subject::TrylockZone => of_protocol(Protocol::TrylockZone),
            Subject::LocalTrylockRemoteLlist => of_protocol(Protocol::LocalTrylockRemoteLlist),
            Subject::OwnedBlocksReinit => {
                let protocol = Protocol::LocalTrylockRemoteLlist;
                vec![("hotplug", hotplug(protocol, Teardown::ReinitHead))]
            }
            Subject::Up => vec![("one-cpu", one_cpu(LockBuild::Honest, false))],
            Subject::UpAlwaysSucceeds => {
                vec![("one-cpu", one_cpu(LockBuild::AlwaysSucceeds, false))]
            }
            Subject::UpIrqsOff => vec![("one-cpu", one_cpu(LockBuild::AlwaysSucceeds, true))],
            Subject::Seqlock => vec![("rebuild", rebuild(Sequence::Seqlock { irqs_off: true }))],
            Subject::SeqlockIrqsOn => {
                vec![("rebuild", rebuild(Sequence::Seqlock { irqs_off: false }))]
            }
            Subject::Counter => vec![("rebuild", rebuild(Sequence::Counter))],
        }
    }
}

fn of_protocol(protocol: Protocol) -> Vec<(&'static str, Machine)> {
    vec![
        ("xarray", xarray(protocol)),
        ("drain", drain(protocol)),
        ("nmi", nmi(protocol)),
        ("hotplug", hotplug(protocol, Teardown::Detach)),
    ]
}

fn program(build: impl FnOnce(&mut Program)) -> Program {
    let mut program = Program::new();
    build(&mut program);
    program
}

/// CPU1 frees a page that CPU0 owns while it holds the xarray lock with interrupts off; CPU0 works
/// on its own lists with interrupts on, and its handler wants the xarray lock. A task on CPU2
/// drains CPU0's lists, and an NMI on CPU0 frees too.
fn xarray(protocol: Protocol) -> Machine {
    let on = |cpu, level| Runner::new(protocol, cpu, level);
    let mut machine = Machine::new(LockBuild::Honest);
    let worker = program(|p| {
        on(0, Level::Task).alloc(p);
        on(0, Level::Task).free(p, 1, 0);
    });
    machine.run(0, Level::Task, &[1], worker);
    let handler = on(0, Level::Hardirq);
    let stores = program(|p| handler.with_xarray(p, |p| handler.free(p, 2, 0)));
    machine.run(0, Level::Hardirq, &[2], stores);
    let other = on(1, Level::Task);
    let stores = program(|p| other.with_xarray(p, |p| other.free(p, 0, 0)));
    machine.run(1, Level::Task, &[0], stores);
    machine.run(1, Level::Hardirq, &[3], program(|p| on(1, Level::Hardirq).free(p, 3, 1)));
    machine.run(0, Level::Nmi, &[6], program(|p| on(0, Level::Nmi).free(p, 6, 0)));
    machine.run(2, Level::Task, &[], program(|p| on(2, Level::Task).drain(p, 0)));
    machine.list(List::Pcp(0), 4);
    machine.list(List::Zone, 5);
    machine
}

/// A task on a third CPU drains CPU0's lists, waiting for their lock, while both others free into
/// them and a handler on the draining CPU does too.
fn drain(protocol: Protocol) -> Machine {
    let on = |cpu, level| Runner::new(protocol, cpu, level);
    let mut machine = Machine::new(LockBuild::Honest);
    let worker = program(|p| {
        on(0, Level::Task).free(p, 0, 0);
        on(0, Level::Task).alloc(p);
    });
    machine.run(0, Level::Task, &[0], worker);
    let other = on(1, Level::Task);
    let stores = program(|p| other.with_xarray(p, |p| other.free(p, 1, 0)));
    machine.run(1, Level::Task, &[1], stores);
    machine.run(2, Level::Task, &[], program(|p| on(2, Level::Task).drain(p, 0)));
    let handler = on(2, Level::Hardirq);
    let stores = program(|p| handler.with_xarray(p, |p| handler.free(p, 2, 0)));
    machine.run(2, Level::Hardirq, &[2], stores);
    machine.run(1, Level::Nmi, &[4], program(|p| on(1, Level::Nmi).free(p, 4, 0)));
    machine.list(List::Pcp(0), 3);
    machine
}

/// Task, handler and NMI of one CPU free into its lists, and another CPU's task and NMI too.
fn nmi(protocol: Protocol) -> Machine {
    let on = |cpu, level| Runner::new(protocol, cpu, level);
    let mut machine = Machine::new(LockBuild::Honest);
    let worker = program(|p| {
        on(0, Level::Task).alloc(p);
        on(0, Level::Task).free(p, 1, 0);
    });
    machine.run(0, Level::Task, &[1], worker);
    machine.run(0, Level::Hardirq, &[2], program(|p| on(0, Level::Hardirq).free(p, 2, 0)));
    machine.run(0, Level::Nmi, &[3], program(|p| on(0, Level::Nmi).free(p, 3, 0)));
    machine.run(1, Level::Task, &[0], program(|p| on(1, Level::Task).free(p, 0, 0)));
    machine.run(1, Level::Nmi, &[4], program(|p| on(1, Level::Nmi).free(p, 4, 0)));
    machine.list(List::Zone, 5);
    machine
}

/// CPU0 comes to own a pageblock, goes offline and online again, and owns another; CPU2 frees
/// into its lists meanwhile and completes the first pageblock.
fn hotplug(protocol: Protocol, teardown: Teardown) -> Machine {
    let on = |cpu, level| Runner::new(protocol, cpu, level);
    let mut machine = Machine::new(LockBuild::Honest);
    let owner = on(0, Level::Task);
    let goes_and_comes = program(|p| {
        owner.adopt(p, 0);
        owner.free(p, 0, 0);
        p.within("cpuhp_offline", |p| p.op(Op::Stop));
        owner.adopt(p, 1);
        owner.alloc(p);
    });
    machine.run(0, Level::Task, &[0], goes_and_comes);
    let control = program(|p| {
        on(1, Level::Task).offline(p, 0, teardown);
        on(1, Level::Task).online(p, 0);
    });
    machine.run(1, Level::Task, &[], control);
    let other = program(|p| {
        on(2, Level::Task).free(p, 1, 0);
        on(2, Level::Task).complete(p, 0);
    });
    machine.run(2, Level::Task, &[1], other);
    machine.run(2, Level::Hardirq, &[2], program(|p| on(2, Level::Hardirq).free(p, 2, 0)));
    machine.run(2, Level::Nmi, &[3], program(|p| on(2, Level::Nmi).free(p, 3, 0)));
    machine
}

/// Task, handler and NMI on the only CPU.
fn one_cpu(locks: LockBuild, irqs_off: bool) -> Machine {
    let protocol = Protocol::LocalTrylockRemoteLlist;
    let on = |level| Runner { irqs_off, ..Runner::new(protocol, 0, level) };
    let mut machine = Machine::new(locks);
    let worker = program(|p| {
        on(Level::Task).free(p, 0, 0);
        on(Level::Task).alloc(p);
    });
    machine.run(0, Level::Task, &[0], worker);
    machine.run(0, Level::Hardirq, &[1], program(|p| on(Level::Hardirq).free(p, 1, 0)));
    machine.run(0, Level::Nmi, &[2], program(|p| on(Level::Nmi).free(p, 2, 0)));
    machine.list(List::Zone, 3);
    machine
}

/// A rebuild on CPU0, whose handler makes an atomic request; a request that may reclaim, and
/// another handler, on CPU1.
fn rebuild(sequence: Sequence) -> Machine {
    let mut machine = Machine::new(LockBuild::Honest);
    machine.run(0, Level::Task, &[], sequence.writer());
    machine.run(0, Level::Hardirq, &[], sequence.reader(false));
    machine.run(1, Level::Task, &[], sequence.reader(true));
    machine.run(1, Level::Hardirq, &[], sequence.reader(false));
    machine
}
