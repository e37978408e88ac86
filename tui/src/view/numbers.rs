//! The figures of each track: what could be had now, by moving, and what is spoiled.

use fragscope_replay::observe::{Sample, StartState, TrackKind, TrackSample};
use fragscope_trace::page::REGION_PAGES;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::Context;
use super::pane::{put, put_all};
use super::theme::Theme;
use crate::format::{bounds, count, pages, span};
use crate::state::headline::Price;

/// A column of figures.
struct Figure {
    /// Headings from long to short.
    titles: [&'static str; 3],
    /// Columns taken by each heading's layout.
    widths: [u16; 3],
    text: fn(&TrackSample) -> String,
    style: fn(Theme) -> Style,
}

const FIGURES: [Figure; 5] = [
    Figure {
        titles: ["now", "now", "now"],
        widths: [6, 6, 5],
        text: |t| bounds(t.totals.free_1g),
        style: Theme::free,
    },
    Figure {
        titles: ["if 1 GiB is moved", "1 GiB moved", "+1G"],
        widths: [19, 13, 5],
        text: |t| t.totals.obtainable_for(REGION_PAGES).to_string(),
        style: Theme::movable,
    },
    Figure {
        titles: ["if all is moved", "all moved", "all"],
        widths: [17, 11, 6],
        text: |t| bounds(t.totals.obtainable_1g),
        style: Theme::movable,
    },
    Figure {
        titles: ["tainted", "tainted", "taint"],
        widths: [9, 9, 6],
        text: |t| bounds(t.totals.tainted_1g),
        style: Theme::tainted,
    },
    Figure {
        titles: ["spoiled by one block", "by one block", "1blk"],
        widths: [22, 14, 5],
        text: |t| t.totals.nearly_clean_1g.to_string(),
        style: Theme::tainted,
    },
];

const NAME_WIDTHS: [u16; 3] = [15, 15, 7];

/// Columns of the difference from the kernel's track.
const DIFFERENCE_WIDTH: usize = 21;

/// Heading, columns and text of a part of the price.
type PriceColumn = (&'static str, usize, fn(&Price) -> String);

/// What a policy did to get there, beside its gain.
const PRICES: [PriceColumn; 3] = [
    ("moved", 9, |p| pages(p.moved_pages)),
    ("reclaimed", 10, |p| pages(p.reclaimed_pages)),
    ("refused", 8, |p| count(p.refused)),
];

/// Rows wanted: a heading and one for each track.
#[must_use]
pub fn rows(sample: Option<&Sample>) -> u16 {
    1 + sample.map_or(3, |s| s.tracks.len() as u16)
}

/// The pane's title: what the figures are of, how long they were watched, and the floor.
#[must_use]
pub fn title(context: Context<'_>, sample: &Sample) -> Line<'static> {
    let host = context.state.host();
    let whole = sample.tracks.first().map_or(0, |t| t.totals.whole_1g);
    let word = if host.origin.is_live() { "traced" } else { "recorded" };
    let facts = format!(
        "  {whole} regions, {} {word}, floor: {} tainted under any policy",
        span(host.watched_seconds()),
        sample.floor_1g
    );
    Line::from(vec![Span::styled("1 GiB pages", context.theme.strong()), Span::raw(facts)])
}

/// Draws as many tracks as there are rows. The stock track as found leaves first, then the
/// from-boot ones.
pub fn draw(context: Context<'_>, sample: &Sample, area: Rect, buffer: &mut Buffer) {
    let total = |layout: usize| -> u16 {
        NAME_WIDTHS[layout] + FIGURES.iter().map(|f| f.widths[layout]).sum::<u16>()
    };
    let tail = (DIFFERENCE_WIDTH + PRICES.iter().map(|p| p.1).sum::<usize>()) as u16;
    // The price matters more than long headings.
    let with_price = (0..2).find(|l| total(*l) + tail <= area.width);
    let layout = with_price.or_else(|| (0..2).find(|l| total(*l) <= area.width)).unwrap_or(2);
    let room = usize::from(area.height.saturating_sub(1));
    let tracks = tracks_that_fit(&sample.tracks, room);
    let spare = usize::from(area.width.saturating_sub(total(layout)));
    put(buffer, area, &heading(context, layout, spare));
    let lines = tracks.iter().map(|t| line(context, sample, t, layout, spare));
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    put_all(buffer, body, lines);
}

/// The tracks to show in `room` rows, in their order.
fn tracks_that_fit(tracks: &[TrackSample], room: usize) -> Vec<&TrackSample> {
    let rank = |t: &TrackSample| match (t.kind, t.start) {
        (TrackKind::Spb, StartState::AsFound) => 0,
        (TrackKind::Kernel, _) => 1,
        (TrackKind::Spb, StartState::FromBoot) => 2,
        (TrackKind::Stock, StartState::AsFound) => 3,
        (TrackKind::Stock, StartState::FromBoot) => 4,
        _ => 5,
    };
    let mut shown: Vec<&TrackSample> = tracks.iter().collect();
    shown.sort_by_key(|t| rank(t));
    shown.truncate(room);
    shown.sort_by_key(|t| (t.start, t.kind));
    shown
}

fn heading(context: Context<'_>, layout: usize, spare: usize) -> Line<'static> {
    let name = usize::from(NAME_WIDTHS[layout]);
    let mut spans = vec![Span::raw(" ".repeat(name))];
    for figure in &FIGURES {
        let width = usize::from(figure.widths[layout]);
        let text = format!("{:>width$}", figure.titles[layout]);
        spans.push(Span::styled(text, context.theme.grey()));
    }
    if spare >= DIFFERENCE_WIDTH {
        let text = format!("{:>DIFFERENCE_WIDTH$}", "against the kernel");
        spans.push(Span::styled(text, context.theme.grey()));
    }
    if has_price(spare) {
        for (title, width, _) in PRICES {
            spans.push(Span::styled(format!("{title:>width$}"), context.theme.grey()));
        }
    }
    Line::from(spans)
}

fn line(
    context: Context<'_>,
    sample: &Sample,
    track: &TrackSample,
    layout: usize,
    spare: usize,
) -> Line<'static> {
    let theme = context.theme;
    let stale = if context.state.host().is_stale() { theme.stale() } else { Style::new() };
    let name_width = usize::from(NAME_WIDTHS[layout]);
    let name = format!("{:name_width$}", name(track, layout == 2));
    let mut spans = vec![Span::styled(name, theme.track(track.kind).patch(theme.strong()))];
    for figure in &FIGURES {
        let width = usize::from(figure.widths[layout]);
        let text = format!("{:>width$}", (figure.text)(track));
        let style = (figure.style)(theme).patch(theme.strong()).patch(stale);
        spans.push(Span::styled(text, style));
    }
    if track.kind == TrackKind::Kernel {
        return Line::from(spans);
    }
    if let Some(text) = difference(sample, track).filter(|_| spare >= DIFFERENCE_WIDTH) {
        spans.push(Span::raw(format!("{text:>DIFFERENCE_WIDTH$}")));
    }
    if has_price(spare) {
        let price = Price::of(sample, track);
        let paid = PRICES.iter().map(|(_, width, text)| format!("{:>1$}", text(&price), *width));
        spans.extend(paid.map(|text| Span::styled(text, stale)));
    }
    Line::from(spans)
}

/// Whether the price has room beside the difference.
fn has_price(spare: usize) -> bool {
    spare >= DIFFERENCE_WIDTH + PRICES.iter().map(|p| p.1).sum::<usize>()
}

/// `spb`, `spb from boot`.
#[must_use]
pub fn name(track: &TrackSample, short: bool) -> String {
    track_name(track.kind, track.start, short)
}

/// The same by what makes a track.
#[must_use]
pub fn track_name(kind: TrackKind, start: StartState, short: bool) -> String {
    let start = match (start, short) {
        (StartState::AsFound, _) => return kind.name().to_owned(),
        (StartState::FromBoot, true) => "/boot",
        (StartState::FromBoot, false) => " from boot",
        (StartState::FromBootIdeal, true) => "/best",
        (StartState::FromBootIdeal, false) => " at best",
    };
    let name = kind.name();
    format!("{}{start}", if short { &name[..name.len().min(2)] } else { name })
}

/// Against the kernel's own track: what more could be had, what fewer are tainted.
fn difference(sample: &Sample, track: &TrackSample) -> Option<String> {
    let kernel = sample.tracks.iter().find(|t| t.kind == TrackKind::Kernel)?;
    if track.kind == TrackKind::Kernel {
        return None;
    }
    let change = |of: fn(&TrackSample) -> u64| of(track) as i64 - of(kernel) as i64;
    let had = change(|t| t.totals.obtainable_1g.min);
    let tainted = change(|t| t.totals.tainted_1g.min);
    Some(match (had, tainted) {
        (0, 0) => "the same".to_owned(),
        (had, 0) => format!("{had:+} to be had"),
        (0, tainted) => format!("{tainted:+} tainted"),
        (had, tainted) => format!("{had:+} had, {tainted:+} tainted"),
    })
}
