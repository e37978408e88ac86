//! Availability and taint over time.

use std::path::Path;

use plotters::prelude::*;

use super::history::{History, TrackHistory};
use super::theme::{SIZE, Theme};
use super::{PlotError, drawing, label, text, text_style};
use crate::observe::StartState;

/// Draws what could be had (above) and what is tainted (below), one line for each track.
pub(super) fn draw(history: &History, theme: Theme, path: &Path) -> Result<(), PlotError> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&theme.background()).map_err(drawing)?;
    let (head, body) = root.split_vertically(44);
    text(&head, theme, &format!("1 GiB regions over time: {}", history.title), (16, 12), 18)?;
    let panels = body.split_evenly((2, 1));
    let had = |track: &TrackHistory| track.obtainable_1g.clone();
    panel(&panels[0], history, theme, "1 GiB pages that could be had", &had, None)?;
    let tainted = |track: &TrackHistory| track.tainted_1g.clone();
    panel(&panels[1], history, theme, "tainted regions", &tainted, Some(&history.floor_1g))?;
    root.present().map_err(drawing)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(
    area: &Area<'_>,
    history: &History,
    theme: Theme,
    title: &str,
    values: &dyn Fn(&TrackHistory) -> Vec<u64>,
    floor: Option<&[u64]>,
) -> Result<(), PlotError> {
    let end = history.times_s.last().copied().unwrap_or(1.0).max(1e-3);
    let all = history.tracks.iter().flat_map(values).chain(floor.into_iter().flatten().copied());
    let top = all.max().unwrap_or(0).max(1) as f64 * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin_left(8)
        .margin_right(150)
        .margin_bottom(6)
        .x_label_area_size(30)
        .y_label_area_size(46)
        .caption(title, ("sans-serif", 14, &theme.ink()))
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(theme.background())
        .bold_line_style(theme.grid())
        .axis_style(theme.faint())
        .label_style(("sans-serif", 12, &theme.ink()))
        .x_label_formatter(&|seconds| label::seconds(*seconds, end))
        .y_label_formatter(&|count| format!("{count:.0}"))
        .y_labels(5)
        .draw()
        .map_err(drawing)?;
    let mut ends = Vec::new();
    if let Some(floor) = floor {
        let points = history.times_s.iter().copied().zip(floor.iter().map(|n| *n as f64));
        chart
            .draw_series(DashedLineSeries::new(points, 4, 4, theme.faint().stroke_width(1)))
            .map_err(drawing)?;
        let last = floor.last().copied().unwrap_or(0);
        ends.push((last as f64, format!("floor {last}"), theme.faint()));
    }
    for track in &history.tracks {
        let values = values(track);
        let color = theme.track(track.kind);
        let steps = label::steps(&history.times_s, &values);
        let width = if track.start == StartState::AsFound { 2 } else { 1 };
        chart.draw_series(LineSeries::new(steps, color.stroke_width(width))).map_err(drawing)?;
        let last = values.last().copied().unwrap_or(0);
        ends.push((last as f64, format!("{} {last}", label::track(track)), color));
    }
    // Names stand at the ends of their lines, pushed apart where those meet.
    let places: Vec<i32> =
        ends.iter().map(|(value, ..)| chart.backend_coord(&(end, *value)).1).collect();
    let right = chart.backend_coord(&(end, 0.0)).0;
    for ((_, name, color), y) in ends.iter().zip(label::spread(&places, 15)) {
        let (left, above) = area.get_base_pixel();
        let at = (right - left + 8, y - above - 7);
        area.draw(&Text::new(name.clone(), at, text_style(13, color))).map_err(drawing)?;
    }
    Ok(())
}
