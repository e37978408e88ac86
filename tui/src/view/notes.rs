//! What must be known about the figures: the connection's notice and the gravest warnings.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::Context;
use super::pane::{put_all, wrap};
use crate::format::cut;
use crate::state::headline::{headline, price_of_spb};
use crate::state::host::Host;
use crate::state::warnings::{Severity, Warning, warnings};

/// Draws as many notes as there are rows, the gravest first. Where there are several rows, long
/// notes take more than one; the last says so if it is cut.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    draw_of(context, context.state.host(), area, buffer);
}

/// The same about any host.
pub fn draw_of(context: Context<'_>, host: &Host, area: Rect, buffer: &mut Buffer) {
    let (width, rows) = (usize::from(area.width), usize::from(area.height));
    let ellipsis = context.theme.ellipsis();
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (text, style) in notes_of(context, host) {
        let parts = wrap(&text, width.saturating_sub(2).max(1));
        if lines.len() + parts.len() > rows {
            let left = rows.saturating_sub(lines.len());
            let fits = left > 0 && lines.is_empty();
            lines.extend(fits.then(|| Line::styled(cut(&text, width, ellipsis), style)));
            continue;
        }
        let mut indent = "";
        for part in parts {
            lines.push(Line::styled(format!("{indent}{part}"), style));
            indent = "  ";
        }
    }
    put_all(buffer, area, lines);
}

/// All notes with their styles.
#[must_use]
pub fn notes(context: Context<'_>) -> Vec<(String, Style)> {
    notes_of(context, context.state.host())
}

fn notes_of(context: Context<'_>, host: &Host) -> Vec<(String, Style)> {
    let (state, theme) = (context.state, context.theme);
    let notice = host.phase.notice(state.now.uptime, host.shown().is_some());
    let notice_style = if host.is_stale() { theme.grave() } else { theme.notable() };
    let mut all: Vec<(String, Style)> = notice.map(|n| (n, notice_style)).into_iter().collect();
    let mut warnings = warnings(host);
    let graver = warnings.iter().filter(|w| w.severity == Severity::Grave).count();
    let said = |w: Warning| (w.text, style(context, w.severity));
    all.extend(warnings.drain(..graver).map(said));
    if let Some(sample) = host.shown() {
        all.extend(headline(sample).map(|text| (text, theme.strong())));
    }
    all.extend(warnings.into_iter().map(said));
    all.extend(host.shown().and_then(|s| price_of_spb(s)).map(|text| (text, Style::new())));
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
