//! Pictures of a replay: SVG, and PNG made of the same SVG with a font that comes along, so that
//! a picture is the same on every machine.

pub mod bars;
mod blame;
mod chart;
mod costs;
mod fragmentation;
mod heatmap;
pub mod history;
mod label;
mod lines;
mod png;
pub mod theme;
mod visits;

use fragscope_trace::reader::ReadError;
use plotters::coord::Shift;
use plotters::prelude::{
    DrawingArea, IntoDrawingArea, IntoFont, RGBColor, SVGBackend, Text, TextStyle,
};
use thiserror::Error;

pub use self::png::png;

use self::history::History;
use self::theme::{SIZE, Theme};
use crate::engine::drive::DriveError;
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
    /// The pass that looks for untraced allocations failed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// There is nothing to show.
    #[error("the trace has no snapshot, so there is no state to draw")]
    Empty,
    /// A picture cannot be drawn.
    #[error("drawing: {0}")]
    Drawing(String),
}

/// One picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What files of it are called.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub caption: &'static str,
    /// The picture.
    pub svg: String,
}

/// On what pictures are drawn.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// How one kind of picture is made.
struct Kind {
    name: &'static str,
    caption: &'static str,
    height: fn(&History) -> u32,
    draw: fn(&History, Theme, &Area<'_>) -> Result<(), PlotError>,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "availability",
        caption: "1 GiB pages that could be had, and regions that cannot become one, over time.",
        height: |_| SIZE.1,
        draw: lines::draw,
    },
    Kind {
        name: "regions",
        caption: "Every 1 GiB region over time: one row is one region, by address.",
        height: heatmap::height,
        draw: heatmap::draw,
    },
    Kind {
        name: "costs",
        caption: "How much memory must be moved for how many 1 GiB pages, at the end.",
        height: |_| SIZE.1,
        draw: costs::draw,
    },
    Kind {
        name: "fragmentation",
        caption: "How much of the free memory lies in blocks too small for a request.",
        height: |_| SIZE.1,
        draw: fragmentation::draw,
    },
    Kind {
        name: "visits",
        caption: "How many superpageblocks the allocator looked at to serve one request.",
        height: visits::height,
        draw: visits::draw,
    },
    Kind {
        name: "blame",
        caption: "Who turned clean regions tainted, most often first.",
        height: blame::height,
        draw: blame::draw,
    },
];

/// Draws all pictures.
///
/// # Errors
/// If there is nothing to show.
pub fn pictures(history: &History, theme: Theme) -> Result<Vec<Picture>, PlotError> {
    if history.times_s.is_empty() {
        return Err(PlotError::Empty);
    }
    KINDS.iter().map(|kind| picture(kind, history, theme)).collect()
}

fn picture(kind: &Kind, history: &History, theme: Theme) -> Result<Picture, PlotError> {
    let mut svg = String::new();
    {
        let size = (SIZE.0, (kind.height)(history));
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&theme.background()).map_err(drawing)?;
        (kind.draw)(history, theme, &root)?;
        root.present().map_err(drawing)?;
    }
    Ok(Picture { name: kind.name, caption: kind.caption, svg })
}

fn drawing(error: impl std::fmt::Display) -> PlotError {
    PlotError::Drawing(error.to_string())
}

/// Title of a picture, and below it in small what to know to read it.
fn heading(
    area: &Area<'_>,
    theme: Theme,
    title: &str,
    history: &History,
    remark: &str,
) -> Result<(), PlotError> {
    write(area, &theme.ink(), title, (16, 12), 19)?;
    write(area, &theme.faint(), &format!("{}. {remark}", history.title), (16, 36), 13)
}

/// Writes text with its upper left corner at a place.
fn write(
    area: &Area<'_>,
    color: &RGBColor,
    text: &str,
    at: (i32, i32),
    size: i32,
) -> Result<(), PlotError> {
    area.draw(&Text::new(text.to_owned(), at, text_style(size, color))).map_err(drawing)
}

/// The one font, in a size and a colour.
fn text_style(size: i32, color: &RGBColor) -> TextStyle<'_> {
    TextStyle::from(("sans-serif", size).into_font()).color(color)
}
