//! Facts for the health view: rates, losses, fidelity, cost, the host, its capabilities.

use fragscope_replay::observe::{Divergence, EventTotals};

use super::State;
use super::headline::{headline, price_of_spb};
use super::host::Host;
use super::warnings::{Severity, cause_name, warnings};
use crate::format::{bytes, count, pages, percent, rate, span};

/// A name and a value, or (with an empty name) a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it needs attention.
    pub severity: Option<Severity>,
}

impl Fact {
    fn new(name: impl Into<String>, value: impl Into<String>) -> Fact {
        Fact { name: name.into(), value: value.into(), severity: None }
    }

    fn marked(mut self, severity: Severity, when: bool) -> Fact {
        self.severity = when.then_some(severity);
        self
    }
}

/// The facts by section.
#[must_use]
pub fn sections(state: &State) -> Vec<(&'static str, Vec<Fact>)> {
    let host = state.host();
    let all = [
        ("to know", remarks(state)),
        ("events", events(host)),
        ("lost", losses(host)),
        ("fidelity", fidelity(host)),
        ("own cost", cost(host)),
        ("trace", trace(state)),
        ("host", machine(host)),
        ("capabilities", capabilities(host)),
    ];
    all.into_iter().filter(|(_, facts)| !facts.is_empty()).collect()
}

fn remarks(state: &State) -> Vec<Fact> {
    let host = state.host();
    let notice = host.phase.notice(state.now.uptime, host.shown().is_some());
    let notice = notice.map(|text| Fact::new("", text).marked(Severity::Notable, true));
    let sentences = host.shown().into_iter().flat_map(|s| [headline(s), price_of_spb(s)]);
    let sentences = sentences.flatten().map(|text| Fact::new("", text));
    let warnings = warnings(host).into_iter();
    let warning = |w: super::warnings::Warning| Fact::new("", w.text).marked(w.severity, true);
    notice.into_iter().chain(sentences).chain(warnings.map(warning)).collect()
}

/// `1.2M  212k/s`.
fn total_and_rate(host: &Host, of: impl Fn(&EventTotals) -> u64) -> Option<String> {
    let total = of(&host.shown()?.events);
    let rate = host.interval().map(|i| format!("  {}", rate(i.events(&of))));
    Some(format!("{:>6}{}", count(total), rate.unwrap_or_default()))
}

fn events(host: &Host) -> Vec<Fact> {
    type Of = fn(&EventTotals) -> u64;
    let kinds: [(&str, Of, bool); 9] = [
        ("allocations", |e| e.allocs, false),
        ("frees", |e| e.frees, false),
        ("failed allocations", |e| e.failed_allocs, false),
        ("other events", |e| e.side_events, false),
        ("the recorder's own", |e| e.own_events, false),
        ("late", |e| e.late_events, false),
        ("unmatched frees", |e| e.unmatched_frees, true),
        ("unmatched allocations", |e| e.unmatched_allocs, true),
        ("repaired pages", |e| e.repaired_pages, false),
    ];
    let fact = |(name, of, notable): (&str, Of, bool)| {
        let some = of(&host.shown()?.events) > 0;
        Some(Fact::new(name, total_and_rate(host, of)?).marked(Severity::Notable, notable && some))
    };
    kinds.into_iter().filter_map(fact).collect()
}

fn losses(host: &Host) -> Vec<Fact> {
    let Some(sample) = host.shown() else {
        return Vec::new();
    };
    let all = total_and_rate(host, EventTotals::lost_events).unwrap_or_default();
    let some = sample.events.lost_events() > 0;
    let mut facts = vec![Fact::new("all causes", all).marked(Severity::Grave, some)];
    for cause in sample.events.lost.keys() {
        let of = |e: &EventTotals| e.lost.get(cause).copied().unwrap_or(0);
        let value = total_and_rate(host, of).unwrap_or_default();
        facts.push(Fact::new(cause_name(*cause), value));
    }
    facts
}

fn fidelity(host: &Host) -> Vec<Fact> {
    let Some(sample) = host.shown() else {
        return Vec::new();
    };
    let text = |d: Divergence| {
        format!(
            "{} off (free: track {}, kernel {})",
            percent(d.ratio),
            pages(d.track_free_pages),
            pages(d.kernel_free_pages)
        )
    };
    let both =
        [("kernel track", sample.kernel_divergence), ("stock track", sample.stock_divergence)];
    let mut facts: Vec<Fact> = both
        .into_iter()
        .map(|(name, d)| Fact::new(name, d.map_or("not checked yet".to_owned(), text)))
        .collect();
    let floor = format!(
        "{} regions for {} unmovable at the peak",
        sample.floor_1g,
        pages(sample.peak_unmovable_pages)
    );
    facts.push(Fact::new("floor of tainted", floor));
    facts
}

fn cost(host: &Host) -> Vec<Fact> {
    let Some(cost) = host.shown().and_then(|s| s.cost) else {
        return Vec::new();
    };
    vec![
        Fact::new("agent CPU", percent(cost.cpu_share)),
        Fact::new("agent memory", bytes(cost.rss_bytes)),
        Fact::new("fullest ring", percent(cost.ring_peak)),
    ]
}

fn trace(state: &State) -> Vec<Fact> {
    let host = state.host();
    let Some(header) = &host.header else {
        return Vec::new();
    };
    let mut facts = vec![Fact::new("recorder", &header.recorder)];
    if !host.label.is_empty() {
        facts.push(Fact::new("source", &host.label));
    }
    if let Some(command) = &header.command {
        facts.push(Fact::new("command", command.join(" ")));
    }
    if let (Some((from, to)), Some(clock)) = (host.range(), &host.clock) {
        let text = |t| clock.text(t, state.now.wall, &state.zone);
        let value = format!("{} - {} ({})", text(from), text(to), span(host.kept_seconds()));
        facts.push(Fact::new("kept", value));
        let samples = count(host.history.points().len() as u64);
        let memory = bytes(host.history.bytes() as u64);
        facts.push(Fact::new("samples", format!("{samples}, {memory}")));
        facts.push(Fact::new("pageblock changes", bytes(host.blocks.bytes() as u64)));
    }
    for snapshot in &host.snapshots {
        let role = format!("{:?} snapshot", snapshot.role).to_lowercase();
        facts.push(Fact::new(role, format!("{:?}", snapshot.source)));
    }
    if let Some(end) = &host.end {
        facts.push(Fact::new("ended", format!("{:?}", end.reason)));
    }
    facts
}

fn machine(host: &Host) -> Vec<Fact> {
    let Some(machine) = &host.machine else {
        return Vec::new();
    };
    let online = machine.cpus.iter().filter(|c| c.online).count();
    let mut facts = vec![
        Fact::new("name", &machine.hostname),
        Fact::new("kernel", format!("{} {}", machine.kernel_release, machine.arch)),
        Fact::new("CPUs online", format!("{online} of {}", machine.cpus.len())),
        Fact::new("memory managed", pages(machine.managed_pages())),
    ];
    for zone in &machine.zones {
        let absent = zone.present_pages.saturating_sub(zone.managed_pages);
        let value =
            format!("{} managed, {} not given out", pages(zone.managed_pages), pages(absent));
        facts.push(Fact::new(zone.label(), value));
    }
    facts.extend(machine.facts.iter().map(|(name, value)| Fact::new(name, value)));
    facts
}

fn capabilities(host: &Host) -> Vec<Fact> {
    let all = host.header.iter().flat_map(|h| &h.capabilities);
    all.map(|c| {
        let value = match c.available {
            true => format!("yes: {}", c.found),
            false => format!("no ({}): {}. {}", c.found, c.lost_without, c.remedy),
        };
        Fact::new(&c.name, value).marked(Severity::Notable, !c.available)
    })
    .collect()
}
