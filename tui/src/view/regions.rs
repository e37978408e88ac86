//! All regions as a list, each in every track.

use std::collections::HashMap;

use fragscope_replay::observe::{TaintEvent, TrackKind};
use fragscope_trace::event::TimeNs;
use fragscope_trace::page::Pfn;
use fragscope_trace::region::{RegionCensus, RegionState};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::pane::{centred, frame};
use super::table::{self, Cell, Column};
use super::{Context, notes};
use crate::format::{count, gib};
use crate::state::rows::{self, REGION_SORTS, RegionRow, state_name};
use crate::state::ui::ViewId;
use fragscope_replay::callsite::call_site;

const COLUMNS: [Column; 6] = [
    Column::number("GiB", 5, 0),
    Column::text("zone", 14, 2),
    Column::text("kernel", 22, 0),
    Column::text("stock", 22, 3),
    Column::text("spb", 22, 1),
    Column::text("last tainted by (kernel)", 26, 4).growing(),
];

/// Draws the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let state = context.state;
    let list = state.ui.list(ViewId::Regions);
    let title = title(context, "regions", REGION_SORTS[list.sort]);
    let inner = frame(context, &title, area, buffer);
    let Some(sample) = state.host().shown() else {
        let nothing = || ("no data".to_owned(), context.theme.grey());
        let (text, style) = notes::notes(context).into_iter().next().unwrap_or_else(nothing);
        centred(&text, style, inner, buffer);
        return;
    };
    let rows = rows::regions(state.host(), sample, state.ui.start, list);
    if rows.is_empty() {
        centred(
            "no region matches the filter (esc clears it)",
            context.theme.grey(),
            inner,
            buffer,
        );
        return;
    }
    let blamed = last_taints(context, sample.time_ns);
    let cells = |i: usize| cells(context, &rows[i], &blamed);
    table::draw(context, &COLUMNS, list, rows.len(), cells, inner, buffer);
}

/// Title of a list: its name, order and filter.
pub fn title(context: Context<'_>, name: &str, sort: &str) -> Line<'static> {
    let list = context.state.ui.list(context.state.ui.view);
    let mut spans = vec![Span::styled(name.to_owned(), context.theme.strong())];
    let turned = if list.reversed { ", reversed" } else { "" };
    spans.push(Span::raw(format!("  by {sort}{turned}")));
    if !list.filter.is_empty() {
        let text = format!("  only with \"{}\"", list.filter);
        spans.push(Span::styled(text, context.theme.notable()));
    }
    Line::from(spans)
}

fn cells(context: Context<'_>, row: &RegionRow<'_>, blamed: &LastTaints<'_>) -> Vec<Cell> {
    let mut cells = vec![(row.gib().to_string(), Style::new()), (row.zone(), Style::new())];
    cells.extend(row.tracks.iter().map(|r| match r {
        Some(region) => in_words(context, region),
        None => (String::new(), Style::new()),
    }));
    let start = row.tracks.iter().flatten().next().map(|r| r.start);
    let event = start.and_then(|start| blamed.get(&start));
    cells.push((event.map(|e| by_whom(e)).unwrap_or_default(), Style::new()));
    cells
}

/// Glyph, state, and the figure that matters in that state.
#[must_use]
pub fn in_words(context: Context<'_>, region: &RegionCensus) -> Cell {
    let state = region.state();
    let (glyph, style) = context.theme.region(region);
    let figure = match state {
        RegionState::Tainted => format!(" {} pages", count(region.tainting_pages())),
        RegionState::Evacuable => format!(" {} GiB", gib(region.movable_pages())),
        _ => String::new(),
    };
    (format!("{} {}{figure}", context.theme.char(glyph), state_name(state)), style)
}

/// The last taint of each region in the kernel track, by the region's first frame.
type LastTaints<'a> = HashMap<Pfn, &'a TaintEvent>;

fn last_taints(context: Context<'_>, until_ns: TimeNs) -> LastTaints<'_> {
    let taints = &context.state.host().taints;
    let wanted = |e: &&TaintEvent| e.track == TrackKind::Kernel && e.tainted;
    let until = taints.iter().filter(wanted).take_while(|e| e.time_ns <= until_ns);
    until.map(|e| (e.region_start, e)).collect()
}

/// Process and call site.
fn by_whom(event: &TaintEvent) -> String {
    let comm = event.comm.as_deref().unwrap_or("?");
    format!("{comm} {}", call_site(&event.stack).unwrap_or_default())
}
