//! One row of a map: the regions of a zone in one track, each a cell, or several to a cell.

use fragscope_trace::region::{RegionCensus, RegionState};
use ratatui::buffer::Buffer;
use ratatui::style::Style;

use super::theme::{EIGHTHS, Glyph, TAINTED, Theme};

/// How regions are laid out in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// One region every so many columns, in one row or several.
    Each {
        /// Columns from one region to the next: 1, 2 or 3.
        stride: u16,
    },
    /// So many regions in one column.
    Density {
        /// At least 2.
        regions: usize,
    },
}

impl Scale {
    /// One region to a cell, as wide as one row of `width` columns allows; where that is not
    /// enough, in several rows.
    #[must_use]
    pub fn each(regions: usize, width: u16) -> Scale {
        let fits = |stride: &u16| regions <= usize::from(width / stride);
        Scale::Each { stride: [3, 2].into_iter().find(fits).unwrap_or(1) }
    }

    /// One row of `width` columns, whatever the number of regions.
    #[must_use]
    pub fn one_row(regions: usize, width: u16) -> Scale {
        let columns = usize::from(width).max(1);
        match regions.div_ceil(columns) {
            0 | 1 => Scale::each(regions, width),
            regions => Scale::Density { regions },
        }
    }

    /// Regions in a row of `width` columns.
    #[must_use]
    pub fn per_row(self, width: u16) -> usize {
        match self {
            Scale::Each { stride } => usize::from(width / stride).max(1),
            Scale::Density { regions } => regions * usize::from(width).max(1),
        }
    }

    /// Rows that so many regions take.
    #[must_use]
    pub fn rows(self, regions: usize, width: u16) -> usize {
        regions.div_ceil(self.per_row(width)).max(1)
    }
}

/// Draws a row of regions from the column `x` on.
pub fn draw(
    theme: Theme,
    regions: &[RegionCensus],
    scale: Scale,
    (x, y, width): (u16, u16, u16),
    buffer: &mut Buffer,
) {
    let mut put = |column: u16, (glyph, style): (Glyph, Style)| {
        if column < width
            && let Some(cell) = buffer.cell_mut((x + column, y))
        {
            cell.set_char(theme.char(glyph)).set_style(style);
        }
    };
    match scale {
        Scale::Each { stride } => {
            // Two of three columns, so that neighbours stay apart.
            let cells = if stride == 3 { 2 } else { 1 };
            for (i, region) in regions.iter().enumerate() {
                let drawn = theme.region(region);
                (0..cells).for_each(|extra| put(i as u16 * stride + extra, drawn));
            }
        }
        Scale::Density { regions: per_cell } => {
            for (i, chunk) in regions.chunks(per_cell).enumerate() {
                put(i as u16, density(theme, chunk));
            }
        }
    }
}

/// Several regions as one cell: the share that is obtainable as a height, green where all of
/// those are free; the state of the others where none is.
fn density(theme: Theme, regions: &[RegionCensus]) -> (Glyph, Style) {
    let count = |state| regions.iter().filter(|r| r.state() == state).count();
    let (free, movable) = (count(RegionState::Free), count(RegionState::Evacuable));
    let whole = regions.len() - count(RegionState::Absent) - count(RegionState::Partial);
    if free + movable > 0 {
        let eighth = ((free + movable) * 8).div_ceil(whole).clamp(1, 8);
        let style = if movable == 0 { theme.free() } else { theme.movable() };
        return (EIGHTHS[eighth - 1], style);
    }
    if count(RegionState::Tainted) > 0 {
        return (TAINTED, theme.tainted());
    }
    let rest = regions.iter().map(RegionCensus::state).max().unwrap_or(RegionState::Absent);
    theme.state(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_get_the_width_there_is() {
        let each = |regions| Scale::each(regions, 60);
        assert_eq!(each(20), Scale::Each { stride: 3 });
        assert_eq!(each(30), Scale::Each { stride: 2 });
        assert_eq!(each(61), Scale::Each { stride: 1 });
        assert_eq!(each(61).rows(61, 60), 2);
        assert_eq!(Scale::one_row(60, 60), Scale::Each { stride: 1 });
        assert_eq!(Scale::one_row(61, 60), Scale::Density { regions: 2 });
        assert_eq!(Scale::one_row(4096, 60), Scale::Density { regions: 69 });
    }

    #[test]
    fn one_row_holds_every_region() {
        for width in 1..80 {
            for regions in 0..300 {
                let scale = Scale::one_row(regions, width);
                assert_eq!(scale.rows(regions, width), 1, "{regions} in {width}");
            }
        }
    }
}
