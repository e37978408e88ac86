//! What tracing costs on this host: the time it adds to each page allocation and free.
//!
//! One thread storms: it maps memory, touches each 4 KiB page and unmaps it, which is one order-0
//! allocation and one free a page. Its CPU time per page with nothing attached is the base; what a
//! way of tracing adds, halved, is its cost per event.
//!
//! In every round each way has its turn, in changing order. A turn is some storms without, then twice
//! as many with it, then some without again; the fastest with is compared with the fastest without,
//! because what else the machine does can only slow a storm down. So each difference is of storms
//! that are next to each other in time, and the median of the rounds' differences counts. Storms are
//! short, so that some of them pass undisturbed also on a busy host.

mod tracers;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use fragscope_trace::page::PAGE_SIZE;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::bpf::memory::touch_fresh_pages;
use crate::bpf::tracer::TracerOptions;
use crate::live::tick::thread_cpu_ns;

pub use self::tracers::Way;
use self::tracers::{Running, StartError};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct CostOptions {
    /// Rounds.
    pub rounds: u32,
    /// Memory that the storm takes, in MiB.
    pub mib: u32,
    /// How this program traces in full mode.
    pub tracer: TracerOptions,
}

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub enum CostError {
    /// The storm would take memory that others need.
    #[error("a storm of {wanted_mib} MiB needs twice that available; {available_mib} MiB are")]
    Memory {
        /// What was asked for.
        wanted_mib: u32,
        /// What `MemAvailable` says.
        available_mib: u64,
    },
    /// The storm failed.
    #[error("the storm can't run: {0}")]
    Storm(#[from] io::Error),
    /// Somebody asked to stop.
    #[error("interrupted; nothing of it stays attached")]
    Interrupted,
}

/// A figure of several rounds. Units are those of the field it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        Some(Spread { median: values[values.len() / 2], low, high })
    }
}

/// What one way of tracing costs.
#[derive(Clone, Debug, Serialize)]
pub struct WayCost {
    /// CPU time that it adds to an allocation or free, in the thread that makes it.
    pub added_ns_per_event: Spread,
    /// The median beside that of ftrace, if that was measured.
    pub ratio_to_ftrace: Option<f64>,
    /// The median beside that of perf, if that was measured.
    pub ratio_to_perf: Option<f64>,
    /// The median beside that of ftrace with LRU insertions; only of [`Way::Full`] where it listens
    /// to those, too.
    pub ratio_to_ftrace_lru: Option<f64>,
    /// The same of perf.
    pub ratio_to_perf_lru: Option<f64>,
    /// CPU time of the thread that reads the events, per event; only of [`Way::Full`].
    pub reader_ns_per_event: Option<f64>,
    /// Events that were lost because the reader was late; only of [`Way::Full`].
    pub lost_events: Option<u64>,
}

/// What was measured, or why not.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Its cost.
    Measured(WayCost),
    /// Why it can't be had on this host.
    Unavailable(String),
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Outcome::Measured(cost) => cost.serialize(serializer),
            Outcome::Unavailable(why) => serializer.collect_map([("unavailable", why.as_str())]),
        }
    }
}

/// The cost of tracing on this host.
#[derive(Clone, Debug, Serialize)]
pub struct CostReport {
    /// CPU time of an allocation or free with nothing attached by this program, half of it per
    /// page touched and unmapped: fault and unmapping included.
    pub base_ns_per_event: Spread,
    /// Events of one storm.
    pub events_per_storm: u64,
    /// Each way of tracing.
    #[serde(flatten)]
    pub ways: BTreeMap<Way, Outcome>,
}

/// Measures. What is attached meanwhile is detached on every way out, also when `stop` is set.
///
/// # Errors
/// [`CostError`]. A way that can't be had is no error: see [`Outcome::Unavailable`].
pub fn measure(options: &CostOptions, stop: &AtomicBool) -> Result<CostReport, CostError> {
    check_memory(options.mib)?;
    let bytes = (options.mib as usize) << 20;
    let events = 2 * bytes as u64 / PAGE_SIZE;
    let mut tallies: BTreeMap<Way, Tally> = Way::ALL.map(|way| (way, Tally::default())).into();
    let (mut base, mut hears_lru) = (Vec::new(), false);
    // The first storm of a process is slower than the others.
    storm(bytes)?;
    for round in 0..options.rounds.max(1) {
        for turn in 0..Way::ALL.len() {
            let way = Way::ALL[(turn + round as usize) % Way::ALL.len()];
            let tally = tallies.entry(way).or_default();
            if tally.unavailable.is_some() {
                continue;
            }
            if way.is_with_lru() && !hears_lru {
                let why = "full mode does not listen to LRU insertions on this host";
                tally.unavailable = Some(why.to_owned());
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(CostError::Interrupted);
            }
            let before = fastest(bytes)?;
            match Running::start(way, options, stop) {
                Ok(running) => {
                    hears_lru |= running.hears_lru();
                    base.push(tally.turn(running, bytes, before)? / events as f64);
                }
                Err(StartError::Unavailable(why)) => tally.unavailable = Some(why),
                Err(StartError::Interrupted) => return Err(CostError::Interrupted),
            }
        }
    }
    Ok(report(base, tallies, events))
}

/// What the turns of one way gave.
#[derive(Default)]
struct Tally {
    unavailable: Option<String>,
    added: Vec<f64>,
    reader: Vec<f64>,
    lost: Option<u64>,
}

impl Tally {
    /// One turn: storms while `running` traces, between those without, of which the fastest before
    /// took `before_ns`. Gives the fastest without.
    fn turn(
        &mut self,
        mut running: Running,
        bytes: usize,
        before_ns: u64,
    ) -> Result<f64, CostError> {
        let events = (2 * bytes as u64 / PAGE_SIZE) as f64;
        let with_ns = fastest(bytes)?.min(fastest(bytes)?) as f64;
        if let Some(read) = running.finish() {
            self.reader.push(read.cpu_ns as f64 / (read.events.max(1)) as f64);
            *self.lost.get_or_insert(0) += read.lost;
        }
        drop(running);
        let without_ns = fastest(bytes)?.min(before_ns) as f64;
        self.added.push((with_ns - without_ns) / events);
        Ok(without_ns)
    }
}

fn report(base: Vec<f64>, tallies: BTreeMap<Way, Tally>, events: u64) -> CostReport {
    let spreads: BTreeMap<Way, Option<Spread>> =
        tallies.iter().map(|(way, tally)| (*way, Spread::of(tally.added.clone()))).collect();
    let median = |way| spreads.get(&way).copied().flatten().map(|spread: Spread| spread.median);
    let ratio = |added: Spread, than| median(than).map(|other| added.median / other);
    let outcome = |(way, tally): (Way, Tally)| {
        let is_full = |_: &f64| way == Way::Full;
        let measured = spreads[&way].filter(|_| tally.unavailable.is_none());
        let outcome = match measured {
            Some(added_ns_per_event) => Outcome::Measured(WayCost {
                added_ns_per_event,
                ratio_to_ftrace: ratio(added_ns_per_event, Way::Ftrace),
                ratio_to_perf: ratio(added_ns_per_event, Way::Perf),
                ratio_to_ftrace_lru: ratio(added_ns_per_event, Way::FtraceLru).filter(is_full),
                ratio_to_perf_lru: ratio(added_ns_per_event, Way::PerfLru).filter(is_full),
                reader_ns_per_event: Spread::of(tally.reader).map(|spread| spread.median),
                lost_events: tally.lost,
            }),
            None => Outcome::Unavailable(tally.unavailable.unwrap_or_default()),
        };
        (way, outcome)
    };
    let nothing = Spread { median: 0.0, low: 0.0, high: 0.0 };
    CostReport {
        base_ns_per_event: Spread::of(base).unwrap_or(nothing),
        events_per_storm: events,
        ways: tallies.into_iter().map(outcome).collect(),
    }
}

/// Storms before, and after, and half of those with a way at work.
const STORMS: u32 = 24;

/// CPU time in ns of the fastest of some storms.
fn fastest(bytes: usize) -> io::Result<u64> {
    let mut fastest = u64::MAX;
    for _ in 0..STORMS {
        fastest = fastest.min(storm(bytes)?);
    }
    Ok(fastest)
}

/// Touches and unmaps so much memory; the CPU time it took in ns.
fn storm(bytes: usize) -> io::Result<u64> {
    let begin = thread_cpu_ns();
    touch_fresh_pages(bytes)?;
    Ok(thread_cpu_ns() - begin)
}

fn check_memory(mib: u32) -> Result<(), CostError> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let available_kib = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok()
        })
        .unwrap_or(0u64);
    if available_kib / 1024 < 2 * u64::from(mib) {
        return Err(CostError::Memory { wanted_mib: mib, available_mib: available_kib / 1024 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_was_not_had_is_not_measured() {
        let full = Tally { added: vec![30.0, 50.0, 40.0], ..Tally::default() };
        let ftrace = Tally { added: vec![100.0], ..Tally::default() };
        let perf = Tally { unavailable: Some("no perf".into()), ..Tally::default() };
        let ways = [(Way::Full, full), (Way::Ftrace, ftrace), (Way::Perf, perf)].into();
        let report = serde_json::to_value(report(vec![500.0], ways, 64)).unwrap();
        assert_eq!(report["base_ns_per_event"]["median"], 500.0);
        assert_eq!(report["full"]["added_ns_per_event"]["median"], 40.0);
        assert_eq!(report["full"]["added_ns_per_event"]["high"], 50.0);
        assert_eq!(report["full"]["ratio_to_ftrace"], 0.4);
        assert_eq!(report["perf"]["unavailable"], "no perf");
    }

    #[test]
    fn a_storm_that_would_take_all_memory_is_refused() {
        let error = check_memory(u32::MAX).unwrap_err();
        assert!(matches!(error, CostError::Memory { wanted_mib: u32::MAX, .. }), "{error}");
    }
}
