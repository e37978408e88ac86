//! What it costs to have 1 GiB pages at the end of the trace.

use fragscope_trace::page::REGION_PAGES;

use super::chart::{self, Axis, Line, Stroke};
use super::history::{History, TrackHistory};
use super::theme::Theme;
use super::{Area, PlotError, heading, label, write};

/// Draws regions that could be had over memory moved for them.
pub(super) fn draw(history: &History, theme: Theme, root: &Area<'_>) -> Result<(), PlotError> {
    let (head, body) = root.split_vertically(60);
    let (some, none): (Vec<_>, Vec<_>) =
        history.tracks.iter().partition(|track| !track.cost_pages.is_empty());
    let mut remark = "Cheapest regions first; a line ends where no more can be had.".to_owned();
    if !none.is_empty() {
        let names: Vec<String> = none.into_iter().map(label::track).collect();
        remark += &format!(" None at all: {}.", names.join(", "));
    }
    heading(&head, theme, "What 1 GiB pages cost at the end", history, &remark)?;
    let lines: Vec<Line> = some.into_iter().map(|track| line(theme, track)).collect();
    if lines.is_empty() {
        return write(&body, &theme.ink(), "No track could have a 1 GiB page.", (16, 8), 14);
    }
    let ends = || lines.iter().filter_map(|line| line.points.last());
    let most = ends().map(|(_, had)| *had).fold(1.0, f64::max) * 1.15;
    let dear = ends().map(|(moved, _)| *moved).fold(0.1, f64::max) * 1.02;
    let x = Axis { end: dear, title: "GiB moved", spell: &|moved| format!("{moved:.1}") };
    let y = Axis { end: most, title: "1 GiB pages had", spell: &label::count };
    chart::draw(&body, theme, &x, &y, &lines)
}

fn line(theme: Theme, track: &TrackHistory) -> Line {
    let moved: Vec<f64> = std::iter::once(0.0)
        .chain(track.cost_pages.iter().map(|pages| *pages as f64 / REGION_PAGES as f64))
        .collect();
    Line {
        points: label::steps(&moved, (0..=track.cost_pages.len()).map(|had| had as f64)),
        name: format!("{} {}", track.cost_pages.len(), label::track(track)),
        color: theme.track(track.kind),
        stroke: Stroke::of(track),
        up_to: None,
    }
}
