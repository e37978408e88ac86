//! A screen as an SVG picture: what the terminal shows, cell by cell.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use crate::view::{Context, render};

/// Size of a cell, in the picture's units.
const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 17.0;
/// Space around the screen.
const MARGIN: f64 = 10.0;
/// Default colours.
const FOREGROUND: &str = "#d8d8d8";
const BACKGROUND: &str = "#16181d";

/// Draws the screen at that size and gives it as an SVG document.
#[must_use]
pub fn screen(context: Context<'_>, width: u16, height: u16) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let area = buffer.area;
    render(context, area, &mut buffer);
    document(&buffer)
}

/// A buffer as an SVG document.
#[must_use]
pub fn document(buffer: &Buffer) -> String {
    let area = buffer.area;
    let width = f64::from(area.width) * CELL_WIDTH + 2.0 * MARGIN;
    let height = f64::from(area.height) * CELL_HEIGHT + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"'DejaVu Sans Mono','Menlo','Consolas',monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n"
    );
    for y in 0..area.height {
        let mut x = 0;
        while x < area.width {
            x += run(buffer, x, y, &mut out);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// How a cell is painted.
#[derive(PartialEq, Eq)]
struct Paint {
    foreground: &'static str,
    background: Option<&'static str>,
    bold: bool,
    dim: bool,
}

impl Paint {
    fn of(cell: &Cell) -> Paint {
        let foreground = colour(cell.fg).unwrap_or(FOREGROUND);
        let background = colour(cell.bg);
        let modifier = cell.modifier;
        let turned = modifier.contains(Modifier::REVERSED);
        let bold = modifier.contains(Modifier::BOLD);
        let dim = modifier.contains(Modifier::DIM);
        if turned {
            let foreground = background.unwrap_or(BACKGROUND);
            let background = Some(colour(cell.fg).unwrap_or(FOREGROUND));
            Paint { foreground, background, bold, dim }
        } else {
            Paint { foreground, background, bold, dim }
        }
    }
}

/// Writes the cells from `x` on that are painted alike. Returns how many there were.
fn run(buffer: &Buffer, x: u16, y: u16, out: &mut String) -> u16 {
    let cell = |x: u16| &buffer[(buffer.area.x + x, buffer.area.y + y)];
    let paint = Paint::of(cell(x));
    let mut end = x + 1;
    while end < buffer.area.width && Paint::of(cell(end)) == paint {
        end += 1;
    }
    let text: String = (x..end).map(|x| cell(x).symbol()).collect();
    let left = MARGIN + f64::from(x) * CELL_WIDTH;
    let top = MARGIN + f64::from(y) * CELL_HEIGHT;
    let width = f64::from(end - x) * CELL_WIDTH;
    if let Some(background) = paint.background {
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{CELL_HEIGHT}\" fill=\"{background}\"/>"
        );
    }
    if !text.trim().is_empty() {
        let weight = if paint.bold { " font-weight=\"bold\"" } else { "" };
        let opacity = if paint.dim { " opacity=\"0.6\"" } else { "" };
        let base = top + CELL_HEIGHT * 0.76;
        let _ = writeln!(
            out,
            "<text x=\"{left:.1}\" y=\"{base:.1}\" textLength=\"{width:.1}\" \
             lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" \
             fill=\"{}\"{weight}{opacity}>{}</text>",
            paint.foreground,
            escaped(&text)
        );
    }
    end - x
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The colours that the theme uses; `None` for the default.
fn colour(colour: Color) -> Option<&'static str> {
    match colour {
        Color::Green => Some("#5fbf5f"),
        Color::Blue => Some("#5f9fef"),
        Color::Red => Some("#ef6b6b"),
        Color::Yellow => Some("#d7b75f"),
        Color::Cyan => Some("#5fd7d7"),
        Color::White => Some("#f2f2f2"),
        Color::DarkGray => Some("#7d828c"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn cells_painted_alike_are_one_text() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 1));
        buffer.set_string(0, 0, "a<b", Style::new().fg(Color::Red));
        buffer.set_string(3, 0, "cd", Style::new().add_modifier(Modifier::REVERSED));
        let svg = document(&buffer);
        assert_eq!(svg.matches("<text").count(), 2, "{svg}");
        assert!(svg.contains(">a&lt;b</text>"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2, "the screen and the reversed cells: {svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
