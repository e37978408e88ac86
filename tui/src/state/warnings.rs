//! What the user must know about the figures, as data.
//!
//! Each check looks at a host and may speak. The overview shows the gravest, health shows all.

use fragscope_replay::observe::{Sample, TrackKind};
use fragscope_trace::event::LossCause;

use super::host::Host;
use crate::conn::phase::Origin;

/// How grave a warning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Figures may be wrong.
    Grave,
    /// Figures are less exact than they could be.
    Notable,
    /// Needed to read the figures rightly.
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

/// Kernel whose rules the stock model follows.
const MODEL_VERSION: (u32, u32) = (6, 18);
/// A kernel track further off than this share of managed pages is remarked.
const DIVERGENCE_MAX: f64 = 0.001;
/// Rings fuller than this are about to overflow.
const RING_PEAK_MAX: f64 = 0.8;

/// All warnings about the moment shown, gravest first.
#[must_use]
pub fn warnings(host: &Host) -> Vec<Warning> {
    let mut list = Vec::new();
    let mut say = |severity, text: Option<String>| {
        list.extend(text.map(|text| Warning { severity, text }));
    };
    say(Severity::Notable, host.fallback.clone());
    if let Some(sample) = host.shown() {
        say(Severity::Grave, lost(sample));
        say(Severity::Grave, diverging(sample));
        say(Severity::Notable, rings_filling(sample));
        say(Severity::Remark, as_found(host, sample));
    }
    say(Severity::Notable, other_kernel(host));
    say(Severity::Notable, not_closed(host));
    for text in missing_capabilities(host) {
        say(Severity::Remark, Some(text));
    }
    for note in host.snapshots.iter().rev().take(1).flat_map(|s| &s.notes) {
        say(Severity::Notable, Some(note.clone()));
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

fn lost(sample: &Sample) -> Option<String> {
    let lost = sample.events.lost_events();
    let seen = sample.events.allocs + sample.events.frees;
    let share = lost as f64 / (lost + seen).max(1) as f64 * 100.0;
    let causes: Vec<String> = sample
        .events
        .lost
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(cause, n)| format!("{} {n}", cause_name(*cause)))
        .collect();
    (lost > 0)
        .then(|| format!("{lost} events lost ({share:.2} %: {}): figures drift", causes.join(", ")))
}

fn diverging(sample: &Sample) -> Option<String> {
    let off = sample.kernel_divergence?;
    (off.ratio > DIVERGENCE_MAX).then(|| {
        format!(
            "the kernel track has {} free pages, the kernel itself {} ({:.2} % of memory apart)",
            off.track_free_pages,
            off.kernel_free_pages,
            off.ratio * 100.0
        )
    })
}

fn rings_filling(sample: &Sample) -> Option<String> {
    let peak = sample.cost?.ring_peak;
    (peak > RING_PEAK_MAX)
        .then(|| format!("rings filled to {:.0} %: events may be lost soon", peak * 100.0))
}

fn as_found(host: &Host, sample: &Sample) -> Option<String> {
    let first = host.history.oldest()?;
    let before = first.tracks.iter().find(|t| t.kind == TrackKind::Kernel)?;
    let tainted = before.totals.tainted_1g.min;
    let floor = sample.floor_1g;
    Some(format!(
        "as-found starts with the {tainted} regions already tainted: no policy cures those. \
         No policy can taint fewer than {floor} (floor)"
    ))
}

fn other_kernel(host: &Host) -> Option<String> {
    let machine = host.machine.as_ref()?;
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
