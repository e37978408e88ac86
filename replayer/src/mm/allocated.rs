//! Allocated blocks: where one begins, and how it is split when a part of it is freed.
//!
//! `stock-allocator` 5.2: folios split and tails are freed one by one without a trace of the
//! split, so state is kept for each base page and blocks are split when a free shows it.

use fragscope_trace::page::Content;

use super::buddy::Buddy;
use super::flavour::Flavour;
use super::frames::{Frame, FrameState, FrameWord, Mark};
use super::placement::Placement;

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// The head of the allocated block that holds a frame, and its order.
    pub fn allocated_block_of(&self, frame: Frame) -> Option<(Frame, u8)> {
        for order in 0..32 {
            let head = frame >> order << order;
            let word = self.frames.word(head);
            if word.state() != FrameState::Allocated {
                return None;
            }
            if !word.marks().contains(Mark::TAIL) {
                return (frame - head < 1 << word.order()).then(|| (head, word.order()));
            }
        }
        None
    }

    /// Splits allocated blocks so that none reaches across an edge of the aligned block of
    /// `order` at `frame`: it then consists of whole blocks.
    pub fn split_around(&self, frame: Frame, order: u8) {
        if let Some((head, size)) = self.allocated_block_of(frame)
            && size > order
        {
            self.split_down(head, size, frame, order);
        }
    }

    /// Halves a block until the one of `order` at `frame` stands by itself.
    fn split_down(&self, head: Frame, size: u8, frame: Frame, order: u8) {
        let (mut head, mut size) = (head, size);
        while size > order {
            size -= 1;
            let upper = head + (1 << size);
            self.set_head(head, size);
            self.set_head(upper, size);
            if frame >= upper {
                head = upper;
            }
        }
    }

    /// Makes an allocated frame the head of a block; its content and other marks stay.
    pub fn set_head(&self, frame: Frame, order: u8) {
        let word = self.frames.word(frame);
        let marks = word.marks() - Mark::TAIL;
        let head = FrameWord::new(word.state(), order, word.migratetype(), word.content(), marks);
        self.frames.set_word(frame, head);
    }
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// Corrects what an allocated page holds. Frames that are not allocated stay as they are.
    pub fn set_content(&self, frame: Frame, content: Content) {
        if frame >= self.frames.len() || !content.is_allocated() {
            return;
        }
        let word = self.frames.word(frame);
        if word.state() != FrameState::Allocated || word.content() == content {
            return;
        }
        self.frames.set_word(frame, word.with_content(content));
        self.shift(frame, 0, word.content(), content);
    }
}
