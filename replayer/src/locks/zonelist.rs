//! The programs of a zonelist rebuild and of requests that run into it (`zonelist_update_seq`).
//!
//! `spb-allocator` 5.9. While a rebuild runs the zonelist is not whole, and a request that fails
//! then has failed for nothing.

use super::program::{IrqsOff, LockId, Op, Program, Reached};

/// How requests notice a rebuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// A sequence lock: requests wait while a rebuild runs, and every request that failed looks
    /// whether one did. `irqs_off`: the writer has interrupts off.
    Seqlock {
        /// The writer's interrupts.
        irqs_off: bool,
    },
    /// A plain counter, counted up before and after a rebuild: requests never wait, and only
    /// those that may reclaim try again (the refused proposal of 2023).
    Counter,
}

impl Sequence {
    /// Whether requests wait while a rebuild runs.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Sequence::Seqlock { .. })
    }

    /// The rebuild.
    #[must_use]
    pub fn writer(self) -> Program {
        let irqs = match self {
            Sequence::Seqlock { irqs_off: true } => IrqsOff::Save,
            _ => IrqsOff::No,
        };
        let mut program = Program::new();
        program.within("__build_all_zonelists", |p| {
            p.op(Op::Lock(LockId::ZonelistUpdate, irqs));
            p.op(Op::SeqBump);
            p.op(Op::Zonelist(false));
            p.op(Op::Zonelist(true));
            p.op(Op::SeqBump);
            p.op(Op::Unlock(LockId::ZonelistUpdate, irqs));
        });
        program
    }

    /// A request in the slow path.
    #[must_use]
    pub fn reader(self, may_reclaim: bool) -> Program {
        let mut program = Program::new();
        program.within("__alloc_pages_slowpath", |p| {
            let restart = p.position();
            p.op(Op::SeqBegin(self.waits()));
            p.branch(
                Op::Scan,
                |_| {},
                |p| {
                    if self.waits() || may_reclaim {
                        p.back_to(restart, Op::SeqRetry);
                    }
                    p.shows(Reached::SpuriousFailure);
                    p.op(Op::Fail);
                },
            );
        });
        program
    }
}
