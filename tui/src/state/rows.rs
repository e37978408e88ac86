//! Rows of the lists, sorted and filtered: what the selection counts.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use fragscope_replay::observe::{Sample, StartState, TrackKind, TrackSample};
use fragscope_trace::machine::Zone;
use fragscope_trace::page::REGION_ORDER;
use fragscope_trace::region::{RegionCensus, RegionState};

use super::State;
use super::blame::{Culprit, culprits};
use super::counters::{Group, group, meaning};
use super::host::{Host, track_index};
use super::hosts::{HOST_SORTS, hosts};
use super::lists::ListState;
use super::ui::{ViewId, ZOOMS};

/// One region in the three tracks.
#[derive(Clone, Copy, Debug)]
pub struct RegionRow<'a> {
    /// Position in the tracks' lists of regions.
    pub index: usize,
    /// Its zone, where that is known.
    zone: Option<&'a Zone>,
    /// The region in each track, in the order of [`TrackKind::ALL`].
    pub tracks: [Option<&'a RegionCensus>; 3],
}

impl RegionRow<'_> {
    /// GiB of physical memory at which it lies.
    #[must_use]
    pub fn gib(&self) -> u64 {
        self.tracks.iter().flatten().next().map_or(0, |r| r.start.0 >> REGION_ORDER)
    }

    /// Label of its zone.
    #[must_use]
    pub fn zone(&self) -> String {
        self.zone.map(Zone::label).unwrap_or_default()
    }

    /// State in a track.
    #[must_use]
    pub fn state(&self, track: usize) -> Option<RegionState> {
        self.tracks[track].map(RegionCensus::state)
    }

    /// Non-movable pages in a track.
    #[must_use]
    pub fn tainting(&self, track: usize) -> u64 {
        self.tracks[track].map_or(0, RegionCensus::tainting_pages)
    }

    fn text(&self) -> String {
        let words = (0..3).filter_map(|t| self.state(t)).map(state_name);
        format!("{} {} {}", self.zone(), self.gib(), words.collect::<Vec<_>>().join(" "))
    }
}

/// A state in one word.
#[must_use]
pub fn state_name(state: RegionState) -> &'static str {
    match state {
        RegionState::Absent => "absent",
        RegionState::Partial => "partial",
        RegionState::Hugetlb => "hugetlb",
        RegionState::Tainted => "tainted",
        RegionState::Unknown => "unknown",
        RegionState::Evacuable => "movable",
        RegionState::Free => "free",
    }
}

/// Columns that the region list can be sorted by.
pub const REGION_SORTS: [&str; 4] = ["address", "kernel state", "kernel unmovable", "spb state"];
/// Columns that the blame list can be sorted by.
pub const BLAME_SORTS: [&str; 4] = ["kernel taints", "spb taints", "process", "last"];
/// Columns that the counter list can be sorted by.
pub const COUNTER_SORTS: [&str; 5] = ["subject", "kernel", "stock", "spb", "name"];

/// The regions shown, in order.
#[must_use]
pub fn regions<'a>(
    host: &'a Host,
    sample: &'a Sample,
    start: StartState,
    list: &ListState,
) -> Vec<RegionRow<'a>> {
    let tracks = TrackKind::ALL
        .map(|kind| track_index(sample, kind, start).map(|i| sample.tracks[i].regions.as_slice()));
    let count = tracks.iter().flatten().map(|r| r.len()).max().unwrap_or(0);
    let row = |index: usize| {
        let tracks = tracks.map(|t| t.and_then(|regions| regions.get(index)));
        let zone = tracks.iter().flatten().next().map_or(0, |r| usize::from(r.zone));
        let zone = host.machine.as_ref().and_then(|m| m.zones.get(zone));
        RegionRow { index, zone, tracks }
    };
    let admits = |r: &RegionRow<'_>| list.filter.is_empty() || list.admits(&r.text());
    let mut rows: Vec<RegionRow<'a>> = (0..count).map(row).filter(admits).collect();
    match list.sort {
        0 => {}
        1 => rows.sort_by_cached_key(|r| r.state(0)),
        2 => rows.sort_by_cached_key(|r| Reverse(r.tainting(0))),
        _ => rows.sort_by_cached_key(|r| r.state(2)),
    }
    reverse_if(rows, list)
}

/// The culprits shown, in order: those of the charts' span up to the moment shown.
#[must_use]
pub fn blame<'a>(host: &'a Host, zoom: usize, list: &ListState) -> Vec<Culprit<'a>> {
    let Some(now) = host.shown().map(|s| s.time_ns) else {
        return Vec::new();
    };
    let from = ZOOMS[zoom].map_or(0, |seconds| now.saturating_sub(seconds * 1_000_000_000));
    let mut rows = culprits(&host.taints, (from, now));
    rows.retain(|c| list.filter.is_empty() || list.admits(&c.text()));
    match list.sort {
        0 => {}
        1 => rows.sort_by_key(|c| Reverse(c.taints[2])),
        2 => rows.sort_by_key(|c| c.cause),
        _ => rows.sort_by_key(|c| Reverse(c.last.time_ns)),
    }
    reverse_if(rows, list)
}

/// A named counter in the three tracks.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterRow {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub group: Group,
    /// What it counts, where that is known.
    pub meaning: Option<&'static str>,
    /// Total and change per second by track, where the track has it.
    pub values: [Option<(u64, Option<f64>)>; 3],
}

/// The counters shown, in order.
#[must_use]
pub fn counters(host: &Host, start: StartState, list: &ListState) -> Vec<CounterRow> {
    let Some(sample) = host.shown() else {
        return Vec::new();
    };
    let interval = host.interval();
    let indexes = TrackKind::ALL.map(|kind| track_index(sample, kind, start));
    let tracks: Vec<&TrackSample> = indexes.iter().flatten().map(|i| &sample.tracks[*i]).collect();
    let names: BTreeSet<&String> = tracks.iter().flat_map(|t| t.counters.keys()).collect();
    let value = |index: Option<usize>, name: &str| {
        let total = *sample.tracks[index?].counters.get(name)?;
        Some((total, interval.as_ref().and_then(|i| i.counter(index?, name))))
    };
    let mut rows: Vec<CounterRow> = names
        .into_iter()
        .filter(|name| list.admits(name))
        .map(|name| CounterRow {
            name: name.clone(),
            group: group(name),
            meaning: meaning(name),
            values: indexes.map(|i| value(i, name)),
        })
        .collect();
    match list.sort {
        0 => rows.sort_by_key(|r| r.group),
        by @ 1..=3 => rows.sort_by_key(|r| Reverse(r.values[by - 1].map(|v| v.0))),
        _ => {}
    }
    // What never happened is of least interest.
    rows.sort_by_key(|r| r.values.iter().flatten().all(|(total, _)| *total == 0));
    reverse_if(rows, list)
}

fn reverse_if<T>(mut rows: Vec<T>, list: &ListState) -> Vec<T> {
    if list.reversed {
        rows.reverse();
    }
    rows
}

/// Number of rows of the list of the view shown; `None` where it has none.
#[must_use]
pub fn row_count(state: &State) -> Option<usize> {
    let (host, ui) = (state.host(), &state.ui);
    let list = ui.list(ui.view);
    match ui.view {
        ViewId::Hosts => Some(hosts(state, list).len()),
        ViewId::Overview => None,
        ViewId::Regions if ui.region_open => None,
        ViewId::Regions => Some(host.shown().map_or(0, |s| regions(host, s, ui.start, list).len())),
        ViewId::Blame => Some(blame(host, ui.zoom, list).len()),
        ViewId::Allocator => Some(counters(host, ui.start, list).len()),
        ViewId::Health => None,
    }
}

/// Names of the columns that the list of a view can be sorted by.
#[must_use]
pub fn sorts(view: ViewId) -> &'static [&'static str] {
    match view {
        ViewId::Hosts => &HOST_SORTS,
        ViewId::Regions => &REGION_SORTS,
        ViewId::Blame => &BLAME_SORTS,
        ViewId::Allocator => &COUNTER_SORTS,
        ViewId::Overview | ViewId::Health => &[],
    }
}
