//! How the cost of an event grows with the machine: the same load on machines of several sizes,
//! served by the stock allocator and by the superpageblock allocator with each way to find a
//! superpageblock.

use std::collections::BTreeMap;

use fragscope_trace::reader::TraceReader;
use serde::Serialize;

use super::{BenchError, Part, Spread, measure};
use crate::mm::settings::{IndexKind, Settings};
use crate::synth::generate;
use crate::synth::presets::preset;

/// The load: fills the machine and keeps it nearly full; its rates grow with the machine.
const WORKLOAD: &str = "headline-256g";
/// Virtual time of the load, in seconds: memory has run low by then.
const DURATION_S: f64 = 12.0;
const SEED: u64 = 1;

/// What is compared, in the order of the picture's legend.
pub const SUBJECTS: [&str; 4] = ["stock", "spb_linear", "spb_hint", "spb_bitmap"];

/// One size of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Events of the load.
    pub events: u64,
    /// CPU time by subject.
    pub ns_per_event: BTreeMap<&'static str, Spread>,
}

impl Size {
    /// The median of a subject, in ns.
    #[must_use]
    pub fn median(&self, subject: &str) -> f64 {
        self.ns_per_event.get(subject).map_or(f64::NAN, |spread| spread.median)
    }
}

/// All sizes.
#[derive(Clone, Debug, Serialize)]
pub struct GrowthReport {
    /// The load.
    pub workload: &'static str,
    /// Its virtual time.
    pub duration_s: f64,
    /// How often each subject ran on each size.
    pub repeats: usize,
    /// Ascending.
    pub sizes: Vec<Size>,
    /// What each subject's cost grows by from the smallest size to the largest, divided by what
    /// stock's grows by.
    pub growth_over_stock: BTreeMap<&'static str, f64>,
}

/// Measures every size in bytes with each subject, `repeats` times in turn.
///
/// # Errors
/// If a machine cannot be made or replayed.
pub fn growth(
    memory_bytes: &[u64],
    repeats: usize,
    mut progress: impl FnMut(u64),
) -> Result<GrowthReport, BenchError> {
    let mut memory_bytes = memory_bytes.to_vec();
    memory_bytes.sort_unstable();
    memory_bytes.dedup();
    let mut sizes = Vec::new();
    for memory in memory_bytes {
        progress(memory);
        sizes.push(size(memory, repeats)?);
    }
    let growth_over_stock = growth_over_stock(&sizes);
    let (workload, duration_s) = (WORKLOAD, DURATION_S);
    Ok(GrowthReport { workload, duration_s, repeats, sizes, growth_over_stock })
}

fn size(memory_bytes: u64, repeats: usize) -> Result<Size, BenchError> {
    let mut workload = preset(WORKLOAD, Some(memory_bytes))?;
    workload.duration_s = DURATION_S;
    workload.check()?;
    let mut trace = Vec::new();
    let events = generate(&workload, SEED, &mut trace, |_| {})?.events;
    let mut ns: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..repeats.max(1) {
        for subject in SUBJECTS {
            ns.entry(subject).or_default().push(ns_per_event(&trace, subject)?);
        }
    }
    let ns_per_event = ns.into_iter().map(|(subject, ns)| (subject, Spread::of(ns))).collect();
    Ok(Size { memory_bytes, events, ns_per_event })
}

/// CPU time of one replay, in ns.
fn ns_per_event(trace: &[u8], subject: &str) -> Result<f64, BenchError> {
    let (part, spb_index) = match subject {
        "stock" => (Part::Stock, IndexKind::Hint),
        "spb_linear" => (Part::Spb, IndexKind::Linear),
        "spb_hint" => (Part::Spb, IndexKind::Hint),
        _ => (Part::Spb, IndexKind::Bitmap),
    };
    let settings = Settings { spb_index, ..Settings::default() };
    let report = measure(|| TraceReader::new(trace), &settings, &[part], 1)?;
    Ok(report.events_per_second.values().map(|rate| 1e9 / rate).sum())
}

fn growth_over_stock(sizes: &[Size]) -> BTreeMap<&'static str, f64> {
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { return BTreeMap::new() };
    let grows = |subject| last.median(subject) / first.median(subject);
    SUBJECTS[1..].iter().map(|subject| (*subject, grows(subject) / grows("stock"))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report of made up figures, in ns: by size, then by subject.
    pub(in crate::bench) fn report(figures: &[(u64, [f64; 4])]) -> GrowthReport {
        let spread = |ns: f64| Spread { median: ns, low: ns, high: ns };
        let size = |(memory_bytes, ns): &(u64, [f64; 4])| Size {
            memory_bytes: *memory_bytes,
            events: 1,
            ns_per_event: SUBJECTS.into_iter().zip(ns.map(spread)).collect(),
        };
        let sizes: Vec<Size> = figures.iter().map(size).collect();
        let growth_over_stock = growth_over_stock(&sizes);
        GrowthReport {
            workload: WORKLOAD,
            duration_s: DURATION_S,
            repeats: 1,
            sizes,
            growth_over_stock,
        }
    }

    #[test]
    fn growth_is_measured_against_what_stock_grows_by() {
        let figures = [(1 << 34, [10.0, 10.0, 20.0, 5.0]), (1 << 40, [20.0, 60.0, 40.0, 20.0])];
        let growth = report(&figures).growth_over_stock;
        assert_eq!((growth["spb_linear"], growth["spb_hint"]), (3.0, 1.0));
        assert_eq!(growth["spb_bitmap"], 2.0);
        assert!(!growth.contains_key("stock"));
    }

    #[test]
    fn each_size_is_measured_once_in_ascending_order() {
        let report = growth(&[1 << 31, 1 << 30, 1 << 31], 1, |_| {}).expect("small machines");
        let memory: Vec<u64> = report.sizes.iter().map(|size| size.memory_bytes).collect();
        assert_eq!(memory, [1 << 30, 1 << 31]);
        for size in &report.sizes {
            assert!(SUBJECTS.iter().all(|subject| size.median(subject) > 0.0), "{size:?}");
        }
    }
}
