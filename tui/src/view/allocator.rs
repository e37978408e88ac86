//! Counters of the allocators: totals and rates by track.

use fragscope_replay::observe::TrackKind;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Context;
use super::pane::{centred, frame};
use super::regions::title;
use super::table::{self, Cell, Column};
use crate::format::{count, rate};
use crate::state::rows::{self, COUNTER_SORTS, CounterRow};
use crate::state::ui::ViewId;

const COLUMNS: [Column; 9] = [
    Column::text("subject", 13, 6),
    Column::text("counter", 22, 0).growing(),
    Column::number("kernel", 8, 1),
    Column::number("rate", 8, 5),
    Column::number("stock", 8, 2),
    Column::number("rate", 8, 4),
    Column::number("spb", 8, 0),
    Column::number("rate", 8, 3),
    Column::text("what it counts", 24, 7).growing(),
];

/// Draws the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let state = context.state;
    let list = state.ui.list(ViewId::Allocator);
    let title = title(context, "allocator counters", COUNTER_SORTS[list.sort]);
    let inner = frame(context, &title, area, buffer);
    let rows = rows::counters(state.host(), state.ui.start, list);
    if rows.is_empty() {
        let text = match state.host().shown() {
            None => "no data yet",
            Some(_) if !list.filter.is_empty() => "no counter matches the filter (esc clears it)",
            Some(_) => "the tracks count nothing",
        };
        centred(text, context.theme.grey(), inner, buffer);
        return;
    }
    let cells = |i: usize| {
        let is_first = i == 0 || rows[i - 1].group != rows[i].group;
        cells(context, &rows[i], is_first)
    };
    table::draw(context, &COLUMNS, list, rows.len(), cells, inner, buffer);
}

/// The subject is named once where rows of one subject follow each other.
fn cells(context: Context<'_>, row: &CounterRow, is_first: bool) -> Vec<Cell> {
    let subject = if is_first { row.group.name() } else { "" };
    let mut cells = vec![
        (subject.to_owned(), context.theme.strong()),
        (row.name.replace('_', " "), Style::new()),
    ];
    for (kind, value) in TrackKind::ALL.into_iter().zip(row.values) {
        let style = context.theme.track(kind);
        cells.push((value.map(|(total, _)| count(total)).unwrap_or_default(), style));
        let rate = value.and_then(|(_, r)| r).filter(|r| *r > 0.0).map(rate);
        cells.push((rate.unwrap_or_default(), context.theme.grey()));
    }
    cells.push((row.meaning.unwrap_or_default().to_owned(), context.theme.grey()));
    cells
}
