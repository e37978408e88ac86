//! A chart of lines whose names stand at their ends.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::history::TrackHistory;
use super::theme::Theme;
use super::{Area, PlotError, drawing, label, text_style};
use crate::observe::{StartState, TrackKind};

/// Room for names right of a chart, in points.
const NAMES_WIDTH: i32 = 150;
/// Least distance of two names, in points.
const NAMES_GAP: i32 = 16;

/// How an axis is labelled.
pub(super) struct Axis<'a> {
    /// Its end; it begins at 0.
    pub(super) end: f64,
    /// What it measures.
    pub(super) title: &'a str,
    /// Spells a value.
    pub(super) spell: &'a dyn Fn(f64) -> String,
}

/// One line.
pub(super) struct Line {
    /// Its points, left to right.
    pub(super) points: Vec<(f64, f64)>,
    /// What stands at its end.
    pub(super) name: String,
    pub(super) color: RGBColor,
    /// How it is drawn.
    pub(super) stroke: Stroke,
    /// Upper edge of what the line leaves open, if it leaves anything open.
    pub(super) up_to: Option<Vec<(f64, f64)>>,
}

/// How a line is drawn, and how wide in points.
#[derive(Clone, Copy)]
pub(super) enum Stroke {
    Solid(u32),
    Dashed(u32),
}

impl Stroke {
    /// Tracks that begin as found are solid, all others dashed. What is drawn first is wider, so
    /// that lines which coincide all show.
    pub(super) fn of(track: &TrackHistory) -> Stroke {
        let width = match track.kind {
            TrackKind::Kernel => 7,
            TrackKind::Stock => 4,
            TrackKind::Spb => 2,
        };
        match track.start {
            StartState::AsFound => Stroke::Solid(width),
            StartState::FromBoot | StartState::FromBootIdeal => Stroke::Dashed(width),
        }
    }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws lines over `x` and `y`.
pub(super) fn draw(
    area: &Area<'_>,
    theme: Theme,
    x: &Axis<'_>,
    y: &Axis<'_>,
    lines: &[Line],
) -> Result<(), PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_top(10)
        .margin_right(NAMES_WIDTH)
        .margin_bottom(6)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..x.end, 0.0..y.end)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(theme.background())
        .bold_line_style(theme.grid())
        .axis_style(theme.faint())
        .label_style(("sans-serif", 13, &theme.ink()))
        .axis_desc_style(("sans-serif", 13, &theme.ink()))
        .x_desc(x.title)
        .y_desc(y.title)
        .x_label_formatter(&|value| (x.spell)(*value))
        .y_label_formatter(&|value| (y.spell)(*value))
        .x_labels(8)
        .y_labels(5)
        .draw()
        .map_err(drawing)?;
    for line in lines {
        stroke(&mut chart, line)?;
    }
    names(area, &chart, lines)
}

fn stroke(chart: &mut Chart<'_, '_>, line: &Line) -> Result<(), PlotError> {
    if let Some(up_to) = &line.up_to {
        let outline = line.points.iter().chain(up_to.iter().rev()).copied();
        let open = Polygon::new(outline.collect::<Vec<_>>(), line.color.mix(0.15).filled());
        chart.draw_series([open]).map_err(drawing)?;
    }
    let points = line.points.iter().copied();
    match line.stroke {
        Stroke::Dashed(width) => {
            let dashes = DashedLineSeries::new(points, 8, 6, line.color.stroke_width(width));
            chart.draw_series(dashes).map(|_| ())
        }
        Stroke::Solid(width) => {
            chart.draw_series(LineSeries::new(points, line.color.stroke_width(width))).map(|_| ())
        }
    }
    .map_err(drawing)
}

/// Names at the ends of lines, pushed apart where those meet.
fn names(area: &Area<'_>, chart: &Chart<'_, '_>, lines: &[Line]) -> Result<(), PlotError> {
    let end = |line: &Line| line.points.last().copied().unwrap_or_default();
    let places: Vec<(i32, i32)> =
        lines.iter().map(|line| chart.backend_coord(&end(line))).collect();
    let heights: Vec<i32> = places.iter().map(|(_, y)| *y).collect();
    let (left, above) = area.get_base_pixel();
    let lowest = above + area.dim_in_pixel().1 as i32 - NAMES_GAP;
    let spread = label::spread(&heights, NAMES_GAP, lowest);
    for ((line, (x, _)), y) in lines.iter().zip(places).zip(spread) {
        let at = (x - left + 8, y - above - 8);
        area.draw(&Text::new(line.name.clone(), at, text_style(13, &line.color)))
            .map_err(drawing)?;
    }
    Ok(())
}
