//! The successor proposed in review (29 June 2026): for each list a bitmap over superpageblocks
//! "has a free block here", and bitmaps "has unmovable", "has reclaimable". A superpageblock is
//! chosen by intersecting words and finding the first bit; bitmaps change only when a state does.
//!
//! Buckets of fullness are bitmaps as well, so that the choice is the linear walk's under the
//! lowest-address tie-break.

use crate::mm::flavour::{Flavour, Word};
use crate::mm::spb::bitmap::{Bitmap, find};
use crate::mm::spb::category::{Category, Counts};
use crate::mm::spb::geometry::SpbId;
use crate::mm::spb::lists::ListName;
use crate::mm::spb::superpageblock::Occupancy;
use crate::mm::spb::zone::SpbZone;

use super::{Need, SpbIndex};

/// Bitmaps over the superpageblocks of one zone.
#[derive(Debug)]
pub struct BitmapIndex<F: Flavour> {
    has_block: Box<[Bitmap<F>]>,
    has_unmovable: Bitmap<F>,
    has_reclaimable: Bitmap<F>,
    /// Uninitialised slots taint by a setting; all others never enter here.
    tainted_otherwise: Bitmap<F>,
    has_movable: Bitmap<F>,
    has_free_pageblock: Bitmap<F>,
    empty: Bitmap<F>,
    isolated: Bitmap<F>,
    fullness: [Bitmap<F>; 5],
    /// What the bitmaps say about each superpageblock, to see whether anything changed.
    states: Box<[F::U32]>,
}

impl<F: Flavour> BitmapIndex<F> {
    /// Empty bitmaps over `spbs` superpageblocks.
    #[must_use]
    pub fn new(spbs: u32) -> BitmapIndex<F> {
        let bitmap = || Bitmap::new(spbs);
        BitmapIndex {
            has_block: (0..Occupancy::BITS).map(|_| bitmap()).collect(),
            has_unmovable: bitmap(),
            has_reclaimable: bitmap(),
            tainted_otherwise: bitmap(),
            has_movable: bitmap(),
            has_free_pageblock: bitmap(),
            empty: bitmap(),
            isolated: bitmap(),
            fullness: std::array::from_fn(|_| bitmap()),
            states: (0..spbs).map(|_| F::U32::default()).collect(),
        }
    }

    /// Writes the bits of one superpageblock, whose state changed.
    fn put_state(&self, spb: SpbId, counts: &Counts, list: ListName) {
        self.has_unmovable.put(spb.0, counts.unmovable > 0);
        self.has_reclaimable.put(spb.0, counts.reclaimable > 0);
        self.has_movable.put(spb.0, counts.movable > 0);
        self.has_free_pageblock.put(spb.0, counts.free > 0);
        self.empty.put(spb.0, list == ListName::Empty);
        self.isolated.put(spb.0, list == ListName::Isolated);
        let (mut bucket, mut otherwise) = (None, false);
        if let ListName::Of(category, fullness) = list {
            bucket = Some(fullness as usize);
            let by_bits = counts.unmovable > 0 || counts.reclaimable > 0;
            otherwise = category == Category::Tainted && !by_bits;
        }
        self.tainted_otherwise.put(spb.0, otherwise);
        for (i, bitmap) in self.fullness.iter().enumerate() {
            bitmap.put(spb.0, bucket == Some(i));
        }
    }

    /// One word of the superpageblocks on `list`.
    #[inline]
    fn on_list(&self, list: ListName, word: u32) -> u64 {
        match list {
            ListName::Isolated => self.isolated.word(word),
            ListName::Empty => self.empty.word(word),
            ListName::Of(category, fullness) => {
                let tainted = self.has_unmovable.word(word)
                    | self.has_reclaimable.word(word)
                    | self.tainted_otherwise.word(word);
                let side = if category == Category::Tainted { tainted } else { !tainted };
                side & self.fullness[fullness as usize].word(word)
            }
        }
    }

    /// One word of the superpageblocks that have what is needed.
    #[inline]
    fn having(&self, need: Need, word: u32) -> u64 {
        match need {
            Need::FreePageblock => self.has_free_pageblock.word(word),
            Need::Block(lists) => self.having_block(lists, word),
            Need::Both(lists) => {
                self.has_free_pageblock.word(word) & self.having_block(lists, word)
            }
            Need::Movable => self.has_movable.word(word),
            Need::Nothing => u64::MAX,
        }
    }

    #[inline]
    fn having_block(&self, lists: Occupancy, word: u32) -> u64 {
        let (mut having, mut left) = (0, lists.0);
        while left != 0 {
            having |= self.has_block[left.trailing_zeros() as usize].word(word);
            left &= left - 1;
        }
        having
    }
}

impl<F: Flavour> SpbIndex<F> for BitmapIndex<F> {
    #[inline]
    fn next_in(
        &self,
        _zone: &SpbZone<F>,
        list: ListName,
        need: Need,
        at: Option<SpbId>,
        visited: &mut u32,
    ) -> Option<SpbId> {
        let from = at.map_or(0, |s| s.0 + 1);
        let chosen = |word| {
            let listed = self.on_list(list, word);
            // Most lists are empty, and what is needed takes longer to read.
            if listed == 0 { 0 } else { listed & self.having(need, word) }
        };
        let found = find(self.empty.words(), from, chosen);
        *visited += u32::from(found.is_some());
        found.map(SpbId)
    }

    /// None: bitmaps name only what can serve.
    #[inline]
    fn looked_at_in_vain(&self, _: &SpbZone<F>, _: ListName) -> u32 {
        0
    }

    fn occupancy_changed(&self, spb: SpbId, old: Occupancy, new: Occupancy) {
        let mut changed = old.0 ^ new.0;
        while changed != 0 {
            let list = changed.trailing_zeros();
            self.has_block[list as usize].put(spb.0, new.0 >> list & 1 == 1);
            changed &= changed - 1;
        }
    }

    fn counts_changed(&self, spb: SpbId, counts: &Counts, list: ListName) {
        let has = [counts.unmovable, counts.reclaimable, counts.movable, counts.free];
        let bits = has.iter().fold(1, |bits, count| bits << 1 | u32::from(*count > 0));
        // Never 0, so that the first state differs from none.
        let state = bits << 4 | list.index() as u32;
        if self.states[spb.index()].get() != state {
            self.states[spb.index()].set(state);
            self.put_state(spb, counts, list);
        }
    }
}
