//! The help: keys from the key map, and what the words and figures mean.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget};

use super::pane::{frame, put_all, wrap};
use super::{Context, map};
use crate::input::keymap::{Binding, Section};

/// Columns that both halves of the help want beside each other.
const TWO_COLUMNS: u16 = 110;
/// Columns of the keys.
const KEYS_WIDTH: usize = 14;

/// What the figures mean, in plain words.
const WORDS: [(&str, &str); 9] = [
    ("region", "one aligned GiB of a zone: what a 1 GiB huge page needs whole"),
    ("now", "regions that are free from end to end"),
    ("moved", "regions that would be free after migrating their movable pages elsewhere"),
    ("tainted", "regions with memory that cannot move (slab, page tables, kernel buffers, pins)"),
    ("one block", "tainted by no more than 2 MiB worth of such pages"),
    ("kernel", "what the running kernel did"),
    ("stock", "the same requests placed by a model of the stock allocator"),
    ("spb", "the same requests placed by the superpageblock allocator"),
    ("12-14", "between these: some pages could not be explained"),
];

/// Draws it over the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    Clear.render(area, buffer);
    let title = Line::styled("help  (? or esc closes)", context.theme.strong());
    let inner = frame(context, &title, area, buffer);
    if inner.width >= TWO_COLUMNS {
        let left = Rect { width: inner.width / 2, ..inner };
        let right = Rect { x: left.right(), width: inner.width - left.width, ..inner };
        put_all(buffer, left, keys(context));
        put_all(buffer, right, words(context, usize::from(right.width)));
    } else {
        let lines = [words(context, usize::from(inner.width)), keys(context)].concat();
        let rows = usize::from(inner.height);
        let skip = context.state.ui.help_scroll.min(lines.len().saturating_sub(rows));
        let more = lines.len() > skip + rows;
        put_all(buffer, inner, lines.into_iter().skip(skip));
        if more {
            let text = " down: more ";
            let x = area.right().saturating_sub(text.len() as u16 + 2);
            buffer.set_string(x, area.bottom() - 1, text, context.theme.notable());
        }
    }
}

fn keys(context: Context<'_>) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for section in Section::ALL {
        lines.push(Line::styled(section.title(), context.theme.strong()));
        let of = context.keys.bindings().iter().filter(|b| b.section == section);
        lines.extend(of.map(|b| binding(context, b)));
    }
    lines
}

fn binding(context: Context<'_>, binding: &Binding) -> Line<'static> {
    let keys: Vec<String> = binding.keys.iter().map(|(chord, _)| chord.to_string()).collect();
    let mut keys = keys.join(" ");
    if keys.len() > KEYS_WIDTH {
        keys =
            binding.keys.iter().take(2).map(|(c, _)| c.to_string()).collect::<Vec<_>>().join(" ");
    }
    Line::from(vec![
        Span::styled(
            format!("{keys:>KEYS_WIDTH$}  "),
            context.theme.track(fragscope_replay::observe::TrackKind::Spb),
        ),
        Span::raw(binding.help),
    ])
}

fn words(context: Context<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled("words", context.theme.strong())];
    for (word, meaning) in WORDS {
        let mut name = Some(word);
        for text in wrap(meaning, width.saturating_sub(12).max(20)) {
            let name = format!("{:>10}  ", name.take().unwrap_or_default());
            lines.push(Line::from(vec![
                Span::styled(name, context.theme.strong()),
                Span::raw(text),
            ]));
        }
    }
    lines.push(map::legend(context, 1));
    lines
}
