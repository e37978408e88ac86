//! What a click does: the tab, row, region or moment that lies under it.

use ratatui::layout::{Position, Rect};

use super::overview::Layout;
use super::{Context, blame, chart, footer, hosts, split_top};
use crate::input::Action;
use crate::state::rows::row_count;
use crate::state::ui::ViewId;

/// The action of a click at a place of the screen.
#[must_use]
pub fn action(context: Context<'_>, screen: Rect, at: Position) -> Option<Action> {
    if screen.height < 3 || !screen.contains(at) {
        return None;
    }
    if at.y + 1 == screen.bottom() {
        let tabs = footer::tabs(context, usize::from(screen.width));
        let tab = tabs.into_iter().find(|(_, columns)| columns.contains(&(at.x - screen.x)))?;
        return Some(Action::View(tab.0));
    }
    let body = split_top(split_top(screen, 1).1, screen.height - 2).0;
    if context.state.ui.help {
        return None;
    }
    match context.state.ui.view {
        ViewId::Overview => on_overview(context, body, at),
        _ => row(context, body, at.y),
    }
}

/// A region of the map, or a moment of the chart.
fn on_overview(context: Context<'_>, body: Rect, at: Position) -> Option<Action> {
    let sample = context.state.host().shown()?;
    let layout = Layout::new(context, sample, body);
    let (area, map) = &layout.map;
    if let Some(region) = map.region_at(*area, at) {
        return Some(Action::OpenRegion(region));
    }
    chart::time_at(context, layout.chart?, at).map(Action::GoTo)
}

/// A row of the view's list: selected, or opened if it is the selected one.
fn row(context: Context<'_>, body: Rect, y: u16) -> Option<Action> {
    let ui = &context.state.ui;
    let detail = match ui.view {
        ViewId::Hosts => hosts::detail_rows(body),
        ViewId::Regions | ViewId::Allocator => 0,
        ViewId::Blame => blame::detail_rows(body),
        ViewId::Overview | ViewId::Health => return None,
    };
    let rows = row_count(context.state)?;
    // A frame and a heading above, a frame below.
    let first = body.y + 2;
    let height = body.height.checked_sub(detail + 3)?;
    let line = y.checked_sub(first).filter(|line| *line < height)?;
    let list = ui.list(ui.view);
    let index = list.scroll(rows, usize::from(height)) + usize::from(line);
    if index >= rows {
        None
    } else if index == list.selected {
        Some(Action::Enter)
    } else {
        Some(Action::Select(index))
    }
}
