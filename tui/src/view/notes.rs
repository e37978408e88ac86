//! What must be known about the figures: the connection's notice and the gravest warnings.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::Context;
use super::pane::put_all;
use crate::format::cut;
use crate::state::warnings::{Severity, warnings};

/// Draws as many notes as there are rows, the gravest first.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width);
    let lines = notes(context)
        .into_iter()
        .map(|(text, style)| Line::styled(cut(&text, width, context.theme.ellipsis()), style));
    put_all(buffer, area, lines);
}

/// All notes with their styles.
#[must_use]
pub fn notes(context: Context<'_>) -> Vec<(String, Style)> {
    let (state, theme) = (context.state, context.theme);
    let host = state.host();
    let notice = host.phase.notice(state.now.uptime, host.shown().is_some());
    let notice_style = if host.phase.is_stale() { theme.grave() } else { theme.notable() };
    let mut all: Vec<(String, Style)> = notice.map(|n| (n, notice_style)).into_iter().collect();
    all.extend(warnings(host).into_iter().map(|w| (w.text, style(context, w.severity))));
    all
}

/// Style of a severity.
#[must_use]
pub fn style(context: Context<'_>, severity: Severity) -> Style {
    match severity {
        Severity::Grave => context.theme.grave(),
        Severity::Notable => context.theme.notable(),
        Severity::Reading | Severity::Remark => Style::new(),
    }
}
