//! What the explorations found, as data and as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::explore::{Exploration, Found, explore};
use super::subject::Subject;
use super::trace::{Trace, TraceStep};
use crate::cli::output::grouped;

/// What was found in some subjects.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// By subject.
    pub protocols: Vec<SubjectReport>,
}

/// What was found in a subject.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectReport {
    /// Its name.
    pub protocol: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Different states, each visited; no state was left out.
    pub states_visited: usize,
    /// Some context can come to wait for ever.
    pub deadlock_found: bool,
    /// A page can be lost or doubled, or a list broken.
    pub corruption_found: bool,
    /// A lock can be waited for against its interrupt class.
    pub class_violation_found: bool,
    /// What the exploration came by.
    pub reached: Vec<&'static str>,
    /// Whether all this is what is known of the subject.
    pub as_expected: bool,
    /// The shortest way to the deadlock, else to the corruption.
    pub trace: Option<Trace>,
    /// By machine, each with all its traces.
    pub machines: Vec<Found>,
}

/// Explores subjects, one after the other.
#[must_use]
pub fn report(subjects: &[Subject]) -> Report {
    let protocols = subjects.iter().map(|subject| of(explore(*subject))).collect();
    Report { protocols }
}

fn of(exploration: Exploration) -> SubjectReport {
    SubjectReport {
        protocol: exploration.subject.name(),
        about: exploration.subject.about(),
        states_visited: exploration.states_visited(),
        deadlock_found: exploration.deadlock().is_some(),
        corruption_found: exploration.corruption().is_some(),
        class_violation_found: exploration.against_class().is_some(),
        reached: exploration.reached(),
        as_expected: exploration.is_as_expected(),
        trace: exploration.deadlock().or(exploration.corruption()).cloned(),
        machines: exploration.machines,
    }
}

impl Report {
    /// Whether everything was found that is known, and nothing else.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.protocols.iter().all(|subject| subject.as_expected)
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = self.protocols.iter().map(|s| s.protocol.len()).max().unwrap_or(0);
        let _ = writeln!(
            text,
            "{:width$}  {:>14}  {:>14}  {:>16}  as expected",
            "protocol", "states_visited", "deadlock_found", "corruption_found"
        );
        for subject in &self.protocols {
            let SubjectReport { protocol, deadlock_found, corruption_found, .. } = subject;
            let states = grouped(subject.states_visited as u64);
            let (deadlock, corruption) = (yes(*deadlock_found), yes(*corruption_found));
            let expected = yes(subject.as_expected);
            let _ = writeln!(
                text,
                "{protocol:width$}  {states:>14}  {deadlock:>14}  {corruption:>16}  {expected}"
            );
        }
        for subject in &self.protocols {
            text.push('\n');
            subject.describe(&mut text);
        }
        text
    }
}

fn yes(fact: bool) -> &'static str {
    if fact { "yes" } else { "no" }
}

impl SubjectReport {
    fn describe(&self, text: &mut String) {
        let _ = writeln!(text, "{}: {}", self.protocol, self.about);
        for found in &self.machines {
            let Found { machine, depth_max, .. } = found;
            let states = grouped(found.states_visited as u64);
            let _ = writeln!(text, "  {machine}: {states} states, at most {depth_max} steps deep");
        }
        if !self.reached.is_empty() {
            let _ = writeln!(text, "  reached: {}", self.reached.join(", "));
        }
        let traces = [
            ("a lock is waited for against its interrupt class", self.first(|f| &f.against_class)),
            ("deadlock", self.first(|f| &f.deadlock)),
            ("corruption", self.first(|f| &f.corruption)),
        ];
        for (what, trace) in traces {
            match trace {
                Some((machine, trace)) => {
                    let _ = writeln!(text, "  {what}, found in {machine}:");
                    describe_trace(text, trace);
                }
                None => {
                    let _ = writeln!(text, "  {what}: none in any state");
                }
            }
        }
    }

    fn first(&self, which: impl Fn(&Found) -> &Option<Trace>) -> Option<(&'static str, &Trace)> {
        self.machines.iter().find_map(|found| Some((found.machine, which(found).as_ref()?)))
    }
}

fn describe_trace(text: &mut String, trace: &Trace) {
    for (number, step) in trace.steps.iter().enumerate() {
        let TraceStep { cpu, context, function, what } = step;
        let number = number + 1;
        let _ = writeln!(text, "    {number:>3}  CPU{cpu} {context:<7}  {function:<22}  {what}");
    }
    for line in &trace.conclusion {
        let _ = writeln!(text, "    =>   {line}");
    }
}
