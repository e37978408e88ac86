//! A way to a state, in words.

use serde::Serialize;

use super::judge::{Wait, WaitReason};
use super::machine::{Action, IrqClass, Machine, class};
use super::program::{IrqsOff, LockId, Op, Step};
use super::state::{Level, Progress, State, Who};

/// The steps that lead to a state, and what is wrong there.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    /// In order.
    pub steps: Vec<TraceStep>,
    /// What is wrong in the last state, line by line.
    pub conclusion: Vec<String>,
}

/// A step.
#[derive(Clone, Debug, Serialize)]
pub struct TraceStep {
    /// The CPU.
    pub cpu: u8,
    /// `task`, `hardirq` or `NMI`.
    pub context: &'static str,
    /// Kernel function that it stands for.
    pub function: &'static str,
    /// What happens.
    pub what: String,
}

/// The trace of a path of the checker.
pub(super) fn of(machine: &Machine, path: &[(State, Option<Action>)]) -> Trace {
    let last = path.last().map(|(state, _)| state.clone());
    let steps = path.iter().filter_map(|(state, action)| step(machine, state, (*action)?));
    Trace {
        steps: steps.collect(),
        conclusion: last.map(|state| conclusion(machine, &state)).unwrap_or_default(),
    }
}

fn step(machine: &Machine, state: &State, action: Action) -> Option<TraceStep> {
    let (who, function, what) = match action {
        Action::Arrive(who) => (who, "", arrival(state, who)),
        Action::Step(cpu) => {
            let who = state.top(cpu)?;
            let Step { op, function, .. } = *machine.next_step(state, who)?;
            (who, function, deed(machine, state, who, op))
        }
    };
    Some(TraceStep { cpu: who.cpu, context: who.level.name(), function, what })
}

fn arrival(state: &State, who: Who) -> String {
    match state.top(who.cpu) {
        Some(below) => format!("arrives and interrupts {below}"),
        None => "arrives".to_owned(),
    }
}

fn deed(machine: &Machine, state: &State, who: Who, op: Op) -> String {
    let jumps = |from: &State| {
        let next = machine.after(from, Action::Step(who.cpu))?;
        let (before, after) = (from.context(who).progress, next.context(who).progress);
        let Progress::At(at) = before else { return None };
        Some(after != Progress::At(at + 1))
    };
    let saves = |irqs| if irqs == IrqsOff::Save { "_irqsave" } else { "" };
    let restores = |irqs| if irqs == IrqsOff::Save { "_irqrestore" } else { "" };
    match op {
        Op::IrqSave => "local_irq_save()".to_owned(),
        Op::IrqRestore => "local_irq_restore()".to_owned(),
        Op::Lock(lock, irqs) => format!("spin_lock{}({lock})", saves(irqs)),
        Op::Unlock(lock, irqs) => format!("spin_unlock{}({lock})", restores(irqs)),
        Op::TryLock(lock, _) => {
            let busy = state.holder(lock).is_some();
            format!("spin_trylock({lock}) {}", if busy { "fails" } else { "succeeds" })
        }
        Op::Goto(_) => String::new(),
        Op::Read(list) => format!("reads {list}"),
        Op::Push(list, page) => format!("writes {list} with page P{page} added"),
        Op::Pop(list, _) if state.context(who).read == 0 => format!("finds {list} empty"),
        Op::Pop(list, _) => {
            format!("writes {list} with page P{} removed", state.context(who).read.trailing_zeros())
        }
        Op::MoveAll(into, from) => format!("writes {into} with all of {from} added"),
        Op::PushFree(list, page) => format!("pushes page P{page} on {list}"),
        Op::TakeFree(list, _) if state.list(list) == 0 => format!("finds {list} empty"),
        Op::TakeFree(list, _) => format!("takes all of {list}"),
        Op::PutTaken(list) => format!("writes {list} with what it took added"),
        Op::IfDead(cpu, _) => format!("sees CPU{cpu} {}", life(state.cpu(cpu).dead)),
        Op::SetDead(cpu, dead) => format!("marks CPU{cpu} {}", life(dead)),
        Op::Stop => "stops".to_owned(),
        Op::WaitStopped(cpu) => format!("sees that CPU{cpu} stopped"),
        Op::Start(cpu) => format!("starts CPU{cpu}"),
        Op::OwnedAdd(cpu, block) => {
            format!("list_add_tail(pageblock B{block}, owned_blocks of CPU{cpu})")
        }
        Op::OwnedDel(block) => format!("list_del_init(pageblock B{block})"),
        Op::OwnedDetachAll(cpu) => {
            format!("list_del_init() of every entry of owned_blocks of CPU{cpu}")
        }
        Op::OwnedInit(cpu) => format!("INIT_LIST_HEAD(owned_blocks of CPU{cpu})"),
        Op::SeqBegin(_) => format!("reads zonelist_update_seq = {}", state.sequence),
        Op::SeqRetry(_) if state.sequence == state.context(who).read => {
            "finds zonelist_update_seq unchanged".to_owned()
        }
        Op::SeqRetry(_) => format!("finds zonelist_update_seq = {}: begins again", state.sequence),
        Op::SeqBump => format!("zonelist_update_seq = {}", state.sequence + 1),
        Op::Zonelist(true) => "fills the zonelist".to_owned(),
        Op::Zonelist(false) => "empties the zonelist".to_owned(),
        Op::Scan(_) if jumps(state) == Some(true) => "finds no zone on the zonelist".to_owned(),
        Op::Scan(_) => "finds a page".to_owned(),
        Op::Fail => "the request fails".to_owned(),
    }
}

fn life(dead: bool) -> &'static str {
    if dead { "dead" } else { "alive" }
}

fn conclusion(machine: &Machine, state: &State) -> Vec<String> {
    let mut lines: Vec<String> =
        machine.stuck(state).iter().map(|wait| waits(machine, state, wait)).collect();
    lines.extend(machine.fault(state));
    if let Some((who, lock)) = machine.against_class(state).filter(|_| lines.is_empty()) {
        lines.push(against(state, who, lock));
    }
    lines
}

fn waits(machine: &Machine, state: &State, wait: &Wait) -> String {
    let Wait { who, reason } = wait;
    match reason {
        WaitReason::Interrupted(handler) => {
            let held = held_locks(state, *who);
            let holding = match held.is_empty() {
                true => String::new(),
                false => format!(", holding {}", held.join(", ")),
            };
            format!("{who} is interrupted by {handler}{holding}")
        }
        WaitReason::Held(lock, holder) => format!("{who} waits for {lock}, held by {holder}"),
        WaitReason::Rebuild => {
            let seq = state.sequence;
            format!("{who} reads zonelist_update_seq = {seq} for ever: a rebuild never ends")
        }
        WaitReason::NotStopped(cpu) => format!("{who} waits for CPU{cpu} to stop"),
        WaitReason::NotStarted => {
            let next = machine.next_step(state, *who).map_or("", |step| step.function);
            format!("{who} is stopped before {next}, and nobody starts its CPU")
        }
    }
}

fn held_locks(state: &State, who: Who) -> Vec<String> {
    let pcp = (0..super::state::MAX_CPUS as u8).map(LockId::Pcp);
    let all = pcp.chain([LockId::Xarray, LockId::Zone, LockId::ZonelistUpdate]);
    all.filter(|lock| state.holder(*lock) == Some(who)).map(|lock| lock.to_string()).collect()
}

fn against(state: &State, who: Who, lock: LockId) -> String {
    let situation = match who.level {
        Level::Nmi => "in an NMI",
        Level::Hardirq => "in an interrupt",
        Level::Task if state.cpu(who.cpu).irqs_off > 0 => "with interrupts off",
        Level::Task => "with interrupts on",
    };
    let rule = match class(lock) {
        IrqClass::IrqsOn => "is held with interrupts on",
        IrqClass::IrqsOff => "is taken by handlers too",
    };
    format!("{who} is about to wait for {lock} {situation}; that lock {rule}")
}
