//! The answer in ten seconds: figures, map, course over time, culprits.
//!
//! Where room is short, panes leave in the order: who, chart, stock row. The figures and the map
//! stay to the end.

use fragscope_replay::observe::Sample;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::map::Plan;
use super::pane::{self, centred, frame};
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
    Layout::new(context, sample, area).draw(context, sample, buffer);
}

/// Nothing is known yet: says why.
fn draw_empty(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let nothing = || ("no data in this trace".to_owned(), context.theme.grey());
    let (text, style) = notes::notes(context).into_iter().next().unwrap_or_else(nothing);
    centred(&text, style, area, buffer);
}

/// Where everything goes, for one size.
pub struct Layout<'a> {
    framed: bool,
    figures: Rect,
    note: Rect,
    /// With its frame.
    map_pane: Rect,
    /// The map itself.
    pub map: (Rect, Plan<'a>),
    /// The chart with its frame, where it has room.
    pub chart: Option<Rect>,
    who: Option<Rect>,
}

impl<'a> Layout<'a> {
    /// Lays out the view.
    #[must_use]
    pub fn new(context: Context<'_>, sample: &'a Sample, area: Rect) -> Layout<'a> {
        if area.height < FRAMED_ROWS {
            Layout::small(context, sample, area)
        } else {
            Layout::framed(context, sample, area)
        }
    }

    /// Figures, a note, and what is left for the map.
    fn small(context: Context<'_>, sample: &'a Sample, area: Rect) -> Layout<'a> {
        // Stale figures must say so: that needs a row before the stock track does.
        let notice = u16::from(context.state.host().is_stale());
        let wanted = numbers::rows(Some(sample)).min((area.height / 2).saturating_sub(notice));
        let (figures, rest) = split_top(area, wanted.max(3));
        let plan = Plan::new(context, sample, area.width, rest.height.saturating_sub(notice));
        let spare = rest.height.saturating_sub(plan.rows()).clamp(notice, 1);
        let (note, rest) = split_top(rest, spare);
        let map = (rest, plan);
        Layout { framed: false, figures, note, map_pane: rest, map, chart: None, who: None }
    }

    fn framed(context: Context<'_>, sample: &'a Sample, area: Rect) -> Layout<'a> {
        let figure_rows = (numbers::rows(Some(sample)) + 2).min(area.height / 3).max(5);
        let (figures, rest) = split_top(area, figure_rows);
        let note_rows = if area.height >= 34 { 3 } else { 2 };
        let (note, rest) = split_top(rest, note_rows);
        let with_chart = rest.height.saturating_sub(chart::ROWS_MIN);
        let most =
            rest.height.saturating_sub(CHART_ROWS).max(with_chart.min(rest.height / 2)).max(4);
        let plan = Plan::new(context, sample, pad(rest).width.saturating_sub(2), most - 2);
        let (map_pane, bottom) = split_top(rest, (plan.rows() + 2).min(most));
        let map = (pad(pane::inside(map_pane)), plan);
        let (chart, who) = bottom_panes(bottom);
        Layout { framed: true, figures, note: pad(note), map_pane, map, chart, who }
    }

    fn draw(&self, context: Context<'_>, sample: &Sample, buffer: &mut Buffer) {
        let mut figures = self.figures;
        if self.framed {
            figures = pad(frame(context, &numbers::title(context, sample), figures, buffer));
            let legend = map::legend(context, self.map.1.per_cell());
            frame(context, &legend, self.map_pane, buffer);
        }
        numbers::draw(context, sample, figures, buffer);
        notes::draw(context, self.note, buffer);
        self.map.1.draw(context, self.map.0, buffer);
        if let Some(area) = self.chart {
            chart::draw(context, area, buffer);
        }
        if let Some(area) = self.who {
            who::draw(context, area, buffer);
        }
    }
}

/// The chart, and the culprits beside it.
fn bottom_panes(area: Rect) -> (Option<Rect>, Option<Rect>) {
    if area.height < chart::ROWS_MIN {
        return (None, None);
    }
    if area.width < WHO_SCREEN_COLUMNS {
        return (Some(area), None);
    }
    let who_width = WHO_COLUMNS.max(area.width / 3);
    let left = Rect { width: area.width - who_width, ..area };
    (Some(left), Some(Rect { x: left.right(), width: who_width, ..area }))
}

/// A column of space on both sides.
fn pad(area: Rect) -> Rect {
    Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area }
}
