//! What it costs to have 1 GiB pages at the end of the trace.

use std::path::Path;

use plotters::prelude::*;

use super::history::History;
use super::theme::{SIZE, Theme};
use super::{PlotError, drawing, label, text, text_style};

const PAGES_PER_GIB: f64 = 262_144.0;

/// Draws regions that could be had over memory moved for them.
pub(super) fn draw(history: &History, theme: Theme, path: &Path) -> Result<(), PlotError> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&theme.background()).map_err(drawing)?;
    let (head, body) = root.split_vertically(44);
    let title = format!("What 1 GiB pages cost at the end: {}", history.title);
    text(&head, theme, &title, (16, 12), 18)?;
    let gib = |pages: u64| pages as f64 / PAGES_PER_GIB;
    let costs = || history.tracks.iter().map(|track| &track.cost_pages);
    let most = costs().map(Vec::len).max().unwrap_or(0).max(1) as f64 * 1.1;
    let dear = costs().filter_map(|cost| cost.last()).map(|pages| gib(*pages)).fold(0.1, f64::max);
    let mut chart = ChartBuilder::on(&body)
        .margin_left(8)
        .margin_right(150)
        .margin_bottom(8)
        .x_label_area_size(46)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..dear * 1.02, 0.0..most)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .light_line_style(theme.background())
        .bold_line_style(theme.grid())
        .axis_style(theme.faint())
        .label_style(("sans-serif", 12, &theme.ink()))
        .axis_desc_style(("sans-serif", 13, &theme.ink()))
        .x_desc("GiB moved")
        .y_desc("1 GiB pages had")
        .x_label_formatter(&|moved| format!("{moved:.1}"))
        .y_label_formatter(&|count| format!("{count:.0}"))
        .draw()
        .map_err(drawing)?;
    let mut ends = Vec::new();
    for track in &history.tracks {
        let color = theme.track(track.kind);
        let values: Vec<u64> = (0..=track.cost_pages.len() as u64).collect();
        let mut moved = vec![0.0];
        moved.extend(track.cost_pages.iter().map(|pages| gib(*pages)));
        let line = label::steps(&moved, &values);
        let last = line.last().copied().unwrap_or_default();
        chart.draw_series(LineSeries::new(line, color.stroke_width(2))).map_err(drawing)?;
        ends.push((
            chart.backend_coord(&last),
            format!("{} {}", label::track(track), last.1),
            color,
        ));
    }
    let places: Vec<i32> = ends.iter().map(|((_, y), ..)| *y).collect();
    for (((x, _), name, color), y) in ends.iter().zip(label::spread(&places, 16)) {
        let at = (x + 8, y - 44 - 7);
        body.draw(&Text::new(name.clone(), at, text_style(13, color))).map_err(drawing)?;
    }
    root.present().map_err(drawing)
}
