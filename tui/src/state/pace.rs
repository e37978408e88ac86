//! How fast a recording is read, to say when a moment of it comes.

use std::collections::VecDeque;
use std::time::Duration;

use fragscope_trace::event::TimeNs;

/// Readings kept, and the time between them: the pace is that of the last ten seconds.
const MARKS_MAX: usize = 11;
const APART: Duration = Duration::from_secs(1);

/// What had been read at which time of the viewer.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    marks: VecDeque<(Duration, TimeNs)>,
}

impl Pace {
    /// Says that the recording is read up to `read_ns` now.
    pub fn note(&mut self, now: Duration, read_ns: TimeNs) {
        if self.marks.back().is_some_and(|(last, _)| now < *last + APART) {
            return;
        }
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((now, read_ns));
    }

    /// How long it takes from the last reading until a time is read, as far as that is known.
    #[must_use]
    pub fn until(&self, time_ns: TimeNs) -> Option<Duration> {
        let ((first, from_ns), (last, to_ns)) = (self.marks.front()?, self.marks.back()?);
        let read_ns = to_ns.checked_sub(*from_ns).filter(|read| *read > 0)?;
        let pace = read_ns as f64 / (*last - *first).as_secs_f64();
        Duration::try_from_secs_f64(time_ns.saturating_sub(*to_ns) as f64 / pace).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_pace_of_the_last_seconds() {
        let mut pace = Pace::default();
        assert_eq!(pace.until(5), None);
        // A slow beginning is forgotten.
        (0..20).for_each(|s| pace.note(Duration::from_secs(s), s));
        assert_eq!(pace.until(29), Some(Duration::from_secs(10)));
        (20..31).for_each(|s| pace.note(Duration::from_secs(s), 1000 * s));
        assert_eq!(pace.until(40_000), Some(Duration::from_secs(10)));
        assert_eq!(pace.until(7), Some(Duration::ZERO));
    }

    #[test]
    fn what_stands_still_never_comes() {
        let mut pace = Pace::default();
        (0..3).for_each(|s| pace.note(Duration::from_secs(s), 7));
        assert_eq!(pace.until(8), None);
    }
}
