//! The series' own way (patches 11, 12 and 14): walk a list of superpageblocks and look at each.

use crate::mm::flavour::Flavour;
use crate::mm::spb::geometry::SpbId;
use crate::mm::spb::lists::ListName;
use crate::mm::spb::zone::SpbZone;

use super::{Need, SpbIndex};

/// Walks the zone's lists; keeps nothing.
#[derive(Debug)]
pub struct Linear;

impl<F: Flavour> SpbIndex<F> for Linear {
    #[inline]
    fn next_in(
        &self,
        zone: &SpbZone<F>,
        list: ListName,
        need: Need,
        at: Option<SpbId>,
        visited: &mut u32,
    ) -> Option<SpbId> {
        let mut at = step(zone, list, at);
        while let Some(spb) = at {
            *visited += 1;
            if need.met_by(zone.spb(spb)) {
                return Some(spb);
            }
            at = step(zone, list, Some(spb));
        }
        None
    }
}

/// The superpageblock that follows `at` on `list`.
#[inline]
fn step<F: Flavour>(zone: &SpbZone<F>, list: ListName, at: Option<SpbId>) -> Option<SpbId> {
    let lists = zone.lists();
    match (zone.settings().spb_rotation, at) {
        (true, None) => lists.first(list),
        (true, Some(at)) => lists.next(at),
        (false, at) => lists.members(list).next(at.map_or(0, |s| s.0 + 1)).map(SpbId),
    }
}
