//! What a comparison says, in words, with its price.
//!
//! A verdict compares the superpageblock policy with stock from the same start state and the same
//! seeds. It never stands without the span it is of, the floor, and what the gain cost.

use std::collections::BTreeMap;

use fragscope_trace::event::TimeNs;
use fragscope_trace::region::Bounds;
use serde::Serialize;

use crate::cli::output::{duration, grouped, pages};
use crate::compare::report::{TrackComparison, find};
use crate::compare::trace_report::TraceReport;
use crate::compare::track_report::TrackReport;
use crate::observe::{StartState, TrackKind};

/// A difference of two counts, over all seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gain {
    /// Smallest.
    pub min: i64,
    /// Largest.
    pub max: i64,
}

/// Superpageblock policy against stock, from one start state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What both began with.
    pub start: StartState,
    /// How long the recording is.
    pub duration_ns: TimeNs,
    /// No policy can taint fewer.
    pub floor_1g: u64,
    /// Regions tainted under stock and not under the superpageblock policy, seed by seed.
    pub cleaner_1g: Gain,
    /// Regions that could be had more, seed by seed.
    pub obtainable_gain_1g: Gain,
    /// Counters that say which way requests went (superpageblock policy).
    pub paths: BTreeMap<String, Bounds>,
    /// The verdict.
    pub text: String,
    /// Why it is so.
    pub why: String,
    /// What it cost.
    pub price: String,
}

/// Counters that say which way requests went, in the order in which they are tried.
const PATHS: [&str; 16] = [
    "pass_1",
    "pass_2",
    "pass_2b",
    "pass_2c",
    "pass_2d",
    "pass_3",
    "pass_4",
    "zone_fallback",
    "no_page",
    "claims_whole",
    "claims_partial",
    "steals",
    "nofragment_dropped",
    "relax_add_tainted_ok",
    "relax_drop_nofragment",
    "fall_throughs",
];

/// The verdict for each start state that both policies were replayed from.
#[must_use]
pub fn verdicts(trace: &TraceReport, tracks: &[TrackComparison]) -> Vec<Verdict> {
    let starts = [StartState::AsFound, StartState::FromBoot];
    let pair = |start| {
        let stock = find(tracks, TrackKind::Stock, start)?;
        Some(verdict(trace, stock, find(tracks, TrackKind::Spb, start)?))
    };
    starts.into_iter().filter_map(pair).collect()
}

fn verdict(trace: &TraceReport, stock: &TrackComparison, spb: &TrackComparison) -> Verdict {
    let cleaner_1g =
        gain(stock, spb, |stock, spb| stock.tainted_1g.min as i64 - spb.tainted_1g.min as i64);
    let obtainable_gain_1g = gain(stock, spb, |stock, spb| {
        spb.obtainable_1g.min as i64 - stock.obtainable_1g.min as i64
    });
    let paths = PATHS.iter().map(|name| ((*name).to_owned(), spb.counter(name)));
    Verdict {
        start: spb.start,
        duration_ns: trace.duration_ns,
        floor_1g: spb.floor_1g,
        cleaner_1g,
        obtainable_gain_1g,
        paths: paths.filter(|(_, count)| count.max > 0).collect(),
        text: text(trace, stock, spb, (cleaner_1g, obtainable_gain_1g)),
        why: why(stock, spb),
        price: price(spb),
    }
}

/// The range of a difference over runs of the same seed.
fn gain(
    stock: &TrackComparison,
    spb: &TrackComparison,
    of: impl Fn(&TrackReport, &TrackReport) -> i64,
) -> Gain {
    let of_seed = |spb: &TrackReport| {
        let stock = stock.runs.iter().find(|stock| stock.seed == spb.seed)?;
        Some(of(stock, spb))
    };
    let gains: Vec<i64> = spb.runs.iter().filter_map(of_seed).collect();
    Gain {
        min: gains.iter().min().copied().unwrap_or(0),
        max: gains.iter().max().copied().unwrap_or(0),
    }
}

fn text(
    trace: &TraceReport,
    stock: &TrackComparison,
    spb: &TrackComparison,
    (cleaner, obtainable): (Gain, Gain),
) -> String {
    let when = match spb.start {
        StartState::AsFound => "From the state as found",
        StartState::FromBoot => "Had it ruled since boot (seeded histories)",
        StartState::FromBootIdeal => "Packed on an empty machine",
    };
    let difference = match (cleaner.min, cleaner.max) {
        (0, 0) => "SPB taints as many regions as stock".to_owned(),
        (min, max) if min >= 0 => {
            format!("SPB keeps {} clean", more(min, max, "region", "more"))
        }
        (min, max) if max <= 0 => {
            format!("SPB taints {}", more(-max, -min, "region", "more"))
        }
        (min, max) => format!("SPB keeps {min:+} to {max:+} regions clean, depending on the seed"),
    };
    let room = match (obtainable.min, obtainable.max) {
        (0, 0) => "as many 1 GiB pages could be had".to_owned(),
        (min, max) if min >= 0 => {
            format!("{} could be had", more(min, max, "1 GiB page", "more"))
        }
        (min, max) if max <= 0 => {
            format!("{} could be had", more(-max, -min, "1 GiB page", "fewer"))
        }
        (min, max) => format!("{min:+} to {max:+} 1 GiB pages could be had"),
    };
    format!(
        "{when}, after {}: {difference} ({} against {}; the floor is {}); {room}.",
        duration(trace.duration_ns),
        bounds_text(spb.tainted_1g),
        bounds_text(stock.tainted_1g),
        spb.floor_1g,
    )
}

fn why(stock: &TrackComparison, spb: &TrackComparison) -> String {
    let began = spb.counter("start_tainted_1g");
    let (stock_taints, spb_taints) = (stock.counter("taints_1g"), spb.counter("taints_1g"));
    let mut text = match spb.start {
        StartState::AsFound => format!(
            "{} regions were tainted when the recording began, which no policy cures before \
             their pages are freed; ",
            bounds_text(began)
        ),
        _ => format!(
            "After the history SPB had {} regions tainted, stock {}; ",
            bounds_text(began),
            bounds_text(stock.counter("start_tainted_1g"))
        ),
    };
    text += &format!(
        "during it stock tainted {} regions anew and SPB {}.",
        bounds_text(stock_taints),
        bounds_text(spb_taints)
    );
    let non_movable: u64 =
        ["pass_2", "pass_2b", "pass_2c", "pass_2d"].iter().map(|name| spb.counter(name).max).sum();
    let into_empty = spb.counter("pass_3").max;
    text += &format!(
        " Up to {} blocks came from relabelled or borrowed pageblocks of tainted regions, {} from \
         empty regions, and NOFRAGMENT was given up {} times.",
        grouped(non_movable),
        grouped(into_empty),
        grouped(spb.counter("nofragment_dropped").max)
    );
    text
}

fn price(spb: &TrackComparison) -> String {
    let mut text = format!(
        "Its price: SPB moved {}, reclaimed {} and refused {} requests that the kernel served",
        pages_text(spb.moved_pages),
        pages_text(spb.reclaimed_pages),
        bounds_text(spb.refused)
    );
    if let Some(share) = spb.high_order_success_permille() {
        text += &format!(
            "; {} % of requests above order 0 were served in one block",
            permille_text(share)
        );
    }
    text + "."
}

/// `1 more region`, `2 to 5 more regions`.
fn more(min: i64, max: i64, noun: &str, more: &str) -> String {
    let ending = if max == 1 { "" } else { "s" };
    if min == max {
        format!("{max} {more} {noun}{ending}")
    } else {
        format!("{min} to {max} {more} {noun}{ending}")
    }
}

/// A count, or a range of counts.
pub(crate) fn bounds_text(bounds: Bounds) -> String {
    if bounds.min == bounds.max {
        grouped(bounds.min)
    } else {
        format!("{}..{}", grouped(bounds.min), grouped(bounds.max))
    }
}

fn pages_text(bounds: Bounds) -> String {
    match (bounds.min, bounds.max) {
        (_, 0) => "nothing".to_owned(),
        (min, max) if min == max => pages(min),
        (min, max) => format!("{} to {}", pages(min), pages(max)),
    }
}

fn permille_text(bounds: Bounds) -> String {
    let one = |permille: u64| format!("{}.{}", permille / 10, permille % 10);
    if bounds.min == bounds.max {
        one(bounds.min)
    } else {
        format!("{} to {}", one(bounds.min), one(bounds.max))
    }
}
