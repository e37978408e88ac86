//! One region in detail: what it holds in each track, what spoils it, what moving would cost.

use fragscope_replay::observe::TaintEvent;
use fragscope_trace::page::{Content, REGION_ORDER};
use fragscope_trace::region::{RegionCensus, RegionState};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::blocks::{self, TrackBlocks};
use super::pane::{centred, frame, put_all};
use super::regions::in_words;
use super::theme::{BAR, BAR_EMPTY};
use super::{Context, free_lists, split_top};
use crate::format::{count, cut, gib, pages};
use crate::state::rows::{self, RegionRow};
use crate::state::ui::ViewId;
use fragscope_replay::callsite::call_site;

/// Columns of the content's name, and of each track.
const NAME_WIDTH: usize = 13;
const TRACK_WIDTH: usize = 28;
/// Most rows of the taint history.
const HISTORY_ROWS: u16 = 6;
/// Columns of a bar.
const BAR_WIDTH: usize = 10;

/// Draws the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let state = context.state;
    let list = state.ui.list(ViewId::Regions);
    let Some(sample) = state.host().shown() else {
        centred("no data", context.theme.grey(), area, buffer);
        return;
    };
    let rows = rows::regions(state.host(), sample, state.ui.start, list);
    let Some(row) = rows.get(list.selected.min(rows.len().saturating_sub(1))) else {
        centred("no region is selected", context.theme.grey(), area, buffer);
        return;
    };
    let inner = frame(context, &title(context, row), area, buffer);
    let shown = tracks_that_fit(row, usize::from(inner.width));
    let grids = blocks::of_region(context, row, &shown);
    let lines = contents(context, row, &shown, &grids);
    let (top, rest) = split_top(inner, lines.len() as u16);
    put_all(buffer, top, lines);
    let history = history(context, row);
    let past = (history.len() as u16).min(HISTORY_ROWS);
    let (middle, bottom) = split_top(rest, rest.height.saturating_sub(past));
    let middle = draw_free_lists(context, &grids, middle, buffer);
    let (grid, spare) = split_top(middle, grid_rows(&grids, middle));
    blocks::draw(context, &grids, pad_top(grid), buffer);
    let bottom = Rect { y: spare.y, height: spare.height + bottom.height, ..bottom };
    let (_, bottom) = split_top(bottom, bottom.height.saturating_sub(past).min(1));
    put_all(buffer, bottom, history);
}

/// Draws the free lists where there is room for them beside the pageblocks, or where they are
/// wanted instead; gives the room that is left.
fn draw_free_lists(
    context: Context<'_>,
    grids: &[TrackBlocks],
    area: Rect,
    buffer: &mut Buffer,
) -> Rect {
    let lists = free_lists::lines(context, grids, usize::from(area.width));
    let wanted = lists.len() as u16 + 1;
    let both = area.height > wanted + blocks::ROWS_MIN;
    if lists.is_empty() || !(both || context.state.ui.free_lists) {
        return area;
    }
    let (top, rest) = split_top(area, wanted);
    put_all(buffer, pad_top(top), lists);
    rest
}

/// Rows for the grids: a blank one, a heading, names, and the cells.
fn grid_rows(grids: &[TrackBlocks], area: Rect) -> u16 {
    match grids.is_empty() || area.height < blocks::ROWS_MIN + 1 {
        true => 0,
        false => blocks::rows(grids, area.width).saturating_add(1).min(area.height),
    }
}

fn pad_top(area: Rect) -> Rect {
    split_top(area, 1).1
}

fn title(context: Context<'_>, row: &RegionRow<'_>) -> Line<'static> {
    let region = row.tracks.iter().flatten().next();
    let (start, end) = region.map_or((0, 0), |r| (r.start.0, r.start.0 + r.span_pages));
    Line::from(vec![
        Span::styled(format!("region at {} GiB", start >> REGION_ORDER), context.theme.strong()),
        Span::raw(format!("  {}  pfn {start:#x}-{end:#x}  ", row.zone())),
        Span::styled("up down: neighbours, enter: free lists, esc: list", context.theme.grey()),
    ])
}

/// The contents by kind, a column for each track, and the verdicts.
fn contents(
    context: Context<'_>,
    row: &RegionRow<'_>,
    shown: &[usize],
    grids: &[TrackBlocks],
) -> Vec<Line<'static>> {
    let theme = context.theme;
    let column = |text: String, style| Span::styled(format!("{text:<TRACK_WIDTH$}"), style);
    let name = |text: &str| Span::raw(format!("{text:<NAME_WIDTH$}"));
    let each = |label: &str, cell: &dyn Fn(&RegionCensus) -> (String, Style)| {
        let cells = shown.iter().map(|t| match row.tracks[*t] {
            Some(region) => {
                let (text, style) = cell(region);
                column(text, style)
            }
            None => column(String::new(), Style::new()),
        });
        Line::from(std::iter::once(name(label)).chain(cells).collect::<Vec<_>>())
    };
    let kinds = fragscope_replay::observe::TrackKind::ALL;
    let heads = shown.iter().map(|t| column(kinds[*t].name().to_owned(), theme.track(kinds[*t])));
    let mut lines = vec![Line::from(std::iter::once(name("")).chain(heads).collect::<Vec<_>>())];
    lines.push(each("state", &|r| in_words(context, r)));
    for content in Content::ALL {
        let held = |r: &&RegionCensus| r.pages[content.index()] > 0;
        if shown.iter().filter_map(|t| row.tracks[*t].as_ref()).any(held) {
            lines.push(each(content_name(content), &|r| bar(context, content, r)));
        }
    }
    lines.push(each("to evacuate", &|r| (evacuation(r), Style::new())));
    if grids.len() == shown.len() {
        let spoilers = grids.iter().map(TrackBlocks::spoilers).collect();
        let types = grids.iter().map(TrackBlocks::types).collect();
        for (label, texts) in [("spoiled by", spoilers), ("block types", types)] {
            let texts: Vec<String> = texts;
            let fitted = |t: String| cut(&t, TRACK_WIDTH - 1, theme.ellipsis());
            let cells = texts.into_iter().map(|t| column(fitted(t), Style::new()));
            lines.push(Line::from(std::iter::once(name(label)).chain(cells).collect::<Vec<_>>()));
        }
    }
    lines
}

/// Tracks for which there is room: spb and kernel before stock.
fn tracks_that_fit(row: &RegionRow<'_>, width: usize) -> Vec<usize> {
    let room = (width.saturating_sub(NAME_WIDTH) / TRACK_WIDTH).max(1);
    let mut tracks: Vec<usize> =
        [0, 2, 1].into_iter().filter(|t| row.tracks[*t].is_some()).take(room).collect();
    tracks.sort_unstable();
    tracks
}

/// Share as a bar, and the pages.
fn bar(context: Context<'_>, content: Content, region: &RegionCensus) -> (String, Style) {
    let theme = context.theme;
    let held = u64::from(region.pages[content.index()]);
    let full = (held * BAR_WIDTH as u64).div_ceil(region.span_pages.max(1)) as usize;
    let full = full.min(BAR_WIDTH);
    let bar: String = std::iter::repeat_n(theme.char(BAR), full)
        .chain(std::iter::repeat_n(theme.char(BAR_EMPTY), BAR_WIDTH - full))
        .collect();
    let style = match content {
        c if c.taints() => theme.tainted(),
        c if c.is_movable() => theme.movable(),
        c if c.is_free() => theme.free(),
        Content::Unknown => theme.notable(),
        _ => theme.grey(),
    };
    (format!("{bar} {} pages", count(held)), style)
}

/// What stands between this region and a 1 GiB page.
fn evacuation(region: &RegionCensus) -> String {
    let movable = region.movable_pages();
    match region.state() {
        RegionState::Free => "nothing to move".to_owned(),
        RegionState::Evacuable => format!("move {} ({} GiB)", pages(movable), gib(movable)),
        RegionState::Tainted => format!("{} cannot move", pages(region.tainting_pages())),
        RegionState::Unknown => "depends on unknown pages".to_owned(),
        _ => "can never be whole".to_owned(),
    }
}

/// When and by what it was tainted, newest first.
fn history(context: Context<'_>, row: &RegionRow<'_>) -> Vec<Line<'static>> {
    let host = context.state.host();
    let region = row.tracks.iter().flatten().next().map(|r| r.start);
    let now = host.shown().map_or(0, |s| s.time_ns);
    let here = |e: &&TaintEvent| Some(e.region_start) == region && e.time_ns <= now;
    let mut lines = vec![Line::styled("taint history", context.theme.strong())];
    let events = host.taints.iter().rev().filter(here).take(50);
    lines.extend(events.map(|e| history_line(context, e)));
    if lines.len() == 1 {
        lines.push(Line::raw("no change since tracing began"));
    }
    lines
}

fn history_line(context: Context<'_>, event: &TaintEvent) -> Line<'static> {
    let track = event.track;
    let (word, style) = if event.tainted {
        ("tainted", context.theme.tainted())
    } else {
        ("clean again", context.theme.free())
    };
    let mut spans = vec![
        Span::raw(format!("{} ", context.time(event.time_ns))),
        Span::styled(format!("{:<7}", track.name()), context.theme.track(track)),
        Span::styled(format!("{word:<12}"), style),
    ];
    if event.tainted {
        let comm = event.comm.as_deref().unwrap_or("?");
        let site = call_site(&event.stack).unwrap_or_default();
        let text = format!("order {} {} by {comm} {site}", event.order, event.migratetype);
        spans.push(Span::raw(text));
    }
    Line::from(spans)
}

fn content_name(content: Content) -> &'static str {
    match content {
        Content::Absent => "absent",
        Content::Reserved => "reserved",
        Content::Free => "free",
        Content::Pcp => "per-CPU free",
        Content::Movable => "movable",
        Content::Anon => "anonymous",
        Content::File => "page cache",
        Content::MovableOps => "driver moves",
        Content::Pinned => "pinned",
        Content::Slab => "slab",
        Content::Reclaimable => "reclaimable",
        Content::PageTable => "page tables",
        Content::Kernel => "kernel",
        Content::Hugetlb => "hugetlb",
        Content::Gigantic => "1 GiB hugetlb",
        Content::Isolated => "isolated",
        Content::Offline => "offline",
        Content::Unknown => "unknown",
    }
}
