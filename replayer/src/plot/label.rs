//! Words and places of labels.

use fragscope_trace::region::Bounds;

use super::history::TrackHistory;
use crate::observe::{StartState, TrackKind};

/// A time on an axis that reaches to `end`.
pub(super) fn seconds(seconds: f64, end: f64) -> String {
    if end >= 7200.0 {
        format!("{:.1} h", seconds / 3600.0)
    } else if end >= 600.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if end >= 10.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{seconds:.1} s")
    }
}

/// A count that may be open.
pub(super) fn range(bounds: Bounds) -> String {
    if bounds.min == bounds.max {
        bounds.min.to_string()
    } else {
        format!("{} to {}", bounds.min, bounds.max)
    }
}

/// A count on an axis; nothing between two counts.
pub(super) fn count(value: f64) -> String {
    if (value - value.round()).abs() < 1e-6 { format!("{value:.0}") } else { String::new() }
}

/// A track and, where it is not as found, its start.
pub(super) fn track(track: &TrackHistory) -> String {
    name(track.kind, track.start)
}

/// The same from its parts.
pub(super) fn name(kind: TrackKind, start: StartState) -> String {
    let start = match start {
        StartState::AsFound => "",
        StartState::FromBoot => " from boot",
        StartState::FromBootIdeal => " ideal",
    };
    format!("{}{start}", kind.name())
}

/// A line that keeps each value until the next sample.
pub(super) fn steps(times: &[f64], values: impl Iterator<Item = f64>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (time, value) in times.iter().zip(values) {
        if let Some((_, before)) = points.last().copied() {
            points.push((*time, before));
        }
        points.push((*time, value));
    }
    points
}

/// The first `limit` characters.
pub(super) fn shortened(name: &str, limit: usize) -> String {
    match name.chars().count() > limit {
        true => name.chars().take(limit - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// Moves places apart so that any two differ by `gap`, keeping their order and, as far as that
/// goes, staying at or above `lowest` (places grow downwards).
pub(super) fn spread(places: &[i32], gap: i32, lowest: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|index| places[*index]);
    let mut moved = places.to_vec();
    let mut next = i32::MIN;
    for index in &order {
        moved[*index] = places[*index].max(next);
        next = moved[*index].saturating_add(gap);
    }
    let mut limit = lowest;
    for index in order.iter().rev() {
        moved[*index] = moved[*index].min(limit);
        limit = moved[*index] - gap;
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_lie_on_each_other() {
        assert_eq!(spread(&[10, 10, 100, 12], 15, 200), [10, 25, 100, 40]);
        assert_eq!(spread(&[90, 95, 99], 15, 100), [70, 85, 100]);
        assert_eq!(spread(&[], 15, 0), Vec::<i32>::new());
    }

    #[test]
    fn a_value_holds_until_the_next() {
        let points = steps(&[0.0, 1.0], [5.0, 7.0].into_iter());
        assert_eq!(points, [(0.0, 5.0), (1.0, 5.0), (1.0, 7.0)]);
    }

    #[test]
    fn only_whole_counts_are_labelled() {
        assert_eq!([count(2.0), count(2.5)], ["2", ""]);
        assert_eq!([seconds(30.0, 60.0), seconds(1.25, 5.0)], ["30 s", "1.2 s"]);
    }
}
