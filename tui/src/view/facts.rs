//! Health: facts in sections, as many columns beside each other as there is room for.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::Context;
use super::notes;
use super::pane::{frame, put_all, wrap};
use crate::state::facts::{Fact, sections};
use crate::state::ui::ViewId;

/// Columns of a fact's name.
const NAME_WIDTH: usize = 22;
/// Columns that a section wants.
const SECTION_WIDTH: u16 = 58;

/// Draws the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let title = Line::styled("health", context.theme.strong());
    let inner = frame(context, &title, area, buffer);
    let columns = (inner.width / SECTION_WIDTH).clamp(1, 3);
    let width = (inner.width + 1) / columns - 1;
    let mut blocks: Vec<Vec<Line<'static>>> = Vec::new();
    for (name, facts) in sections(context.state) {
        let mut lines = vec![Line::styled(name, context.theme.strong())];
        lines.extend(facts.iter().flat_map(|f| fact(context, f, usize::from(width))));
        lines.push(Line::raw(""));
        blocks.push(lines);
    }
    let list = context.state.ui.list(ViewId::Health);
    for (i, lines) in columns_of(blocks, usize::from(columns)).into_iter().enumerate() {
        let skip = list.selected.min(lines.len().saturating_sub(usize::from(inner.height)));
        let x = inner.x + i as u16 * (width + 1);
        let place = Rect { x, width, ..inner };
        put_all(buffer, place, lines.into_iter().skip(skip));
    }
}

/// Distributes the blocks so that the columns are of about equal length, in order.
fn columns_of(blocks: Vec<Vec<Line<'static>>>, columns: usize) -> Vec<Vec<Line<'static>>> {
    let total: usize = blocks.iter().map(Vec::len).sum();
    let each = total.div_ceil(columns);
    let mut all: Vec<Vec<Line<'static>>> = vec![Vec::new()];
    for block in blocks {
        let last = all.last().map_or(0, Vec::len);
        if last > 0 && last + block.len() / 2 > each && all.len() < columns {
            all.push(Vec::new());
        }
        if let Some(column) = all.last_mut() {
            column.extend(block);
        }
    }
    all
}

/// A name and its value, or a sentence.
fn fact(context: Context<'_>, fact: &Fact, width: usize) -> Vec<Line<'static>> {
    let style = fact.severity.map(|s| notes::style(context, s)).unwrap_or_default();
    if fact.name.is_empty() {
        let lines = wrap(&fact.value, width.saturating_sub(1));
        return lines.into_iter().map(|l| Line::styled(l, style)).collect();
    }
    let room = width.saturating_sub(NAME_WIDTH + 1).max(8);
    let mut name = Some(fact.name.clone());
    let fits = fact.value.chars().count() <= room;
    let values = if fits { vec![fact.value.clone()] } else { wrap(&fact.value, room) };
    values
        .into_iter()
        .map(|value| {
            let name = format!("{:<NAME_WIDTH$} ", name.take().unwrap_or_default());
            Line::from(vec![Span::styled(name, context.theme.grey()), Span::styled(value, style)])
        })
        .collect()
}
