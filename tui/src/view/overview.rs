//! The answer in ten seconds: figures, map, course over time, culprits.
//!
//! Where room is short, panes leave in the order: who, chart, stock row. The figures and the map
//! stay to the end.

use fragscope_replay::observe::Sample;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::map::Plan;
use super::pane::{centred, frame};
use super::{Context, chart, map, notes, numbers, split_top, who};

/// Screens lower than this have no frames.
const FRAMED_ROWS: u16 = 18;
/// The culprits need this many columns beside the chart.
const WHO_COLUMNS: u16 = 38;
/// Narrower screens show no culprits.
const WHO_SCREEN_COLUMNS: u16 = 110;
/// Rows that the chart grows to before the map gets more.
const CHART_ROWS: u16 = 12;

/// Draws the view.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let Some(sample) = context.state.host().shown() else {
        draw_empty(context, area, buffer);
        return;
    };
    if area.height < FRAMED_ROWS {
        draw_small(context, sample, area, buffer);
    } else {
        draw_framed(context, sample, area, buffer);
    }
}

/// Nothing is known yet: says why.
fn draw_empty(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let nothing = || ("no data in this trace".to_owned(), context.theme.grey());
    let (text, style) = notes::notes(context).into_iter().next().unwrap_or_else(nothing);
    centred(&text, style, area, buffer);
}

/// Figures, a note, and what is left for the map.
fn draw_small(context: Context<'_>, sample: &Sample, area: Rect, buffer: &mut Buffer) {
    // Stale figures must say so: that needs a row before the stock track does.
    let notice = u16::from(context.state.host().phase.is_stale());
    let wanted = numbers::rows(Some(sample)).min((area.height / 2).saturating_sub(notice));
    let (top, rest) = split_top(area, wanted.max(3));
    numbers::draw(context, sample, top, buffer);
    let plan = Plan::new(context, sample, area.width, rest.height.saturating_sub(notice));
    let spare = rest.height.saturating_sub(plan.rows()).clamp(notice, 1);
    let (note, rest) = split_top(rest, spare);
    notes::draw(context, note, buffer);
    plan.draw(context, rest, buffer);
}

fn draw_framed(context: Context<'_>, sample: &Sample, area: Rect, buffer: &mut Buffer) {
    let figures = (numbers::rows(Some(sample)) + 2).min(area.height / 3).max(5);
    let (top, rest) = split_top(area, figures);
    let inner = frame(context, &numbers::title(context, sample), top, buffer);
    numbers::draw(context, sample, pad(inner), buffer);

    let note_rows = if area.height >= 34 { 3 } else { 2 };
    let (note, rest) = split_top(rest, note_rows);
    notes::draw(context, pad(note), buffer);

    let with_chart = rest.height.saturating_sub(chart::ROWS_MIN);
    let most = rest.height.saturating_sub(CHART_ROWS).max(with_chart.min(rest.height / 2)).max(4);
    let plan = Plan::new(context, sample, pad(rest).width.saturating_sub(2), most - 2);
    let map_rows = (plan.rows() + 2).min(most);
    let (middle, bottom) = split_top(rest, map_rows);
    let inner = frame(context, &map::legend(context, plan.per_cell()), middle, buffer);
    plan.draw(context, pad(inner), buffer);
    draw_bottom(context, bottom, buffer);
}

fn draw_bottom(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    if area.height < chart::ROWS_MIN {
        return;
    }
    if area.width < WHO_SCREEN_COLUMNS {
        chart::draw(context, area, buffer);
        return;
    }
    let who_width = WHO_COLUMNS.max(area.width / 3);
    let left = Rect { width: area.width - who_width, ..area };
    let right = Rect { x: left.right(), width: who_width, ..area };
    chart::draw(context, left, buffer);
    who::draw(context, right, buffer);
}

/// A column of space on both sides.
fn pad(area: Rect) -> Rect {
    Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area }
}
