//! Runs the model checker over a subject's machines.

use stateright::{Checker, Model, Property};

use super::machine::{Action, Machine};
use super::program::Reached;
use super::state::State;
use super::subject::{Expected, Subject};
use super::trace::{self, Trace};

/// What was found in one machine.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Found {
    /// Name of the machine.
    pub machine: &'static str,
    /// Different states, each visited.
    pub states_visited: usize,
    /// Steps of the longest way to a state.
    pub depth_max: usize,
    /// A state from which some context can never go on.
    pub deadlock: Option<Trace>,
    /// A state with a lost or doubled page, or a broken list.
    pub corruption: Option<Trace>,
    /// A state in which a context is about to wait for a lock against the lock's class.
    pub against_class: Option<Trace>,
    /// What the exploration came by.
    pub reached: Vec<&'static str>,
}

/// What was found in a subject.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// What was explored.
    pub subject: Subject,
    /// By machine.
    pub machines: Vec<Found>,
}

const DEADLOCK: &str = "a context can never go on";
const CORRUPTION: &str = "a list or page is corrupted";
const AGAINST_CLASS: &str = "a lock is waited for against its class";

impl Model for Machine {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        Machine::actions(self, state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.after(state, action)
    }

    fn properties(&self) -> Vec<Property<Machine>> {
        let mut properties = vec![
            Property::sometimes(DEADLOCK, |machine: &Machine, state| {
                !machine.stuck(state).is_empty()
            }),
            Property::sometimes(CORRUPTION, |machine: &Machine, state| {
                machine.fault(state).is_some()
            }),
            Property::sometimes(AGAINST_CLASS, |machine: &Machine, state| {
                machine.against_class(state).is_some()
            }),
        ];
        properties.extend(
            Reached::ALL
                .iter()
                .zip(REACHED)
                .map(|(reached, condition)| Property::sometimes(reached.name(), condition)),
        );
        properties
    }
}

type Condition = fn(&Machine, &State) -> bool;

/// One condition for each of [`Reached::ALL`]: the checker takes functions, not closures.
const REACHED: [Condition; Reached::ALL.len()] = [
    reached::<0>,
    reached::<1>,
    reached::<2>,
    reached::<3>,
    reached::<4>,
    reached::<5>,
    reached::<6>,
];

fn reached<const WHICH: usize>(machine: &Machine, state: &State) -> bool {
    machine.shows(state, Reached::ALL[WHICH])
}

/// Visits every state of every machine of a subject, on one thread each: the same every time.
/// States are told apart by a hash of 64 bits.
#[must_use]
pub fn explore(subject: Subject) -> Exploration {
    let machines = subject.machines().into_iter().map(|(name, machine)| visit(name, &machine));
    Exploration { subject, machines: machines.collect() }
}

pub(super) fn visit(name: &'static str, machine: &Machine) -> Found {
    let whole = machine.clone().checker().spawn_bfs().join();
    let depth_max = whole.max_depth();
    let trace =
        |property| whole.discovery(property).map(|_| shortest(machine, property, depth_max));
    let names = Reached::ALL.map(Reached::name);
    Found {
        machine: name,
        states_visited: whole.unique_state_count(),
        depth_max,
        deadlock: trace(DEADLOCK),
        corruption: trace(CORRUPTION),
        against_class: trace(AGAINST_CLASS),
        reached: names.into_iter().filter(|n| whole.discovery(n).is_some()).collect(),
    }
}

/// The shortest way to a property that the machine can have. The checker keeps the last way that
/// it found, so the depth to which it may look is narrowed down.
fn shortest(machine: &Machine, property: &'static str, depth_max: usize) -> Trace {
    let within = |depth: usize| {
        let checker = machine.clone().checker().target_max_depth(depth).spawn_bfs().join();
        checker.discovery(property).map(stateright::Path::into_vec)
    };
    let (mut too_short, mut enough, mut best) = (0, depth_max + 1, None);
    while too_short + 1 < enough {
        let depth = (too_short + enough) / 2;
        match within(depth) {
            Some(path) => (enough, best) = (depth, Some(path)),
            None => too_short = depth,
        }
    }
    trace::of(machine, &best.or_else(|| within(enough)).unwrap_or_default())
}

impl Exploration {
    /// States visited in all machines.
    #[must_use]
    pub fn states_visited(&self) -> usize {
        self.machines.iter().map(|found| found.states_visited).sum()
    }

    /// The first deadlock.
    #[must_use]
    pub fn deadlock(&self) -> Option<&Trace> {
        self.machines.iter().find_map(|found| found.deadlock.as_ref())
    }

    /// The first corruption.
    #[must_use]
    pub fn corruption(&self) -> Option<&Trace> {
        self.machines.iter().find_map(|found| found.corruption.as_ref())
    }

    /// The first wait against a lock's class.
    #[must_use]
    pub fn against_class(&self) -> Option<&Trace> {
        self.machines.iter().find_map(|found| found.against_class.as_ref())
    }

    /// What it came by, in the order of [`Reached::ALL`].
    #[must_use]
    pub fn reached(&self) -> Vec<&'static str> {
        let any = |name: &&str| self.machines.iter().any(|found| found.reached.contains(name));
        Reached::ALL.map(Reached::name).into_iter().filter(any).collect()
    }

    /// Whether exactly what is known of the subject was found.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let Expected { deadlock, corruption, against_class, reached } = self.subject.expected();
        let names: Vec<_> = reached.iter().map(|reached| reached.name()).collect();
        self.deadlock().is_some() == deadlock
            && self.corruption().is_some() == corruption
            && self.against_class().is_some() == against_class
            && self.reached() == names
    }
}
