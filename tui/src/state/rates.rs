//! Rates: what cumulative counts did in the last second or so.

use std::sync::Arc;

use fragscope_replay::observe::{EventTotals, Sample};

use super::history::Point;

/// Samples closer than this tell no rate.
const SPAN_MIN_NS: u64 = 900_000_000;

/// Two samples between which rates are taken.
#[derive(Clone, Debug)]
pub struct Interval<'a> {
    /// The earlier.
    pub before: &'a Arc<Sample>,
    /// The later, the one shown.
    pub now: &'a Arc<Sample>,
}

/// Position of the sample that rates at the one at `index` are taken from: the youngest that is
/// about a second older; for the very first second the oldest there is. `None` with a single one.
#[must_use]
pub fn before(points: &[Point], index: usize) -> Option<usize> {
    let from = points.get(index)?.time_ns.saturating_sub(SPAN_MIN_NS);
    let older = points[..index].partition_point(|p| p.time_ns <= from);
    (index > 0).then(|| older.saturating_sub(1))
}

impl Interval<'_> {
    /// Its length in seconds, more than 0.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.now.time_ns - self.before.time_ns).max(1) as f64 / 1e9
    }

    /// Change per second of a cumulative count of the events.
    #[must_use]
    pub fn events(&self, count: impl Fn(&EventTotals) -> u64) -> f64 {
        let change = count(&self.now.events).saturating_sub(count(&self.before.events));
        change as f64 / self.seconds()
    }

    /// Change per second of a counter of the track at `track` in the samples' lists.
    #[must_use]
    pub fn counter(&self, track: usize, name: &str) -> Option<f64> {
        let value = |s: &Sample| s.tracks.get(track)?.counters.get(name).copied();
        let change = value(self.now)?.saturating_sub(value(self.before).unwrap_or(0));
        Some(change as f64 / self.seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::history::History;

    fn history(of: &[(u64, u64)]) -> History {
        let mut history = History::default();
        for (ms, allocs) in of {
            history.push(Arc::new(Sample {
                time_ns: ms * 1_000_000,
                tracks: Vec::new(),
                events: EventTotals { allocs: *allocs, ..EventTotals::default() },
                kernel_divergence: None,
                stock_divergence: None,
                peak_unmovable_pages: 0,
                floor_1g: 0,
                cost: None,
            }));
        }
        history
    }

    #[test]
    fn a_rate_spans_about_a_second() {
        let history = history(&[(0, 0), (500, 100), (1000, 300), (1500, 700)]);
        let rate = |i| {
            let (before, now) = (before(history.points(), i)?, history.sample(i)?);
            let before = history.sample(before)?;
            Some(Interval { before: &before, now: &now }.events(|e| e.allocs))
        };
        assert_eq!(rate(0), None);
        assert_eq!(rate(1), Some(200.0), "the first second has what there is");
        assert_eq!(rate(3), Some(600.0));
    }
}
