//! Which step a machine may take next, and what it does.

use super::judge::WaitReason;
use super::program::{Cpu, IrqsOff, List, LockId, Op, Page, Program, Reached, Step, Target};
use super::state::{Level, MAX_CPUS, MAX_PAGES, Progress, State, Who};

/// How the locks of a build behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockBuild {
    /// A held lock refuses, or lets wait. Also what a build for one processor should have.
    Honest,
    /// The historic build for one processor: locks are nothing, a try always succeeds.
    AlwaysSucceeds,
}

/// Who may wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqClass {
    /// Held with interrupts off by everybody: tasks and handlers may wait for it.
    IrqsOff,
    /// Held with interrupts on: only a task with interrupts on may wait; others may try.
    IrqsOn,
}

/// The class of a lock.
#[must_use]
pub const fn class(lock: LockId) -> IrqClass {
    match lock {
        LockId::Xarray | LockId::Zone => IrqClass::IrqsOff,
        LockId::Pcp(_) | LockId::ZonelistUpdate => IrqClass::IrqsOn,
    }
}

/// A few CPUs with what runs on them.
#[derive(Clone, Debug)]
pub struct Machine {
    programs: [[Program; 3]; MAX_CPUS],
    pub(super) held: Vec<(Who, Page)>,
    pub(super) listed: Vec<(List, Page)>,
    locks: LockBuild,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// What runs on a CPU does its next step.
    Step(Cpu),
    /// A context begins, above whatever runs there.
    Arrive(Who),
}

impl Machine {
    /// CPUs that have nothing to do.
    #[must_use]
    pub fn new(locks: LockBuild) -> Machine {
        Machine { programs: Default::default(), held: Vec::new(), listed: Vec::new(), locks }
    }

    /// Gives a context its program and the pages that it will free.
    pub fn run(&mut self, cpu: Cpu, level: Level, frees: &[Page], program: Program) {
        let who = Who { cpu, level };
        self.held.extend(frees.iter().map(|page| (who, *page)));
        self.programs[usize::from(cpu)][level as usize] = program;
    }

    /// Puts a page on a list to begin with.
    pub fn list(&mut self, list: List, page: Page) {
        self.listed.push((list, page));
    }

    pub(super) fn program(&self, who: Who) -> &Program {
        &self.programs[usize::from(who.cpu)][who.level as usize]
    }

    /// The beginning: every task is about to do its first step.
    #[must_use]
    pub fn start(&self) -> State {
        let held = |who| {
            let own = self.held.iter().filter(|(holder, _)| *holder == who);
            own.fold(0, |mask, (_, page)| mask | 1 << page)
        };
        let mut state = State::new(held, &self.listed);
        for cpu in 0..MAX_CPUS as u8 {
            let task = Who { cpu, level: Level::Task };
            self.go_to(&mut state, task, 0);
        }
        state
    }

    /// The step that a context is about to do.
    #[must_use]
    pub fn next_step(&self, state: &State, who: Who) -> Option<&Step> {
        match state.context(who).progress {
            Progress::At(at) => self.program(who).step(at),
            _ => None,
        }
    }

    fn go_to(&self, state: &mut State, who: Who, target: Target) {
        let program = self.program(who);
        let mut at = target;
        while let Some(Step { op: Op::Goto(next), .. }) = program.step(at) {
            at = *next;
        }
        let context = state.context_mut(who);
        context.progress = match program.step(at) {
            Some(_) => Progress::At(at),
            None => Progress::Done,
        };
    }

    /// Everything that may happen next.
    pub fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for cpu in 0..MAX_CPUS as u8 {
            if state.cpu(cpu).stopped {
                continue;
            }
            if let Some(top) = state.top(cpu)
                && self.obstacle(state, top).is_none()
            {
                actions.push(Action::Step(cpu));
            }
            let arrivals = [Level::Hardirq, Level::Nmi].map(|level| Who { cpu, level });
            let may = |who: &Who| self.may_arrive(state, *who);
            actions.extend(arrivals.into_iter().filter(may).map(Action::Arrive));
        }
    }

    fn may_arrive(&self, state: &State, who: Who) -> bool {
        let fresh = state.context(who).progress == Progress::Waiting;
        let open = match who.level {
            Level::Task => false,
            Level::Hardirq => state.irqs_on(who.cpu),
            Level::Nmi => true,
        };
        fresh && open && !self.program(who).is_empty()
    }

    /// What keeps a context, which has the CPU, from doing its step.
    pub(super) fn obstacle(&self, state: &State, who: Who) -> Option<WaitReason> {
        match self.next_step(state, who)?.op {
            Op::Lock(lock, _) if self.locks == LockBuild::Honest => {
                state.holder(lock).map(|holder| WaitReason::Held(lock, holder))
            }
            Op::SeqBegin(true) if state.sequence % 2 == 1 => Some(WaitReason::Rebuild),
            Op::WaitStopped(cpu) if !state.cpu(cpu).stopped => Some(WaitReason::NotStopped(cpu)),
            _ => None,
        }
    }

    /// The state after an action that [`Machine::actions`] offered.
    #[must_use]
    pub fn after(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        match action {
            Action::Arrive(who) => self.go_to(&mut state, who, 0),
            Action::Step(cpu) => {
                let who = state.top(cpu)?;
                let Progress::At(at) = state.context(who).progress else { return None };
                let op = self.program(who).step(at)?.op;
                let jump = self.perform(&mut state, who, op);
                self.go_to(&mut state, who, jump.unwrap_or(at + 1));
            }
        }
        Some(state)
    }

    /// Does a step; returns where it jumps.
    fn perform(&self, state: &mut State, who: Who, op: Op) -> Option<Target> {
        match op {
            Op::IrqSave => switch_off(state, who),
            Op::IrqRestore => switch_back(state, who),
            Op::Lock(lock, irqs) => self.lock(state, who, lock, irqs),
            Op::Unlock(lock, irqs) => unlock(state, who, lock, irqs),
            Op::TryLock(lock, busy) => return self.try_lock(state, who, lock).then_some(busy),
            Op::Goto(target) => return Some(target),
            Op::Stop => state.cpu_mut(who.cpu).stopped = true,
            Op::Start(cpu) => state.cpu_mut(cpu).stopped = false,
            Op::SetDead(cpu, dead) => state.cpu_mut(cpu).dead = dead,
            Op::IfDead(cpu, target) => return state.cpu(cpu).dead.then_some(target),
            Op::WaitStopped(_) | Op::Fail => {}
            Op::OwnedAdd(cpu, block) => state.owned.add(cpu, block),
            Op::OwnedDel(block) => state.owned.remove(block),
            Op::OwnedDetachAll(cpu) => state.owned.detach_all(cpu),
            Op::OwnedInit(cpu) => state.owned.reinitialise(cpu),
            Op::SeqBegin(_) => state.context_mut(who).read = state.sequence,
            Op::SeqBump => state.sequence += 1,
            Op::SeqRetry(target) => {
                let seen = std::mem::take(&mut state.context_mut(who).read);
                return (state.sequence != seen).then_some(target);
            }
            Op::Zonelist(whole) => state.zonelist = whole,
            Op::Scan(target) => return (!state.zonelist).then_some(target),
            list => return perform_on_list(state, who, list),
        }
        None
    }

    fn lock(&self, state: &mut State, who: Who, lock: LockId, irqs: IrqsOff) {
        if irqs == IrqsOff::Save {
            switch_off(state, who);
        }
        if self.locks == LockBuild::Honest {
            state.set_holder(lock, Some(who));
        }
    }

    /// Whether it was busy.
    fn try_lock(&self, state: &mut State, who: Who, lock: LockId) -> bool {
        if self.locks == LockBuild::AlwaysSucceeds {
            return false;
        }
        let busy = state.holder(lock).is_some();
        if !busy {
            state.set_holder(lock, Some(who));
        }
        busy
    }

    /// Whether a context is about to do something that shows `reached`.
    #[must_use]
    pub fn shows(&self, state: &State, reached: Reached) -> bool {
        let about_to = |who: Who| match self.next_step(state, who) {
            Some(Step { op: Op::PushFree(List::Remote(cpu), _), .. })
                if reached == Reached::LatePush =>
            {
                state.cpu(*cpu).dead
            }
            Some(step) => step.shows == Some(reached),
            None => false,
        };
        state.running().any(about_to)
    }
}

const _: () = assert!(MAX_PAGES <= u8::BITS as usize);

fn switch_off(state: &mut State, who: Who) {
    if who.level == Level::Task {
        state.cpu_mut(who.cpu).irqs_off += 1;
    }
}

fn switch_back(state: &mut State, who: Who) {
    if who.level == Level::Task {
        state.cpu_mut(who.cpu).irqs_off -= 1;
    }
}

fn unlock(state: &mut State, who: Who, lock: LockId, irqs: IrqsOff) {
    state.set_holder(lock, None);
    if irqs == IrqsOff::Save {
        switch_back(state, who);
    }
}

/// Does a step on a list; returns where it jumps.
fn perform_on_list(state: &mut State, who: Who, op: Op) -> Option<Target> {
    match op {
        Op::Read(list) => state.context_mut(who).read = state.list(list),
        Op::Push(list, page) => {
            let read = take_read(state, who);
            *state.list_mut(list) = read | 1 << page;
            state.context_mut(who).held &= !(1 << page);
        }
        Op::Pop(list, empty) => {
            let read = take_read(state, who);
            if read == 0 {
                return Some(empty);
            }
            let page = read & read.wrapping_neg();
            *state.list_mut(list) = read & !page;
            state.context_mut(who).held |= page;
        }
        Op::MoveAll(into, from) => {
            let moved = std::mem::take(state.list_mut(from));
            *state.list_mut(into) = take_read(state, who) | moved;
        }
        Op::PushFree(list, page) => {
            *state.list_mut(list) |= 1 << page;
            state.context_mut(who).held &= !(1 << page);
        }
        Op::TakeFree(list, none) => {
            let taken = std::mem::take(state.list_mut(list));
            state.context_mut(who).taken = taken;
            return (taken == 0).then_some(none);
        }
        Op::PutTaken(list) => {
            let taken = std::mem::take(&mut state.context_mut(who).taken);
            *state.list_mut(list) = take_read(state, who) | taken;
        }
        _ => {}
    }
    None
}

fn take_read(state: &mut State, who: Who) -> u8 {
    std::mem::take(&mut state.context_mut(who).read)
}
