//! A sweep as text: one line for each variant, with ranges over recordings and seeds.

use fragscope_trace::region::Bounds;

use super::run::Run;
use crate::cli::output::Lines;
use crate::observe::StartState;
use crate::verdict::bounds_text;

/// What to read from a run.
type Figure = fn(&Run) -> u64;

/// Figures shown.
const FIGURES: [(&str, Figure); 5] = [
    ("tainted", |run| run.track.tainted_1g.min),
    ("to be had", |run| run.track.obtainable_1g.min),
    ("pages moved", |run| run.track.moved_pages),
    ("refused", |run| run.track.refused),
    ("SPBs visited", |run| run.track.counters.get("spbs_visited").copied().unwrap_or(0)),
];

/// Runs of one policy and variant from one start, in order of appearance.
pub(crate) fn grouped_runs(runs: &[Run], start: StartState) -> Vec<(String, Vec<&Run>)> {
    let mut groups: Vec<(String, Vec<&Run>)> = Vec::new();
    for run in runs.iter().filter(|run| run.track.start == start) {
        let name = format!("{} {}", run.track.policy.name(), run.variant);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(run),
            None => groups.push((name, vec![run])),
        }
    }
    groups
}

/// Range of a figure.
pub(crate) fn range(runs: &[&Run], of: Figure) -> Bounds {
    let all = || runs.iter().map(|run| of(run));
    Bounds { min: all().min().unwrap_or(0), max: all().max().unwrap_or(0) }
}

/// The whole sweep.
#[must_use]
pub fn text(runs: &[Run]) -> String {
    let mut lines = Lines::default();
    let names = runs.iter().map(|run| run.variant.len() + run.track.policy.name().len() + 1);
    let width = names.max().unwrap_or(0).max(8);
    for (start, title) in [(StartState::AsFound, "as found"), (StartState::FromBoot, "from boot")] {
        let groups = grouped_runs(runs, start);
        if groups.is_empty() {
            continue;
        }
        let heads = FIGURES.map(|(head, _)| format!("{head:>14}")).concat();
        lines.raw(&format!("{title:<width$}{heads}"));
        for (name, group) in groups {
            let cells =
                FIGURES.map(|(_, of)| format!("{:>14}", bounds_text(range(&group, of)))).concat();
            lines.raw(&format!("{name:<width$}{cells}"));
        }
        lines.raw("");
    }
    lines.into_text()
}
