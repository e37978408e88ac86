//! What the pictures show: the samples of all tracks over a trace, as far as pictures need them.

use std::collections::BTreeMap;
use std::io::Read;

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::{Machine, Zone};
use fragscope_trace::page::{NR_PAGE_ORDERS, PAGEBLOCK_ORDER, REGION_PAGES};
use fragscope_trace::reader::{ReadError, TraceReader};
use fragscope_trace::region::{Bounds, RegionCensus, RegionState};

use super::PlotError;
use crate::callsite::call_site;
use crate::engine::drive::untraced;
use crate::engine::observatory::Observatory;
use crate::engine::sampled::Sampled;
use crate::mm::fragindex::ContigPages;
use crate::observe::{Sample, StartState, TaintEvent, TrackKind, TrackSample};
use crate::start::TrackSpec;

/// One track over time.
#[derive(Clone, Debug)]
pub struct TrackHistory {
    /// Whose.
    pub kind: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// Regions that could be had together, at each sample.
    pub obtainable_1g: Vec<Bounds>,
    /// Tainted regions, at each sample.
    pub tainted_1g: Vec<Bounds>,
    /// Part of free memory in blocks below pageblock size, in thousandths, at each sample.
    pub unusable_permille: Vec<u64>,
    /// The same for every order, at the end.
    pub unusable_by_order: Vec<u64>,
    /// State and movable share of each region, at each sample.
    pub regions: Vec<Vec<RegionCell>>,
    /// Pages to move for 1, 2, .. regions at the end.
    pub cost_pages: Vec<u64>,
    /// Superpageblocks looked at by one search, and how many searches did so, at the end.
    pub visits: Vec<(String, u64)>,
    /// All superpageblocks looked at.
    pub visited: u64,
}

/// One region at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegionCell {
    /// Its state.
    pub state: RegionState,
    /// Movable pages over all its pages.
    pub movable_share: f32,
}

/// All tracks over a trace.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What was traced, for titles.
    pub title: String,
    /// Seconds since the start, of each sample.
    pub times_s: Vec<f64>,
    /// Tracks in the order in which they are shown.
    pub tracks: Vec<TrackHistory>,
    /// Regions that no policy can do without, at each sample.
    pub floor_1g: Vec<u64>,
    /// Name of each region.
    pub region_names: Vec<String>,
    /// Taint by track and by who did it, most first.
    pub blame: BTreeMap<(TrackKind, StartState), Vec<(String, u64)>>,
}

/// Replays a trace and keeps samples of it; `open` gives the trace from its beginning. `progress`
/// is told the bytes of it that were read.
///
/// # Errors
/// If the trace cannot be read or replayed.
pub fn replay<R: Read>(
    open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    tracks: Vec<TrackSpec>,
    interval_ns: TimeNs,
    mut progress: impl FnMut(u64),
) -> Result<History, PlotError> {
    let backfill = untraced(&mut open()?)?;
    let mut reader = open()?;
    let header = reader.header().clone();
    let mut observatory = Observatory::new(&header, tracks)?;
    observatory.set_backfill(backfill);
    let mut collector = Collector::new(&header.machine, header.started_ns);
    let mut sampled = Sampled::new(header.started_ns, interval_ns);
    while let Some(frame) = reader.next_frame()? {
        sampled.feed(frame, &mut observatory, |tracks, _| collector.look(tracks))?;
        progress(reader.position());
    }
    observatory.finish()?;
    collector.look(&mut observatory)?;
    Ok(collector.finish())
}

#[derive(Default)]
struct Collector {
    history: History,
    started_ns: TimeNs,
    blame: BTreeMap<(TrackKind, StartState), BTreeMap<String, u64>>,
}

impl Collector {
    fn new(machine: &Machine, started_ns: TimeNs) -> Collector {
        let gib = machine.managed_pages() as f64 / REGION_PAGES as f64;
        let title = format!("{}, Linux {}, {gib:.1} GiB", machine.hostname, machine.kernel_release);
        let history = History { title, ..History::default() };
        Collector { history, started_ns, blame: BTreeMap::new() }
    }

    fn look(&mut self, observatory: &mut Observatory) -> Result<(), PlotError> {
        let sample = observatory.sample()?;
        self.blame(&observatory.take_taints());
        if sample.tracks.is_empty() {
            return Ok(());
        }
        if self.history.tracks.is_empty() {
            self.begin(&sample, observatory.machine());
        }
        let history = &mut self.history;
        history.times_s.push(sample.time_ns.saturating_sub(self.started_ns) as f64 / 1e9);
        history.floor_1g.push(sample.floor_1g);
        for (track, now) in history.tracks.iter_mut().zip(&sample.tracks) {
            track.add(now);
        }
        Ok(())
    }

    fn begin(&mut self, sample: &Sample, machine: &Machine) {
        self.history.tracks = sample.tracks.iter().map(TrackHistory::begin).collect();
        let name = |region: &RegionCensus| {
            let zone =
                machine.zones.get(usize::from(region.zone)).map_or(String::new(), Zone::label);
            format!("{zone} {} GiB", region.start.region())
        };
        self.history.region_names = sample
            .tracks
            .first()
            .map_or(Vec::new(), |track| track.regions.iter().map(name).collect());
    }

    /// Counts who tainted, by process and by the function that asked for the memory.
    fn blame(&mut self, taints: &[TaintEvent]) {
        for taint in taints.iter().filter(|taint| taint.tainted) {
            let who = match (&taint.comm, call_site(&taint.stack)) {
                (Some(comm), Some(site)) => format!("{comm}: {site}"),
                (Some(comm), None) => comm.clone(),
                _ => format!("not recorded ({} order {})", taint.migratetype, taint.order),
            };
            let counts = self.blame.entry((taint.track, taint.start)).or_default();
            *counts.entry(who).or_default() += 1;
        }
    }

    fn finish(mut self) -> History {
        for (track, counts) in self.blame {
            let mut ranked: Vec<_> = counts.into_iter().collect();
            ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            self.history.blame.insert(track, ranked);
        }
        self.history
    }
}

impl TrackHistory {
    fn begin(of: &TrackSample) -> TrackHistory {
        TrackHistory {
            kind: of.kind,
            start: of.start,
            obtainable_1g: Vec::new(),
            tainted_1g: Vec::new(),
            unusable_permille: Vec::new(),
            unusable_by_order: Vec::new(),
            regions: Vec::new(),
            cost_pages: Vec::new(),
            visits: Vec::new(),
            visited: 0,
        }
    }

    fn add(&mut self, now: &TrackSample) {
        let unusable =
            |order| ContigPages::new(now.free_blocks.iter().copied(), order).unusable_index(order);
        self.obtainable_1g.push(now.totals.obtainable_1g);
        self.tainted_1g.push(now.totals.tainted_1g);
        self.unusable_permille.push(unusable(PAGEBLOCK_ORDER));
        self.unusable_by_order = (0..NR_PAGE_ORDERS as u8).map(unusable).collect();
        self.regions.push(now.regions.iter().map(cell).collect());
        self.cost_pages.clone_from(&now.totals.cost_pages);
        self.visits = visits(&now.counters);
        self.visited = now.counters.get("spbs_visited").copied().unwrap_or(0);
    }
}

/// The histogram of superpageblocks looked at, fewest first.
fn visits(counters: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let bucket = |(name, walks): (&String, &u64)| {
        let range = name.strip_prefix("walks_visiting_")?.replace("_to_", " to ");
        let least: u64 = range.split(' ').next()?.parse().ok()?;
        (*walks > 0).then_some((least, range, *walks))
    };
    let mut buckets: Vec<_> = counters.iter().filter_map(bucket).collect();
    buckets.sort();
    buckets.into_iter().map(|(_, range, walks)| (range, walks)).collect()
}

fn cell(region: &RegionCensus) -> RegionCell {
    let share = region.movable_pages() as f32 / region.span_pages.max(1) as f32;
    RegionCell { state: region.state(), movable_share: share }
}
