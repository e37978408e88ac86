//! Two comparisons against each other: has anything become worse?
//!
//! Both sides are what `compare --json` prints. A figure is worse only where the ranges of the two
//! sides do not meet: what seeds or unknown pages leave open is no difference.

use std::collections::BTreeMap;

use fragscope_trace::region::Bounds;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::observe::{StartState, TrackKind};

/// Figures that are compared, and whether more of one is better.
const FIGURES: [(&str, bool); 7] = [
    ("obtainable_1g", true),
    ("evacuable_1g", true),
    ("tainted_1g", false),
    ("refused", false),
    ("dropped_pages", false),
    ("moved_pages", false),
    ("reclaimed_pages", false),
];

/// Text that is no comparison.
#[derive(Debug, Error)]
#[error("not what `compare --json` prints: {0}")]
pub struct DiffError(#[from] serde_json::Error);

/// One side, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Side {
    tracks: Vec<Track>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Track {
    policy: TrackKind,
    start: StartState,
    obtainable_1g: Bounds,
    evacuable_1g: Bounds,
    tainted_1g: Bounds,
    refused: Bounds,
    dropped_pages: Bounds,
    moved_pages: Bounds,
    reclaimed_pages: Bounds,
}

impl Side {
    /// Reads what `compare --json` or `run --json` printed.
    ///
    /// # Errors
    /// If it is something else.
    pub fn parse(json: &str) -> Result<Side, DiffError> {
        Ok(serde_json::from_str(json)?)
    }
}

impl Track {
    fn figure(&self, name: &str) -> Bounds {
        match name {
            "obtainable_1g" => self.obtainable_1g,
            "evacuable_1g" => self.evacuable_1g,
            "tainted_1g" => self.tainted_1g,
            "refused" => self.refused,
            "dropped_pages" => self.dropped_pages,
            "moved_pages" => self.moved_pages,
            _ => self.reclaimed_pages,
        }
    }
}

/// How a figure changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// All of the new range is worse than all of the old, by more than is tolerated.
    Worse,
    /// All of it is better.
    Better,
    /// The ranges meet, or the difference is tolerated.
    Same,
}

/// One figure of one track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Whose placement.
    pub policy: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// Which figure.
    pub figure: &'static str,
    /// In the first comparison.
    pub a: Bounds,
    /// In the second.
    pub b: Bounds,
    /// From the first to the second.
    pub change: Change,
}

/// What `diff --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Whether no figure is worse and no track is missing.
    pub holds: bool,
    /// Every figure of every track that both have.
    pub differences: Vec<Difference>,
    /// Tracks of the first that the second does not have.
    pub missing: Vec<(TrackKind, StartState)>,
}

/// How much worse a figure may be without being called so: a share of the old value in percent.
#[must_use]
pub fn diff(a: &Side, b: &Side, tolerated_percent: u64) -> Diff {
    let of_b: BTreeMap<_, _> =
        b.tracks.iter().map(|track| ((track.policy, track.start), track)).collect();
    let (mut differences, mut missing) = (Vec::new(), Vec::new());
    for track in &a.tracks {
        let key = (track.policy, track.start);
        match of_b.get(&key) {
            Some(other) => differences.extend(figures(track, other, tolerated_percent)),
            None => missing.push(key),
        }
    }
    let is_worse = |difference: &Difference| difference.change == Change::Worse;
    let holds = missing.is_empty() && !differences.iter().any(is_worse);
    Diff { holds, differences, missing }
}

fn figures(a: &Track, b: &Track, tolerated_percent: u64) -> Vec<Difference> {
    let of = |&(figure, more_is_better)| {
        let (old, new) = (a.figure(figure), b.figure(figure));
        let change = change(old, new, more_is_better, tolerated_percent);
        Difference { policy: a.policy, start: a.start, figure, a: old, b: new, change }
    };
    FIGURES.iter().map(of).collect()
}

fn change(old: Bounds, new: Bounds, more_is_better: bool, tolerated_percent: u64) -> Change {
    let slack = |from: u64| from.saturating_mul(tolerated_percent) / 100;
    let is_more = new.min > old.max.saturating_add(slack(old.max));
    let is_less = new.max < old.min.saturating_sub(slack(old.min));
    match (is_more, is_less) {
        (false, false) => Change::Same,
        (more, _) if more == more_is_better => Change::Better,
        _ => Change::Worse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly(count: u64) -> Bounds {
        Bounds { min: count, max: count }
    }

    fn track(policy: TrackKind, tainted: Bounds, had: u64) -> Track {
        Track {
            policy,
            start: StartState::AsFound,
            obtainable_1g: exactly(had),
            evacuable_1g: exactly(had),
            tainted_1g: tainted,
            refused: exactly(0),
            dropped_pages: exactly(0),
            moved_pages: exactly(1000),
            reclaimed_pages: exactly(0),
        }
    }

    fn side(tainted: Bounds, had: u64) -> Side {
        Side { tracks: vec![track(TrackKind::Spb, tainted, had)] }
    }

    fn changes(diff: &Diff, wanted: Change) -> Vec<&str> {
        let found = diff.differences.iter().filter(|d| d.change == wanted);
        found.map(|d| d.figure).collect()
    }

    #[test]
    fn the_same_holds() {
        let same = diff(&side(exactly(3), 5), &side(exactly(3), 5), 0);
        assert!(same.holds && changes(&same, Change::Same).len() == FIGURES.len());
    }

    #[test]
    fn more_taint_and_fewer_pages_are_worse_and_the_reverse_better() {
        let (old, new) = (side(exactly(3), 5), side(exactly(4), 4));
        let worse = diff(&old, &new, 0);
        assert!(!worse.holds);
        assert_eq!(changes(&worse, Change::Worse), ["obtainable_1g", "evacuable_1g", "tainted_1g"]);
        let better = diff(&new, &old, 0);
        assert!(better.holds && changes(&better, Change::Better).len() == 3);
        assert!(diff(&old, &new, 50).holds, "a third more is tolerated");
    }

    #[test]
    fn ranges_that_meet_are_no_difference() {
        let (old, new) = (Bounds { min: 2, max: 4 }, Bounds { min: 4, max: 9 });
        assert!(diff(&side(old, 5), &side(new, 5), 0).holds);
        assert!(!diff(&side(old, 5), &side(Bounds { min: 5, max: 9 }, 5), 0).holds);
    }

    #[test]
    fn a_track_that_is_gone_does_not_hold() {
        let gone = diff(&side(exactly(3), 5), &Side { tracks: Vec::new() }, 0);
        assert!(!gone.holds && gone.missing == [(TrackKind::Spb, StartState::AsFound)]);
    }

    #[test]
    fn other_text_is_refused() {
        assert!(Side::parse("{\"events\": 3}").unwrap_err().to_string().contains("tracks"));
    }
}
