//! Colours and glyphs. Colour means one thing everywhere, and never alone: each state has its
//! glyph too, so that nothing is lost without colour or beyond ASCII.
//!
//! Green: obtainable now. Blue: obtainable by moving pages. Red: tainted. Grey: not ours.

use fragscope_replay::observe::TrackKind;
use fragscope_trace::page::REGION_PAGES;
use fragscope_trace::region::{RegionCensus, RegionState};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Whether colours are used.
    pub colour: bool,
    /// Whether only ASCII characters are used.
    pub ascii: bool,
    /// The colours, where they are used.
    pub palette: Palette,
}

impl Default for Theme {
    fn default() -> Theme {
        Theme { colour: true, ascii: false, palette: Palette::default() }
    }
}

/// A colour for each meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Obtainable now.
    pub free: Color,
    /// Obtainable by moving.
    pub movable: Color,
    /// Tainted, and what is wrong.
    pub tainted: Color,
    /// Uncertain, or to be noticed.
    pub notable: Color,
    /// Not ours, and text of less weight.
    pub grey: Color,
    /// The kernel's track.
    pub kernel: Color,
    /// The stock track.
    pub stock: Color,
    /// The superpageblock track.
    pub spb: Color,
}

impl Default for Palette {
    fn default() -> Palette {
        Palette {
            free: Color::Green,
            movable: Color::Blue,
            tainted: Color::Red,
            notable: Color::Yellow,
            grey: Color::DarkGray,
            kernel: Color::White,
            stock: Color::Yellow,
            spb: Color::Cyan,
        }
    }
}

/// A character in both alphabets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyph {
    full: char,
    ascii: char,
}

const fn glyph(full: char, ascii: char) -> Glyph {
    Glyph { full, ascii }
}

/// A free region.
pub const FREE: Glyph = glyph('·', '.');
/// Movable regions by fill: under a third, two thirds, more.
pub const MOVABLE: [Glyph; 3] = [glyph('░', '-'), glyph('▒', '+'), glyph('▓', '=')];
/// A tainted region.
pub const TAINTED: Glyph = glyph('■', '#');
/// A region tainted by no more than one pageblock's worth of pages.
pub const SPOILED: Glyph = glyph('□', 'o');
/// A hugetlb region.
pub const HUGETLB: Glyph = glyph('H', 'H');
/// A region that can never be whole.
pub const PARTIAL: Glyph = glyph('x', 'x');
/// Holes only.
pub const ABSENT: Glyph = glyph('_', '_');
/// A region of which too little is known.
pub const UNKNOWN: Glyph = glyph('?', '?');
/// Marks a taint on a time axis.
pub const TAINT_MARK: Glyph = glyph('▲', '^');
/// The time cursor on a time axis.
pub const CURSOR_MARK: Glyph = glyph('│', '|');
/// Share of a density cell, in eighths from 1.
pub const EIGHTHS: [Glyph; 8] = [
    glyph('▁', '1'),
    glyph('▂', '2'),
    glyph('▃', '3'),
    glyph('▄', '4'),
    glyph('▅', '5'),
    glyph('▆', '6'),
    glyph('▇', '7'),
    glyph('█', '8'),
];
/// The filled part of a bar.
pub const BAR: Glyph = glyph('█', '#');
/// The empty part of a bar.
pub const BAR_EMPTY: Glyph = glyph('░', '.');

impl Theme {
    /// The character for a glyph.
    #[must_use]
    pub fn char(self, glyph: Glyph) -> char {
        if self.ascii { glyph.ascii } else { glyph.full }
    }

    fn fg(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Obtainable now.
    #[must_use]
    pub fn free(self) -> Style {
        self.fg(self.palette.free)
    }

    /// Obtainable by moving.
    #[must_use]
    pub fn movable(self) -> Style {
        self.fg(self.palette.movable)
    }

    /// Tainted.
    #[must_use]
    pub fn tainted(self) -> Style {
        self.fg(self.palette.tainted)
    }

    /// Not ours: reserved, absent, hugetlb; and text of less weight.
    #[must_use]
    pub fn grey(self) -> Style {
        self.fg(self.palette.grey)
    }

    /// Something uncertain, or to be noticed.
    #[must_use]
    pub fn notable(self) -> Style {
        self.fg(self.palette.notable)
    }

    /// Something wrong.
    #[must_use]
    pub fn grave(self) -> Style {
        self.fg(self.palette.tainted).add_modifier(Modifier::BOLD)
    }

    /// Headings and figures.
    #[must_use]
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The selected row or tab.
    #[must_use]
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Figures that may no longer hold.
    #[must_use]
    pub fn stale(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Lines and names of a track. None of these is a colour of a state.
    #[must_use]
    pub fn track(self, kind: TrackKind) -> Style {
        match kind {
            TrackKind::Kernel => self.fg(self.palette.kernel),
            TrackKind::Stock => self.fg(self.palette.stock),
            TrackKind::Spb => self.fg(self.palette.spb),
        }
    }

    /// The character of a track where lines cannot be told apart by colour.
    #[must_use]
    pub fn track_char(self, kind: TrackKind) -> char {
        match kind {
            TrackKind::Kernel => 'k',
            TrackKind::Stock => 't',
            TrackKind::Spb => 's',
        }
    }

    /// Lines around panes.
    #[must_use]
    pub fn border(self) -> border::Set<'static> {
        if self.ascii { ASCII_BORDER } else { border::PLAIN }
    }

    /// What stands for missing text.
    #[must_use]
    pub fn ellipsis(self) -> &'static str {
        if self.ascii { ".." } else { "…" }
    }

    /// Glyph and style of a state.
    #[must_use]
    pub fn state(self, state: RegionState) -> (Glyph, Style) {
        match state {
            RegionState::Absent => (ABSENT, self.grey()),
            RegionState::Partial => (PARTIAL, self.grey()),
            RegionState::Hugetlb => (HUGETLB, self.grey()),
            RegionState::Tainted => (TAINTED, self.tainted()),
            RegionState::Unknown => (UNKNOWN, self.notable()),
            RegionState::Evacuable => (MOVABLE[1], self.movable()),
            RegionState::Free => (FREE, self.free()),
        }
    }

    /// Glyph and style of a region: its state, and how full it is or how little spoils it.
    #[must_use]
    pub fn region(self, region: &RegionCensus) -> (Glyph, Style) {
        let state = region.state();
        let (plain, style) = self.state(state);
        let glyph = match state {
            RegionState::Evacuable => {
                let third = region.movable_pages() * 3 / REGION_PAGES;
                MOVABLE[third.min(2) as usize]
            }
            RegionState::Tainted if region.is_nearly_clean() => SPOILED,
            _ => plain,
        };
        (glyph, style)
    }
}

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};
