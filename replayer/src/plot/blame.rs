//! Who tainted, most first.

use std::path::Path;

use plotters::prelude::*;

use super::history::History;
use super::theme::{SIZE, Theme};
use super::{PlotError, drawing, text};

/// Names shown of each track.
const SHOWN: usize = 8;

/// Draws a bar for each caller, by how many times it turned a clean region tainted.
pub(super) fn draw(history: &History, theme: Theme, path: &Path) -> Result<(), PlotError> {
    let lines: usize = history.blame.values().map(|who| who.len().min(SHOWN) + 2).sum();
    let height = 60 + lines.max(2) as u32 * 22;
    let root = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    root.fill(&theme.background()).map_err(drawing)?;
    text(&root, theme, &format!("Who tainted clean regions: {}", history.title), (16, 12), 18)?;
    if history.blame.is_empty() {
        text(&root, theme, "nobody: no region turned tainted", (16, 48), 14)?;
    }
    let most = history.blame.values().flatten().map(|(_, count)| *count).max().unwrap_or(1);
    let mut y = 48;
    for (track, who) in &history.blame {
        let all: u64 = who.iter().map(|(_, count)| count).sum();
        text(&root, theme, &format!("{}: {all} times", track.name()), (16, y), 14)?;
        y += 22;
        for (name, count) in who.iter().take(SHOWN) {
            let width = (*count as f64 / most as f64 * 420.0).max(2.0) as i32;
            let bar = [(440, y), (440 + width, y + 15)];
            let color = theme.track(*track);
            root.draw(&Rectangle::new(bar, color.filled())).map_err(drawing)?;
            text(&root, theme, &shortened(name, 58), (28, y), 13)?;
            text(&root, theme, &count.to_string(), (448 + width, y), 13)?;
            y += 22;
        }
        y += 22;
    }
    root.present().map_err(drawing)
}

/// The first `limit` characters.
fn shortened(name: &str, limit: usize) -> String {
    match name.chars().count() > limit {
        true => name.chars().take(limit - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}
