//! The verdict: in numbers, in words, as bars with their ranges, and all measures as tables.

use fragscope_trace::region::Bounds;

use super::figures;
use super::html::Html;
use crate::cli::output::grouped;
use crate::compare::Comparison;
use crate::compare::report::TrackComparison;
use crate::compare::table::{MEASURES, Measure, TITLES};
use crate::observe::{StartState, TrackKind};
use crate::plot::PlotError;
use crate::plot::bars::{self, Bar};
use crate::plot::theme::Theme;
use crate::verdict::{Verdict, bounds_text};

/// What a start means to people.
fn start_name(start: StartState) -> &'static str {
    match start {
        StartState::AsFound => "from now on (as found)",
        StartState::FromBoot => "had it ruled since boot",
        StartState::FromBootIdeal => "packed on an empty machine",
    }
}

/// Numbers, words and bars.
pub(super) fn put(html: &mut Html, comparison: &Comparison) -> Result<(), PlotError> {
    html.element("h2", "", "Verdict");
    if comparison.verdicts.is_empty() {
        html.element("p", "", "No policy was replayed, so there is nothing to compare.");
    }
    html.within("div", "cards", |html| {
        comparison.verdicts.iter().for_each(|verdict| put_card(html, comparison, verdict));
    });
    for verdict in &comparison.verdicts {
        html.element("h3", "", &capitalized(start_name(verdict.start)));
        html.element("p", "", &verdict.text);
        html.element("p", "", &format!("{} {}", verdict.price, verdict.why));
    }
    put_certainty(html, comparison);
    let caption = "At the end of the recording. Solid: in every case; pale: in some, over seeds and \
                   over what pages of unknown use leave open.";
    let draw = |theme| {
        bars::draw("1 GiB regions at the end", "Kernel, stock and SPB.", &groups(comparison), theme)
    };
    figures::put_one(html, caption, &draw(Theme::Light)?, &draw(Theme::Dark)?);
    Ok(())
}

/// Tainted and obtainable regions of one start, at a glance.
fn put_card(html: &mut Html, comparison: &Comparison, verdict: &Verdict) {
    let tracks =
        [TrackKind::Stock, TrackKind::Spb].map(|policy| comparison.track(policy, verdict.start));
    let [Some(stock), Some(spb)] = tracks else { return };
    let measure =
        |name: &str, of: fn(&TrackComparison) -> Bounds| html_measure(name, of(stock), of(spb));
    let tainted = measure("tainted regions", |track| track.tainted_1g);
    let obtainable = measure("1 GiB pages obtainable", |track| track.obtainable_1g);
    html.within("div", "card", |html| {
        html.element("p", "faint", &capitalized(start_name(verdict.start)));
        html.markup(&tainted);
        html.markup(&obtainable);
        html.element("p", "faint", &format!("floor of taint: {}", verdict.floor_1g));
    });
}

fn html_measure(name: &str, stock: Bounds, spb: Bounds) -> String {
    let mut html = Html::default();
    html.element("p", "label", name);
    html.within("p", "big", |html| {
        html.element("span", "stock", &format!("stock {}", bounds_text(stock)));
        html.element("span", "spb", &format!("SPB {}", bounds_text(spb)));
    });
    html.into_text()
}

/// What the ranges cover, and what they do not.
fn put_certainty(html: &mut Html, comparison: &Comparison) {
    html.element("h3", "", "How sure this is");
    let trace = &comparison.trace;
    let seeds = comparison.tracks.iter().map(|track| track.seeds.len()).max().unwrap_or(0);
    let mut said = vec![
        format!(
            "Ranges (a..b) are over {seeds} seeded histories from boot, and over pages whose use is \
             unknown, counted both ways."
        ),
        format!("Events lost while recording: {}.", grouped(trace.events.lost_events())),
        "As found cannot cure taint that is there already; from boot does not know the machine's \
         real history. The truth for a patched kernel lies between."
            .to_owned(),
    ];
    let last = trace.fidelity.last();
    said.push(match last {
        Some(last) => format!(
            "The track of the kernel itself differs from the kernel's own state at the end in {} \
             of {} pages compared, {} of them unexplained.",
            grouped(last.raw_difference_pages),
            grouped(last.compared_pages),
            grouped(last.unexplained_pages)
        ),
        None => "No later snapshot was taken, so the track of the kernel itself could not be \
                 checked."
            .to_owned(),
    });
    if !trace.kernel_is_models {
        said.push(format!(
            "The stock model follows Linux 6.18; this host ran {}.",
            trace.kernel_release
        ));
    }
    html.within("ul", "", |html| said.iter().for_each(|line| html.element("li", "", line)));
}

/// Bars of tainted and of obtainable regions.
fn groups(comparison: &Comparison) -> Vec<(&'static str, Vec<Bar>)> {
    let bar = |track: &TrackComparison, bounds| Bar {
        name: match track.start {
            StartState::AsFound => format!("{}, as found", track.policy.name()),
            _ => format!("{}, from boot", track.policy.name()),
        },
        kind: track.policy,
        bounds,
    };
    let of = |figure: fn(&TrackComparison) -> Bounds| -> Vec<Bar> {
        let real = |track: &&TrackComparison| track.start != StartState::FromBootIdeal;
        comparison.tracks.iter().filter(real).map(|track| bar(track, figure(track))).collect()
    };
    let mut tainted = of(|track| track.tainted_1g);
    tainted.push(Bar {
        name: "floor: no policy taints fewer".to_owned(),
        kind: TrackKind::Kernel,
        bounds: Bounds { min: comparison.floor_1g, max: comparison.floor_1g },
    });
    vec![
        ("tainted: none of these can become a 1 GiB page", tainted),
        ("obtainable: 1 GiB pages that could be had together", of(|track| track.obtainable_1g)),
        ("evacuable: each by itself free of what cannot be moved", of(|track| track.evacuable_1g)),
    ]
}

/// Every measure of every track, and what became of requests of each order.
pub(super) fn put_tables(html: &mut Html, comparison: &Comparison) {
    html.element("h2", "", "In figures");
    for (start, title) in TITLES {
        let tracks: Vec<&TrackComparison> =
            comparison.tracks.iter().filter(|track| track.start == start).collect();
        if tracks.is_empty() {
            continue;
        }
        html.element("h3", "", title);
        let mut columns = vec![""];
        columns.extend(tracks.iter().map(|track| track.policy.name()));
        let row = |(name, of): &Measure| {
            let value = |track: &&TrackComparison| of(track).map_or("-".to_owned(), bounds_text);
            let cells = std::iter::once((*name).to_owned()).chain(tracks.iter().map(value));
            cells.collect::<Vec<_>>()
        };
        let rows: Vec<_> = MEASURES.iter().map(row).collect();
        html.within("div", "wide", |html| html.table(&columns, &rows));
    }
    put_orders(html, comparison);
}

/// Requests by order, as found: how many each policy served in one block.
fn put_orders(html: &mut Html, comparison: &Comparison) {
    let run =
        |policy| comparison.track(policy, StartState::AsFound).and_then(|track| track.runs.first());
    let (Some(stock), Some(spb)) = (run(TrackKind::Stock), run(TrackKind::Spb)) else { return };
    html.element("h3", "", "Requests by order, as found: served in one block");
    let served = |tally: Option<u64>| tally.map_or("-".to_owned(), grouped);
    let rows: Vec<_> = stock
        .orders
        .iter()
        .filter(|(_, tally)| tally.requests > 0)
        .map(|(order, tally)| {
            let by_spb = spb.orders.get(order).map(|tally| tally.served);
            let asked = grouped(tally.requests);
            vec![order.to_string(), asked, grouped(tally.served), served(by_spb)]
        })
        .collect();
    html.within("div", "wide", |html| html.table(&["order", "asked", "stock", "spb"], &rows));
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
