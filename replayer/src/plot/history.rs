//! What the pictures show: the samples of all tracks over a trace, as far as pictures need them.

use std::collections::BTreeMap;
use std::io::Read;

use fragscope_trace::event::{EventBatch, TimeNs};
use fragscope_trace::frame::Frame;
use fragscope_trace::machine::Machine;
use fragscope_trace::reader::TraceReader;
use fragscope_trace::region::{RegionCensus, RegionState};

use super::PlotError;
use crate::engine::observatory::Observatory;
use crate::observe::{Sample, StartState, TaintEvent, TrackKind};
use crate::start::TrackSpec;

/// One track over time.
#[derive(Clone, Debug)]
pub struct TrackHistory {
    /// Whose.
    pub kind: TrackKind,
    /// What it began with.
    pub start: StartState,
    /// Regions that could be had together, at each sample.
    pub obtainable_1g: Vec<u64>,
    /// Tainted regions, at each sample.
    pub tainted_1g: Vec<u64>,
    /// State and movable share of each region, at each sample.
    pub regions: Vec<Vec<RegionCell>>,
    /// Pages to move for 1, 2, .. regions at the end.
    pub cost_pages: Vec<u64>,
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
    pub blame: BTreeMap<TrackKind, Vec<(String, u64)>>,
}

/// Replays a trace and keeps samples of it, at `samples` times evenly spread over `span_ns`.
///
/// # Errors
/// If the trace cannot be read or replayed.
pub fn replay<R: Read>(
    reader: &mut TraceReader<R>,
    tracks: Vec<TrackSpec>,
    interval_ns: TimeNs,
) -> Result<History, PlotError> {
    let header = reader.header().clone();
    let mut observatory = Observatory::new(&header, tracks)?;
    let mut collector = Collector::new(&header.machine, header.started_ns, interval_ns.max(1));
    while let Some(frame) = reader.next_frame()? {
        match frame {
            Frame::Events(batch) => collector.events(batch, &mut observatory)?,
            frame => observatory.feed(&frame)?,
        }
    }
    observatory.finish()?;
    collector.sample(&mut observatory)?;
    Ok(collector.finish())
}

struct Collector {
    history: History,
    started_ns: TimeNs,
    interval_ns: TimeNs,
    next_ns: TimeNs,
    blame: BTreeMap<TrackKind, BTreeMap<String, u64>>,
}

impl Collector {
    fn new(machine: &Machine, started_ns: TimeNs, interval_ns: TimeNs) -> Collector {
        let gib = machine.managed_pages() as f64 / 262_144.0;
        let title = format!("{}, Linux {}, {gib:.1} GiB", machine.hostname, machine.kernel_release);
        let history = History { title, ..History::default() };
        let next_ns = started_ns + interval_ns;
        Collector { history, started_ns, interval_ns, next_ns, blame: BTreeMap::new() }
    }

    fn events(
        &mut self,
        mut batch: EventBatch,
        observatory: &mut Observatory,
    ) -> Result<(), PlotError> {
        while let Some(part) = crate::export::sampling::cut_before(&mut batch, self.next_ns) {
            observatory.feed(&Frame::Events(part))?;
            self.sample(observatory)?;
            let first_ns = batch.pages.first().map_or(self.next_ns, |event| event.time_ns);
            let steps = first_ns.saturating_sub(self.next_ns) / self.interval_ns + 1;
            self.next_ns += steps * self.interval_ns;
        }
        Ok(observatory.feed(&Frame::Events(batch))?)
    }

    fn sample(&mut self, observatory: &mut Observatory) -> Result<(), PlotError> {
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
            track.obtainable_1g.push(now.totals.obtainable_1g.min);
            track.tainted_1g.push(now.totals.tainted_1g.min);
            track.regions.push(now.regions.iter().map(cell).collect());
            track.cost_pages.clone_from(&now.totals.cost_pages);
        }
        Ok(())
    }

    fn begin(&mut self, sample: &Sample, machine: &Machine) {
        let empty = |track: &crate::observe::TrackSample| TrackHistory {
            kind: track.kind,
            start: track.start,
            obtainable_1g: Vec::new(),
            tainted_1g: Vec::new(),
            regions: Vec::new(),
            cost_pages: Vec::new(),
        };
        self.history.tracks = sample.tracks.iter().map(empty).collect();
        let name = |region: &RegionCensus| {
            let zone =
                machine.zones.get(usize::from(region.zone)).map_or(String::new(), |z| z.label());
            format!("{zone} {} GiB", region.start.region())
        };
        self.history.region_names = sample
            .tracks
            .first()
            .map_or(Vec::new(), |track| track.regions.iter().map(name).collect());
    }

    /// Counts who tainted; by the caller nearest to the allocation that is not the allocator.
    fn blame(&mut self, taints: &[TaintEvent]) {
        for taint in taints.iter().filter(|taint| taint.tainted) {
            let who = match (&taint.comm, taint.stack.last()) {
                (Some(comm), Some(caller)) => format!("{comm}: {caller}"),
                (Some(comm), None) => comm.clone(),
                _ => format!("order {}, {}", taint.order, taint.migratetype),
            };
            *self.blame.entry(taint.track).or_default().entry(who).or_default() += 1;
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

fn cell(region: &RegionCensus) -> RegionCell {
    let share = region.movable_pages() as f32 / region.span_pages.max(1) as f32;
    RegionCell { state: region.state(), movable_share: share }
}
