//! Who tainted, most first.

use plotters::prelude::*;

use super::history::History;
use super::theme::Theme;
use super::{Area, PlotError, drawing, heading, label, write};

/// Names shown of each track.
const SHOWN: usize = 8;
/// Height of one bar with its distance to the next, in points.
const ROW: i32 = 22;

/// Height of the picture in points.
pub(super) fn height(history: &History) -> u32 {
    let rows: usize = history.blame.values().map(|who| who.len().min(SHOWN) + 2).sum();
    (84 + rows.max(1) as i32 * ROW) as u32
}

/// Draws a bar for each caller, by how many times it turned a clean region tainted.
pub(super) fn draw(history: &History, theme: Theme, root: &Area<'_>) -> Result<(), PlotError> {
    let remark = "Process and the function that asked for the memory.";
    heading(root, theme, "Who tainted clean regions", history, remark)?;
    let mut y = 68;
    if history.blame.is_empty() {
        write(root, &theme.ink(), "Nobody: no region turned tainted.", (16, y), 14)?;
    }
    let most = history.blame.values().flatten().map(|(_, count)| *count).max().unwrap_or(1);
    for ((track, start), who) in &history.blame {
        let all: u64 = who.iter().map(|(_, count)| count).sum();
        let title = format!("{}: {all} times", label::name(*track, *start));
        write(root, &theme.ink(), &title, (16, y), 14)?;
        y += ROW;
        for (name, count) in who.iter().take(SHOWN) {
            let width = (*count as f64 / most as f64 * 420.0).max(2.0) as i32;
            let bar = [(440, y), (440 + width, y + ROW - 6)];
            root.draw(&Rectangle::new(bar, theme.track(*track).filled())).map_err(drawing)?;
            write(root, &theme.ink(), &label::shortened(name, 60), (28, y), 13)?;
            write(root, &theme.ink(), &count.to_string(), (448 + width, y), 13)?;
            y += ROW;
        }
        y += ROW;
    }
    Ok(())
}
