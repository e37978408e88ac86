//! Who tainted regions: culprits as a list, and the selected one in detail.

use fragscope_replay::observe::{Placement, TaintEvent, TrackKind};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::pane::{centred, frame, put_all};
use super::regions::title;
use super::table::{self, Cell, Column};
use super::{Context, numbers, split_top};
use crate::format::{count, span};
use crate::state::blame::Culprit;
use crate::state::rows::{self, BLAME_SORTS};
use crate::state::ui::{ViewId, ZOOMS};

const COLUMNS: [Column; 7] = [
    Column::number("kernel", 6, 0),
    Column::number("stock", 5, 3),
    Column::number("spb", 5, 1),
    Column::number("regions", 7, 4),
    Column::text("process", 15, 0),
    Column::text("call site", 10, 0).growing(),
    Column::text("last", 19, 2),
];

/// Screens with fewer rows show no detail of the selected culprit.
const DETAIL_SCREEN_ROWS: u16 = 16;
/// Rows of the detail.
const DETAIL_ROWS: u16 = 14;

/// Draws the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let state = context.state;
    let list = state.ui.list(ViewId::Blame);
    let mut title = title(context, "who turned regions tainted", BLAME_SORTS[list.sort]);
    let when = ZOOMS[state.ui.zoom]
        .map_or("since the beginning".to_owned(), |s| format!("in the last {}", span(s as f64)));
    title.spans.insert(1, Span::raw(format!(", {when}")));
    let culprits = rows::blame(state.host(), state.ui.zoom, list);
    let detail = if culprits.is_empty() { 0 } else { detail_rows(area) };
    let (top, bottom) = split_top(area, area.height - detail);
    let inner = frame(context, &title, top, buffer);
    if culprits.is_empty() {
        centred(&empty(context), context.theme.grey(), inner, buffer);
    } else {
        let cells = |i: usize| cells(context, &culprits[i]);
        table::draw(context, &COLUMNS, list, culprits.len(), cells, inner, buffer);
    }
    if detail > 0 {
        let selected = culprits.get(list.selected.min(culprits.len().saturating_sub(1)));
        draw_detail(context, selected, bottom, buffer);
    }
}

/// Rows that the detail of the selected culprit takes from the view, if anybody is to blame.
#[must_use]
pub fn detail_rows(area: Rect) -> u16 {
    if area.height >= DETAIL_SCREEN_ROWS { DETAIL_ROWS.min(area.height / 2) } else { 0 }
}

/// What the list says while nobody is to blame.
pub fn empty(context: Context<'_>) -> String {
    let host = context.state.host();
    let (Some(_), Some(first)) = (host.shown(), host.history.oldest()) else {
        return "no data yet".to_owned();
    };
    if host.taints.iter().any(|e| e.tainted && e.track == TrackKind::Kernel) {
        return "no region turned tainted in this time (- shows more time, esc clears a filter)"
            .to_owned();
    }
    let tainted = first.tracks.first().map_or(0, |t| t.totals.tainted_1g.min);
    format!(
        "no region turned tainted while it was watched; {tainted} were before, and who did that \
         no trace can tell"
    )
}

fn cells(context: Context<'_>, culprit: &Culprit<'_>) -> Vec<Cell> {
    let plain = |text: String| (text, Style::new());
    let [kernel, stock, spb] = culprit.taints;
    vec![
        (kernel.to_string(), context.theme.tainted()),
        plain(stock.to_string()),
        plain(spb.to_string()),
        plain(culprit.regions.len().to_string()),
        plain(culprit.cause.comm.to_owned()),
        plain(culprit.cause.site.to_owned()),
        plain(context.time(culprit.last.time_ns)),
    ]
}

/// The last event of a culprit: request, place, stack.
fn draw_detail(
    context: Context<'_>,
    culprit: Option<&Culprit<'_>>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let title = Line::styled("last time", context.theme.strong());
    let inner = frame(context, &title, area, buffer);
    let Some(culprit) = culprit else {
        return;
    };
    let event = culprit.last;
    let request = format!(
        "{}  order {}  {}  pfn {}  region at {} GiB  in the {} track",
        context.time(event.time_ns),
        event.order,
        event.migratetype,
        event.pfn,
        event.region_start.region(),
        event.track.name(),
    );
    let mut lines = vec![Line::raw(request), Line::raw(gfp_names(event.gfp.bits(), event))];
    lines.push(Line::raw(made_by(event)));
    lines.extend(lifetime_of(context, event).map(Line::raw));
    lines.extend(event.placements.iter().map(|p| placement_line(context, event, p)));
    lines.push(stack_line(context, &event.stack));
    let rest = event.stack.iter().skip(1).map(|f| Line::raw(format!("  {f}")));
    put_all(buffer, inner, lines.into_iter().chain(rest));
}

/// The process and its cgroup.
fn made_by(event: &TaintEvent) -> String {
    let comm = event.comm.as_deref().unwrap_or("not recorded");
    match event.pid {
        0 => format!("by {comm}"),
        pid => format!("by {comm}, pid {pid}, cgroup {}", cgroup(event)),
    }
}

/// How long its page stood in the way, which only the kernel's track tells.
fn lifetime_of(context: Context<'_>, event: &TaintEvent) -> Option<String> {
    if event.track != TrackKind::Kernel {
        return None;
    }
    let host = context.state.host();
    let lived = |to: u64| lifetime(to.saturating_sub(event.time_ns));
    let now = host.shown().map_or(event.time_ns, |s| s.time_ns);
    Some(match host.released.get(&(event.time_ns, event.pfn)).filter(|to| **to <= now) {
        Some(to) => format!("its page stood in the way for {}", lived(*to)),
        None => format!("its page still stands in the way after {}", lived(now)),
    })
}

/// Its path; its id where no path was recorded.
fn cgroup(event: &TaintEvent) -> String {
    match &event.cgroup_path {
        Some(path) => path.clone(),
        None => format!("id {}", event.cgroup),
    }
}

/// From microseconds to days.
fn lifetime(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} us", ns / 1000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => span(ns as f64 / 1e9),
    }
}

/// Where a policy put the same allocation, and what that did.
fn placement_line(
    context: Context<'_>,
    event: &TaintEvent,
    placement: &Placement,
) -> Line<'static> {
    let name = numbers::track_name(placement.track, placement.start, false);
    let text = match (placement.region_start, placement.others_pages) {
        (None, _) => "did not place it".to_owned(),
        (Some(start), 0) => {
            let same = if start == event.region_start { "the same region" } else { "a region" };
            format!("put it at {} GiB: {same}, until then clean", start.region())
        }
        (Some(start), others) => format!(
            "put it at {} GiB, beside {} other pages that cannot move",
            start.region(),
            count(others)
        ),
    };
    Line::from(vec![
        Span::styled(format!("{name:<15} "), context.theme.track(placement.track)),
        Span::raw(text),
    ])
}

fn stack_line(context: Context<'_>, stack: &[String]) -> Line<'static> {
    match stack.first() {
        Some(frame) => Line::raw(format!("  {frame}")),
        None => Line::styled("no kernel stack was recorded for it", context.theme.grey()),
    }
}

/// Flags by name.
fn gfp_names(bits: u32, event: &TaintEvent) -> String {
    let names: Vec<&str> = event.gfp.iter_names().map(|(name, _)| name).collect();
    match names.len() {
        0 => format!("gfp {bits:#x}"),
        _ => format!("gfp {}", names.join("|")),
    }
}
