//! The command palette: what matches what was typed, above the footer.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget};

use super::Context;
use super::pane::{centred, frame, put};
use crate::input::command::matching;
use crate::state::ui::Prompt;

/// Most rows of commands.
const ROWS_MAX: u16 = 12;
/// Columns of names.
const NAME_WIDTH: usize = 16;
/// Columns of keys.
const KEY_WIDTH: usize = 6;

/// Draws it at the bottom of the body.
pub fn draw(context: Context<'_>, prompt: &Prompt, body: Rect, buffer: &mut Buffer) {
    let commands = matching(&prompt.text);
    let rows = (commands.len() as u16).clamp(1, ROWS_MAX).min(body.height.saturating_sub(2));
    let width = body.width.min(72);
    let area = Rect { y: body.bottom() - rows - 2, height: rows + 2, width, ..body };
    Clear.render(area, buffer);
    let title = Line::styled("commands  (enter does the marked one)", context.theme.strong());
    let inner = frame(context, &title, area, buffer);
    if commands.is_empty() {
        centred("no such command", context.theme.grey(), inner, buffer);
        return;
    }
    let selected = prompt.selected.min(commands.len() - 1);
    let top = (selected + 1).saturating_sub(usize::from(rows));
    for ((at, row), command) in inner.rows().enumerate().zip(commands.iter().skip(top)) {
        let key = context.keys.key_of(command.action).map(|c| c.to_string()).unwrap_or_default();
        let line = Line::from(vec![
            Span::styled(format!("{:<NAME_WIDTH$} ", command.name), context.theme.strong()),
            Span::styled(format!("{key:<KEY_WIDTH$} "), context.theme.grey()),
            Span::raw(command.help),
        ]);
        put(buffer, row, &line);
        if top + at == selected {
            buffer.set_style(row, context.theme.selected());
        }
    }
}
