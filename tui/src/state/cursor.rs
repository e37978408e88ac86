//! The time cursor: one for live data and recordings alike.

use fragscope_trace::event::TimeNs;

/// Which moment is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Position {
    /// The newest sample, whatever it is.
    Newest,
    /// A fixed time.
    At(TimeNs),
    /// A time that moves on.
    Playing(TimeNs),
}

/// The cursor and how fast it plays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cursor {
    /// Where it is.
    pub position: Position,
    /// Seconds of the recording per second.
    pub speed: f64,
}

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { position: Position::Newest, speed: 1.0 }
    }
}

/// Speeds that the keys go through.
const SPEEDS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

impl Cursor {
    /// The time shown, given the range that is kept.
    #[must_use]
    pub fn time_ns(&self, range: (TimeNs, TimeNs)) -> TimeNs {
        match self.position {
            Position::Newest => range.1,
            Position::At(t) | Position::Playing(t) => t.clamp(range.0, range.1),
        }
    }

    /// Whether time stands still because the user wants it to.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self.position, Position::At(_))
    }

    /// Moves on by `elapsed_ns` of the viewer's time.
    ///
    /// At the end it becomes `Newest` where more is to come (`growing`), else it stops there.
    pub fn advance(&mut self, elapsed_ns: u64, range: (TimeNs, TimeNs), growing: bool) {
        let Position::Playing(t) = self.position else {
            return;
        };
        let next = t.max(range.0).saturating_add((elapsed_ns as f64 * self.speed) as u64);
        self.position = if next < range.1 {
            Position::Playing(next)
        } else if growing && self.speed <= 1.0 {
            // The reader may still be behind the player; live data arrives at the same speed.
            Position::Playing(range.1)
        } else {
            Position::Newest
        };
    }

    /// Pauses where it is, or goes on: a recording from here (from the beginning if it stands at
    /// the end), live data from the newest. What waits for a time that is not read yet stays here.
    pub fn toggle(&mut self, range: (TimeNs, TimeNs), live: bool) {
        let now = self.time_ns(range);
        self.position = match self.position {
            Position::Playing(_) => Position::At(now),
            Position::Newest if live => Position::At(now),
            Position::At(wanted) if wanted > range.1 && !live => Position::At(now),
            Position::At(_) if live => Position::Newest,
            _ if now >= range.1 => Position::Playing(range.0),
            _ => Position::Playing(now),
        };
    }

    /// Goes to a time and stays there.
    pub fn seek(&mut self, time_ns: TimeNs, range: (TimeNs, TimeNs)) {
        self.position = Position::At(time_ns.clamp(range.0, range.1));
    }

    /// The next speed up (`1`) or down (`-1`).
    pub fn change_speed(&mut self, by: isize) {
        let at = SPEEDS.partition_point(|s| *s < self.speed) as isize + by;
        self.speed = SPEEDS[at.clamp(0, SPEEDS.len() as isize - 1) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: (u64, u64) = (1_000, 2_000);

    #[test]
    fn live_pauses_and_returns_to_the_newest() {
        let mut cursor = Cursor::default();
        cursor.toggle(RANGE, true);
        assert_eq!(cursor.position, Position::At(2_000));
        assert_eq!(cursor.time_ns((1_000, 9_000)), 2_000, "new data does not move it");
        cursor.toggle((1_000, 9_000), true);
        assert_eq!(cursor.position, Position::Newest);
    }

    #[test]
    fn a_recording_plays_again_from_its_beginning() {
        let mut cursor = Cursor::default();
        cursor.toggle(RANGE, false);
        assert_eq!(cursor.position, Position::Playing(1_000));
        cursor.advance(600, RANGE, false);
        assert_eq!(cursor.time_ns(RANGE), 1_600);
        cursor.toggle(RANGE, false);
        assert_eq!(cursor.position, Position::At(1_600));
        cursor.toggle(RANGE, false);
        cursor.advance(600, RANGE, false);
        assert_eq!(cursor.position, Position::Newest);
    }

    #[test]
    fn what_is_forgotten_is_not_shown() {
        let mut cursor = Cursor { position: Position::At(10), speed: 1.0 };
        assert_eq!(cursor.time_ns(RANGE), 1_000);
        cursor.seek(99_999, RANGE);
        assert_eq!(cursor.time_ns(RANGE), 2_000);
    }

    #[test]
    fn speeds_have_ends() {
        let mut cursor = Cursor::default();
        (0..20).for_each(|_| cursor.change_speed(1));
        assert_eq!(cursor.speed, 60.0);
        (0..20).for_each(|_| cursor.change_speed(-1));
        assert_eq!(cursor.speed, 0.1);
    }
}
