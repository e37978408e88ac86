//! A list of single free pages of a CPU.
//!
//! A frame on a linked list names only its neighbours: whoever takes many waits for memory once
//! for each, and every change also changes a neighbour. So the frames at the head of this list lie
//! side by side in a ring. It tells which frames come next, so that the processor can fetch them
//! early, and taking or putting a page touches no other frame. What does not fit follows on a
//! linked list. With real threads ([`Flavour::REPLAYS`] is false) that is all there is: a checker
//! of threads would have to keep an eye on every slot of a ring.
//!
//! Invariants: the first and the last slot in use hold a frame, others a frame or a hole that one
//! left; a frame in the ring notes its position ([`Frames::note`]).

use super::flavour::{Flavour, Word};
use super::frames::{Frame, FrameWord, Frames, ListId, NOWHERE};
use super::geometry::{Geometry, ZoneSpan};

/// Most frames of a list that are in its ring.
const RING_MAX: u64 = 1 << 16;

/// How many frames before its turn one is fetched.
const AHEAD: u32 = 12;

/// What is in a slot whose frame left from the middle.
const HOLE: u32 = NOWHERE;

/// Free pages of one type, taken and put at either end.
#[derive(Debug)]
pub(super) struct PageList<F: Flavour> {
    /// A power of two of slots; a position is a slot's number, wrapping.
    ring: Box<[[F::U32; 1]]>,
    /// Position of the head.
    first: F::U32,
    /// Slots in use, holes included.
    len: F::U32,
    /// What follows the ring.
    rest: ListId,
}

impl<F: Flavour> PageList<F> {
    /// An empty list, which rarely holds more than `pages`.
    pub(super) fn new(pages: u64, rest: ListId) -> PageList<F> {
        let slots = if F::REPLAYS { pages.max(1).next_power_of_two().min(RING_MAX) } else { 0 };
        PageList {
            ring: F::U32::zeroed(slots as usize),
            first: F::U32::default(),
            len: F::U32::default(),
            rest,
        }
    }

    /// The empty lists of one CPU in a zone, whose list heads are `first_rest` and those after it:
    /// their longest length is tuned up to an eighth of the zone's pages, shared among the CPUs.
    pub(super) fn of_pageset<const LISTS: usize>(
        geometry: &Geometry,
        zone: &ZoneSpan,
        first_rest: u32,
    ) -> [PageList<F>; LISTS] {
        let pages = u64::from(zone.end - zone.start) / 8 / u64::from(geometry.cpus).max(1);
        std::array::from_fn(|list| PageList::new(pages, ListId(first_rest + list as u32)))
    }

    /// The slot at a position; there is none in a list without a ring.
    #[inline(always)]
    fn slot(&self, position: u32) -> &F::U32 {
        &self.ring[position as usize & (self.ring.len() - 1)][0]
    }

    #[inline(always)]
    fn has_room(&self) -> bool {
        F::REPLAYS && self.len.get() < self.ring.len() as u32
    }

    #[inline(always)]
    fn put(&self, frames: &Frames<F>, position: u32, frame: Frame, word: FrameWord) {
        self.slot(position).set(frame);
        frames.set_noted(frame, word, position);
        self.len.set(self.len.get() + 1);
    }

    /// Puts a frame at the head, whose state is then `word`.
    #[inline(always)]
    pub(super) fn push_head(&self, frames: &Frames<F>, frame: Frame, word: FrameWord) {
        if !self.has_room() {
            return self.push_head_of_full(frames, frame, word);
        }
        let first = self.first.get().wrapping_sub(1);
        self.first.set(first);
        self.put(frames, first, frame, word);
    }

    /// Makes room in the ring, if there is one.
    #[cold]
    #[inline(never)]
    fn push_head_of_full(&self, frames: &Frames<F>, frame: Frame, word: FrameWord) {
        if !F::REPLAYS {
            frames.set_word(frame, word);
            return frames.push_head(self.rest, frame);
        }
        if let Some(last) = self.pop_ring_tail() {
            frames.push_head(self.rest, last);
        }
        self.push_head(frames, frame, word);
    }

    /// Puts a frame at the tail, whose state is then `word`.
    #[inline(always)]
    pub(super) fn push_tail(&self, frames: &Frames<F>, frame: Frame, word: FrameWord) {
        if self.has_room() && frames.first(self.rest).is_none() {
            self.put(frames, self.first.get().wrapping_add(self.len.get()), frame, word);
        } else {
            frames.set_word(frame, word);
            frames.push_tail(self.rest, frame);
        }
    }

    /// Takes the frame at the head, and fetches one that will be taken later.
    #[inline(always)]
    pub(super) fn pop_head(&self, frames: &Frames<F>) -> Option<Frame> {
        let len = self.len.get();
        if !F::REPLAYS || len == 0 {
            return frames.pop_head(self.rest);
        }
        let first = self.first.get();
        let frame = self.slot(first).get();
        // Behind the last slot in use is some frame, or none: that does no harm.
        frames.prefetch(self.slot(first.wrapping_add(AHEAD)).get());
        self.first.set(first.wrapping_add(1));
        self.len.set(len - 1);
        self.skip_holes_at_head();
        Some(frame)
    }

    /// The frame at the tail.
    #[inline]
    pub(super) fn last(&self, frames: &Frames<F>) -> Option<Frame> {
        frames.last(self.rest).or_else(|| self.nth_last(0))
    }

    /// Takes the frame at the tail.
    #[inline]
    pub(super) fn pop_tail(&self, frames: &Frames<F>) -> Option<Frame> {
        let Some(frame) = frames.last(self.rest) else { return self.pop_ring_tail() };
        frames.unlink(frame);
        Some(frame)
    }

    #[inline]
    fn pop_ring_tail(&self) -> Option<Frame> {
        let frame = self.nth_last(0)?;
        self.len.set(self.len.get() - 1);
        self.skip_holes_at_tail();
        Some(frame)
    }

    /// Takes a frame that is on this list.
    #[inline]
    pub(super) fn remove(&self, frames: &Frames<F>, frame: Frame) {
        let position = frames.note(frame);
        let in_ring = position.wrapping_sub(self.first.get()) < self.len.get();
        if !in_ring || self.slot(position).get() != frame {
            return frames.unlink(frame);
        }
        self.slot(position).set(HOLE);
        self.skip_holes_at_head();
        self.skip_holes_at_tail();
    }

    #[inline(always)]
    fn skip_holes_at_head(&self) {
        while self.len.get() > 0 && self.slot(self.first.get()).get() == HOLE {
            self.first.set(self.first.get().wrapping_add(1));
            self.len.set(self.len.get() - 1);
        }
    }

    #[inline(always)]
    fn skip_holes_at_tail(&self) {
        while self.len.get() > 0 && self.slot_from_end(0) == HOLE {
            self.len.set(self.len.get() - 1);
        }
    }

    /// What is in the slot that has `after` slots in use after it.
    #[inline(always)]
    fn slot_from_end(&self, after: u32) -> u32 {
        let last = self.first.get().wrapping_add(self.len.get() - 1);
        self.slot(last.wrapping_sub(after)).get()
    }

    /// The frame in the ring that has `after` slots after it: about the one that will be at the
    /// tail when so many have left there.
    #[inline]
    pub(super) fn nth_last(&self, after: u32) -> Option<Frame> {
        let frame = (after < self.len.get()).then(|| self.slot_from_end(after))?;
        (frame != HOLE).then_some(frame)
    }

    /// Whether no frame is on it.
    #[inline(always)]
    pub(super) fn is_empty(&self, frames: &Frames<F>) -> bool {
        self.len.get() == 0 && frames.first(self.rest).is_none()
    }

    /// Frames in the ring, from the head; those on the linked list follow.
    pub(super) fn in_ring(&self) -> impl Iterator<Item = Frame> + '_ {
        let slots = 0..self.len.get();
        slots.map(|at| self.slot(self.first.get().wrapping_add(at)).get()).filter(|f| *f != HOLE)
    }

    /// Re-derives what the ring implies. For tests and debug builds.
    ///
    /// # Panics
    /// With a description of what does not hold.
    pub(super) fn check(&self, frames: &Frames<F>) {
        for frame in self.in_ring() {
            let position = frames.note(frame);
            assert_eq!(self.slot(position).get(), frame, "position of {frame:#x} in a ring");
        }
        if self.len.get() > 0 {
            assert_ne!(self.slot(self.first.get()).get(), HOLE, "the head of a ring");
            assert_ne!(self.slot_from_end(0), HOLE, "the tail of a ring");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::mm::flavour::{Smp, Up};

    const FRAMES: u32 = 256;

    #[derive(Clone, Copy, Debug)]
    enum Change {
        PushHead,
        PushTail,
        PopHead,
        PopTail,
        /// Of the frame at this part of the list's length, in percent.
        Remove(usize),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        use Change::{PopHead, PopTail, PushHead, PushTail, Remove};
        let any = prop_oneof![
            3 => Just(PushHead),
            3 => Just(PushTail),
            2 => Just(PopHead),
            1 => Just(PopTail),
            1 => (0..100_usize).prop_map(Remove),
        ];
        proptest::collection::vec(any, 0..FRAMES as usize)
    }

    fn listed<F: Flavour>(frames: &Frames<F>, pages: &PageList<F>) -> Vec<Frame> {
        pages.in_ring().chain(frames.iter(pages.rest)).collect()
    }

    /// The same changes to a list with a ring for `slots` pages and to a deque.
    fn agrees<F: Flavour>(changes: &[Change], slots: u64) -> Result<(), TestCaseError> {
        let frames = Frames::<F>::new(u64::from(FRAMES), 1);
        let (pages, mut deque) = (PageList::<F>::new(slots, ListId(0)), VecDeque::new());
        for (frame, change) in (0..).zip(changes) {
            match change {
                Change::PushHead => {
                    pages.push_head(&frames, frame, FrameWord::free_tail());
                    deque.push_front(frame);
                }
                Change::PushTail => {
                    pages.push_tail(&frames, frame, FrameWord::free_tail());
                    deque.push_back(frame);
                }
                Change::PopHead => prop_assert_eq!(pages.pop_head(&frames), deque.pop_front()),
                Change::PopTail => prop_assert_eq!(pages.pop_tail(&frames), deque.pop_back()),
                Change::Remove(percent) => {
                    if let Some(frame) = deque.remove(deque.len() * percent / 100) {
                        pages.remove(&frames, frame);
                    }
                }
            }
            pages.check(&frames);
            frames.check_list(pages.rest);
            prop_assert_eq!(pages.is_empty(&frames), deque.is_empty());
            prop_assert_eq!(pages.last(&frames), deque.back().copied());
            prop_assert!(listed(&frames, &pages).iter().eq(&deque));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn it_is_a_deque(changes in changes(), slots in prop_oneof![1..16_u64, Just(256)]) {
            agrees::<Up>(&changes, slots)?;
            agrees::<Smp>(&changes, slots)?;
        }
    }

    #[test]
    fn a_list_that_fits_is_known_from_its_tail() {
        let frames = Frames::<Up>::new(64, 1);
        let pages = PageList::new(64, ListId(0));
        let word = FrameWord::free_tail();
        (0..40).for_each(|frame| pages.push_tail(&frames, frame, word));
        let known = [0, 7, 39, 40].map(|after| pages.nth_last(after));
        assert_eq!(known, [Some(39), Some(32), Some(0), None]);
        pages.remove(&frames, 32);
        assert_eq!(pages.nth_last(7), None, "a hole");
    }
}
