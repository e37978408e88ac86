//! The bottom line: views and keys, or a prompt, or the answer to the last key.

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::Context;
use super::pane::put;
use crate::input::Action;
use crate::state::ui::ViewId;

/// Draws the line.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let ui = &context.state.ui;
    let line = if let Some(prompt) = &ui.prompt {
        let cursor = Span::styled(" ", context.theme.selected());
        Line::from(vec![Span::raw(format!("{}{}", prompt.kind.label(), prompt.text)), cursor])
    } else if let Some(message) = &ui.message {
        Line::styled(message.clone(), context.theme.notable())
    } else {
        keys(context, usize::from(area.width))
    };
    put(buffer, area, &line);
}

/// The views' tabs and the columns that they take.
#[must_use]
pub fn tabs(context: Context<'_>, width: usize) -> Vec<(ViewId, Range<u16>)> {
    let mut from = 0;
    let of = |view: ViewId| {
        let columns = from..from + tab(context, view, width).len() as u16;
        from = columns.end + 1;
        (view, columns)
    };
    views(context).iter().copied().map(of).collect()
}

fn views(context: Context<'_>) -> &'static [ViewId] {
    ViewId::of(context.state.hosts().len())
}

/// Where not all names fit, only the current view keeps its name.
fn tab(context: Context<'_>, view: ViewId, width: usize) -> String {
    let key = context.keys.key_of(Action::View(view)).map(|c| c.to_string()).unwrap_or_default();
    let names = views(context).iter().map(|v| v.name().len() + 5).sum::<usize>();
    match names <= width || context.state.ui.view == view {
        true => format!("[{key}] {}", view.name()),
        false => format!("[{key}]"),
    }
}

fn keys(context: Context<'_>, width: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut left = width;
    for view in views(context).iter().copied() {
        let text = tab(context, view, width);
        let shown = context.state.ui.view == view;
        let style = if shown { context.theme.selected() } else { Default::default() };
        left = left.saturating_sub(text.len() + 1);
        spans.push(Span::styled(text, style));
        spans.push(Span::raw(" "));
    }
    for (keys, word) in hints(context) {
        let text = format!(" {keys} {word}");
        if text.len() + 1 > left {
            break;
        }
        left -= text.len() + 1;
        spans.push(Span::raw(" "));
        spans.push(Span::styled(format!("{keys} "), context.theme.strong()));
        spans.push(Span::styled(format!("{word} "), context.theme.grey()));
    }
    Line::from(spans)
}

/// Keys and words, the most needed first.
fn hints(context: Context<'_>) -> Vec<(String, &'static str)> {
    let hint = |binding: &crate::input::keymap::Binding| {
        let keys: Vec<String> = binding.keys.iter().take(2).map(|(c, _)| c.to_string()).collect();
        let distinct =
            if binding.keys.len() > 1 && binding.keys[0].1 == binding.keys[1].1 { 1 } else { 2 };
        Some((keys[..distinct.min(keys.len())].join(" "), binding.footer?))
    };
    let all: Vec<_> = context.keys.bindings().iter().filter_map(hint).collect();
    let (first, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, word)| matches!(*word, "help" | "quit"));
    first.into_iter().chain(rest).collect()
}
