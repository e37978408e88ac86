//! 1 GiB regions over time: what could be had above, what is tainted below, all tracks on one
//! scale and one time axis, with the taints of the kernel track marked on it.

use fragscope_replay::observe::TrackKind;
use fragscope_trace::event::TimeNs;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};

use super::braille::Canvas;
use super::pane::{frame, inside, put};
use super::theme::{CURSOR_MARK, TAINT_MARK};
use super::{Context, split_top};
use crate::format::span;
use crate::state::history::{Figures, Point};
use crate::state::host::Host;
use crate::state::ui::ZOOMS;

/// Fewer rows than this, frame included, show nothing of use.
pub const ROWS_MIN: u16 = 6;
/// A live chart begins with this span, so that its first seconds do not fill it.
const SPAN_MIN_NS: u64 = 10_000_000_000;
/// Columns of the scale at the left.
const SCALE_WIDTH: u16 = 5;
/// Columns of the tracks' names at the right.
const NAMES_WIDTH: u16 = 16;
/// The same where two plots stand beside each other.
const NAMES_WIDTH_HALF: u16 = 13;
/// With fewer rows the plots stand beside each other.
const STACKED_ROWS: u16 = 8;

/// What is plotted.
#[derive(Clone, Copy)]
struct Plot {
    title: &'static str,
    value: fn(Figures) -> u64,
}

const PLOTS: [Plot; 2] = [
    Plot { title: "to be had", value: |f| f.obtainable_1g },
    Plot { title: "tainted", value: |f| f.tainted_1g },
];

/// Draws the pane.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let host = context.state.host();
    let Some(window) = window(host, context.state.ui.zoom) else {
        return;
    };
    frame(context, &title(context, window, is_stacked(area)), area, buffer);
    let top = peak(host, window, context);
    for (plot, part) in PLOTS.into_iter().zip(parts(area)) {
        draw_plot(context, plot, (window, top, part.names), part.plot, buffer);
        if part.axis.height > 0 {
            draw_axis(context, window, part.names, part.axis, buffer);
        }
    }
}

/// The time under a place of the screen, in a chart at `area`.
#[must_use]
pub fn time_at(context: Context<'_>, area: Rect, at: Position) -> Option<TimeNs> {
    let window = window(context.state.host(), context.state.ui.zoom)?;
    let part = parts(area).into_iter().find(|p| p.plot.contains(at) || p.axis.contains(at))?;
    let columns = part.plot.width - SCALE_WIDTH - part.names;
    let column = at.x.checked_sub(part.plot.x + SCALE_WIDTH).filter(|c| *c < columns)?;
    Some(time_of(window, usize::from(column), usize::from(columns)))
}

/// A plot and, below it, the axis.
struct Part {
    plot: Rect,
    axis: Rect,
    /// Columns of the tracks' names.
    names: u16,
}

/// Whether the plots stand above each other, in a chart at `area`.
fn is_stacked(area: Rect) -> bool {
    area.height >= STACKED_ROWS + 3
}

/// Where the plots go; nowhere in an area too small for them.
fn parts(area: Rect) -> Vec<Part> {
    let inner = inside(area);
    if inner.height < 3 || inner.width < 2 * (SCALE_WIDTH + NAMES_WIDTH_HALF + 4) {
        return Vec::new();
    }
    let stacked = is_stacked(area);
    let areas = if stacked { above(inner) } else { beside_each_other(inner) };
    let names = if stacked { NAMES_WIDTH } else { NAMES_WIDTH_HALF };
    let part = |(area, has_axis): (Rect, bool)| {
        // The marks have a row of their own where there is room for it.
        let axis_rows = match (has_axis, area.height) {
            (false, _) => 0,
            (true, 6..) => 2,
            (true, _) => 1,
        };
        let (plot, axis) = split_top(area, area.height - axis_rows);
        Part { plot, axis, names }
    };
    areas.into_iter().zip([!stacked, true]).map(part).collect()
}

/// Two areas, one above the other; the lower one has the axis.
fn above(area: Rect) -> [Rect; 2] {
    let (upper, lower) = split_top(area, (area.height - 2) / 2);
    [upper, lower]
}

/// Two areas beside each other.
fn beside_each_other(area: Rect) -> [Rect; 2] {
    let left = Rect { width: area.width / 2, ..area };
    [left, Rect { x: left.right(), width: area.width - left.width, ..area }]
}

/// The time span shown: that of the zoom, ending at the newest sample or around the cursor.
fn window(host: &Host, zoom: usize) -> Option<(TimeNs, TimeNs)> {
    let (oldest, newest) = host.range()?;
    let kept = (newest - oldest).max(1);
    let least = if host.is_growing() { SPAN_MIN_NS } else { 1 };
    let length = ZOOMS[zoom].map_or(kept, |s| (s * 1_000_000_000).min(kept)).max(least);
    let shown = host.shown()?.time_ns;
    let end = newest.min(shown.max(newest.saturating_sub(length)).saturating_add(length / 2));
    let end = if shown >= newest.saturating_sub(length) { newest } else { end };
    Some((end.saturating_sub(length), end))
}

fn title(context: Context<'_>, window: (TimeNs, TimeNs), stacked: bool) -> Line<'static> {
    let what = if stacked { "1 GiB regions over time" } else { "to be had, and tainted" };
    let text = span((window.1 - window.0) as f64 / 1e9);
    let mark = context.theme.char(TAINT_MARK);
    Line::from(vec![
        Span::styled(what, context.theme.strong()),
        Span::raw(format!(", {text}  ")),
        Span::styled(mark.to_string(), context.theme.tainted()),
        Span::raw(" region tainted"),
    ])
}

/// The largest value in the window, at least 1: the top of both scales.
fn peak(host: &Host, window: (TimeNs, TimeNs), context: Context<'_>) -> u64 {
    let start = context.state.ui.start;
    let points = host.history.points();
    let from = points.partition_point(|p| p.time_ns < window.0);
    let until = points.partition_point(|p| p.time_ns <= window.1);
    let of = |point: &Point| TrackKind::ALL.map(|kind| point.figures(kind, start));
    let figures = points[from..until].iter().flat_map(of).flatten();
    figures.map(|f| f.obtainable_1g.max(f.tainted_1g)).max().unwrap_or(0).max(1)
}

fn draw_plot(
    context: Context<'_>,
    plot: Plot,
    (window, top, names_width): ((TimeNs, TimeNs), u64, u16),
    area: Rect,
    buffer: &mut Buffer,
) {
    let host = context.state.host();
    let theme = context.theme;
    let width = area.width - SCALE_WIDTH - names_width;
    let canvas_area = Rect { x: area.x + SCALE_WIDTH, width, ..area };
    let mut canvas = Canvas::new(canvas_area, theme.ascii);
    let lowest = canvas.height() - 1;
    let row = |value: u64| lowest - (value.min(top) as usize * lowest).div_ceil(top as usize);
    let columns = canvas.width();
    // The track drawn last lies above the others: the one of most interest.
    for kind in TrackKind::ALL {
        let rows: Vec<Option<usize>> = (0..columns)
            .map(|x| {
                Some(row((plot.value)(figures_at(context, kind, time_of(window, x, columns))?)))
            })
            .collect();
        canvas.steps(&rows, (theme.track_char(kind), theme.track(kind)));
    }
    canvas.draw(buffer);
    let at = |y: u16| Rect { y, height: 1, ..area };
    let scale = usize::from(SCALE_WIDTH) - 1;
    put(buffer, at(area.y), &Line::styled(format!("{top:>scale$}"), theme.grey()));
    put(buffer, at(area.bottom() - 1), &Line::styled(format!("{:>scale$}", 0), theme.grey()));
    let names = Rect { x: canvas_area.right() + 1, width: names_width - 1, ..area };
    if let Some(shown) = host.shown().and_then(|s| host.history.point_at(s.time_ns)) {
        draw_names(context, plot, shown, names, &row, buffer);
    }
}

/// Names and values at the right, each as near to its line's height as there is room.
fn draw_names(
    context: Context<'_>,
    plot: Plot,
    shown: &Point,
    area: Rect,
    row: &dyn Fn(u64) -> usize,
    buffer: &mut Buffer,
) {
    let dots = if context.theme.ascii { 1 } else { 4 };
    let named = |kind: TrackKind| {
        let value = (plot.value)(shown.figures(kind, context.state.ui.start)?);
        Some(((row(value) / dots) as u16, value, kind))
    };
    let mut names: Vec<(u16, u64, TrackKind)> =
        TrackKind::ALL.into_iter().filter_map(named).collect();
    names.sort_by_key(|(row, value, _)| (*row, std::cmp::Reverse(*value)));
    let count = names.len() as u16;
    let mut next = area.y;
    if area.height > count {
        put(buffer, area, &Line::styled(plot.title, context.theme.grey()));
        next += 1;
    }
    for (i, (row, value, kind)) in names.into_iter().enumerate() {
        let latest = area.bottom().saturating_sub(count - i as u16);
        let y = (area.y + row).clamp(next, latest.max(next));
        let letter = match context.theme.ascii {
            true => format!("{} ", context.theme.track_char(kind)),
            false => String::new(),
        };
        let text = format!("{letter}{} {value}", kind.name());
        if y < area.bottom() {
            let line = Line::styled(text, context.theme.track(kind));
            put(buffer, Rect { y, height: 1, ..area }, &line);
        }
        next = y + 1;
    }
}

fn figures_at(context: Context<'_>, kind: TrackKind, time: TimeNs) -> Option<Figures> {
    let host = context.state.host();
    let (from, to) = host.range()?;
    if time < from || time > to {
        return None;
    }
    host.history.point_at(time)?.figures(kind, context.state.ui.start)
}

/// Time in the middle of a column.
fn time_of(window: (TimeNs, TimeNs), column: usize, columns: usize) -> TimeNs {
    let share = (column as f64 + 0.5) / columns as f64;
    window.0 + ((window.1 - window.0) as f64 * share) as u64
}

/// Column of a time, in an axis of `columns`.
fn column_of(window: (TimeNs, TimeNs), time: TimeNs, columns: u16) -> Option<u16> {
    if time < window.0 || time > window.1 || columns == 0 {
        return None;
    }
    let share = (time - window.0) as f64 / (window.1 - window.0).max(1) as f64;
    Some(((share * f64::from(columns)) as u16).min(columns - 1))
}

/// Times at both ends, marks of taints and of the moment shown.
fn draw_axis(
    context: Context<'_>,
    window: (TimeNs, TimeNs),
    names_width: u16,
    area: Rect,
    buffer: &mut Buffer,
) {
    let (state, theme) = (context.state, context.theme);
    let host = state.host();
    let axis = Rect {
        x: area.x + SCALE_WIDTH,
        y: area.bottom() - 1,
        width: area.width - SCALE_WIDTH - names_width,
        height: 1,
    };
    if let Some(clock) = &host.clock {
        let text = |t| clock.text(t, state.now.wall, &state.zone);
        let (from, to) = (text(window.0), text(window.1));
        let end = axis.right().saturating_sub(to.len() as u16);
        buffer.set_stringn(axis.x, axis.y, &from, usize::from(axis.width), theme.grey());
        if end > axis.x + from.len() as u16 {
            buffer.set_string(end, axis.y, &to, theme.grey());
        }
    }
    let mut mark = |time, glyph, style| {
        if let Some(column) = column_of(window, time, axis.width)
            && let Some(cell) = buffer.cell_mut((axis.x + column, area.y))
        {
            cell.set_char(theme.char(glyph)).set_style(style);
        }
    };
    let wanted =
        |e: &&fragscope_replay::observe::TaintEvent| e.tainted && e.track == TrackKind::Kernel;
    for event in host.taints.iter().filter(wanted) {
        mark(event.time_ns, TAINT_MARK, theme.tainted());
    }
    if let (Some(shown), Some((_, newest))) = (host.shown(), host.range())
        && shown.time_ns < newest
    {
        mark(shown.time_ns, CURSOR_MARK, theme.notable());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_times_agree() {
        let window = (1_000, 2_000);
        for columns in [1u16, 7, 80] {
            for column in 0..columns {
                let time = time_of(window, usize::from(column), usize::from(columns));
                assert_eq!(column_of(window, time, columns), Some(column));
            }
        }
        assert_eq!(column_of(window, 2_000, 10), Some(9));
        assert_eq!(column_of(window, 2_001, 10), None);
    }
}
