//! The state of a connection, and how it says so.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::state::clock::local_text;

/// What kind of thing delivers the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The agent inside this process, on this host.
    Local,
    /// A remote agent behind a socket.
    Socket,
    /// A pipe.
    Pipe,
    /// A recording in a file.
    File,
    /// The recording that comes with the program.
    Bundled,
}

impl Origin {
    /// Whether the data is happening now.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Origin::Local | Origin::Socket | Origin::Pipe)
    }
}

/// Where a connection stands. Times are since the program began.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Being opened.
    Opening {
        /// Since when.
        since: Duration,
    },
    /// The trace has begun; nothing can be shown before its first snapshot.
    WaitingForSnapshot {
        /// Since when.
        since: Duration,
    },
    /// Data arrives.
    Streaming,
    /// It broke; another attempt follows.
    Lost {
        /// When it broke.
        since: Duration,
        /// When the next attempt is made.
        retry_at: Duration,
        /// What happened.
        why: String,
    },
    /// The trace is over.
    Ended {
        /// How it ended, where that is worth saying: cut off, or not closed in order.
        note: Option<String>,
    },
    /// It cannot go on.
    Failed {
        /// Why, and what to do.
        why: String,
    },
}

impl Phase {
    /// Whether more may come.
    #[must_use]
    pub fn is_growing(&self) -> bool {
        !matches!(self, Phase::Ended { .. } | Phase::Failed { .. })
    }

    /// Whether what is shown may no longer be so.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Phase::Lost { .. } | Phase::Failed { .. })
    }

    /// What a screen without data says, or one whose data is stale; `None` when all is well.
    #[must_use]
    pub fn notice(&self, now: Duration, has_data: bool) -> Option<String> {
        let last = if has_data { "; showing the last data" } else { "" };
        Some(match self {
            Phase::Opening { since } => format!("connecting ({}){last}", short(now, *since)),
            Phase::WaitingForSnapshot { since } => {
                let again = if has_data { "connected again, " } else { "" };
                let waited = short(now, *since);
                format!("{again}waiting for the first snapshot ({waited}){last}")
            }
            Phase::Lost { since, retry_at, why } => {
                let ago = now.saturating_sub(*since).as_secs();
                let left = retry_at.saturating_sub(now).as_secs_f64().ceil();
                format!("connection lost {ago} s ago ({why}){last}, retrying in {left} s")
            }
            Phase::Failed { why } => format!("{why}{last}"),
            Phase::Ended { note } => note.clone()?,
            Phase::Streaming if has_data => return None,
            Phase::Streaming => "waiting for the first sample".to_owned(),
        })
    }

    /// One word for the header, with the time where it is live.
    #[must_use]
    pub fn headline(&self, origin: Origin, wall: Timestamp, zone: &TimeZone) -> String {
        match (self, origin.is_live()) {
            (Phase::Opening { .. } | Phase::WaitingForSnapshot { .. }, _) => "WAITING".to_owned(),
            (Phase::Streaming, true) => format!("LIVE {}", local_text(wall, wall, zone)),
            (Phase::Streaming, false) => "READING".to_owned(),
            (Phase::Lost { .. }, _) => "LOST".to_owned(),
            (Phase::Failed { .. }, _) => "FAILED".to_owned(),
            (Phase::Ended { .. }, true) => "ENDED".to_owned(),
            (Phase::Ended { .. }, false) => "RECORDING".to_owned(),
        }
    }
}

/// Seconds between two times, to a tenth while short.
fn short(now: Duration, since: Duration) -> String {
    let seconds = now.saturating_sub(since).as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn states_speak() {
        let waiting = Phase::WaitingForSnapshot { since: S(1) };
        let text = waiting.notice(Duration::from_millis(1300), false);
        assert_eq!(text.as_deref(), Some("waiting for the first snapshot (0.3 s)"));
        let lost = Phase::Lost { since: S(10), retry_at: S(27), why: "reset".to_owned() };
        assert_eq!(
            lost.notice(S(22), true).as_deref(),
            Some("connection lost 12 s ago (reset); showing the last data, retrying in 5 s")
        );
        let again = Phase::WaitingForSnapshot { since: S(1) }.notice(S(3), true);
        assert_eq!(
            again.as_deref(),
            Some("connected again, waiting for the first snapshot (2.0 s); showing the last data")
        );
        assert_eq!(Phase::Streaming.notice(S(1), true), None);
    }
}
