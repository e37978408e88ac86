//! What must never be: contexts that can never go on, waits against a lock's class, lost pages.

use super::machine::{IrqClass, Machine, class};
use super::program::{Cpu, IrqsOff, LockId, Op};
use super::state::{Level, MAX_CPUS, State, Who};

/// A context that waits, for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waits.
    pub who: Who,
    /// For what.
    pub reason: WaitReason,
}

/// Why a context cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// A handler runs above it, directly.
    Interrupted(Who),
    /// A lock is held.
    Held(LockId, Who),
    /// A rebuild of the zonelist runs.
    Rebuild,
    /// A CPU has not stopped.
    NotStopped(Cpu),
    /// Nobody starts its CPU.
    NotStarted,
}

impl Machine {
    /// The contexts that can never go on, with what each waits for.
    #[must_use]
    pub fn stuck(&self, state: &State) -> Vec<Wait> {
        let waits: Vec<Wait> = state.running().filter_map(|who| self.wait(state, who)).collect();
        let mut stuck = waits.clone();
        // Whoever waits for somebody that can go on can go on: what remains waits in a circle,
        // or for nobody.
        loop {
            let before = stuck.len();
            let names: Vec<Who> = stuck.iter().map(|wait| wait.who).collect();
            stuck.retain(|wait| self.hopeless(state, wait, &names));
            if stuck.len() == before {
                return stuck;
            }
        }
    }

    fn wait(&self, state: &State, who: Who) -> Option<Wait> {
        let above = state.running().find(|w| w.cpu == who.cpu && w.level > who.level);
        let reason = match above {
            Some(handler) => WaitReason::Interrupted(handler),
            None if state.cpu(who.cpu).stopped => WaitReason::NotStarted,
            None => self.obstacle(state, who)?,
        };
        Some(Wait { who, reason })
    }

    /// Whether what a context waits for can never come, if those named in `stuck` never go on.
    fn hopeless(&self, state: &State, wait: &Wait, stuck: &[Who]) -> bool {
        let goes_on = |who: Who| state.context(who).runs() && !stuck.contains(&who);
        let others = || state.running().filter(|who| *who != wait.who);
        match wait.reason {
            // Its own step may be an obstacle too, once it has the CPU again.
            WaitReason::Interrupted(handler) => {
                let later = |reason| self.hopeless(state, &Wait { who: wait.who, reason }, stuck);
                !goes_on(handler) || self.obstacle(state, wait.who).is_some_and(later)
            }
            WaitReason::Held(_, holder) => !goes_on(holder),
            WaitReason::Rebuild => !others().any(|who| self.rebuilds(who) && goes_on(who)),
            WaitReason::NotStopped(cpu) => !others().any(|who| who.cpu == cpu && goes_on(who)),
            WaitReason::NotStarted => {
                !others().any(|who| self.starts(who, wait.who.cpu) && goes_on(who))
            }
        }
    }

    fn rebuilds(&self, who: Who) -> bool {
        self.program(who).ops().any(|op| op == Op::SeqBump)
    }

    fn starts(&self, who: Who, cpu: Cpu) -> bool {
        self.program(who).ops().any(|op| op == Op::Start(cpu))
    }

    /// A context that is about to wait for a lock against the lock's class.
    #[must_use]
    pub fn against_class(&self, state: &State) -> Option<(Who, LockId)> {
        let tops = (0..MAX_CPUS as u8).filter_map(|cpu| state.top(cpu));
        tops.into_iter().find_map(|who| match self.next_step(state, who)?.op {
            Op::Lock(lock, irqs) => {
                let irqs_off = who.level != Level::Task || state.cpu(who.cpu).irqs_off > 0;
                let allowed = match class(lock) {
                    _ if who.level == Level::Nmi => false,
                    IrqClass::IrqsOn => !irqs_off,
                    IrqClass::IrqsOff => irqs_off || irqs == IrqsOff::Save,
                };
                (!allowed).then_some((who, lock))
            }
            _ => None,
        })
    }

    /// What is wrong with the lists: a page in two places, or in none when all is quiet; a list
    /// of pageblocks that is not whole.
    #[must_use]
    pub fn fault(&self, state: &State) -> Option<String> {
        let quiet = state.running().next().is_none();
        let known = self.held.iter().map(|(_, page)| *page);
        let mut known = known.chain(self.listed.iter().map(|(_, page)| *page));
        let lost = known.find_map(|page| match state.places(page) {
            0 if quiet => Some(format!("page P{page} is lost: on no list, and nobody has it")),
            0 | 1 => None,
            places => Some(format!("page P{page} is in {places} places at once")),
        });
        lost.or_else(|| state.owned.fault())
    }
}
