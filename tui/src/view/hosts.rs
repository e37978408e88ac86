//! All hosts, a line for each: what each could have, what superpageblocks would change, and how
//! its connection stands.

use fragscope_replay::observe::{EventTotals, TrackKind, TrackSample};
use fragscope_trace::region::Bounds;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::pane::{centred, frame};
use super::regions::title;
use super::table::{self, Cell, Column};
use super::{Context, notes, split_top};
use crate::format::{bounds, count, pages, rate};
use crate::state::host::Host;
use crate::state::hosts::{self, HOST_SORTS, HostRow, state_text};
use crate::state::ui::ViewId;

const COLUMNS: [Column; 10] = [
    Column::text("host", 10, 0).growing(),
    Column::text("state", 28, 2),
    Column::number("to be had", 9, 0),
    Column::number("spb", 7, 0),
    Column::number("tainted", 9, 1),
    Column::number("spb", 7, 3),
    Column::number("of", 5, 5),
    Column::number("free", 9, 6),
    Column::number("events", 8, 7),
    Column::number("lost", 6, 4),
];

/// Screens with fewer rows say nothing more of the selected host.
const DETAIL_SCREEN_ROWS: u16 = 12;
/// Rows of what is said, with its frame.
const DETAIL_ROWS: u16 = 6;

/// Draws the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let state = context.state;
    let list = state.ui.list(ViewId::Hosts);
    let rows = hosts::hosts(state, list);
    let (top, bottom) = split_top(area, area.height - detail_rows(area));
    let mut title = title(context, "hosts", HOST_SORTS[list.sort]);
    title.push_span("  1 GiB pages to be had, and tainted regions");
    let inner = frame(context, &title, top, buffer);
    if rows.is_empty() {
        let text = "no host matches the filter (esc clears it)";
        centred(text, context.theme.grey(), inner, buffer);
        return;
    }
    let row = |i: usize| cells(context, rows[i]);
    table::draw(context, &COLUMNS, list, rows.len(), row, inner, buffer);
    if bottom.height > 0 {
        let selected = rows[list.selected.min(rows.len() - 1)];
        draw_detail(context, selected, bottom, buffer);
    }
}

/// Rows that the selected host takes from the view.
#[must_use]
pub fn detail_rows(area: Rect) -> u16 {
    if area.height >= DETAIL_SCREEN_ROWS { DETAIL_ROWS } else { 0 }
}

fn cells(context: Context<'_>, row: HostRow<'_>) -> Vec<Cell> {
    let (state, theme) = (context.state, context.theme);
    let host = row.host;
    let dim = if host.is_stale() { theme.stale() } else { Style::new() };
    let figure = |kind: TrackKind, of: fn(&TrackSample) -> Bounds| {
        row.track(kind, state.ui.start).map(|t| bounds(of(t))).unwrap_or_default()
    };
    let had = |t: &TrackSample| t.totals.obtainable_1g;
    let tainted = |t: &TrackSample| t.totals.tainted_1g;
    let kernel = row.track(TrackKind::Kernel, state.ui.start);
    let whole = kernel.map(|t| t.totals.whole_1g.to_string());
    let free = kernel.map(|t| pages(t.totals.free_pages));
    let events = host.interval().map(|i| rate(i.events(|e| e.allocs + e.frees)));
    let lost = host.shown().map(|s| s.events.lost_events());
    let lost_style = if lost.is_some_and(|n| n > 0) { theme.grave() } else { dim };
    let state_style = if host.is_stale() { theme.grave() } else { Style::new() };
    vec![
        (name(host), theme.strong()),
        (state_text(host, state.now.uptime), state_style),
        (figure(TrackKind::Kernel, had), theme.movable().patch(dim)),
        (figure(TrackKind::Spb, had), theme.movable().patch(dim)),
        (figure(TrackKind::Kernel, tainted), theme.tainted().patch(dim)),
        (figure(TrackKind::Spb, tainted), theme.tainted().patch(dim)),
        (whole.unwrap_or_default(), dim),
        (free.unwrap_or_default(), dim),
        (events.unwrap_or_default(), dim),
        (lost.map(count).unwrap_or_default(), lost_style),
    ]
}

/// Marked where its figures may no longer hold, because its state may have no room.
fn name(host: &Host) -> String {
    if host.is_stale() { format!("! {}", host.name()) } else { host.name().to_owned() }
}

/// What must be known of the selected host.
fn draw_detail(context: Context<'_>, row: HostRow<'_>, area: Rect, buffer: &mut Buffer) {
    let name = format!("{}  {}", row.host.name(), row.host.label);
    let title = Line::styled(name, context.theme.strong());
    let inner = frame(context, &title, area, buffer);
    notes::draw_of(context, row.host, inner, buffer);
}

/// Events of all hosts per second, and lost ones in total.
#[must_use]
pub fn sums(context: Context<'_>) -> (f64, u64) {
    let hosts = context.state.hosts();
    let events = hosts.iter().filter_map(|h| Some(h.interval()?.events(|e| e.allocs + e.frees)));
    let lost = hosts.iter().filter_map(|h| Some(EventTotals::lost_events(&h.shown()?.events)));
    (events.sum(), lost.sum())
}
