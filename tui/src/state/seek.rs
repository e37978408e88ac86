//! Times as people type them.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// What was typed is no time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no time: expected 14:03, 14:03:21, +30s, -5m, start or end")]
pub struct BadTime(String);

/// A time asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// The first moment kept.
    Start,
    /// The newest moment.
    End,
    /// Relative to the moment shown, in nanoseconds.
    Offset(i64),
    /// A wall-clock time.
    Wall(Timestamp),
}

/// Reads a time. A time of day means its last occurrence before the end of `newest`'s day.
pub fn parse(text: &str, newest: Timestamp, zone: &TimeZone) -> Result<Wanted, BadTime> {
    let text = text.trim();
    match text {
        "start" => return Ok(Wanted::Start),
        "end" | "now" => return Ok(Wanted::End),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix(['+', '-']) {
        let ns = span_ns(rest).ok_or_else(|| BadTime(text.to_owned()))?;
        return Ok(Wanted::Offset(if text.starts_with('-') { -ns } else { ns }));
    }
    time_of_day(text, newest, zone).ok_or_else(|| BadTime(text.to_owned()))
}

/// `30s`, `5m`, `1h30m` in nanoseconds; a bare number means seconds.
fn span_ns(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1_000_000_000).filter(|n| *n >= 0);
    }
    let span: SignedDuration = text.parse().ok()?;
    i64::try_from(span.as_nanos()).ok().filter(|n| *n >= 0)
}

fn time_of_day(text: &str, newest: Timestamp, zone: &TimeZone) -> Option<Wanted> {
    let format = if text.matches(':').count() == 2 { "%H:%M:%S" } else { "%H:%M" };
    let time = Time::strptime(format, text).ok()?;
    let zoned = newest.to_zoned(zone.clone()).with().time(time).build().ok()?;
    Some(Wanted::Wall(zoned.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Wanted, BadTime> {
        let newest = Timestamp::from_second(1_700_000_000).expect("in range");
        parse(text, newest, &TimeZone::UTC)
    }

    #[test]
    fn times_as_people_type_them() {
        assert_eq!(read("end"), Ok(Wanted::End));
        assert_eq!(read("+30s"), Ok(Wanted::Offset(30_000_000_000)));
        assert_eq!(read("-5m"), Ok(Wanted::Offset(-300_000_000_000)));
        assert_eq!(read("+15"), Ok(Wanted::Offset(15_000_000_000)));
        let wall = |t| Timestamp::from_second(t).map(Wanted::Wall).expect("in range");
        assert_eq!(read("22:13"), Ok(wall(1_700_000_000 - 20)));
        assert_eq!(read(" 22:13:21 "), Ok(wall(1_700_000_001)));
    }

    #[test]
    fn nonsense_is_refused_with_examples() {
        for text in ["", "25:00", "soon", "+", "--5", "+99999999999999"] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains("14:03"), "{error}");
        }
    }
}
