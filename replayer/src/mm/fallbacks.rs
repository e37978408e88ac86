//! Fallbacks by region: where pageblocks were claimed for another type, and where blocks were
//! stolen from one.

use fragscope_trace::page::Pfn;
use serde::Serialize;

use super::flavour::{Flavour, Word};
use super::frames::Frame;
use super::geometry::Geometry;

/// Fallbacks in one region since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fallbacks {
    /// Blocks claimed: their pageblocks changed type.
    pub claims: u64,
    /// Blocks stolen: the pageblock keeps its type.
    pub steals: u64,
}

/// Counts that only grow, in every flavour without a lock.
#[derive(Debug)]
pub struct RegionFallbacks<F: Flavour> {
    /// Claims and steals of each region.
    rows: Box<[[F::U64; 2]]>,
}

impl<F: Flavour> RegionFallbacks<F> {
    /// None so far.
    #[must_use]
    pub fn new(geometry: &Geometry) -> RegionFallbacks<F> {
        RegionFallbacks { rows: F::U64::zeroed(geometry.regions.len()) }
    }

    /// A block was claimed.
    pub(super) fn claimed(&self, geometry: &Geometry, frame: Frame) {
        self.rows[geometry.region_of(frame).0 as usize][0].add(1);
    }

    /// A block was stolen.
    pub(super) fn stolen(&self, geometry: &Geometry, frame: Frame) {
        self.rows[geometry.region_of(frame).0 as usize][1].add(1);
    }

    /// Every region's first frame and counts, in the order of the geometry.
    pub fn rows(&self, geometry: &Geometry) -> Vec<(Pfn, Fallbacks)> {
        let starts = geometry.regions.iter().map(|region| Pfn(u64::from(region.start)));
        let counts = |row: &[F::U64; 2]| Fallbacks { claims: row[0].get(), steals: row[1].get() };
        starts.zip(self.rows.iter().map(counts)).collect()
    }
}
