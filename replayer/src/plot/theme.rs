//! Colours and sizes of all pictures. A colour means one thing everywhere: green obtainable now,
//! blue obtainable by moving, red tainted, grey not ours.

use fragscope_trace::region::RegionState;
use plotters::style::RGBColor;

use super::history::RegionCell;
use crate::observe::TrackKind;

/// Width and height of a picture in points.
pub const SIZE: (u32, u32) = (960, 540);

/// On what the pictures will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// White paper.
    Light,
    /// A dark screen.
    Dark,
}

impl Theme {
    /// Behind everything.
    #[must_use]
    pub const fn background(self) -> RGBColor {
        match self {
            Theme::Light => RGBColor(255, 255, 255),
            Theme::Dark => RGBColor(22, 27, 34),
        }
    }

    /// Text and axes.
    #[must_use]
    pub const fn ink(self) -> RGBColor {
        match self {
            Theme::Light => RGBColor(31, 35, 40),
            Theme::Dark => RGBColor(230, 237, 243),
        }
    }

    /// Grid lines.
    #[must_use]
    pub const fn grid(self) -> RGBColor {
        match self {
            Theme::Light => RGBColor(222, 226, 230),
            Theme::Dark => RGBColor(48, 54, 61),
        }
    }

    /// Remarks.
    #[must_use]
    pub const fn faint(self) -> RGBColor {
        match self {
            Theme::Light => RGBColor(101, 109, 118),
            Theme::Dark => RGBColor(139, 148, 158),
        }
    }

    /// A track's line. Told apart by people who see no red or green as well.
    #[must_use]
    pub const fn track(self, kind: TrackKind) -> RGBColor {
        match (kind, self) {
            (TrackKind::Kernel, Theme::Light) => RGBColor(87, 96, 106),
            (TrackKind::Kernel, Theme::Dark) => RGBColor(173, 181, 189),
            (TrackKind::Stock, _) => RGBColor(217, 119, 6),
            (TrackKind::Spb, Theme::Light) => RGBColor(9, 105, 218),
            (TrackKind::Spb, Theme::Dark) => RGBColor(88, 166, 255),
        }
    }

    /// A region's cell. Obtainable by moving is the lighter the less there is to move.
    #[must_use]
    pub fn region(self, cell: RegionCell) -> RGBColor {
        let dark = self == Theme::Dark;
        match cell.state {
            RegionState::Absent => self.background(),
            RegionState::Partial | RegionState::Hugetlb if dark => RGBColor(72, 79, 88),
            RegionState::Partial | RegionState::Hugetlb => RGBColor(208, 215, 222),
            RegionState::Unknown => RGBColor(191, 160, 84),
            RegionState::Tainted => RGBColor(207, 60, 60),
            RegionState::Free => RGBColor(45, 164, 78),
            RegionState::Evacuable => {
                let full = cell.movable_share.clamp(0.0, 1.0);
                let mix = |few: f32, many: f32| (few + (many - few) * full) as u8;
                if dark {
                    RGBColor(mix(140.0, 31.0), mix(200.0, 90.0), mix(255.0, 190.0))
                } else {
                    RGBColor(mix(182.0, 20.0), mix(220.0, 90.0), mix(255.0, 180.0))
                }
            }
        }
    }
}
