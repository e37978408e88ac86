//! Pictures of a replay, as SVG: they can be made without any font or graphics library, and a
//! browser or `rsvg-convert` makes PNG of them.

mod blame;
mod costs;
mod heatmap;
pub mod history;
mod label;
mod lines;
pub mod theme;

use std::path::{Path, PathBuf};

use fragscope_trace::reader::ReadError;
use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingBackend, IntoFont, RGBColor, Text, TextStyle};
use thiserror::Error;

use self::history::History;
use self::theme::Theme;
use crate::engine::observatory::ReplayError;

/// Pictures that could not be made.
#[derive(Debug, Error)]
pub enum PlotError {
    /// The trace cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The trace cannot be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// There is nothing to show.
    #[error("the trace has no snapshot, so there is no state to draw")]
    Empty,
    /// A picture cannot be drawn or written.
    #[error("drawing: {0}")]
    Drawing(String),
}

/// Draws all pictures into `dir`, which exists. Returns their paths.
///
/// # Errors
/// If there is nothing to show, or a file cannot be written.
pub fn plot(history: &History, theme: Theme, dir: &Path) -> Result<Vec<PathBuf>, PlotError> {
    if history.times_s.is_empty() {
        return Err(PlotError::Empty);
    }
    type Draw = fn(&History, Theme, &Path) -> Result<(), PlotError>;
    let pictures: [(&str, Draw); 4] = [
        ("availability", lines::draw),
        ("regions", heatmap::draw),
        ("costs", costs::draw),
        ("blame", blame::draw),
    ];
    let mut paths = Vec::new();
    for (name, draw) in pictures {
        let path = dir.join(format!("{name}.svg"));
        draw(history, theme, &path)?;
        paths.push(path);
    }
    Ok(paths)
}

fn drawing(error: impl std::fmt::Display) -> PlotError {
    PlotError::Drawing(error.to_string())
}

/// Writes text with its upper left corner at a place.
fn text<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    theme: Theme,
    text: &str,
    at: (i32, i32),
    size: i32,
) -> Result<(), PlotError> {
    let ink = theme.ink();
    let style = text_style(size, &ink);
    area.draw(&Text::new(text.to_owned(), at, style)).map_err(drawing)
}

/// The one font, in a size and a colour.
fn text_style(size: i32, color: &RGBColor) -> TextStyle<'_> {
    TextStyle::from(("sans-serif", size).into_font()).color(color)
}
