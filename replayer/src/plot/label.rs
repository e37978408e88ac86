//! Words and places of labels.

use super::history::TrackHistory;
use crate::observe::StartState;

/// A time on an axis that reaches to `end`.
pub(super) fn seconds(seconds: f64, end: f64) -> String {
    if end >= 7200.0 {
        format!("{:.1} h", seconds / 3600.0)
    } else if end >= 600.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if end >= 10.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{seconds:.2} s")
    }
}

/// A track and, where it is not as found, its start.
pub(super) fn track(track: &TrackHistory) -> String {
    let start = match track.start {
        StartState::AsFound => "",
        StartState::FromBoot => " from boot",
        StartState::FromBootIdeal => " ideal",
    };
    format!("{}{start}", track.kind.name())
}

/// A line that keeps each value until the next sample.
pub(super) fn steps(times: &[f64], values: &[u64]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (time, value) in times.iter().zip(values) {
        if let Some((_, before)) = points.last().copied() {
            points.push((*time, before));
        }
        points.push((*time, *value as f64));
    }
    points
}

/// Moves places apart so that any two differ by `gap`, keeping their order.
pub(super) fn spread(places: &[i32], gap: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|index| places[*index]);
    let mut moved = places.to_vec();
    let mut lowest = i32::MIN;
    for index in order {
        moved[index] = places[index].max(lowest);
        lowest = moved[index].saturating_add(gap);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_lie_on_each_other() {
        assert_eq!(spread(&[10, 10, 100, 12], 15), [10, 25, 100, 40]);
        assert_eq!(spread(&[], 15), Vec::<i32>::new());
    }

    #[test]
    fn a_value_holds_until_the_next() {
        let points = steps(&[0.0, 1.0], &[5, 7]);
        assert_eq!(points, [(0.0, 5.0), (1.0, 5.0), (1.0, 7.0)]);
    }
}
