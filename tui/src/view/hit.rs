//! What a click does: the tab or the row that lies under it.

use ratatui::layout::{Position, Rect};

use super::blame;
use super::{Context, footer, split_top};
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
    row(context, body, at.y)
}

/// A row of the view's list: selected, or opened if it is the selected one.
fn row(context: Context<'_>, body: Rect, y: u16) -> Option<Action> {
    let ui = &context.state.ui;
    if ui.help {
        return None;
    }
    let detail = match ui.view {
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
