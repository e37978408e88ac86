//! The zone's lists of superpageblocks (patch 10): ten by category and fullness, one of empty and
//! one of isolated ones. Every superpageblock is on exactly one of them.
//!
//! Each list also is a set ordered by address, so that a walk can follow either the list (touched
//! superpageblocks rotate to the tail, as upstream) or addresses (the common tie-break under which
//! indexes can be compared).

use crate::mm::flavour::{Flavour, Word};

use super::bitmap::Bitmap;
use super::category::{Category, Fullness};
use super::geometry::SpbId;

/// One of the zone's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListName {
    /// `spb_lists[category][fullness]`
    Of(Category, Fullness),
    /// `spb_empty`
    Empty,
    /// `spb_isolated`
    Isolated,
}

impl ListName {
    /// Number of lists.
    pub const COUNT: usize = 12;

    /// Position among all lists.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        match self {
            ListName::Of(category, fullness) => category as usize * 5 + fullness as usize,
            ListName::Empty => 10,
            ListName::Isolated => 11,
        }
    }

    /// The list at a position.
    ///
    /// # Panics
    /// If there is no such position.
    #[must_use]
    pub const fn from_index(index: usize) -> ListName {
        assert!(index < Self::COUNT, "there are 12 lists");
        match index {
            10 => ListName::Empty,
            11 => ListName::Isolated,
            _ => ListName::Of(Category::ALL[index / 5], Fullness::ALL[index % 5]),
        }
    }

    /// All lists.
    pub fn all() -> impl Iterator<Item = ListName> {
        (0..Self::COUNT).map(ListName::from_index)
    }
}

/// A link that leads back to the list's head, or a superpageblock on no list yet.
const NONE: u32 = u32::MAX;

/// All lists of one zone; the zone lock guards them.
#[derive(Debug)]
pub struct SpbLists<F: Flavour> {
    /// Next, previous and list of each superpageblock.
    links: Box<[[F::U32; 3]]>,
    /// First and last of each list.
    ends: [[F::U32; 2]; ListName::COUNT],
    members: [Bitmap<F>; ListName::COUNT],
    lengths: [F::U32; ListName::COUNT],
}

impl<F: Flavour> SpbLists<F> {
    /// Lists for `count` superpageblocks, none of them listed.
    #[must_use]
    pub fn new(count: u32) -> SpbLists<F> {
        let none = || {
            let word = F::U32::default();
            word.set(NONE);
            word
        };
        SpbLists {
            links: (0..count).map(|_| std::array::from_fn(|_| none())).collect(),
            ends: std::array::from_fn(|_| [none(), none()]),
            members: std::array::from_fn(|_| Bitmap::new(count)),
            lengths: std::array::from_fn(|_| F::U32::default()),
        }
    }

    /// The list that `spb` is on; `None` before it is first listed.
    #[must_use]
    #[inline]
    pub fn list_of(&self, spb: SpbId) -> Option<ListName> {
        let list = self.links[spb.index()][2].get();
        (list != NONE).then(|| ListName::from_index(list as usize))
    }

    /// How many superpageblocks a list has.
    #[must_use]
    pub fn len(&self, list: ListName) -> u32 {
        self.lengths[list.index()].get()
    }

    /// Whether a list has no superpageblocks.
    #[must_use]
    pub fn is_empty(&self, list: ListName) -> bool {
        self.len(list) == 0
    }

    /// The members of a list as a set.
    #[must_use]
    #[inline]
    pub fn members(&self, list: ListName) -> &Bitmap<F> {
        &self.members[list.index()]
    }

    /// First of a list.
    #[must_use]
    #[inline]
    pub fn first(&self, list: ListName) -> Option<SpbId> {
        named(self.ends[list.index()][0].get())
    }

    /// The one after `spb` on its list.
    #[must_use]
    #[inline]
    pub fn next(&self, spb: SpbId) -> Option<SpbId> {
        named(self.links[spb.index()][0].get())
    }

    /// A list from head to tail. It must not change meanwhile.
    pub fn iter(&self, list: ListName) -> impl Iterator<Item = SpbId> + '_ {
        std::iter::successors(self.first(list), |spb| self.next(*spb))
    }

    /// Takes `spb` off its list and appends it to the tail of `list`.
    pub fn move_to_tail(&self, spb: SpbId, list: ListName) {
        self.unlink(spb);
        let [next, prev, home] = &self.links[spb.index()];
        let [first, last] = &self.ends[list.index()];
        let before = last.get();
        next.set(NONE);
        prev.set(before);
        home.set(list.index() as u32);
        match named(before) {
            Some(before) => self.links[before.index()][0].set(spb.0),
            None => first.set(spb.0),
        }
        last.set(spb.0);
        self.members[list.index()].put(spb.0, true);
        self.lengths[list.index()].update(|n| n + 1);
    }

    /// Takes `spb` off its list, if it is on one.
    fn unlink(&self, spb: SpbId) {
        let Some(list) = self.list_of(spb) else { return };
        let [next, prev, home] = &self.links[spb.index()];
        let [first, last] = &self.ends[list.index()];
        match named(prev.get()) {
            Some(before) => self.links[before.index()][0].set(next.get()),
            None => first.set(next.get()),
        }
        match named(next.get()) {
            Some(after) => self.links[after.index()][1].set(prev.get()),
            None => last.set(prev.get()),
        }
        home.set(NONE);
        self.members[list.index()].put(spb.0, false);
        self.lengths[list.index()].update(|n| n - 1);
    }
}

fn named(link: u32) -> Option<SpbId> {
    (link != NONE).then_some(SpbId(link))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::mm::flavour::{Smp, Up};

    #[test]
    fn names_are_positions() {
        for (i, list) in ListName::all().enumerate() {
            assert_eq!(list.index(), i);
        }
    }

    fn same_as_deques<F: Flavour>(steps: &[(u32, usize)]) -> Result<(), TestCaseError> {
        let lists = SpbLists::<F>::new(7);
        let mut model = vec![VecDeque::new(); ListName::COUNT];
        for (spb, list) in steps {
            model.iter_mut().for_each(|l| l.retain(|s| s != spb));
            model[*list].push_back(*spb);
            lists.move_to_tail(SpbId(*spb), ListName::from_index(*list));
            for (name, want) in ListName::all().zip(&model) {
                prop_assert!(lists.iter(name).map(|s| s.0).eq(want.iter().copied()));
                prop_assert_eq!(lists.len(name) as usize, want.len());
                for spb in 0..7 {
                    prop_assert_eq!(lists.members(name).contains(spb), want.contains(&spb));
                }
            }
            prop_assert_eq!(lists.list_of(SpbId(*spb)), Some(ListName::from_index(*list)));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn lists_are_deques(steps in prop::collection::vec((0u32..7, 0..ListName::COUNT), 0..60)) {
            same_as_deques::<Up>(&steps)?;
            same_as_deques::<Smp>(&steps)?;
        }
    }
}
