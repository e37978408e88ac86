//! The time that the screen shows: given to the state, never read by it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Now, on both clocks that the screen needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the program began.
    pub uptime: Duration,
    /// Wall-clock time.
    pub wall: Timestamp,
}

impl Default for Now {
    fn default() -> Now {
        Now { uptime: Duration::ZERO, wall: Timestamp::UNIX_EPOCH }
    }
}

/// A wall clock that is set by more than this is taken for another boot of the host.
const CORRECTION_MAX_NS: u128 = 10_000_000_000;

/// Translates times of a traced host's `CLOCK_MONOTONIC` to wall-clock text.
#[derive(Clone, Debug)]
pub struct WallClock {
    /// Nanoseconds since the Unix epoch when the host's clock stood at `started_ns`.
    started_unix_ns: u64,
    /// The host's clock at that moment.
    started_ns: u64,
}

impl WallClock {
    /// A clock that reads `started_unix_ns` when `CLOCK_MONOTONIC` reads `started_ns`.
    #[must_use]
    pub fn new(started_unix_ns: u64, started_ns: u64) -> WallClock {
        WallClock { started_unix_ns, started_ns }
    }

    /// Whether both read the same clock: what they differ by is a correction of the wall clock.
    #[must_use]
    pub fn agrees_with(&self, other: &WallClock) -> bool {
        let boot = |c: &WallClock| i128::from(c.started_unix_ns) - i128::from(c.started_ns);
        boot(self).abs_diff(boot(other)) < CORRECTION_MAX_NS
    }

    /// The wall-clock time at `time_ns` of the traced host.
    #[must_use]
    pub fn at(&self, time_ns: u64) -> Timestamp {
        let since = i128::from(time_ns) - i128::from(self.started_ns);
        let unix = i128::from(self.started_unix_ns) + since;
        Timestamp::from_nanosecond(unix).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The inverse of [`WallClock::at`], clipped to the range of the host's clock.
    #[must_use]
    pub fn host_ns(&self, wall: Timestamp) -> u64 {
        let since = wall.as_nanosecond() - i128::from(self.started_unix_ns);
        u64::try_from(since + i128::from(self.started_ns)).unwrap_or(0)
    }

    /// Local time of day; with the date when it is not the day of `now`.
    #[must_use]
    pub fn text(&self, time_ns: u64, now: Timestamp, zone: &TimeZone) -> String {
        local_text(self.at(time_ns), now, zone)
    }
}

/// Local time of day; with the date when it is not the day of `now`.
#[must_use]
pub fn local_text(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let time = time.to_zoned(zone.clone());
    let today = now.to_zoned(zone.clone()).date();
    let format = if time.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_host_become_wall_time_and_back() {
        let clock = WallClock::new(1_700_000_000_000_000_000, 5_000_000_000);
        let wall = clock.at(6_000_000_000);
        assert_eq!(wall.as_second(), 1_700_000_001);
        assert_eq!(clock.host_ns(wall), 6_000_000_000);
        assert_eq!(clock.host_ns(Timestamp::UNIX_EPOCH), 0);
    }

    #[test]
    fn a_reboot_is_told_from_a_reconnection() {
        let first = WallClock::new(1_700_000_000_000_000_000, 5_000_000_000);
        let later = WallClock::new(1_700_000_060_000_000_000, 65_000_000_000);
        let rebooted = WallClock::new(1_700_000_060_000_000_000, 3_000_000_000);
        assert!(first.agrees_with(&later) && !first.agrees_with(&rebooted));
    }

    #[test]
    fn the_date_appears_only_on_another_day() {
        let clock = WallClock::new(1_700_000_000_000_000_000, 0);
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let zone = TimeZone::UTC;
        assert_eq!(clock.text(0, at(1_700_000_060), &zone), "22:13:20");
        assert_eq!(clock.text(0, at(1_700_100_000), &zone), "2023-11-14 22:13:20");
    }
}
