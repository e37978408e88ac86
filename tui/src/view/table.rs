//! A list of rows in columns, with a selected row. Columns that do not fit are left out, the
//! dearest last.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Context;
use crate::state::lists::ListState;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Its width; of a column that grows, the least.
    pub width: u16,
    /// Aligned to the right: numbers.
    pub right: bool,
    /// Takes what is left over, shared with others that grow.
    pub grows: bool,
    /// Columns with a greater rank are left out first; 0 stays.
    pub rank: u8,
}

impl Column {
    /// Text.
    #[must_use]
    pub const fn text(title: &'static str, width: u16, rank: u8) -> Column {
        Column { title, width, right: false, grows: false, rank }
    }

    /// A number.
    #[must_use]
    pub const fn number(title: &'static str, width: u16, rank: u8) -> Column {
        Column { title, width, right: true, grows: false, rank }
    }

    /// The same taking what is left over.
    #[must_use]
    pub const fn growing(self) -> Column {
        Column { grows: true, ..self }
    }
}

/// One cell.
pub type Cell = (String, Style);

/// Draws a heading and the rows around the selected one. `row` is asked only for rows shown.
pub fn draw(
    context: Context<'_>,
    columns: &[Column],
    list: &ListState,
    rows: usize,
    row: impl Fn(usize) -> Vec<Cell>,
    area: Rect,
    buffer: &mut Buffer,
) {
    if area.height < 2 {
        return;
    }
    let widths = widths(columns, area.width);
    let heading = columns.iter().map(|c| (c.title, context.theme.grey()));
    draw_cells(context, columns, &widths, heading, area, buffer);
    let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let top = list.scroll(rows, usize::from(body.height));
    let selected = list.selected.min(rows.saturating_sub(1));
    for (at, index) in body.rows().zip(top..rows) {
        draw_cells(context, columns, &widths, row(index), at, buffer);
        if index == selected {
            buffer.set_style(at, context.theme.selected());
        }
    }
}

/// Width of each column, 0 for those left out.
fn widths(columns: &[Column], total: u16) -> Vec<u16> {
    let mut limit = u8::MAX;
    let needed = |limit: u8| -> u16 {
        columns.iter().filter(|c| c.rank <= limit).map(|c| c.width + 1).sum::<u16>()
    };
    while limit > 0 && needed(limit) > total + 1 {
        limit = columns.iter().map(|c| c.rank).filter(|r| *r < limit).max().unwrap_or(0);
    }
    let shown = |c: &Column| c.rank <= limit;
    let growing = columns.iter().filter(|c| shown(c) && c.grows).count() as u16;
    let spare = (total + 1).saturating_sub(needed(limit)).checked_div(growing).unwrap_or(0);
    let width = |c: &Column| if c.grows { c.width + spare } else { c.width };
    columns.iter().map(|c| if shown(c) { width(c) } else { 0 }).collect()
}

/// Draws the cells of a row where their columns are; what is too long ends in an ellipsis.
fn draw_cells(
    context: Context<'_>,
    columns: &[Column],
    widths: &[u16],
    cells: impl IntoIterator<Item = (impl AsRef<str>, Style)>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let mut x = area.x;
    for ((column, width), (text, style)) in columns.iter().zip(widths).zip(cells) {
        let width = usize::from((*width).min(area.right().saturating_sub(x)));
        if width == 0 {
            continue;
        }
        let text = text.as_ref();
        let long = text.chars().count();
        let before = if column.right { width.saturating_sub(long) } else { 0 };
        let at = x + before as u16;
        if long <= width {
            buffer.set_stringn(at, area.y, text, width, style);
        } else {
            let ellipsis = context.theme.ellipsis();
            let kept = width.saturating_sub(ellipsis.chars().count());
            buffer.set_stringn(at, area.y, text, kept, style);
            buffer.set_stringn(at + kept as u16, area.y, ellipsis, width - kept, style);
        }
        x += width as u16 + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_leave_by_rank_and_the_rest_is_shared() {
        let columns = [
            Column::text("a", 5, 0).growing(),
            Column::number("b", 5, 2),
            Column::number("c", 5, 1),
        ];
        assert_eq!(widths(&columns, 30), [18, 5, 5]);
        assert_eq!(widths(&columns, 17), [5, 5, 5]);
        assert_eq!(widths(&columns, 16), [10, 0, 5]);
        assert_eq!(widths(&columns, 8), [8, 0, 0]);
        assert_eq!(widths(&columns, 2), [5, 0, 0]);
    }
}
