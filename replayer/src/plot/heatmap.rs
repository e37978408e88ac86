//! State of every region over time, one panel for each track.

use fragscope_trace::region::RegionState;
use plotters::prelude::*;

use super::history::{History, RegionCell, TrackHistory};
use super::theme::Theme;
use super::{Area, PlotError, drawing, heading, label, write};

/// Columns drawn at most; more samples than that share one.
const COLUMNS: usize = 400;

/// Height of the picture in points.
pub(super) fn height(history: &History) -> u32 {
    let rows = history.region_names.len().max(1) as u32;
    let panels = history.tracks.len().max(1) as u32;
    96 + panels * ((rows * 10).clamp(110, 480) + 58)
}

/// Draws time to the right, addresses upward.
pub(super) fn draw(history: &History, theme: Theme, root: &Area<'_>) -> Result<(), PlotError> {
    let (head, body) = root.split_vertically(90);
    heading(
        &head,
        theme,
        "1 GiB regions by address",
        history,
        "One row is one region; blank where there is no memory.",
    )?;
    legend(&head, theme)?;
    let panels = body.split_evenly((history.tracks.len().max(1), 1));
    for (area, track) in panels.iter().zip(&history.tracks) {
        panel(area, history, track, theme)?;
    }
    Ok(())
}

fn legend(area: &Area<'_>, theme: Theme) -> Result<(), PlotError> {
    let cell = |state, movable_share| RegionCell { state, movable_share };
    let entries = [
        (cell(RegionState::Free, 0.0), "free"),
        (cell(RegionState::Evacuable, 0.1), "little to move"),
        (cell(RegionState::Evacuable, 1.0), "much to move"),
        (cell(RegionState::Tainted, 0.0), "tainted"),
        (cell(RegionState::Unknown, 0.0), "unknown"),
        (cell(RegionState::Partial, 0.0), "reserved, partial or hugetlb"),
    ];
    let mut x = 16;
    for (cell, name) in entries {
        let square = [(x, 62), (x + 14, 76)];
        area.draw(&Rectangle::new(square, theme.region(cell).filled())).map_err(drawing)?;
        write(area, &theme.ink(), name, (x + 20, 61), 13)?;
        x += 46 + name.len() as i32 * 7;
    }
    Ok(())
}

fn panel(
    area: &Area<'_>,
    history: &History,
    track: &TrackHistory,
    theme: Theme,
) -> Result<(), PlotError> {
    let end = history.times_s.last().copied().unwrap_or(1.0).max(1e-3);
    let rows = history.region_names.len();
    let mut chart = ChartBuilder::on(area)
        .margin_left(8)
        .margin_right(24)
        .x_label_area_size(26)
        .y_label_area_size(136)
        .caption(label::track(track), ("sans-serif", 14, &theme.ink()))
        .build_cartesian_2d(0.0..end, 0.0..rows as f64)
        .map_err(drawing)?;
    let names = &history.region_names;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(theme.faint())
        .label_style(("sans-serif", 13, &theme.ink()))
        .x_label_formatter(&|seconds| label::seconds(*seconds, end))
        .y_label_formatter(&|row| names.get(*row as usize).cloned().unwrap_or_default())
        .y_labels(6)
        .draw()
        .map_err(drawing)?;
    chart.draw_series(cells(history, track, theme)).map_err(drawing)?;
    Ok(())
}

/// Rectangles of equal state; neighbours in time are joined, so that the file stays small.
fn cells(history: &History, track: &TrackHistory, theme: Theme) -> Vec<Rectangle<(f64, f64)>> {
    let samples = track.regions.len();
    let step = samples.div_ceil(COLUMNS).max(1);
    let columns: Vec<usize> = (0..samples).step_by(step).collect();
    let mut rectangles = Vec::new();
    for row in 0..history.region_names.len() {
        let color = |column: usize| theme.region(coarse(track.regions[column][row]));
        let mut from = 0;
        for at in 1..=columns.len() {
            let ends = at == columns.len() || color(columns[at]) != color(columns[from]);
            if !ends {
                continue;
            }
            let left = if from == 0 { 0.0 } else { history.times_s[columns[from] - 1] };
            let right = match columns.get(at) {
                Some(column) => history.times_s[column - 1],
                None => history.times_s[samples - 1],
            };
            let corners = [(left, row as f64), (right, row as f64 + 1.0)];
            rectangles.push(Rectangle::new(corners, color(columns[from]).filled()));
            from = at;
        }
    }
    rectangles
}

/// Eight steps of fill are enough for the eye.
fn coarse(cell: RegionCell) -> RegionCell {
    RegionCell { movable_share: (cell.movable_share * 8.0).round() / 8.0, ..cell }
}
