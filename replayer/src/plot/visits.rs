//! Superpageblocks looked at to serve one request: the cost of many lists instead of one.

use plotters::prelude::*;

use super::history::{History, TrackHistory};
use super::theme::Theme;
use super::{Area, PlotError, drawing, heading, label, write};
use crate::cli::output::grouped;

/// Height of one bar with its distance to the next, in points.
const ROW: i32 = 22;
/// Length of the longest bar, in points.
const LONGEST: f64 = 520.0;

fn searched(history: &History) -> impl Iterator<Item = &TrackHistory> {
    history.tracks.iter().filter(|track| !track.visits.is_empty())
}

/// Height of the picture in points.
pub(super) fn height(history: &History) -> u32 {
    let rows: usize = searched(history).map(|track| track.visits.len() + 2).sum();
    (84 + rows.max(1) as i32 * ROW) as u32
}

/// Draws a bar for each number of superpageblocks looked at.
pub(super) fn draw(history: &History, theme: Theme, root: &Area<'_>) -> Result<(), PlotError> {
    let remark = "Requests served by a per-CPU list search nothing.";
    heading(root, theme, "Superpageblocks looked at by one search", history, remark)?;
    let mut y = 68;
    for track in searched(history) {
        y = bars(track, theme, root, y)? + ROW;
    }
    if searched(history).next().is_none() {
        write(root, &theme.ink(), "No track searched superpageblocks.", (16, y), 14)?;
    }
    Ok(())
}

fn bars(track: &TrackHistory, theme: Theme, root: &Area<'_>, y: i32) -> Result<i32, PlotError> {
    let walks: u64 = track.visits.iter().map(|(_, walks)| walks).sum();
    let mean = track.visited as f64 / walks.max(1) as f64;
    let title =
        format!("{}: {} searches, {mean:.2} on average", label::track(track), grouped(walks));
    write(root, &theme.ink(), &title, (16, y), 14)?;
    let most = track.visits.iter().map(|(_, walks)| *walks).max().unwrap_or(1).max(1);
    let mut y = y + ROW;
    for (range, count) in &track.visits {
        let width = (*count as f64 / most as f64 * LONGEST).max(1.0) as i32;
        let bar = [(130, y), (130 + width, y + ROW - 6)];
        root.draw(&Rectangle::new(bar, theme.track(track.kind).filled())).map_err(drawing)?;
        write(root, &theme.ink(), &format!("{range} looked at"), (28, y), 13)?;
        let share = *count as f64 / walks.max(1) as f64 * 100.0;
        let said = format!("{} ({share:.1} %)", grouped(*count));
        write(root, &theme.ink(), &said, (138 + width, y), 13)?;
        y += ROW;
    }
    Ok(y)
}
