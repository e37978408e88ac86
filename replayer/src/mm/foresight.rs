//! What a list will give next, so that the processor can fetch it early.
//!
//! A frame on a list names only its neighbours, so whoever takes many waits for memory once for
//! each: the next one is known when the last has arrived. Here the frames of a list are kept a
//! second time, side by side. It is a guess that decides nothing: of a list that is longer than
//! the copy only the part at its head is known, and frames that leave from the middle stay until
//! they are met. With real threads ([`Flavour::REPLAYS`] is false) there is none.

use super::flavour::{Flavour, Word};
use super::frames::{Frame, Frames};
use super::geometry::{Geometry, ZoneSpan};

/// Most frames of a list that are known.
const KNOWN_MAX: u64 = 1 << 16;

/// How many frames before its turn one is fetched.
const AHEAD: u32 = 12;

/// How many of the next frames are looked through for the one that was taken.
const SEARCHED: u32 = 16;

/// The frames at the head of one list.
#[derive(Debug)]
pub(super) struct Foresight<F: Flavour> {
    /// A ring: the frame at `first` is the head.
    ring: Box<[[F::U32; 1]]>,
    first: F::U32,
    len: F::U32,
}

impl<F: Flavour> Foresight<F> {
    /// Of an empty list, which rarely holds more than `pages`.
    pub(super) fn new(pages: u64) -> Foresight<F> {
        let known = if F::REPLAYS { pages.next_power_of_two().min(KNOWN_MAX) } else { 0 };
        Foresight {
            ring: F::U32::zeroed(known as usize),
            first: F::U32::default(),
            len: F::U32::default(),
        }
    }

    /// Of the empty lists of one CPU in a zone: their longest length is tuned up to an eighth of
    /// the zone's pages, shared among the CPUs.
    pub(super) fn of_pageset<const LISTS: usize>(
        geometry: &Geometry,
        zone: &ZoneSpan,
    ) -> [Foresight<F>; LISTS] {
        let pages = u64::from(zone.end - zone.start) / 8 / u64::from(geometry.cpus).max(1);
        std::array::from_fn(|_| Foresight::new(pages.max(1)))
    }

    #[inline(always)]
    fn slot(&self, position: u32) -> &F::U32 {
        let mask = self.ring.len() - 1;
        &self.ring[self.first.get().wrapping_add(position) as usize & mask][0]
    }

    /// A frame was put at the head.
    #[inline(always)]
    pub(super) fn pushed_head(&self, frame: Frame) {
        if !F::REPLAYS {
            return;
        }
        self.first.set(self.first.get().wrapping_sub(1));
        self.slot(0).set(frame);
        self.len.set((self.len.get() + 1).min(self.ring.len() as u32));
    }

    /// A frame was put at the tail.
    #[inline(always)]
    pub(super) fn pushed_tail(&self, frame: Frame) {
        let len = self.len.get();
        if F::REPLAYS && len < self.ring.len() as u32 {
            self.slot(len).set(frame);
            self.len.set(len + 1);
        }
    }

    /// A frame was taken from the head: fetches one that will be taken later.
    #[inline(always)]
    pub(super) fn popped_head(&self, frames: &Frames<F>, frame: Frame) {
        if !F::REPLAYS {
            return;
        }
        let len = self.len.get();
        if len > AHEAD && self.slot(0).get() == frame {
            frames.prefetch(self.slot(AHEAD).get());
            self.skip(1);
        } else {
            self.skip_to(frame);
        }
    }

    #[inline(always)]
    fn skip(&self, frames: u32) {
        self.first.set(self.first.get().wrapping_add(frames));
        self.len.set(self.len.get() - frames);
    }

    /// The frame that was taken is not the one that was known as the head, or few are left.
    #[inline(never)]
    fn skip_to(&self, frame: Frame) {
        let searched = self.len.get().min(SEARCHED);
        let found = (0..searched).find(|at| self.slot(*at).get() == frame);
        self.skip(found.map_or(searched, |at| at + 1));
    }

    /// A frame is taken from the tail.
    #[inline(always)]
    pub(super) fn popped_tail(&self, frame: Frame) {
        let len = self.len.get();
        if F::REPLAYS && len > 0 && self.slot(len - 1).get() == frame {
            self.len.set(len - 1);
        }
    }

    /// The frame that will be at the tail when so many have left there, as far as it is known.
    #[inline]
    pub(super) fn nth_last(&self, position: u32) -> Option<Frame> {
        let at = self.len.get().checked_sub(position + 1)?;
        Some(self.slot(at).get())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::mm::flavour::{Smp, Up};

    #[derive(Clone, Copy, Debug)]
    enum Change {
        PushHead,
        PushTail,
        PopHead,
        PopTail,
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        use Change::{PopHead, PopTail, PushHead, PushTail};
        let any = prop_oneof![Just(PushHead), Just(PushTail), Just(PopHead), Just(PopTail)];
        proptest::collection::vec(any, 0..200)
    }

    /// The list itself beside what is known of it.
    fn play(changes: &[Change], known: u64) -> (VecDeque<Frame>, Foresight<Up>) {
        let frames = Frames::<Up>::new(1 << 10, 1);
        let (mut list, foresight) = (VecDeque::new(), Foresight::new(known));
        for (frame, change) in changes.iter().enumerate() {
            let frame = frame as Frame;
            match change {
                Change::PushHead => {
                    list.push_front(frame);
                    foresight.pushed_head(frame);
                }
                Change::PushTail => {
                    list.push_back(frame);
                    foresight.pushed_tail(frame);
                }
                Change::PopHead => {
                    if let Some(frame) = list.pop_front() {
                        foresight.popped_head(&frames, frame);
                    }
                }
                Change::PopTail => {
                    if let Some(frame) = list.pop_back() {
                        foresight.popped_tail(frame);
                    }
                }
            }
        }
        (list, foresight)
    }

    proptest! {
        #[test]
        fn a_list_that_fits_is_known_from_both_ends(changes in changes()) {
            let (list, foresight) = play(&changes, 256);
            let known: Vec<Frame> =
                (0..foresight.len.get()).map(|at| foresight.slot(at).get()).collect();
            prop_assert!(list.iter().eq(&known));
            let last = (0..).map_while(|at| foresight.nth_last(at));
            prop_assert!(last.eq(list.iter().rev().copied()));
        }

        #[test]
        fn of_a_longer_list_no_more_is_kept_than_there_is_room_for(changes in changes()) {
            let (_, foresight) = play(&changes, 4);
            prop_assert!(foresight.len.get() <= 4);
        }
    }

    #[test]
    fn frames_that_left_from_the_middle_are_passed_over() {
        let (frames, foresight) = (Frames::<Up>::new(64, 1), Foresight::<Up>::new(64));
        (0..40).for_each(|frame| foresight.pushed_tail(frame));
        // Frames 0 to 9 left unseen.
        foresight.popped_head(&frames, 10);
        assert_eq!(foresight.slot(0).get(), 11);
        // A frame that is not known at all costs no more than what is looked through.
        foresight.popped_head(&frames, 63);
        assert_eq!(foresight.slot(0).get(), 11 + SEARCHED);
    }

    #[test]
    fn threads_share_none() {
        let foresight = Foresight::<Smp>::new(64);
        foresight.pushed_head(1);
        foresight.pushed_tail(2);
        assert_eq!(foresight.nth_last(0), None);
    }
}
