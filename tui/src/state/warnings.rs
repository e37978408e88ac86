//! What the user must know about the figures, as data.
//!
//! Each check looks at a host and may speak. The overview shows the gravest, health shows all.

use fragscope_replay::compare::trace_report::MODEL_VERSION;
use fragscope_replay::observe::{EventTotals, Sample, StartState, TrackKind};
use fragscope_trace::event::LossCause;

use super::host::Host;
use crate::conn::phase::Origin;
use crate::format::{pages, percent};

/// How grave a warning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Figures may be wrong.
    Grave,
    /// Needed to read the figures rightly.
    Reading,
    /// Figures are less exact than they could be.
    Notable,
    /// What is not there, and what that costs.
    Remark,
}

/// Something to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// How grave.
    pub severity: Severity,
    /// A sentence.
    pub text: String,
}

/// A kernel track further off than this share of managed pages is notable, or grave.
const DIVERGENCE_NOTABLE: f64 = 0.001;
const DIVERGENCE_GRAVE: f64 = 0.01;
/// Losses beyond this share of all events are grave.
const LOSS_GRAVE: f64 = 0.001;
/// Rings fuller than this are about to overflow.
const RING_PEAK_MAX: f64 = 0.8;

/// All warnings about the moment shown, gravest first.
#[must_use]
pub fn warnings(host: &Host) -> Vec<Warning> {
    let mut list = Vec::new();
    let say = |list: &mut Vec<Warning>, severity, text: Option<String>| {
        list.extend(text.map(|text| Warning { severity, text }));
    };
    say(&mut list, Severity::Notable, host.fallback.clone());
    say(&mut list, Severity::Reading, counted_only(host));
    if let Some(sample) = host.shown() {
        say(&mut list, Severity::Reading, building(host, sample));
        list.extend(lost(sample));
        list.extend(diverging(sample));
        say(&mut list, Severity::Notable, rings_filling(sample));
        say(&mut list, Severity::Reading, as_found(host));
        say(&mut list, Severity::Notable, one_start(host, sample));
    }
    say(&mut list, Severity::Notable, other_kernel(host));
    say(&mut list, Severity::Notable, not_closed(host));
    for text in missing_capabilities(host) {
        say(&mut list, Severity::Remark, Some(text));
    }
    for note in host.snapshots.iter().rev().take(1).flat_map(|s| &s.notes) {
        say(&mut list, Severity::Remark, Some(note.clone()));
    }
    list.sort_by_key(|w| w.severity);
    list
}

/// A loss cause in words.
#[must_use]
pub fn cause_name(cause: LossCause) -> &'static str {
    match cause {
        LossCause::RingFull => "ring full",
        LossCause::Reentry => "re-entry",
        LossCause::RateLimit => "rate limit",
        LossCause::NoRing => "no ring",
        LossCause::BadRecord => "bad record",
        LossCause::SlowConsumer => "slow consumer",
    }
}

/// What a trace without events cannot say.
pub const COUNT_MODE: &str = "count mode: pages used and free are estimates from counters since the \
    last snapshot; there are no events, so no stock and spb tracks, no blame, and no pageblocks \
    between snapshots";

fn counted_only(host: &Host) -> Option<String> {
    counts_only(host).then(|| COUNT_MODE.to_owned())
}

fn counts_only(host: &Host) -> bool {
    host.header.as_ref().is_some_and(|header| !header.mode.is_full())
}

fn building(host: &Host, sample: &Sample) -> Option<String> {
    let which = match sample.tracks.len() {
        0 | 1 => "the stock and spb tracks",
        _ => "the tracks from boot",
    };
    (host.building && host.is_growing()).then(|| format!("{which} are being built"))
}

/// How grave it is that events were lost; `None` if none were.
#[must_use]
pub fn loss_severity(events: &EventTotals) -> Option<Severity> {
    let grave = lost_share(events) > LOSS_GRAVE;
    let severity = if grave { Severity::Grave } else { Severity::Notable };
    (events.lost_events() > 0).then_some(severity)
}

fn lost_share(events: &EventTotals) -> f64 {
    let lost = events.lost_events();
    lost as f64 / (lost + events.allocs + events.frees).max(1) as f64
}

fn lost(sample: &Sample) -> Option<Warning> {
    let severity = loss_severity(&sample.events)?;
    let lost = sample.events.lost_events();
    let share = lost_share(&sample.events);
    let causes: Vec<String> = sample
        .events
        .lost
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(cause, n)| format!("{} {n}", cause_name(*cause)))
        .collect();
    let causes = causes.join(", ");
    let text = format!("{lost} events lost ({}: {causes}): tracks drift apart", percent(share));
    Some(Warning { severity, text })
}

fn diverging(sample: &Sample) -> Option<Warning> {
    let off = sample.kernel_divergence?;
    let severity = if off.ratio > DIVERGENCE_GRAVE { Severity::Grave } else { Severity::Notable };
    let text = format!(
        "the kernel track's free memory is {} off the kernel's own count ({} of memory)",
        pages(off.track_free_pages.abs_diff(off.kernel_free_pages)),
        percent(off.ratio)
    );
    (off.ratio > DIVERGENCE_NOTABLE).then_some(Warning { severity, text })
}

fn rings_filling(sample: &Sample) -> Option<String> {
    let peak = sample.cost?.ring_peak;
    (peak > RING_PEAK_MAX)
        .then(|| format!("rings filled to {:.0} %: events may be lost soon", peak * 100.0))
}

fn as_found(host: &Host) -> Option<String> {
    if counts_only(host) {
        return None;
    }
    let first = host.history.oldest()?;
    let before = first.tracks.iter().find(|t| t.kind == TrackKind::Kernel)?;
    let tainted = before.totals.tainted_1g.min;
    let whole = before.totals.whole_1g;
    Some(format!(
        "as found: {tainted} of {whole} regions were tainted at the start; no policy cures those"
    ))
}

fn one_start(host: &Host, sample: &Sample) -> Option<String> {
    let has_both = sample.tracks.iter().any(|t| t.start != StartState::AsFound);
    let why = host.left_out.as_ref().filter(|_| !has_both)?;
    Some(format!("only as found is replayed: {why}"))
}

fn other_kernel(host: &Host) -> Option<String> {
    let machine = host.machine.as_ref().filter(|_| !counts_only(host))?;
    let version = machine.kernel_version()?;
    (version != MODEL_VERSION).then(|| {
        format!(
            "the stock model follows Linux {}.{}, this host runs {}: \
             their difference is no verdict on either",
            MODEL_VERSION.0, MODEL_VERSION.1, machine.kernel_release
        )
    })
}

fn not_closed(host: &Host) -> Option<String> {
    let is_file = matches!(host.origin, Origin::File | Origin::Bundled);
    let end = host.end.as_ref()?;
    (is_file && !end.closing_snapshot)
        .then(|| "the recording has no closing snapshot: its end could not be checked".to_owned())
}

fn missing_capabilities(host: &Host) -> impl Iterator<Item = String> {
    let all = host.header.iter().flat_map(|h| &h.capabilities);
    all.filter(|c| !c.available)
        .map(|c| format!("{} is not available ({}): {}", c.name, c.found, c.lost_without))
}
