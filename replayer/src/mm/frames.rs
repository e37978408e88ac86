//! The frame table: 16 bytes for each page frame, and the lists that link frames.
//!
//! A frame is named by its pfn as a `u32` (8 TiB at most). Holes cost address space only: the
//! table is zero pages until touched, and a zero word means "absent".
//!
//! Lists are doubly linked by index, with the order semantics of the kernel's list heads: blocks
//! are added at head or tail and taken from either. A link with the top bit set names a list head.
//!
//! While a frame is allocated its `next` slot holds its *owner*: the kernel pfn of the logical
//! page that lives in it. The `place` slot is the inverse, indexed by kernel pfn: the frame where
//! that logical page lives in this track. It is in a table of its own: neighbours by kernel pfn
//! are asked for together, but live anywhere.

use fragscope_trace::page::{Content, Migratetype};
use prefetch_index::prefetch_index;

use super::flavour::{Flavour, Word};

/// A page frame of a track, by pfn.
pub type Frame = u32;

/// A page that no track has placed, or a frame without an owner.
pub const NOWHERE: u32 = u32::MAX;

/// List heads that fill the cache lines of an [`OwnLine`](super::per_thread::OwnLine).
pub const HEADS_PER_LINE: u32 = 16;

/// Largest number of frames a table can hold.
pub const MAX_FRAMES: u64 = 1 << 31;

const HEAD: u32 = 1 << 31;
const WORD: usize = 0;
const NEXT: usize = 1;
const PREV: usize = 2;
/// In a `place` slot: the allocator dropped the page. Other values are a frame + 1, so that a zeroed
/// table means "nowhere".
const EVICTED: u32 = u32::MAX;

/// What a frame is to the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameState {
    /// Not there, or not given to the allocator.
    Absent = 0,
    /// Reserved at boot; never moves, never freed.
    Reserved = 1,
    /// Handed out. The order is that of the allocation's block on its head, 0 on tails.
    Allocated = 2,
    /// Head of a free block on a buddy list.
    Buddy = 3,
    /// Head of a free block on a per-CPU list.
    Pcp = 4,
    /// Inside a free block, not its head.
    FreeTail = 5,
    /// Head of a free block taken off all lists.
    Isolated = 6,
}

impl FrameState {
    const ALL: [FrameState; 7] = [
        FrameState::Absent,
        FrameState::Reserved,
        FrameState::Allocated,
        FrameState::Buddy,
        FrameState::Pcp,
        FrameState::FreeTail,
        FrameState::Isolated,
    ];
}

/// Every value that the bits of a part can have; those beyond the last known one read as that, so
/// that a part is read without a branch.
pub(crate) const fn by_bits<T: Copy, const KNOWN: usize, const VALUES: usize>(
    all: [T; KNOWN],
) -> [T; VALUES] {
    let mut values = [all[KNOWN - 1]; VALUES];
    let mut i = 0;
    while i < KNOWN {
        values[i] = all[i];
        i += 1;
    }
    values
}

static STATES: [FrameState; 8] = by_bits(FrameState::ALL);
pub(crate) static TYPES: [Migratetype; 8] = by_bits(Migratetype::ALL);
static CONTENTS: [Content; 32] = by_bits(Content::ALL);

bitflags::bitflags! {
    /// Marks of a frame.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Mark: u16 {
        /// Belongs to the recorder.
        const OWN = 1 << 0;
        /// `PagePCPBuddy`: free on its home CPU's lists, may be merged there.
        const PCP_BUDDY = 1 << 1;
        /// Filler of a fill-in history.
        const FILLER = 1 << 2;
        /// An allocated page that is not the head of its block.
        const TAIL = 1 << 3;
        /// Deduced, not observed.
        const INFERRED = 1 << 4;
        /// Reclaimed by the model although the kernel kept it.
        const RECLAIMED = 1 << 5;
        /// `PageReported`: a listed free block that the host was told of.
        const REPORTED = 1 << 6;
    }
}

/// State of a frame in one word: state 3 bits, order 5, type 3, content 5, marks 16.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameWord(u32);

impl FrameWord {
    /// A frame that is not there.
    pub const ABSENT: FrameWord = FrameWord(0);

    /// Packs the parts.
    #[must_use]
    #[inline]
    pub fn new(
        state: FrameState,
        order: u8,
        migratetype: Migratetype,
        content: Content,
        marks: Mark,
    ) -> FrameWord {
        debug_assert!(order < 32);
        FrameWord(
            state as u32
                | u32::from(order) << 3
                | (migratetype as u32) << 8
                | (content as u32) << 11
                | u32::from(marks.bits()) << 16,
        )
    }

    /// A free block's head on a buddy list.
    #[must_use]
    #[inline]
    pub fn buddy(order: u8, migratetype: Migratetype) -> FrameWord {
        FrameWord::new(FrameState::Buddy, order, migratetype, Content::Free, Mark::empty())
    }

    /// The inside of a free block.
    #[must_use]
    #[inline]
    pub fn free_tail() -> FrameWord {
        let movable = Migratetype::Unmovable;
        FrameWord::new(FrameState::FreeTail, 0, movable, Content::Free, Mark::empty())
    }

    /// What the frame is.
    #[must_use]
    #[inline]
    pub fn state(self) -> FrameState {
        STATES[(self.0 & 7) as usize]
    }

    /// log2 of the pages of the block that this frame heads.
    #[must_use]
    #[inline]
    pub fn order(self) -> u8 {
        (self.0 >> 3 & 31) as u8
    }

    /// Type of the list (free) or of the request (allocated).
    #[must_use]
    #[inline]
    pub fn migratetype(self) -> Migratetype {
        TYPES[(self.0 >> 8 & 7) as usize]
    }

    /// What it holds.
    #[must_use]
    #[inline]
    pub fn content(self) -> Content {
        CONTENTS[(self.0 >> 11 & 31) as usize]
    }

    /// Its marks.
    #[must_use]
    #[inline]
    pub fn marks(self) -> Mark {
        Mark::from_bits_retain((self.0 >> 16) as u16)
    }

    /// Whether the frame is handed out.
    #[must_use]
    #[inline]
    pub fn is_allocated(self) -> bool {
        self.0 & 7 == FrameState::Allocated as u32
    }

    /// Whether it is a handed out block of one page, not a part of a larger one.
    #[must_use]
    #[inline]
    pub fn is_single_page(self) -> bool {
        const TAIL: u32 = (Mark::TAIL.bits() as u32) << 16;
        self.0 & (0xff | TAIL) == FrameState::Allocated as u32
    }

    /// Whether it heads a free buddy block of exactly `order`.
    #[must_use]
    #[inline]
    pub fn is_buddy_of(self, order: u8) -> bool {
        self.0 & 0xff == FrameState::Buddy as u32 | u32::from(order) << 3
    }

    /// The same word with another content.
    #[must_use]
    #[inline]
    pub fn with_content(self, content: Content) -> FrameWord {
        FrameWord(self.0 & !(31 << 11) | (content as u32) << 11)
    }

    /// The same word with other marks.
    #[must_use]
    #[inline]
    pub fn with_marks(self, marks: Mark) -> FrameWord {
        FrameWord(self.0 & 0xffff | u32::from(marks.bits()) << 16)
    }
}

impl std::fmt::Debug for FrameWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} order {} {}", self.state(), self.order(), self.migratetype())?;
        write!(f, " {:?} {:?}", self.content(), self.marks())
    }
}

/// A list head, by its number in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub u32);

/// Per-frame state and all lists of one track.
#[derive(Debug)]
pub struct Frames<F: Flavour> {
    /// State and links by frame.
    frames: Box<[[F::U32; 3]]>,
    /// Place slots by kernel pfn.
    places: Box<[[F::U32; 1]]>,
    heads: Box<[[F::U32; 2]]>,
}

impl<F: Flavour> Frames<F> {
    /// A table of `frames` absent frames and `lists` empty lists.
    ///
    /// # Panics
    /// If there are more than [`MAX_FRAMES`] frames or 2^31 lists; callers check the machine.
    #[must_use]
    pub fn new(frames: u64, lists: u32) -> Frames<F> {
        assert!(frames <= MAX_FRAMES, "{frames} frames: at most {MAX_FRAMES} are supported");
        assert!(lists < HEAD, "{lists} lists: at most {HEAD} are supported");
        let places = F::U32::zeroed(frames as usize);
        let frames = F::U32::zeroed(frames as usize);
        let heads: Box<[[F::U32; 2]]> = F::U32::zeroed(lists as usize);
        for (id, head) in heads.iter().enumerate() {
            let own = id as u32 | HEAD;
            head[0].set(own);
            head[1].set(own);
        }
        Frames { frames, places, heads }
    }

    /// Number of frames, absent ones included.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.frames.len() as u32
    }

    /// Whether the table has no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// State of a frame.
    #[inline]
    pub fn word(&self, frame: Frame) -> FrameWord {
        FrameWord(self.frames[frame as usize][WORD].get())
    }

    /// State of a frame; `None` beyond the table.
    #[inline]
    pub fn known_word(&self, frame: Frame) -> Option<FrameWord> {
        Some(FrameWord(self.frames.get(frame as usize)?[WORD].get()))
    }

    /// Changes the state of a frame.
    #[inline]
    pub fn set_word(&self, frame: Frame, word: FrameWord) {
        self.frames[frame as usize][WORD].set(word.0);
    }

    /// Kernel pfn of the logical page in an allocated frame, or [`NOWHERE`].
    #[inline]
    pub fn owner(&self, frame: Frame) -> u32 {
        self.frames[frame as usize][NEXT].get()
    }

    /// Where the logical page of a kernel pfn lives, or `None`.
    #[inline]
    pub fn place(&self, kernel_pfn: u32) -> Option<Frame> {
        Self::placed(self.places[kernel_pfn as usize][0].get())
    }

    /// Has the state and links of a frame brought near, without waiting for them.
    #[inline(always)]
    pub fn prefetch(&self, frame: Frame) {
        prefetch_index(&self.frames, frame as usize);
    }

    /// Has the neighbours of a listed frame on its list brought near; its own links are at hand.
    #[inline(always)]
    pub fn prefetch_neighbours(&self, frame: Frame) {
        let [_, next, prev] = &self.frames[frame as usize];
        for link in [next.get(), prev.get()] {
            if link & HEAD == 0 {
                self.prefetch(link);
            }
        }
    }

    /// Has the place slot of a kernel pfn brought near, without waiting for it.
    #[inline(always)]
    pub fn prefetch_place(&self, kernel_pfn: u32) {
        prefetch_index(&self.places, kernel_pfn as usize);
    }

    /// Says that the allocator dropped the logical page `kernel_pfn`, which the kernel kept.
    #[inline]
    pub fn evict(&self, kernel_pfn: u32) {
        self.places[kernel_pfn as usize][0].set(EVICTED);
    }

    /// Whether [`Frames::evict`] was the last word about the logical page.
    #[inline]
    pub fn is_evicted(&self, kernel_pfn: u32) -> bool {
        self.places[kernel_pfn as usize][0].get() == EVICTED
    }

    /// Says that the logical page `kernel_pfn` lives in `frame`, which is allocated.
    #[inline]
    pub fn settle(&self, kernel_pfn: u32, frame: Frame) {
        self.places[kernel_pfn as usize][0].set(frame + 1);
        self.frames[frame as usize][NEXT].set(kernel_pfn);
    }

    /// [`Frames::place`] and [`Frames::unsettle`] in one; `None` also for a pfn beyond the table.
    #[inline]
    pub fn take_place(&self, kernel_pfn: u32) -> Option<Frame> {
        let [place] = self.places.get(kernel_pfn as usize)?;
        let frame = Self::placed(place.get())?;
        place.set(0);
        Some(frame)
    }

    /// The frame where a logical page lives; any frame if it lives nowhere.
    #[inline(always)]
    pub fn likely_place(&self, kernel_pfn: u32) -> Frame {
        let slot = self.places.get(kernel_pfn as usize);
        slot.map_or(0, |[place]| place.get().saturating_sub(1))
    }

    /// The frame that a place slot names.
    #[inline]
    fn placed(slot: u32) -> Option<Frame> {
        let frame = slot.wrapping_sub(1);
        (frame < EVICTED - 1).then_some(frame)
    }

    /// Says that the logical page `kernel_pfn` lives nowhere.
    #[inline]
    pub fn unsettle(&self, kernel_pfn: u32) {
        self.places[kernel_pfn as usize][0].set(0);
    }

    /// Changes the state of a frame to an allocated one that nobody owns yet.
    #[inline]
    pub fn set_unowned(&self, frame: Frame, word: FrameWord) {
        let [state, owner, _] = &self.frames[frame as usize];
        state.set(word.0);
        owner.set(NOWHERE);
    }

    /// The fourth use of a frame's slots: a word of the allocator's own, for a frame that is on
    /// none of the linked lists.
    #[inline]
    pub fn note(&self, frame: Frame) -> u32 {
        self.frames[frame as usize][PREV].get()
    }

    /// Sets a frame's state and [`Frames::note`].
    #[inline]
    pub fn set_noted(&self, frame: Frame, word: FrameWord, note: u32) {
        let [state, _, slot] = &self.frames[frame as usize];
        state.set(word.0);
        slot.set(note);
    }

    /// Sets [`Frames::note`].
    #[inline]
    pub fn set_note(&self, frame: Frame, note: u32) {
        self.frames[frame as usize][PREV].set(note);
    }

    #[inline]
    fn link(&self, id: u32, slot: usize) -> &F::U32 {
        if id & HEAD == 0 {
            &self.frames[id as usize][slot]
        } else {
            &self.heads[(id & !HEAD) as usize][slot - NEXT]
        }
    }

    #[inline]
    fn insert_between(&self, frame: Frame, before: u32, after: u32) {
        self.frames[frame as usize][NEXT].set(after);
        self.frames[frame as usize][PREV].set(before);
        self.link(before, NEXT).set(frame);
        self.link(after, PREV).set(frame);
    }

    /// Puts a frame that is on no list at the head of `list`.
    #[inline]
    pub fn push_head(&self, list: ListId, frame: Frame) {
        let head = list.0 | HEAD;
        self.insert_between(frame, head, self.link(head, NEXT).get());
    }

    /// Puts a frame that is on no list at the tail of `list`.
    #[inline]
    pub fn push_tail(&self, list: ListId, frame: Frame) {
        let head = list.0 | HEAD;
        self.insert_between(frame, self.link(head, PREV).get(), head);
    }

    /// Takes a frame off its list, whichever that is.
    #[inline]
    pub fn unlink(&self, frame: Frame) {
        let [_, next, prev] = &self.frames[frame as usize];
        let (next, prev) = (next.get(), prev.get());
        self.link(prev, NEXT).set(next);
        self.link(next, PREV).set(prev);
    }

    /// Takes the first frame off a list.
    #[inline]
    pub fn pop_head(&self, list: ListId) -> Option<Frame> {
        let frame = self.first(list)?;
        let next = self.frames[frame as usize][NEXT].get();
        self.heads[list.0 as usize][0].set(next);
        self.link(next, PREV).set(list.0 | HEAD);
        Some(frame)
    }

    /// Takes the last frame off a list.
    #[inline]
    pub fn pop_tail(&self, list: ListId) -> Option<Frame> {
        let frame = self.last(list)?;
        self.unlink(frame);
        Some(frame)
    }

    /// First frame of a list.
    #[inline]
    pub fn first(&self, list: ListId) -> Option<Frame> {
        let id = self.heads[list.0 as usize][0].get();
        (id & HEAD == 0).then_some(id)
    }

    /// Last frame of a list.
    #[inline]
    pub fn last(&self, list: ListId) -> Option<Frame> {
        let id = self.heads[list.0 as usize][1].get();
        (id & HEAD == 0).then_some(id)
    }

    /// The frame after a listed one.
    #[inline]
    pub fn next(&self, frame: Frame) -> Option<Frame> {
        let id = self.frames[frame as usize][NEXT].get();
        (id & HEAD == 0).then_some(id)
    }

    /// Turns a list until `frame`, which is on it, comes first; the order is the same otherwise
    /// (`list_rotate_to_front`).
    pub fn turn_to_first(&self, list: ListId, frame: Frame) {
        let head = list.0 | HEAD;
        let (first, last) = (self.link(head, NEXT).get(), self.link(head, PREV).get());
        if first == frame {
            return;
        }
        self.link(last, NEXT).set(first);
        self.link(first, PREV).set(last);
        let before = self.link(frame, PREV).get();
        self.link(before, NEXT).set(head);
        self.link(head, PREV).set(before);
        self.link(head, NEXT).set(frame);
        self.link(frame, PREV).set(head);
    }

    /// Frames of a list from head to tail. The list must not change meanwhile.
    pub fn iter(&self, list: ListId) -> impl Iterator<Item = Frame> + '_ {
        std::iter::successors(self.first(list), |frame| self.next(*frame))
    }

    /// Re-derives every link of a list from its other end. For tests and debug builds.
    ///
    /// # Panics
    /// If a link does not lead back.
    pub fn check_list(&self, list: ListId) {
        let head = list.0 | HEAD;
        let mut at = head;
        for _ in 0..=self.frames.len() {
            let next = self.link(at, NEXT).get();
            assert_eq!(self.link(next, PREV).get(), at, "list {list:?} is broken after {at:#x}");
            if next == head {
                return;
            }
            at = next;
        }
        panic!("list {list:?} never returns to its head");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::mm::flavour::{Smp, Up};

    #[test]
    fn a_word_keeps_its_parts() {
        for state in FrameState::ALL {
            for content in Content::ALL {
                for migratetype in Migratetype::ALL {
                    let marks = Mark::OWN | Mark::RECLAIMED;
                    let word = FrameWord::new(state, 18, migratetype, content, marks);
                    assert_eq!((word.state(), word.order()), (state, 18));
                    assert_eq!(word.migratetype(), migratetype);
                    assert_eq!((word.content(), word.marks()), (content, marks));
                }
            }
        }
        assert_eq!(FrameWord::ABSENT.state(), FrameState::Absent);
    }

    #[test]
    fn a_new_table_is_absent_and_nowhere() {
        let frames = Frames::<Up>::new(4, 2);
        assert_eq!(frames.word(3), FrameWord::ABSENT);
        assert_eq!(frames.place(3), None);
        assert_eq!(frames.first(ListId(1)), None);
    }

    fn same_as_deques<F: Flavour>(steps: &[(u8, u8)]) {
        let frames = Frames::<F>::new(8, 2);
        let mut model = [VecDeque::new(), VecDeque::new()];
        for (what, frame) in steps {
            let (list, frame) = ((what & 1) as usize, u32::from(frame % 8));
            if what & 4 != 0 {
                assert_eq!(frames.pop_head(ListId(list as u32)), model[list].pop_front());
            } else if let (true, Some(at)) =
                (what & 8 != 0, model[list].iter().position(|listed| *listed == frame))
            {
                model[list].rotate_left(at);
                frames.turn_to_first(ListId(list as u32), frame);
            } else if let Some(l) = model.iter_mut().find(|l| l.contains(&frame)) {
                l.retain(|f| *f != frame);
                frames.unlink(frame);
            } else if what & 2 == 0 {
                model[list].push_front(frame);
                frames.push_head(ListId(list as u32), frame);
            } else {
                model[list].push_back(frame);
                frames.push_tail(ListId(list as u32), frame);
            }
            for (id, l) in model.iter().enumerate() {
                let id = ListId(id as u32);
                frames.check_list(id);
                assert!(frames.iter(id).eq(l.iter().copied()));
                assert_eq!(
                    (frames.first(id), frames.last(id)),
                    (l.front().copied(), l.back().copied())
                );
            }
        }
    }

    proptest! {
        #[test]
        fn lists_are_deques(steps in prop::collection::vec(any::<(u8, u8)>(), 0..200)) {
            same_as_deques::<Up>(&steps);
            same_as_deques::<Smp>(&steps);
        }
    }
}
