//! The figures as OpenMetrics text.

use std::fmt;
use std::sync::Arc;

use fragscope_agent::live::tally::Tally;
use fragscope_trace::event::{LossCause, PageEventKind};
use fragscope_trace::region::{Bounds, RegionState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::census::{Census, Refusal};
use super::figures::{Figures, Known};

/// Everything that is said.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) figures: Arc<Figures>,
    pub(super) census: Arc<Census>,
}

/// Labels and a value.
type Sample<'a> = (Vec<(&'static str, &'a str)>, f64);

impl Metrics {
    /// The text that a scrape gets.
    ///
    /// # Errors
    /// None that a string can cause.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("fragscope");
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let known = self.figures.read();
        let mut out = Out(&mut encoder);
        host(&mut out, &known)?;
        memory(&mut out, &known)?;
        events(&mut out, &known)?;
        cost(&mut out, &known)?;
        clients(&mut out, &self.census)
    }
}

fn host(out: &mut Out<'_, '_>, known: &Known) -> fmt::Result {
    let Some(header) = &known.header else { return Ok(()) };
    let labels = vec![
        ("hostname", header.machine.hostname.as_str()),
        ("kernel", header.machine.kernel_release.as_str()),
        ("recorder", header.recorder.as_str()),
    ];
    out.gauges("host", "What is observed, and by what", &[(labels, 1.0)])
}

fn memory(out: &mut Out<'_, '_>, known: &Known) -> fmt::Result {
    let nodes: Vec<String> = known.zones.iter().map(|zone| zone.node.to_string()).collect();
    let zones = || nodes.iter().map(String::as_str).zip(&known.zones);
    let place = |node, name| vec![("node", node), ("zone", name)];
    let of = |pages: fn(&super::figures::ZoneFigures) -> u64| -> Vec<Sample<'_>> {
        zones().map(|(node, zone)| (place(node, zone.name), pages(zone) as f64)).collect()
    };
    out.gauges("free_pages", "Free pages in buddy lists, each second", &of(|z| z.free_pages))?;
    out.gauges("pcp_pages", "Free pages in per-CPU lists, each second", &of(|z| z.pcp_pages))?;
    let regions: Vec<Sample<'_>> = zones()
        .flat_map(|(node, zone)| {
            RegionState::ALL.map(|state| {
                let mut labels = place(node, zone.name);
                labels.push(("state", state.name()));
                (labels, zone.regions.get(&state).copied().unwrap_or(0) as f64)
            })
        })
        .collect();
    out.gauges("regions", "1 GiB regions by state, at the last snapshot", &regions)?;
    out.counter("snapshots", "Snapshots of memory", &[(vec![], known.snapshots as f64)])?;
    let Some(totals) = &known.totals else { return Ok(()) };
    let at = known.snapshot_unix_seconds;
    out.gauges("snapshot_time_unix_seconds", "When the last snapshot came", &[(vec![], at)])?;
    for (name, help, bounds) in [
        ("free_1g", "1 GiB pages obtainable without moving anything", totals.free_1g),
        ("evacuable_1g", "Regions each obtainable by itself, by moving", totals.evacuable_1g),
        ("obtainable_1g", "1 GiB pages obtainable together, by moving", totals.obtainable_1g),
        ("tainted_1g", "Regions with non-movable content", totals.tainted_1g),
    ] {
        out.gauges(name, help, &between(bounds))?;
    }
    let nearly = "Tainted regions with a single pageblock's worth of non-movable pages at most";
    out.gauge("nearly_clean_1g", nearly, totals.nearly_clean_1g as f64)?;
    out.gauge("unmovable_pages", "Non-movable pages", totals.unmovable_pages as f64)
}

fn events(out: &mut Out<'_, '_>, known: &Known) -> fmt::Result {
    let Tally { totals, by_kind } = &known.tally;
    let of = |kind: PageEventKind| (vec![("kind", kind.name())], by_kind[kind as usize] as f64);
    out.counter("events", "Page events, passed on or not", &PageEventKind::ALL.map(of))?;
    let own = totals.own_events as f64;
    out.counter("own_events", "Page events that the agent itself caused", &[(vec![], own)])?;
    let counted = [("alloc", totals.counted_allocs), ("free", totals.counted_frees)];
    let counted = counted.map(|(kind, count)| (vec![("kind", kind)], count as f64));
    out.counter("counted_events", "Page events counted instead of recorded", &counted)?;
    let lost = LossCause::ALL.map(|cause| {
        (vec![("cause", cause.name())], totals.lost.get(&cause).copied().unwrap_or(0) as f64)
    });
    out.counter("lost_events", "Events that did not reach the trace", &lost)
}

fn cost(out: &mut Out<'_, '_>, known: &Known) -> fmt::Result {
    let seconds = known.cpu_ns as f64 / 1e9;
    let (cpu, memory) = ("CPU time of the agent", "Resident memory of the agent");
    out.with_unit("agent_cpu", cpu, &Unit::Seconds, MetricType::Counter, seconds)?;
    let bytes = known.rss_bytes as f64;
    out.with_unit("agent_memory", memory, &Unit::Bytes, MetricType::Gauge, bytes)?;
    let fill = f64::from(known.ring_peak_permille) / 1000.0;
    let help = "Fullest ring within the last second";
    out.with_unit("ring_peak", help, &Unit::Ratios, MetricType::Gauge, fill)
}

fn clients(out: &mut Out<'_, '_>, census: &Census) -> fmt::Result {
    out.gauge("clients", "Clients connected", census.connected() as f64)?;
    let admitted = census.admitted() as f64;
    out.counter("clients_admitted", "Clients let in", &[(vec![], admitted)])?;
    let refused =
        Refusal::ALL.map(|why| (vec![("reason", why.name())], census.refused(why) as f64));
    out.counter("clients_refused", "Clients not let in, or dropped", &refused)
}

fn between(bounds: Bounds) -> [Sample<'static>; 2] {
    let of = |name, value: u64| (vec![("bound", name)], value as f64);
    [of("min", bounds.min), of("max", bounds.max)]
}

/// Where figures are written.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, &[(vec![], value)])
    }

    fn gauges(&mut self, name: &str, help: &str, samples: &[Sample<'_>]) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples)
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[Sample<'_>]) -> fmt::Result {
        self.family(name, help, MetricType::Counter, samples)
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: &[Sample<'_>],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                one(&mut family, kind, *value)?;
            } else {
                one(&mut family.encode_family(labels)?, kind, *value)?;
            }
        }
        Ok(())
    }

    fn with_unit(
        &mut self,
        name: &str,
        help: &str,
        unit: &Unit,
        kind: MetricType,
        value: f64,
    ) -> fmt::Result {
        one(&mut self.0.encode_descriptor(name, help, Some(unit), kind)?, kind, value)
    }
}

fn one(metric: &mut MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => {
            metric.encode_counter::<prometheus_client::encoding::NoLabelSet, f64, f64>(&value, None)
        }
        _ => metric.encode_gauge(&value),
    }
}
