//! Frames around parts of the screen, and lines inside them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Widget};

use super::Context;
use crate::format::cut;

/// Draws a frame with a title and gives the area inside it.
pub fn frame(context: Context<'_>, title: &Line<'_>, area: Rect, buffer: &mut Buffer) -> Rect {
    let block =
        Block::bordered().border_set(context.theme.border()).border_style(context.theme.grey());
    let inner = block.inner(area);
    block.render(area, buffer);
    let room = usize::from(area.width.saturating_sub(4));
    if room > 0 && area.height > 0 {
        let mut spans = vec![Span::raw(" ")];
        spans.extend(fit(title.spans.clone(), room, context.theme.ellipsis()));
        spans.push(Span::raw(" "));
        put(
            buffer,
            Rect { x: area.x + 1, width: area.width - 2, height: 1, ..area },
            &Line::from(spans),
        );
    }
    inner
}

/// The area inside a frame.
#[must_use]
pub fn inside(area: Rect) -> Rect {
    Block::bordered().inner(area)
}

/// Puts a line at the first row of an area, cut to its width.
pub fn put(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    if area.height > 0 && area.width > 0 {
        buffer.set_line(area.x, area.y, line, area.width);
    }
}

/// Puts lines below each other as far as there is room.
pub fn put_all<'a>(buffer: &mut Buffer, area: Rect, lines: impl IntoIterator<Item = Line<'a>>) {
    for (row, line) in area.rows().zip(lines) {
        put(buffer, row, &line);
    }
}

/// Spans cut to `width` columns together.
#[must_use]
pub fn fit<'a>(spans: Vec<Span<'a>>, width: usize, ellipsis: &str) -> Vec<Span<'a>> {
    let mut left = width;
    let mut kept = Vec::new();
    for span in spans {
        let wide = span.width();
        if wide <= left {
            left -= wide;
            kept.push(span);
        } else {
            kept.push(Span::styled(cut(&span.content, left, ellipsis), span.style));
            break;
        }
    }
    kept
}

/// Words of a text in lines of at most `width` columns.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width, "")),
        }
    }
    lines
}

/// A text in the middle of an area: what an empty view says.
pub fn centred(text: &str, style: Style, area: Rect, buffer: &mut Buffer) {
    let lines = wrap(text, usize::from(area.width.saturating_sub(2)).max(1));
    let rows = lines.len().min(usize::from(area.height)) as u16;
    let top = area.y + (area.height - rows) / 2;
    for (i, text) in lines.into_iter().take(usize::from(rows)).enumerate() {
        let line = Line::styled(text, style);
        let x = area.x + (area.width.saturating_sub(line.width() as u16)) / 2;
        let width = area.right().saturating_sub(x);
        put(buffer, Rect { x, y: top + i as u16, width, height: 1 }, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_share_the_width() {
        let spans = vec![Span::raw("abc"), Span::raw("defgh"), Span::raw("ij")];
        let text = |width| {
            fit(spans.clone(), width, "…").iter().map(|s| s.content.to_string()).collect::<String>()
        };
        assert_eq!([text(10), text(8), text(5), text(0)], ["abcdefghij", "abcdefgh", "abcd…", ""]);
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("no events yet here", 9), ["no events", "yet here"]);
        assert_eq!(wrap("unbreakable", 5), ["unbre"]);
    }
}
