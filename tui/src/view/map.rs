//! The map: every region of every zone, in each track, below each other so that one column is one
//! address.

use fragscope_replay::observe::{Sample, TrackKind, TrackSample};
use fragscope_trace::page::REGION_ORDER;
use fragscope_trace::region::{RegionCensus, RegionState};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::pane::put;
use super::strip::{self, Scale};
use super::theme::{
    ABSENT, EIGHTHS, FREE, Glyph, HUGETLB, MOVABLE, PARTIAL, SPOILED, TAINTED, UNKNOWN,
};
use super::{Context, numbers};
use crate::state::host::tracks_of;

/// More regions than this on a machine are drawn several to a cell.
const EACH_MAX: usize = 200;
/// Columns of a track's name.
const TRACK_WIDTH: u16 = 7;

/// Where everything of the map goes, for one size.
pub struct Plan<'a> {
    zones: Vec<ZonePlan<'a>>,
    label_width: u16,
    cells_width: u16,
    /// A row of addresses above each zone.
    ruler: bool,
}

struct ZonePlan<'a> {
    label: String,
    /// Position of its first region in the tracks' lists.
    first: usize,
    scale: Scale,
    /// Regions of the zone in each track shown.
    tracks: Vec<(&'a TrackSample, &'a [RegionCensus])>,
}

/// A line of the map: some regions of a zone, in one track, or their addresses.
struct MapLine<'p, 'a> {
    zone: &'p ZonePlan<'a>,
    range: std::ops::Range<usize>,
    /// Position in the zone's tracks; `None` for the addresses.
    track: Option<usize>,
}

impl ZonePlan<'_> {
    fn regions(&self) -> usize {
        self.tracks.first().map_or(0, |t| t.1.len())
    }
}

impl<'a> Plan<'a> {
    /// Lays the map out in `width` columns and, if it can be, `height` rows. What gives way:
    /// addresses, then the stock track, then single regions.
    #[must_use]
    pub fn new(context: Context<'_>, sample: &'a Sample, width: u16, height: u16) -> Plan<'a> {
        let tracks: Vec<&TrackSample> =
            tracks_of(sample, context.state.ui.start).map(|(_, t)| t).collect();
        let without_stock: Vec<&TrackSample> =
            tracks.iter().copied().filter(|t| t.kind != TrackKind::Stock).collect();
        let attempts: [(&[&TrackSample], bool, bool); 5] = [
            (&tracks, true, false),
            (&tracks, false, false),
            (&without_stock, false, false),
            (&tracks, false, true),
            (&without_stock, false, true),
        ];
        let mut plan = Plan::with(context, &tracks, width, false, true);
        for (tracks, ruler, dense) in attempts {
            plan = Plan::with(context, tracks, width, ruler, dense);
            if plan.rows() <= height {
                break;
            }
        }
        plan
    }

    fn with(
        context: Context<'_>,
        tracks: &[&'a TrackSample],
        width: u16,
        ruler: bool,
        dense: bool,
    ) -> Plan<'a> {
        let label_width = if width < 60 { 9 } else { 14 };
        let cells_width = width.saturating_sub(label_width + TRACK_WIDTH + 1).max(1);
        let mut zones = Vec::new();
        let Some(all) = tracks.first() else {
            return Plan { zones, label_width, cells_width, ruler };
        };
        let zone_count = context.state.host().machine.as_ref().map_or(0, |m| m.zones.len());
        for zone in 0..zone_count {
            let of = |t: &&'a TrackSample| (*t, regions_of_zone(&t.regions, zone));
            let tracks: Vec<_> = tracks.iter().map(of).collect();
            if !tracks.iter().any(|(_, regions)| has_whole(regions)) {
                continue;
            }
            let regions = tracks.first().map_or(0, |t| t.1.len());
            let scale = if dense || all.regions.len() > EACH_MAX {
                Scale::one_row(regions, cells_width)
            } else {
                Scale::each(regions, cells_width)
            };
            let label = label(context, zone, width);
            zones.push(ZonePlan { label, first: first_of_zone(&all.regions, zone), scale, tracks });
        }
        Plan { zones, label_width, cells_width, ruler }
    }

    /// Rows that it takes.
    #[must_use]
    pub fn rows(&self) -> u16 {
        let ruler = usize::from(self.ruler);
        let rows = |z: &ZonePlan<'_>| {
            z.scale.rows(z.regions(), self.cells_width) * (z.tracks.len() + ruler)
        };
        self.zones.iter().map(rows).sum::<usize>().min(usize::from(u16::MAX)) as u16
    }

    /// Regions in its densest cells.
    #[must_use]
    pub fn per_cell(&self) -> usize {
        let of = |z: &ZonePlan<'_>| match z.scale {
            Scale::Each { .. } => 1,
            Scale::Density { regions } => regions,
        };
        self.zones.iter().map(of).max().unwrap_or(1)
    }

    /// Draws it, and says what does not fit.
    pub fn draw(&self, context: Context<'_>, area: Rect, buffer: &mut Buffer) {
        for (y, line) in (area.y..area.bottom()).zip(self.lines()) {
            self.draw_line(context, &line, area, y, buffer);
        }
        let missing = (self.rows() + area.y).saturating_sub(area.bottom());
        if missing > 0 && area.height > 0 {
            let text = format!("{} {} more rows", context.theme.ellipsis(), missing + 1);
            let last = Rect { y: area.bottom() - 1, height: 1, ..area };
            buffer.set_style(last, Style::reset());
            let width = usize::from(area.width);
            put(buffer, last, &Line::styled(format!("{text:width$}"), context.theme.notable()));
        }
    }

    /// All lines, from above: what the screen shows and what a click means.
    fn lines(&self) -> impl Iterator<Item = MapLine<'_, 'a>> {
        self.zones.iter().flat_map(move |zone| {
            let per_row = zone.scale.per_row(self.cells_width);
            let rows = zone.scale.rows(zone.regions(), self.cells_width);
            (0..rows).flat_map(move |row| {
                let range = row * per_row..((row + 1) * per_row).min(zone.regions());
                let ruler = self.ruler.then_some(None);
                let tracks = (0..zone.tracks.len()).map(Some);
                ruler.into_iter().chain(tracks).map(move |track| MapLine {
                    zone,
                    range: range.clone(),
                    track,
                })
            })
        })
    }

    /// Position in the tracks' lists of the region under a place of the screen, of the first one
    /// where a cell has several.
    #[must_use]
    pub fn region_at(&self, area: Rect, at: Position) -> Option<usize> {
        let cells_x = area.x + self.label_width + TRACK_WIDTH + 1;
        let column = at.x.checked_sub(cells_x).filter(|_| area.contains(at))?;
        let line = self.lines().nth(usize::from(at.y - area.y))?;
        let index = match line.zone.scale {
            Scale::Each { stride } => usize::from(column / stride),
            Scale::Density { regions } => usize::from(column) * regions,
        };
        let index = line.range.start + index;
        (index < line.range.end).then_some(line.zone.first + index)
    }

    fn draw_line(
        &self,
        context: Context<'_>,
        line: &MapLine<'_, '_>,
        area: Rect,
        y: u16,
        buffer: &mut Buffer,
    ) {
        let cells_x = area.x + self.label_width + TRACK_WIDTH + 1;
        let Some(i) = line.track else {
            self.draw_ruler(context, line.zone, line.range.clone(), (cells_x, y), buffer);
            return;
        };
        let (track, regions) = line.zone.tracks[i];
        if i == 0 && line.range.start == 0 {
            let width = usize::from(self.label_width);
            buffer.set_stringn(area.x, y, &line.zone.label, width, Style::new());
        }
        let name = numbers::name(track, true);
        let style = context.theme.track(track.kind);
        let width = usize::from(TRACK_WIDTH);
        buffer.set_stringn(area.x + self.label_width, y, name, width, style);
        let at = (cells_x, y, self.cells_width);
        strip::draw(context.theme, &regions[line.range.clone()], line.zone.scale, at, buffer);
    }

    /// Addresses in GiB above the columns of a row.
    fn draw_ruler(
        &self,
        context: Context<'_>,
        zone: &ZonePlan<'_>,
        range: std::ops::Range<usize>,
        (x, y): (u16, u16),
        buffer: &mut Buffer,
    ) {
        let Some((_, regions)) = zone.tracks.first() else {
            return;
        };
        let mut free_from = 0;
        for (i, region) in regions[range].iter().enumerate() {
            let gib = region.start.0 >> REGION_ORDER;
            let column = match zone.scale {
                Scale::Each { stride } => i as u16 * stride,
                Scale::Density { regions } => (i / regions) as u16,
            };
            if (i > 0 && !gib.is_multiple_of(4)) || column < free_from {
                continue;
            }
            let text = if i == 0 { format!("{gib} GiB") } else { gib.to_string() };
            if column + text.len() as u16 <= self.cells_width {
                buffer.set_string(x + column, y, &text, context.theme.grey());
                free_from = column + text.len() as u16 + 2;
            }
        }
    }
}

fn first_of_zone(regions: &[RegionCensus], zone: usize) -> usize {
    regions.partition_point(|r| usize::from(r.zone) < zone)
}

fn regions_of_zone(regions: &[RegionCensus], zone: usize) -> &[RegionCensus] {
    let from = first_of_zone(regions, zone);
    let to = regions.partition_point(|r| usize::from(r.zone) <= zone);
    &regions[from..to]
}

fn has_whole(regions: &[RegionCensus]) -> bool {
    let clipped =
        |r: &RegionCensus| matches!(r.state(), RegionState::Absent | RegionState::Partial);
    !regions.iter().all(clipped)
}

fn label(context: Context<'_>, zone: usize, width: u16) -> String {
    let zone = context.state.host().machine.as_ref().and_then(|m| m.zones.get(zone));
    zone.map_or_else(String::new, |z| match width {
        0..60 => format!("{} {}", z.node, z.kind.name()),
        _ => z.label(),
    })
}

/// What the cells mean, for the pane's title; the most needed first. `per_cell` is the number of
/// regions in the densest cells of the map, 1 where each region has its own.
#[must_use]
pub fn legend(context: Context<'_>, per_cell: usize) -> Line<'static> {
    let theme = context.theme;
    let glyphs = |of: &[Glyph]| of.iter().map(|g| theme.char(*g)).collect::<String>();
    let mut spans = vec![Span::styled("1 GiB regions", theme.strong())];
    if per_cell > 1 {
        spans.push(Span::raw(format!(", {per_cell} to a cell  ")));
        spans.push(Span::styled(glyphs(&[EIGHTHS[0], EIGHTHS[7]]), theme.movable()));
        spans.push(Span::raw(" share to be had"));
    }
    let items: [(&[Glyph], Style, &str); 7] = [
        (&[FREE], theme.free(), "free"),
        (&MOVABLE, theme.movable(), "movable, by fill"),
        (&[TAINTED], theme.tainted(), "tainted"),
        (&[SPOILED], theme.tainted(), "by one block"),
        (&[PARTIAL, ABSENT], theme.grey(), "partial, absent"),
        (&[UNKNOWN], theme.notable(), "unknown"),
        (&[HUGETLB], theme.grey(), "hugetlb"),
    ];
    for (of, style, word) in items {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(glyphs(of), style));
        spans.push(Span::raw(format!(" {word}")));
    }
    Line::from(spans)
}
