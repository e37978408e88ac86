//! Availability and taint over time.

use fragscope_trace::region::Bounds;

use super::chart::{self, Axis, Line, Stroke};
use super::history::{History, TrackHistory};
use super::theme::Theme;
use super::{Area, PlotError, heading, label, write};

/// Draws what could be had (above) and what is tainted (below), one line for each track.
pub(super) fn draw(history: &History, theme: Theme, root: &Area<'_>) -> Result<(), PlotError> {
    let (head, body) = root.split_vertically(60);
    let remark = "Shaded: what pages of unknown use leave open.";
    heading(&head, theme, "1 GiB pages over time", history, remark)?;
    let panels = body.split_evenly((2, 1));
    panel(
        &panels[0],
        history,
        theme,
        "1 GiB pages that could be had together",
        &|track| &track.obtainable_1g,
        None,
    )?;
    panel(
        &panels[1],
        history,
        theme,
        "tainted regions: none can become a 1 GiB page",
        &|track| &track.tainted_1g,
        Some(&history.floor_1g),
    )
}

fn panel(
    area: &Area<'_>,
    history: &History,
    theme: Theme,
    title: &str,
    values: &dyn Fn(&TrackHistory) -> &Vec<Bounds>,
    floor: Option<&[u64]>,
) -> Result<(), PlotError> {
    let end = history.times_s.last().copied().unwrap_or(1.0).max(1e-3);
    let mut lines: Vec<Line> = Vec::new();
    if let Some(floor) = floor {
        lines.push(floor_line(history, theme, floor));
    }
    lines.extend(history.tracks.iter().map(|track| line(history, theme, track, values(track))));
    let tops = lines.iter().flat_map(|line| line.up_to.as_ref().unwrap_or(&line.points));
    let top = tops.map(|(_, y)| *y).fold(1.0, f64::max) * 1.15;
    let (head, body) = area.split_vertically(18);
    write(&head, &theme.ink(), title, (66, 2), 14)?;
    let x = Axis { end, title: "", spell: &|seconds| label::seconds(seconds, end) };
    let y = Axis { end: top, title: "regions of 1 GiB", spell: &label::count };
    chart::draw(&body, theme, &x, &y, &lines)
}

fn floor_line(history: &History, theme: Theme, floor: &[u64]) -> Line {
    let last = floor.last().copied().unwrap_or(0);
    Line {
        points: label::steps(&history.times_s, floor.iter().map(|n| *n as f64)),
        name: format!("{last} floor: no policy less"),
        color: theme.faint(),
        stroke: Stroke::Dashed(1),
        up_to: None,
    }
}

fn line(history: &History, theme: Theme, track: &TrackHistory, values: &[Bounds]) -> Line {
    let over = |of: fn(&Bounds) -> u64| {
        label::steps(&history.times_s, values.iter().map(|bounds| of(bounds) as f64))
    };
    let last = values.last().copied().unwrap_or_default();
    let range = label::range(last);
    let is_open = values.iter().any(|bounds| bounds.min != bounds.max);
    Line {
        points: over(|bounds| bounds.min),
        name: format!("{range} {}", label::track(track)),
        color: theme.track(track.kind),
        stroke: Stroke::of(track),
        up_to: is_open.then(|| over(|bounds| bounds.max)),
    }
}
