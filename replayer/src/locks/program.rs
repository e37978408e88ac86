//! What a context does: steps on locks and lists, and a builder for programs with branches.

use std::fmt;

/// A processor of the model.
pub type Cpu = u8;

/// A page of the model.
pub type Page = u8;

/// A lock of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockId {
    /// `xa_lock` of some mapping: a lock that task and interrupt share.
    Xarray,
    /// `per_cpu_pages.lock` of a CPU.
    Pcp(Cpu),
    /// `zone->lock`
    Zone,
    /// The spin lock of `zonelist_update_seq`.
    ZonelistUpdate,
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockId::Xarray => f.write_str("xa_lock"),
            LockId::Pcp(cpu) => write!(f, "pcp{cpu}->lock"),
            LockId::Zone => f.write_str("zone->lock"),
            LockId::ZonelistUpdate => f.write_str("zonelist_update_seq.lock"),
        }
    }
}

/// A list of free pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// The lists of a CPU.
    Pcp(Cpu),
    /// `free_llist`: what other CPUs freed into a CPU's pageblocks. Lock-free: changed in one step.
    Remote(Cpu),
    /// The zone's buddy lists.
    Zone,
    /// `zone->trylock_free_pages`: frees that could not wait for the zone. Lock-free.
    Deferred,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            List::Pcp(cpu) => write!(f, "pcp{cpu}'s list"),
            List::Remote(cpu) => write!(f, "pcp{cpu}->free_llist"),
            List::Zone => f.write_str("the zone's list"),
            List::Deferred => f.write_str("zone->trylock_free_pages"),
        }
    }
}

/// Something that an exploration should come by, or it has shown nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reached {
    /// A per-CPU lock was busy and the zone took the page.
    ZoneFallback,
    /// A page was pushed on another CPU's list.
    RemotePush,
    /// A page was pushed on the list of a CPU that had died meanwhile.
    LatePush,
    /// An owner took in what others had freed.
    Absorbed,
    /// The zone lock was busy and the page was parked.
    Deferred,
    /// A free found its CPU dead.
    FoundDead,
    /// A request failed although the zone has memory.
    SpuriousFailure,
}

impl Reached {
    /// All of them.
    pub const ALL: [Reached; 7] = [
        Reached::ZoneFallback,
        Reached::RemotePush,
        Reached::LatePush,
        Reached::Absorbed,
        Reached::Deferred,
        Reached::FoundDead,
        Reached::SpuriousFailure,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Reached::ZoneFallback => "zone_fallback",
            Reached::RemotePush => "remote_push",
            Reached::LatePush => "late_push",
            Reached::Absorbed => "absorbed",
            Reached::Deferred => "deferred",
            Reached::FoundDead => "found_dead",
            Reached::SpuriousFailure => "spurious_failure",
        }
    }
}

/// Where a jump leads: a step's number.
pub type Target = u8;

/// One atomic step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `local_irq_save`
    IrqSave,
    /// `local_irq_restore`
    IrqRestore,
    /// `spin_lock`: waits. With `irqs_off` after switching interrupts off (`spin_lock_irqsave`).
    Lock(LockId, IrqsOff),
    /// `spin_trylock`, or the jump.
    TryLock(LockId, Target),
    /// `spin_unlock`, and interrupts as before.
    Unlock(LockId, IrqsOff),
    /// Goes on elsewhere; costs no step.
    Goto(Target),
    /// Reads a list, to change it.
    Read(List),
    /// Writes the list that was read, with a page more.
    Push(List, Page),
    /// Writes the list that was read, with a page less; jumps if it was empty.
    Pop(List, Target),
    /// Writes the list that was read, with all pages of another, which is empty then.
    MoveAll(List, List),
    /// Pushes a page on a lock-free list by compare-and-exchange.
    PushFree(List, Page),
    /// Takes all pages of a lock-free list by exchange; jumps if there are none.
    TakeFree(List, Target),
    /// Writes the list that was read, with the pages just taken from a lock-free list.
    PutTaken(List),
    /// Jumps if a CPU is marked dead.
    IfDead(Cpu, Target),
    /// Marks a CPU dead or alive.
    SetDead(Cpu, bool),
    /// The CPU stops running until another starts it.
    Stop,
    /// Waits until a CPU stopped.
    WaitStopped(Cpu),
    /// Lets a stopped CPU run.
    Start(Cpu),
    /// Puts a pageblock on a CPU's list of owned ones.
    OwnedAdd(Cpu, u8),
    /// Takes a pageblock off its list of owned ones.
    OwnedDel(u8),
    /// Takes all off, each by itself.
    OwnedDetachAll(Cpu),
    /// Re-initialises the list head only.
    OwnedInit(Cpu),
    /// Reads the rebuild sequence; `true` waits while a rebuild runs.
    SeqBegin(bool),
    /// Jumps if the sequence is not what it was at [`Op::SeqBegin`].
    SeqRetry(Target),
    /// Adds one to the sequence.
    SeqBump,
    /// The zonelist lacks its zones from now on, or has them again.
    Zonelist(bool),
    /// Looks for a page along the zonelist; jumps if no zone is on it.
    Scan(Target),
    /// The request fails.
    Fail,
}

/// Whether a lock operation also switches interrupts off, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqsOff {
    /// No.
    No,
    /// Yes: the `_irqsave` form.
    Save,
}

/// A step with what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What happens.
    pub op: Op,
    /// Kernel function that it stands for.
    pub function: &'static str,
    /// What being about to do it shows.
    pub shows: Option<Reached>,
}

/// Steps in order; a context ends behind the last.
#[derive(Clone, Debug, Default)]
pub struct Program {
    steps: Vec<Step>,
    function: &'static str,
    shows: Option<Reached>,
}

impl Program {
    /// A program that does nothing.
    #[must_use]
    pub fn new() -> Program {
        Program::default()
    }

    /// The step at a position.
    #[must_use]
    pub fn step(&self, at: Target) -> Option<&Step> {
        self.steps.get(usize::from(at))
    }

    /// All operations, in order.
    pub fn ops(&self) -> impl Iterator<Item = Op> + '_ {
        self.steps.iter().map(|step| step.op)
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Steps added by `body` stand for a kernel function.
    pub fn within(&mut self, function: &'static str, body: impl FnOnce(&mut Program)) {
        let outer = std::mem::replace(&mut self.function, function);
        body(self);
        self.function = outer;
    }

    /// The next step added shows that something was reached.
    pub fn shows(&mut self, reached: Reached) {
        self.shows = Some(reached);
    }

    /// Adds a step.
    pub fn op(&mut self, op: Op) {
        let shows = self.shows.take();
        self.steps.push(Step { op, function: self.function, shows });
    }

    fn here(&self) -> Target {
        self.steps.len() as Target
    }

    /// Adds a step that may jump to `otherwise`, else goes on with `then`; both meet behind.
    pub fn branch(
        &mut self,
        op: impl Fn(Target) -> Op,
        then: impl FnOnce(&mut Program),
        otherwise: impl FnOnce(&mut Program),
    ) {
        let jump = self.steps.len();
        self.op(op(0));
        then(self);
        let skip = self.steps.len();
        self.op(Op::Goto(0));
        self.steps[jump].op = op(self.here());
        otherwise(self);
        self.steps[skip].op = Op::Goto(self.here());
    }

    /// Adds a step that jumps back to an earlier position.
    pub fn back_to(&mut self, position: Target, op: impl Fn(Target) -> Op) {
        self.op(op(position));
    }

    /// The position of the next step, for [`Program::back_to`].
    #[must_use]
    pub fn position(&self) -> Target {
        self.here()
    }
}
