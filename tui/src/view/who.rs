//! Who tainted most, in short; the blame view has all of it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::pane::{centred, frame, put_all};
use super::{Context, blame};
use crate::format::{cut, span};
use crate::state::lists::ListState;
use crate::state::rows;
use crate::state::ui::ZOOMS;

/// Draws the pane.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let (state, theme) = (context.state, context.theme);
    let zoom = state.ui.zoom;
    let when = ZOOMS[zoom].map_or_else(String::new, |s| format!(" (last {})", span(s as f64)));
    let title = Line::from(vec![Span::styled("who tainted", theme.strong()), Span::raw(when)]);
    let inner = frame(context, &title, area, buffer);
    let culprits = rows::blame(state.host(), zoom, &ListState::default());
    let guilty: Vec<_> = culprits.into_iter().filter(|c| c.taints[0] > 0).collect();
    if guilty.is_empty() {
        centred(&blame::empty(context), context.theme.grey(), inner, buffer);
        return;
    }
    let width = usize::from(inner.width);
    let lines = guilty.into_iter().map(|c| {
        let site = width.saturating_sub(4 + 13);
        Line::from(vec![
            Span::styled(format!("{:>3} ", c.taints[0]), theme.tainted()),
            Span::raw(format!("{:<12} ", cut(c.cause.comm, 12, theme.ellipsis()))),
            Span::raw(cut(c.cause.site, site, theme.ellipsis())),
        ])
    });
    put_all(buffer, inner, lines);
}
