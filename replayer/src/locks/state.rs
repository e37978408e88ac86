//! The state of a machine of the model.

use super::owned::OwnedLists;
use super::program::{Cpu, List, LockId, Page, Target};

/// CPUs that a machine can have.
pub const MAX_CPUS: usize = 3;
/// Pages that a machine can have.
pub const MAX_PAGES: usize = 8;
const LISTS: usize = 2 * MAX_CPUS + 2;
const LOCKS: usize = MAX_CPUS + 3;

/// What runs on a CPU, the later above the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// A task.
    Task = 0,
    /// A hardware interrupt.
    Hardirq = 1,
    /// A non-maskable interrupt.
    Nmi = 2,
}

impl Level {
    /// All of them, lowest first.
    pub const ALL: [Level; 3] = [Level::Task, Level::Hardirq, Level::Nmi];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Task => "task",
            Level::Hardirq => "hardirq",
            Level::Nmi => "NMI",
        }
    }
}

/// One context: which CPU, and what on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    /// The CPU.
    pub cpu: Cpu,
    /// What runs on it.
    pub level: Level,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CPU{} {}", self.cpu, self.level.name())
    }
}

/// How far a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Not begun.
    Waiting,
    /// About to do a step.
    At(Target),
    /// At its end.
    Done,
}

/// A context's registers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// How far it is.
    pub progress: Progress,
    /// What it read: a list, or the sequence.
    pub read: u8,
    /// Pages between a lock-free list and another.
    pub taken: u8,
    /// Pages that it has.
    pub held: u8,
}

impl Context {
    fn new(held: u8) -> Context {
        Context { progress: Progress::Waiting, read: 0, taken: 0, held }
    }

    /// Whether it began and did not end.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.progress, Progress::At(_))
    }
}

/// A CPU.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CpuState {
    /// Contexts by level.
    pub contexts: [Context; 3],
    /// How often its task switched interrupts off without switching them on.
    pub irqs_off: u8,
    /// It does not run.
    pub stopped: bool,
    /// `PCPF_CPU_DEAD`
    pub dead: bool,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) cpus: [CpuState; MAX_CPUS],
    locks: [Option<Who>; LOCKS],
    /// Pages of each list, as a bit set.
    lists: [u8; LISTS],
    pub(super) owned: OwnedLists,
    /// `zonelist_update_seq`
    pub(super) sequence: u8,
    /// The zonelist names its zones.
    pub(super) zonelist: bool,
}

fn lock_slot(lock: LockId) -> usize {
    match lock {
        LockId::Pcp(cpu) => usize::from(cpu),
        LockId::Xarray => MAX_CPUS,
        LockId::Zone => MAX_CPUS + 1,
        LockId::ZonelistUpdate => MAX_CPUS + 2,
    }
}

fn list_slot(list: List) -> usize {
    match list {
        List::Pcp(cpu) => usize::from(cpu),
        List::Remote(cpu) => MAX_CPUS + usize::from(cpu),
        List::Zone => 2 * MAX_CPUS,
        List::Deferred => 2 * MAX_CPUS + 1,
    }
}

impl State {
    /// Nothing runs yet; `held` are the pages of each context, `pages` those of lists.
    #[must_use]
    pub fn new(held: impl Fn(Who) -> u8, pages: &[(List, Page)]) -> State {
        let cpu = |cpu: usize| CpuState {
            contexts: Level::ALL.map(|level| Context::new(held(Who { cpu: cpu as u8, level }))),
            irqs_off: 0,
            stopped: false,
            dead: false,
        };
        let mut state = State {
            cpus: std::array::from_fn(cpu),
            locks: [None; LOCKS],
            lists: [0; LISTS],
            owned: OwnedLists::default(),
            sequence: 0,
            zonelist: true,
        };
        for (list, page) in pages {
            *state.list_mut(*list) |= 1 << page;
        }
        state
    }

    pub(super) fn cpu(&self, cpu: Cpu) -> &CpuState {
        &self.cpus[usize::from(cpu)]
    }

    pub(super) fn cpu_mut(&mut self, cpu: Cpu) -> &mut CpuState {
        &mut self.cpus[usize::from(cpu)]
    }

    pub(super) fn context(&self, who: Who) -> &Context {
        &self.cpu(who.cpu).contexts[who.level as usize]
    }

    pub(super) fn context_mut(&mut self, who: Who) -> &mut Context {
        &mut self.cpu_mut(who.cpu).contexts[who.level as usize]
    }

    pub(super) fn holder(&self, lock: LockId) -> Option<Who> {
        self.locks[lock_slot(lock)]
    }

    pub(super) fn set_holder(&mut self, lock: LockId, who: Option<Who>) {
        self.locks[lock_slot(lock)] = who;
    }

    pub(super) fn list(&self, list: List) -> u8 {
        self.lists[list_slot(list)]
    }

    pub(super) fn list_mut(&mut self, list: List) -> &mut u8 {
        &mut self.lists[list_slot(list)]
    }

    /// What runs on a CPU right now.
    #[must_use]
    pub fn top(&self, cpu: Cpu) -> Option<Who> {
        let runs = |level: &&Level| self.cpu(cpu).contexts[**level as usize].runs();
        Level::ALL.iter().rev().find(runs).map(|level| Who { cpu, level: *level })
    }

    /// All contexts that began and did not end.
    pub fn running(&self) -> impl Iterator<Item = Who> + '_ {
        let all = (0..MAX_CPUS as u8).flat_map(|cpu| Level::ALL.map(|level| Who { cpu, level }));
        all.filter(|who| self.context(*who).runs())
    }

    /// Whether a CPU has interrupts on and no handler runs.
    #[must_use]
    pub fn irqs_on(&self, cpu: Cpu) -> bool {
        let handler = self.top(cpu).is_some_and(|top| top.level != Level::Task);
        self.cpu(cpu).irqs_off == 0 && !handler
    }

    /// How many places a page is in: lists, and contexts that have it.
    pub(super) fn places(&self, page: Page) -> usize {
        let on = |mask: &u8| mask >> page & 1 == 1;
        let listed = self.lists.iter().filter(|mask| on(mask)).count();
        let contexts = self.cpus.iter().flat_map(|cpu| &cpu.contexts);
        listed
            + contexts.map(|c| usize::from(on(&c.held)) + usize::from(on(&c.taken))).sum::<usize>()
    }
}
