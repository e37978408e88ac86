//! One bit for each page frame that is free, and the blocks that free pages would merge to.

use crate::mm::frames::Frame;

const WORD_BITS: u32 = 64;
/// log2 of the pages that one word covers.
const WORD_ORDER: u8 = 6;

/// A bitmap of free frames.
#[derive(Debug)]
pub struct FreeBits {
    words: Vec<u64>,
}

impl FreeBits {
    /// No frame of `frames` is free.
    #[must_use]
    pub fn new(frames: usize) -> FreeBits {
        FreeBits { words: vec![0; frames.div_ceil(WORD_BITS as usize)] }
    }

    /// Says whether frames are free.
    #[inline]
    pub fn set(&mut self, at: Frame, pages: u32, free: bool) {
        if pages == 1 {
            let word = &mut self.words[(at / WORD_BITS) as usize];
            let bit = 1 << (at % WORD_BITS);
            *word = if free { *word | bit } else { *word & !bit };
            return;
        }
        let (mut at, end) = (at, at + pages);
        while at < end {
            let (word, bit) = ((at / WORD_BITS) as usize, at % WORD_BITS);
            let count = (WORD_BITS - bit).min(end - at);
            let mask = (u64::MAX >> (WORD_BITS - count)) << bit;
            if free {
                self.words[word] |= mask;
            } else {
                self.words[word] &= !mask;
            }
            at += count;
        }
    }

    /// Blocks by order in the aligned block of `max_order` at `first`, when free buddies are merged
    /// as far as they can be there.
    #[must_use]
    pub fn merged_within(&self, first: Frame, max_order: u8) -> Vec<u64> {
        let mut blocks = vec![0; usize::from(max_order) + 1];
        let (word, bit) = ((first / WORD_BITS) as usize, first % WORD_BITS);
        if max_order < WORD_ORDER {
            let mask = (1 << (1u32 << max_order)) - 1;
            merge_word(self.words[word] >> bit & mask, max_order, &mut blocks);
        } else {
            let end = (word + (1 << (max_order - WORD_ORDER))).min(self.words.len());
            merge_chunk(&self.words[word..end], max_order, &mut blocks);
        }
        blocks
    }

    /// Blocks by order, when every aligned pair of free buddies is merged up to `max_order`.
    #[must_use]
    pub fn merged_blocks(&self, max_order: u8) -> Vec<u64> {
        let mut blocks = vec![0; usize::from(max_order) + 1];
        if max_order <= WORD_ORDER {
            for word in &self.words {
                merge_word(*word, max_order, &mut blocks);
            }
            return blocks;
        }
        for chunk in self.words.chunks(1 << (max_order - WORD_ORDER)) {
            merge_chunk(chunk, max_order, &mut blocks);
        }
        blocks
    }
}

/// Counts the blocks in one aligned block of up to `max_order`.
fn merge_chunk(words: &[u64], max_order: u8, blocks: &mut [u64]) {
    if words.iter().all(|w| *w == 0) {
        return;
    }
    let whole = words.len() == 1 << (max_order - WORD_ORDER);
    if whole && words.iter().all(|w| *w == u64::MAX) {
        blocks[usize::from(max_order)] += 1;
    } else if max_order == WORD_ORDER {
        words.iter().for_each(|w| merge_word(*w, WORD_ORDER, blocks));
    } else {
        for half in words.chunks(1 << (max_order - 1 - WORD_ORDER)) {
            merge_chunk(half, max_order - 1, blocks);
        }
    }
}

/// Bits that may be the first of a pair at each order: every 2nd, every 4th, and so on.
const PAIR_HEADS: [u64; WORD_ORDER as usize] = [
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    0x0000_0000_0000_0001,
];

/// Counts the blocks of up to `max_order` in one word: at each order, heads whose buddy is a head
/// too go up, the others stay.
fn merge_word(word: u64, max_order: u8, blocks: &mut [u64]) {
    let mut heads = word;
    for order in 0..max_order {
        let pairs = heads & (heads >> (1 << order)) & PAIR_HEADS[usize::from(order)];
        let paired = pairs | pairs << (1 << order);
        blocks[usize::from(order)] += u64::from((heads & !paired).count_ones());
        heads = pairs;
    }
    blocks[usize::from(max_order)] += u64::from(heads.count_ones());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes the largest free aligned block at each place, page by page.
    fn by_hand(free: &[bool], max_order: u8) -> Vec<u64> {
        let mut blocks = vec![0; usize::from(max_order) + 1];
        let mut at = 0;
        while at < free.len() {
            let fits = |order: &u8| {
                let pages = 1usize << order;
                at % pages == 0 && free.get(at..at + pages).is_some_and(|b| b.iter().all(|f| *f))
            };
            match (0..=max_order).rev().find(fits) {
                Some(order) => {
                    blocks[usize::from(order)] += 1;
                    at += 1 << order;
                }
                None => at += 1,
            }
        }
        blocks
    }

    proptest! {
        #[test]
        fn merging_equals_the_greedy_walk(
            runs in prop::collection::vec((0u32..4096, 1u32..1500, any::<bool>()), 0..60),
            max_order in 1u8..=10,
        ) {
            let mut bits = FreeBits::new(4096);
            let mut model = vec![false; 4096];
            for (at, pages, free) in runs {
                let pages = pages.min(4096 - at);
                bits.set(at, pages, free);
                model[at as usize..(at + pages) as usize].fill(free);
            }
            prop_assert_eq!(bits.merged_blocks(max_order), by_hand(&model, max_order));
            let mut parts = vec![0; usize::from(max_order) + 1];
            for first in (0..4096).step_by(1 << max_order) {
                let within = bits.merged_within(first, max_order);
                parts.iter_mut().zip(within).for_each(|(all, part)| *all += part);
            }
            prop_assert_eq!(parts, by_hand(&model, max_order));
        }
    }
}
