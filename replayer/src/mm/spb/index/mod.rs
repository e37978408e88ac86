//! Which superpageblock serves a request: a separate question from "take a block from this
//! superpageblock".
//!
//! A pass of an allocation asks for superpageblocks of a category that have what it needs; an
//! index names them one after the other and counts those it looked at. All indexes name the same
//! ones in the same order: by fullness, and inside a bucket by the list (`spb_rotation`) or by
//! address. Only the bitmap index cannot follow rotation and always goes by address.
//!
//! [`linear`] is the series' walk, [`hints`] its cache in front of it (patch 31), [`bitmap`] the
//! successor that its author proposed in review.

pub mod bitmap;
pub mod hints;
pub mod linear;

use fragscope_trace::page::Migratetype;

use crate::mm::flavour::Flavour;
use crate::mm::settings::{IndexKind, Settings};

use super::category::{Category, Counts, Fullness};
use super::geometry::SpbId;
use super::lists::ListName;
use super::superpageblock::{Occupancy, Orders, Superpageblock};
use super::zone::SpbZone;

/// What a superpageblock must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A wholly free pageblock.
    FreePageblock,
    /// A free block on one of these lists.
    Block(Occupancy),
    /// Both: a wholly free pageblock, and a free block on one of these lists.
    Both(Occupancy),
    /// Pageblocks with movable pages.
    Movable,
    /// Nothing: every superpageblock of the category.
    Nothing,
}

impl Need {
    /// A block of one type.
    #[must_use]
    #[inline]
    pub const fn block(migratetype: Migratetype, orders: Orders) -> Need {
        Need::Block(Occupancy::of(migratetype, orders))
    }

    /// Whether a superpageblock has it.
    #[must_use]
    #[inline]
    pub fn met_by<F: Flavour>(self, spb: &Superpageblock<F>) -> bool {
        match self {
            Need::FreePageblock => spb.free() > 0,
            Need::Block(lists) => spb.occupancy().meets(lists),
            Need::Both(lists) => spb.free() > 0 && spb.occupancy().meets(lists),
            Need::Movable => spb.counts().movable > 0,
            Need::Nothing => true,
        }
    }

    /// The block lists of which it must have one, if it must.
    #[must_use]
    #[inline]
    pub const fn lists(self) -> Option<Occupancy> {
        match self {
            Need::Block(lists) | Need::Both(lists) => Some(lists),
            Need::FreePageblock | Need::Movable | Need::Nothing => None,
        }
    }
}

/// Where to look, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Superpageblocks of a category, from one fullness to another.
    Of(Category, Fullness, Fullness),
    /// Wholly free ones.
    Empty,
}

impl Place {
    /// All fullnesses of a category.
    #[must_use]
    #[inline]
    pub const fn all(category: Category) -> Place {
        Place::Of(category, Fullness::Full, Fullness::AlmostEmpty)
    }

    /// The first list to look at.
    #[must_use]
    #[inline]
    pub const fn first(self) -> ListName {
        match self {
            Place::Of(category, from, _) => ListName::Of(category, from),
            Place::Empty => ListName::Empty,
        }
    }

    /// The list to look at after `list`.
    #[must_use]
    #[inline]
    pub fn after(self, list: ListName) -> Option<ListName> {
        match (self, list) {
            (Place::Of(_, _, to), ListName::Of(category, at)) if at < to => {
                Some(ListName::Of(category, Fullness::ALL[at as usize + 1]))
            }
            _ => None,
        }
    }
}

/// A question to an index, and how far the answer has come.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    place: Place,
    need: Need,
    list: ListName,
    at: Option<SpbId>,
    done: bool,
}

impl Walk {
    /// Asks for superpageblocks in `place` that have what is needed.
    #[must_use]
    #[inline]
    pub fn new(place: Place, need: Need) -> Walk {
        Walk { place, need, list: place.first(), at: None, done: false }
    }

    /// The next answer; adds the superpageblocks looked at to `visited`.
    #[inline]
    pub fn next<F: Flavour>(&mut self, zone: &SpbZone<F>, visited: &mut u32) -> Option<SpbId> {
        while !self.done {
            let found = if self.at.is_none() && zone.lacks(self.list, self.need) {
                *visited += zone.index().looked_at_in_vain(zone, self.list);
                None
            } else {
                zone.index().next_in(zone, self.list, self.need, self.at, visited)
            };
            if found.is_some() {
                self.at = found;
                return found;
            }
            self.at = None;
            match self.place.after(self.list) {
                Some(list) => self.list = list,
                None => self.done = true,
            }
        }
        None
    }
}

/// A way to find superpageblocks.
pub trait SpbIndex<F: Flavour> {
    /// The first superpageblock of `list` after `at` (from its beginning for `None`) that has
    /// what is needed.
    fn next_in(
        &self,
        zone: &SpbZone<F>,
        list: ListName,
        need: Need,
        at: Option<SpbId>,
        visited: &mut u32,
    ) -> Option<SpbId>;

    /// How many superpageblocks are looked at to find none on a whole list.
    #[inline]
    fn looked_at_in_vain(&self, zone: &SpbZone<F>, list: ListName) -> u32 {
        zone.lists().len(list)
    }

    /// A list of `spb` gained its first block or lost its last.
    fn occupancy_changed(&self, _spb: SpbId, _old: Occupancy, _new: Occupancy) {}

    /// The counters of `spb` changed; it is on `list` now.
    fn counts_changed(&self, _spb: SpbId, _counts: &Counts, _list: ListName) {}

    /// Where to look before walking, for a request of `order` and `migratetype` on `cpu`.
    fn hints(&self, _cpu: u16, _order: u8, _migratetype: Migratetype) -> [Option<SpbId>; 2] {
        [None; 2]
    }

    /// `spb` served such a request from its own list.
    fn served(&self, _cpu: u16, _order: u8, _migratetype: Migratetype, _spb: SpbId) {}

    /// Forgets all hints: the zone was resized.
    fn forget(&self) {}
}

/// The index that the settings choose.
#[expect(clippy::large_enum_variant, reason = "there is one for each zone")]
#[derive(Debug)]
pub enum Index<F: Flavour> {
    /// The series' walk.
    Linear(linear::Linear),
    /// The same behind hints.
    Hint(hints::Hints<F>),
    /// Bitmaps.
    Bitmap(bitmap::BitmapIndex<F>),
}

impl<F: Flavour> Index<F> {
    /// The index for `spbs` superpageblocks and `cpus` CPUs.
    #[must_use]
    pub fn new(settings: &Settings, spbs: u32, cpus: u16) -> Index<F> {
        match settings.spb_index {
            IndexKind::Bitmap => Index::Bitmap(bitmap::BitmapIndex::new(spbs)),
            IndexKind::Hint if settings.p31 => Index::Hint(hints::Hints::new(cpus)),
            IndexKind::Hint | IndexKind::Linear => Index::Linear(linear::Linear),
        }
    }
}

macro_rules! each {
    ($self:ident, $index:ident => $call:expr) => {
        match $self {
            Index::Linear($index) => $call,
            Index::Hint($index) => $call,
            Index::Bitmap($index) => $call,
        }
    };
}

impl<F: Flavour> SpbIndex<F> for Index<F> {
    #[inline]
    fn next_in(
        &self,
        zone: &SpbZone<F>,
        list: ListName,
        need: Need,
        at: Option<SpbId>,
        visited: &mut u32,
    ) -> Option<SpbId> {
        each!(self, index => index.next_in(zone, list, need, at, visited))
    }

    #[inline]
    fn looked_at_in_vain(&self, zone: &SpbZone<F>, list: ListName) -> u32 {
        each!(self, index => index.looked_at_in_vain(zone, list))
    }

    #[inline]
    fn occupancy_changed(&self, spb: SpbId, old: Occupancy, new: Occupancy) {
        each!(self, index => SpbIndex::<F>::occupancy_changed(index, spb, old, new));
    }

    #[inline]
    fn counts_changed(&self, spb: SpbId, counts: &Counts, list: ListName) {
        each!(self, index => SpbIndex::<F>::counts_changed(index, spb, counts, list));
    }

    #[inline]
    fn hints(&self, cpu: u16, order: u8, migratetype: Migratetype) -> [Option<SpbId>; 2] {
        each!(self, index => SpbIndex::<F>::hints(index, cpu, order, migratetype))
    }

    #[inline]
    fn served(&self, cpu: u16, order: u8, migratetype: Migratetype, spb: SpbId) {
        each!(self, index => SpbIndex::<F>::served(index, cpu, order, migratetype, spb));
    }

    fn forget(&self) {
        each!(self, index => SpbIndex::<F>::forget(index));
    }
}
