//! A small canvas of dots: 2 x 4 to a character in braille, one to a character in ASCII.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Bit of each dot in a braille character, by row and column.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// Lines over a rectangle of the screen.
pub struct Canvas {
    area: Rect,
    ascii: bool,
    /// Dots of each character.
    masks: Vec<u8>,
    /// The line that was drawn last through each character.
    pens: Vec<Option<(char, Style)>>,
}

impl Canvas {
    /// An empty canvas.
    #[must_use]
    pub fn new(area: Rect, ascii: bool) -> Canvas {
        let cells = usize::from(area.width) * usize::from(area.height);
        Canvas { area, ascii, masks: vec![0; cells], pens: vec![None; cells] }
    }

    /// Dots across.
    #[must_use]
    pub fn width(&self) -> usize {
        usize::from(self.area.width) * if self.ascii { 1 } else { 2 }
    }

    /// Dots down.
    #[must_use]
    pub fn height(&self) -> usize {
        usize::from(self.area.height) * if self.ascii { 1 } else { 4 }
    }

    /// Draws a dot; `pen` is the character used in ASCII, and the style.
    pub fn dot(&mut self, x: usize, y: usize, pen: (char, Style)) {
        if x >= self.width() || y >= self.height() {
            return;
        }
        let (column, row, mask) =
            if self.ascii { (x, y, 1) } else { (x / 2, y / 4, DOTS[y % 4][x % 2]) };
        let cell = row * usize::from(self.area.width) + column;
        self.masks[cell] |= mask;
        self.pens[cell] = Some(pen);
    }

    /// Draws a step line: the value at each column of dots, joined by vertical strokes. `None`
    /// leaves a gap.
    pub fn steps(&mut self, rows: &[Option<usize>], pen: (char, Style)) {
        let mut last: Option<usize> = None;
        for (x, row) in rows.iter().enumerate() {
            if let Some(y) = *row {
                let from = last.unwrap_or(y);
                (from.min(y)..=from.max(y)).for_each(|y| self.dot(x, y, pen));
            }
            last = *row;
        }
    }

    /// Puts the characters on the screen; empty ones leave it as it is.
    pub fn draw(&self, buffer: &mut Buffer) {
        let width = usize::from(self.area.width).max(1);
        for (i, pen) in self.pens.iter().enumerate() {
            let Some((letter, style)) = *pen else {
                continue;
            };
            let braille = char::from_u32(0x2800 + u32::from(self.masks[i])).unwrap_or(' ');
            let x = self.area.x + (i % width) as u16;
            let y = self.area.y + (i / width) as u16;
            if let Some(cell) = buffer.cell_mut((x, y)) {
                cell.set_char(if self.ascii { letter } else { braille }).set_style(style);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(ascii: bool, rows: &[Option<usize>]) -> Vec<String> {
        let area = Rect::new(0, 0, 3, 2);
        let mut buffer = Buffer::empty(area);
        let mut canvas = Canvas::new(area, ascii);
        canvas.steps(rows, ('k', Style::new()));
        canvas.draw(&mut buffer);
        (0..2).map(|y| (0..3).map(|x| buffer[(x, y)].symbol()).collect()).collect()
    }

    #[test]
    fn steps_are_joined_and_gaps_are_not() {
        let rows = [Some(7), Some(7), Some(0), Some(0), None, Some(7)];
        assert_eq!(drawn(false, &rows), [" ⡏ ", "⣀⡇⢀"]);
        let rows = [Some(1), Some(0), Some(0)];
        assert_eq!(drawn(true, &rows), [" kk", "kk "]);
    }

    #[test]
    fn dots_outside_are_left_out() {
        assert_eq!(drawn(true, &[Some(99)]), ["   ", "   "]);
    }
}
