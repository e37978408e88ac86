//! Free memory that is too broken for a request.

use fragscope_trace::page::NR_PAGE_ORDERS;

use super::chart::{self, Axis, Line, Stroke};
use super::history::{History, TrackHistory};
use super::theme::Theme;
use super::{Area, PlotError, heading, label, write};

/// Draws the kernel's `unusable_free_index`: for pageblock-sized requests over time, and for all
/// orders at the end.
pub(super) fn draw(history: &History, theme: Theme, root: &Area<'_>) -> Result<(), PlotError> {
    let (head, body) = root.split_vertically(60);
    let remark = "0 %: all free memory is of use; 100 %: none is.";
    heading(&head, theme, "Free memory in blocks that are too small", history, remark)?;
    let panels = body.split_evenly((2, 1));
    let end = history.times_s.last().copied().unwrap_or(1.0).max(1e-3);
    let over_time = |track: &TrackHistory| {
        label::steps(&history.times_s, track.unusable_permille.iter().map(|n| percent(*n)))
    };
    let time = Axis { end, title: "", spell: &|seconds| label::seconds(seconds, end) };
    let title = "too small for 2 MiB, over time";
    panel(&panels[0], history, theme, title, &time, &over_time)?;
    let by_order = |track: &TrackHistory| {
        let orders = track.unusable_by_order.iter().enumerate();
        orders.map(|(order, unusable)| (order as f64, percent(*unusable))).collect()
    };
    let orders = Axis { end: (NR_PAGE_ORDERS - 1) as f64, title: "", spell: &size };
    let title = "too small for a request of this size, at the end";
    panel(&panels[1], history, theme, title, &orders, &by_order)
}

fn percent(permille: u64) -> f64 {
    permille as f64 / 10.0
}

/// Memory of an order.
fn size(order: f64) -> String {
    match order.round() as u32 {
        small @ 0..8 => format!("{} KiB", 4u32 << small),
        large => format!("{} MiB", 4u32 << large >> 10),
    }
}

fn panel(
    area: &Area<'_>,
    history: &History,
    theme: Theme,
    title: &str,
    x: &Axis<'_>,
    points: &dyn Fn(&TrackHistory) -> Vec<(f64, f64)>,
) -> Result<(), PlotError> {
    let line = |track: &TrackHistory| {
        let points = points(track);
        let last = points.last().map_or(0.0, |(_, share)| *share);
        Line {
            points,
            name: format!("{last:.1} % {}", label::track(track)),
            color: theme.track(track.kind),
            stroke: Stroke::of(track),
            up_to: None,
        }
    };
    let lines: Vec<Line> = history.tracks.iter().map(line).collect();
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(1.0, f64::max);
    let (head, body) = area.split_vertically(18);
    write(&head, &theme.ink(), title, (66, 2), 14)?;
    let y = Axis {
        end: (most * 1.15).min(100.0),
        title: "of free memory",
        spell: &|share| format!("{share:.0} %"),
    };
    chart::draw(&body, theme, x, &y, &lines)
}
