//! The list of hosts: a line for each, where there are several.

use std::cmp::Reverse;
use std::time::Duration;

use fragscope_replay::observe::{StartState, TrackKind, TrackSample};

use super::State;
use super::host::{Host, track_index};
use super::lists::ListState;
use crate::conn::phase::Phase;

/// Columns that the list can be sorted by.
pub const HOST_SORTS: [&str; 5] = ["the order given", "name", "state", "to be had", "tainted"];

/// One host of the list.
#[derive(Clone, Copy, Debug)]
pub struct HostRow<'a> {
    /// Position in [`State::hosts`].
    pub index: usize,
    /// The host.
    pub host: &'a Host,
}

impl<'a> HostRow<'a> {
    /// A track at the moment shown.
    #[must_use]
    pub fn track(&self, kind: TrackKind, start: StartState) -> Option<&'a TrackSample> {
        let sample = self.host.shown()?;
        track_index(sample, kind, start).map(|i| &sample.tracks[i])
    }

    fn kernel(&self, of: impl Fn(&TrackSample) -> u64) -> Option<u64> {
        self.track(TrackKind::Kernel, StartState::AsFound).map(of)
    }
}

/// The hosts shown, in order.
#[must_use]
pub fn hosts<'a>(state: &'a State, list: &ListState) -> Vec<HostRow<'a>> {
    let all = state.hosts().iter().enumerate().map(|(index, host)| HostRow { index, host });
    let words = |r: &HostRow<'_>| {
        list.admits(&format!("{} {} {}", r.host.name(), r.host.label, state_word(r.host)))
    };
    let mut rows: Vec<HostRow<'a>> = all.filter(words).collect();
    match list.sort {
        0 => {}
        1 => rows.sort_by_key(|r| r.host.name()),
        2 => rows.sort_by_key(|r| state_word(r.host)),
        3 => rows.sort_by_key(|r| r.kernel(|t| t.totals.obtainable_1g.min)),
        _ => rows.sort_by_key(|r| Reverse(r.kernel(|t| t.totals.tainted_1g.min))),
    }
    if list.reversed {
        rows.reverse();
    }
    rows
}

/// How the connection to a host stands, in one word.
#[must_use]
pub fn state_word(host: &Host) -> &'static str {
    match &host.phase {
        Phase::Opening { .. } => "connecting",
        Phase::WaitingForSnapshot { .. } => "waiting",
        Phase::Streaming if host.origin.is_live() => "live",
        Phase::Streaming => "reading",
        Phase::Lost { .. } => "lost",
        Phase::Ended { .. } => "ended",
        Phase::Failed { .. } => "failed",
    }
}

/// The same with its times: `lost 12 s ago, retry in 5 s`.
#[must_use]
pub fn state_text(host: &Host, now: Duration) -> String {
    let word = state_word(host);
    match &host.phase {
        Phase::Opening { since } | Phase::WaitingForSnapshot { since } => {
            format!("{word}, {} s", now.saturating_sub(*since).as_secs())
        }
        Phase::Lost { since, retry_at, .. } => {
            let ago = now.saturating_sub(*since).as_secs();
            let left = retry_at.saturating_sub(now).as_secs_f64().ceil();
            format!("{word} {ago} s ago, retry in {left} s")
        }
        _ => word.to_owned(),
    }
}
