//! Sets of small numbers as words of a lock flavour, changed through `&self`.

use crate::mm::flavour::{Flavour, Word};

/// A set of the numbers below a fixed limit. Its owner's lock guards it.
#[derive(Debug)]
pub struct Bitmap<F: Flavour> {
    words: Box<[F::U64]>,
}

impl<F: Flavour> Bitmap<F> {
    /// The empty set of numbers below `limit`.
    #[must_use]
    pub fn new(limit: u32) -> Bitmap<F> {
        Bitmap { words: (0..limit.div_ceil(64)).map(|_| F::U64::default()).collect() }
    }

    /// How many words hold the set.
    #[must_use]
    pub fn words(&self) -> u32 {
        self.words.len() as u32
    }

    /// Members `64 * index ..` as one word.
    #[must_use]
    #[inline]
    pub fn word(&self, index: u32) -> u64 {
        self.words[index as usize].get()
    }

    /// Adds or removes a member.
    #[inline]
    pub fn put(&self, member: u32, present: bool) {
        let word = &self.words[(member / 64) as usize];
        let bit = 1 << (member % 64);
        word.set(if present { word.get() | bit } else { word.get() & !bit });
    }

    /// Whether `member` is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, member: u32) -> bool {
        self.word(member / 64) >> (member % 64) & 1 == 1
    }

    /// Whether the set has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|w| w.get() == 0)
    }

    /// The smallest member that is not below `from`.
    #[must_use]
    #[inline]
    pub fn next(&self, from: u32) -> Option<u32> {
        find(self.words(), from, |i| self.word(i))
    }
}

/// The smallest number not below `from` in a set whose words `word` computes.
#[inline]
pub fn find(words: u32, from: u32, word: impl Fn(u32) -> u64) -> Option<u32> {
    let mut mask = u64::MAX << (from % 64);
    for index in from / 64..words {
        let rest = word(index) & mask;
        if rest != 0 {
            return Some(index * 64 + rest.trailing_zeros());
        }
        mask = u64::MAX;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::mm::flavour::Up;

    proptest! {
        #[test]
        fn a_bitmap_is_an_ordered_set(steps in prop::collection::vec((0u32..200, any::<bool>()), 0..300)) {
            let bitmap = Bitmap::<Up>::new(200);
            let mut model = BTreeSet::new();
            for (member, present) in steps {
                bitmap.put(member, present);
                if present { model.insert(member) } else { model.remove(&member) };
            }
            prop_assert_eq!(bitmap.is_empty(), model.is_empty());
            for from in 0..200 {
                prop_assert_eq!(bitmap.contains(from), model.contains(&from));
                prop_assert_eq!(bitmap.next(from), model.range(from..).next().copied());
            }
        }
    }
}
