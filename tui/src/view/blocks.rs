//! The pageblocks of one region: a grid for each track, and what they add up to.

use std::collections::BTreeMap;

use fragscope_replay::observe::{BlockCensus, StartState, TrackKind};
use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Content, Migratetype};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::pane::put;
use super::theme::{ABSENT, FREE, Glyph, MOVABLE, PARTIAL, SPOILED, TAINTED, Theme, UNKNOWN};
use super::{Context, numbers};
use crate::state::blocks::BlocksAt;
use crate::state::host::Host;
use crate::state::rows::RegionRow;

/// Columns between the grids of two tracks.
const GAP: u16 = 2;
/// Fewer rows than this, heading included, show no grid.
pub const ROWS_MIN: u16 = 4;

/// The pageblocks of one track.
pub struct TrackBlocks {
    /// Whose.
    pub kind: TrackKind,
    /// What that track began with.
    pub start: StartState,
    /// The time that they are known of, where not each change up to the one shown is.
    as_of: Option<TimeNs>,
    blocks: Vec<(u32, BlockCensus)>,
}

/// The pageblocks of a region in these tracks, as far as they are known.
#[must_use]
pub fn of_region(context: Context<'_>, row: &RegionRow<'_>, tracks: &[usize]) -> Vec<TrackBlocks> {
    let host = context.state.host();
    let (Some(machine), Some(sample)) = (&host.machine, host.shown()) else {
        return Vec::new();
    };
    let of = |track: &usize| {
        let region = row.tracks[*track]?;
        let first = region.start.0 >> machine.pageblock_order;
        let end = (region.start.0 + region.span_pages).div_ceil(1 << machine.pageblock_order);
        let kind = TrackKind::ALL[*track];
        let start = start_of(host, kind, context.state.ui.start);
        let found = host.blocks.at((kind, start), sample.time_ns, first as u32..end as u32);
        let BlocksAt { blocks, as_of } = found;
        (!blocks.is_empty()).then_some(TrackBlocks { kind, start, as_of, blocks })
    };
    tracks.iter().filter_map(of).collect()
}

/// The start state that is shown for a track: the one wanted, where it is replayed.
fn start_of(host: &Host, kind: TrackKind, wanted: StartState) -> StartState {
    let has = |s: &std::sync::Arc<fragscope_replay::observe::Sample>| {
        s.tracks.iter().any(|t| t.kind == kind && t.start == wanted)
    };
    if host.shown().is_some_and(has) { wanted } else { StartState::AsFound }
}

impl TrackBlocks {
    /// Pageblocks by type, the most first: `movable 480, unmovable 32`.
    #[must_use]
    pub fn types(&self) -> String {
        let mut counts: Vec<(usize, &'static str)> = Migratetype::ALL
            .into_iter()
            .map(|t| {
                let is_it = |(_, c): &&(u32, BlockCensus)| c.migratetype == Some(t);
                (self.blocks.iter().filter(is_it).count(), t.name())
            })
            .filter(|(count, _)| *count > 0)
            .collect();
        counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let words: Vec<String> = counts.iter().map(|(n, name)| format!("{n} {name}")).collect();
        words.join(", ")
    }

    /// Free blocks by order, for each type that has any.
    #[must_use]
    pub fn free_lists(&self) -> Vec<(Option<Migratetype>, [u64; 10])> {
        let mut lists = BTreeMap::new();
        for (_, census) in self.blocks.iter().filter(|(_, c)| c.free_blocks.pages() > 0) {
            let index = census.migratetype.map(Migratetype::index);
            let blocks = lists.entry(index).or_insert([0; 10]);
            for (order, count) in (0..).zip(blocks) {
                *count += census.free_blocks.of_order(order);
            }
        }
        let named = |(index, blocks): (Option<usize>, [u64; 10])| {
            (index.and_then(Migratetype::from_index), blocks)
        };
        lists.into_iter().map(named).collect()
    }

    /// What spoils the region: `1 block, 2 slab pages at +17`.
    #[must_use]
    pub fn spoilers(&self) -> String {
        let first = self.blocks.first().map_or(0, |(block, _)| *block);
        let spoiling = self.blocks.iter().filter(|(_, c)| c.tainting_pages > 0);
        let pages = |c: &BlockCensus| c.tainting_pages;
        let Some((worst, census)) = spoiling.clone().max_by_key(|(_, c)| pages(c)) else {
            return "no block".to_owned();
        };
        let what = if census.content.taints() { content_word(census.content) } else { "such" };
        match spoiling.count() {
            1 => format!("1 block (+{}): {} {what}", worst - first, census.tainting_pages),
            n => format!("{n}, worst +{}: {} {what}", worst - first, census.tainting_pages),
        }
    }
}

fn content_word(content: Content) -> &'static str {
    match content {
        Content::Slab => "slab",
        Content::PageTable => "page tables",
        Content::Pinned => "pinned",
        Content::Reclaimable => "reclaimable",
        _ => "kernel",
    }
}

/// How the grids are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Cells in a row of one grid.
    columns: u16,
    /// Pageblocks in a cell.
    per_cell: u32,
}

/// As wide as there is room for; several pageblocks to a cell where there are too few rows.
fn layout(blocks: u32, tracks: u16, width: u16, rows: u16) -> Layout {
    let room = (width + GAP) / tracks.max(1);
    let columns = [64u16, 32, 16, 8].into_iter().find(|c| c + GAP <= room).unwrap_or(4);
    let mut per_cell = 1;
    while blocks.div_ceil(per_cell * u32::from(columns)) > u32::from(rows.max(1)) {
        per_cell *= 2;
    }
    Layout { columns, per_cell }
}

/// Rows that the grids want, headings included.
#[must_use]
pub fn rows(tracks: &[TrackBlocks], width: u16) -> u16 {
    let most = tracks.iter().map(|t| t.blocks.len()).max().unwrap_or(0) as u32;
    let layout = layout(most, tracks.len() as u16, width, u16::MAX);
    2 + most.div_ceil(u32::from(layout.columns)) as u16
}

/// Draws the grids beside each other under a heading.
pub fn draw(context: Context<'_>, tracks: &[TrackBlocks], area: Rect, buffer: &mut Buffer) {
    let Some(most) = tracks.iter().map(|t| t.blocks.len()).max() else {
        return;
    };
    if area.height < ROWS_MIN {
        return;
    }
    let layout = layout(most as u32, tracks.len() as u16, area.width, area.height - 2);
    let as_of = tracks.iter().filter_map(|track| track.as_of).min();
    put(buffer, area, &heading(context, layout, as_of));
    for (i, track) in tracks.iter().enumerate() {
        let x = area.x + i as u16 * (layout.columns + GAP);
        let name = numbers::track_name(track.kind, track.start, false);
        let style = context.theme.track(track.kind);
        buffer.set_stringn(x, area.y + 1, name, usize::from(layout.columns), style);
        let cells = track.blocks.chunks(layout.per_cell as usize);
        for (at, cell) in cells.enumerate() {
            let column = at as u16 % layout.columns;
            let row = at as u16 / layout.columns;
            let (glyph, style) = worst(context.theme, cell);
            if let Some(cell) = buffer.cell_mut((x + column, area.y + 2 + row))
                && area.y + 2 + row < area.bottom()
            {
                cell.set_char(context.theme.char(glyph)).set_style(style);
            }
        }
    }
}

fn heading(context: Context<'_>, layout: Layout, as_of: Option<TimeNs>) -> Line<'static> {
    let theme = context.theme;
    let glyphs = |of: &[Glyph]| of.iter().map(|g| theme.char(*g)).collect::<String>();
    let each = match layout.per_cell {
        1 => "pageblocks by address".to_owned(),
        n => format!("pageblocks by address, {n} to a cell (the worst shows)"),
    };
    let known = as_of.map(|time_ns| format!(", as of {}", context.time(time_ns)));
    Line::from(vec![
        Span::styled(each, theme.strong()),
        Span::styled(known.unwrap_or_default(), theme.notable()),
        Span::styled(format!("  {}", glyphs(&[FREE])), theme.free()),
        Span::raw(" free"),
        Span::styled(format!("  {}", glyphs(&MOVABLE)), theme.movable()),
        Span::raw(" movable"),
        Span::styled(format!("  {}", glyphs(&[SPOILED])), theme.tainted()),
        Span::raw(" some cannot move"),
        Span::styled(format!("  {}", glyphs(&[TAINTED])), theme.tainted()),
        Span::raw(" half or more"),
    ])
}

/// Glyph and style of the pageblock that stands most in the way.
fn worst(theme: Theme, blocks: &[(u32, BlockCensus)]) -> (Glyph, Style) {
    let grave = |c: &BlockCensus| (c.tainting_pages, c.movable_pages);
    let worst = blocks.iter().map(|(_, c)| c).max_by_key(|c| grave(c));
    worst.map_or((ABSENT, theme.grey()), |census| of_block(theme, census))
}

fn of_block(theme: Theme, census: &BlockCensus) -> (Glyph, Style) {
    let counted = census.free_pages + census.movable_pages + census.tainting_pages;
    if census.tainting_pages > 0 {
        let half = census.tainting_pages >= counted / 2;
        return (if half { TAINTED } else { SPOILED }, theme.tainted());
    }
    match census.content {
        Content::Unknown => (UNKNOWN, theme.notable()),
        Content::Absent | Content::Offline => (ABSENT, theme.grey()),
        _ if census.movable_pages > 0 => {
            let third = u32::from(census.movable_pages) * 3 / u32::from(counted.max(1));
            (MOVABLE[third.min(2) as usize], theme.movable())
        }
        Content::Free => (FREE, theme.free()),
        _ => (PARTIAL, theme.grey()),
    }
}

#[cfg(test)]
mod tests {
    use fragscope_replay::observe::FreeBlocks;

    use super::*;

    #[test]
    fn grids_fit_where_they_are_put() {
        for width in 20..220 {
            for rows in 2..40 {
                for tracks in 1..=3 {
                    let layout = layout(512, tracks, width, rows);
                    let cells = 512u32.div_ceil(layout.per_cell);
                    assert!(cells.div_ceil(layout.columns.into()) <= rows.into());
                    let wide = tracks * (layout.columns + GAP) - GAP;
                    assert!(wide <= width || layout.columns == 4, "{wide} in {width}");
                }
            }
        }
        assert_eq!(layout(512, 3, 118, 16), Layout { columns: 32, per_cell: 1 });
        assert_eq!(layout(512, 3, 198, 8), Layout { columns: 64, per_cell: 1 });
    }

    #[test]
    fn one_page_that_cannot_move_is_never_hidden() {
        let theme = Theme::default();
        let block = |tainting: u16| {
            let pages = [(Content::Slab, tainting), (Content::Anon, 512 - tainting)];
            (0, BlockCensus::new(None, pages, FreeBlocks::default()))
        };
        assert_eq!(worst(theme, &[block(0), block(1)]).0, SPOILED);
        assert_eq!(worst(theme, &[block(300), block(1)]).0, TAINTED);
        assert_eq!(worst(theme, &[block(0)]).0, MOVABLE[2]);
    }
}
