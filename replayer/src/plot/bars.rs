//! Bars with names and ranges.

use fragscope_trace::region::Bounds;
use plotters::prelude::*;

use super::theme::{SIZE, Theme};
use super::{PlotError, drawing, label, write};
use crate::observe::TrackKind;

/// Height of one bar with its distance to the next, in points.
const ROW: i32 = 22;
/// Where bars begin, and how long the longest is, in points.
const LEFT: i32 = 400;
const LONGEST: f64 = 440.0;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What stands before it.
    pub name: String,
    /// Whose it is.
    pub kind: TrackKind,
    /// Solid up to the least, pale up to the most.
    pub bounds: Bounds,
}

/// Draws groups of bars, all to one scale.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn draw(
    title: &str,
    remark: &str,
    groups: &[(&str, Vec<Bar>)],
    theme: Theme,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let rows: usize = groups.iter().map(|(_, bars)| bars.len() + 2).sum();
        let size = (SIZE.0, (84 + rows as i32 * ROW) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&theme.background()).map_err(drawing)?;
        write(&root, &theme.ink(), title, (16, 12), 19)?;
        write(&root, &theme.faint(), remark, (16, 36), 13)?;
        let all = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.bounds.max);
        let most = all.max().unwrap_or(0).max(1) as f64;
        let mut y = 68;
        for (group, bars) in groups {
            write(&root, &theme.ink(), group, (16, y), 14)?;
            y += ROW;
            for bar in bars {
                let length = |count: u64| (count as f64 / most * LONGEST).max(1.0) as i32;
                let color = theme.track(bar.kind);
                let span = |to: u64| [(LEFT, y), (LEFT + length(to), y + ROW - 6)];
                let pale = Rectangle::new(span(bar.bounds.max), color.mix(0.35).filled());
                root.draw(&pale).map_err(drawing)?;
                let solid = Rectangle::new(span(bar.bounds.min), color.filled());
                root.draw(&solid).map_err(drawing)?;
                write(&root, &theme.ink(), &label::shortened(&bar.name, 54), (28, y), 13)?;
                let at = (LEFT + 8 + length(bar.bounds.max), y);
                write(&root, &theme.ink(), &label::range(bar.bounds), at, 13)?;
                y += ROW;
            }
            y += ROW;
        }
        root.present().map_err(drawing)?;
    }
    Ok(svg)
}
