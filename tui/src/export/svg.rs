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
    foreground: String,
    background: Option<String>,
    bold: bool,
    dim: bool,
}

impl Paint {
    fn of(cell: &Cell) -> Paint {
        let foreground = colour(cell.fg).unwrap_or_else(|| FOREGROUND.to_owned());
        let background = colour(cell.bg);
        let modifier = cell.modifier;
        let turned = modifier.contains(Modifier::REVERSED);
        let bold = modifier.contains(Modifier::BOLD);
        let dim = modifier.contains(Modifier::DIM);
        if turned {
            let turned = background.unwrap_or_else(|| BACKGROUND.to_owned());
            Paint { foreground: turned, background: Some(foreground), bold, dim }
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
    if let Some(background) = &paint.background {
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

/// Any colour of a theme; `None` for the terminal's default.
fn colour(colour: Color) -> Option<String> {
    let known = match colour {
        Color::Green => "#5fbf5f",
        Color::Blue => "#5f9fef",
        Color::Red => "#ef6b6b",
        Color::Yellow => "#d7b75f",
        Color::Cyan => "#5fd7d7",
        Color::Magenta => "#d787d7",
        Color::White => "#f2f2f2",
        Color::Gray => "#b8bcc4",
        Color::DarkGray => "#7d828c",
        Color::Black => "#000000",
        Color::LightGreen => "#87ef87",
        Color::LightBlue => "#87bfff",
        Color::LightRed => "#ff8f8f",
        Color::LightYellow => "#efd787",
        Color::LightCyan => "#87efef",
        Color::LightMagenta => "#efa7ef",
        Color::Rgb(r, g, b) => return Some(format!("#{r:02x}{g:02x}{b:02x}")),
        Color::Indexed(index) => return Some(indexed(index)),
        Color::Reset => return None,
    };
    Some(known.to_owned())
}

/// A colour of the 256 that terminals number: 16 of their own, a cube, greys.
fn indexed(index: u8) -> String {
    const OWN: [&str; 16] = [
        "#000000", "#ef6b6b", "#5fbf5f", "#d7b75f", "#5f9fef", "#d787d7", "#5fd7d7", "#b8bcc4",
        "#7d828c", "#ff8f8f", "#87ef87", "#efd787", "#87bfff", "#efa7ef", "#87efef", "#f2f2f2",
    ];
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    match index {
        0..16 => OWN[usize::from(index)].to_owned(),
        16..232 => {
            let at = index - 16;
            let (r, g, b) = (level(at / 36), level(at / 6 % 6), level(at % 6));
            format!("#{r:02x}{g:02x}{b:02x}")
        }
        232.. => {
            let grey = 8 + 10 * (index - 232);
            format!("#{grey:02x}{grey:02x}{grey:02x}")
        }
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

    #[test]
    fn numbered_colours_are_those_of_terminals() {
        let colours = [16, 21, 196, 231, 232, 255].map(indexed);
        assert_eq!(colours, ["#000000", "#0000ff", "#ff0000", "#ffffff", "#080808", "#eeeeee"]);
    }
}
