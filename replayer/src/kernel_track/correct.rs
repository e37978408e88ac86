//! Corrections: pages whose state was found to differ from what the events said.

use std::ops::Range;

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Content, CpuId, MAX_PAGE_ORDER};

use super::KernelTrack;
use super::pages::PageState;
use crate::engine::op::{Op, Step, usual_gfp};
use crate::mm::frames::Frame;

/// What a correction did, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Corrected {
    /// Thought free, were allocated.
    pub(super) allocated: u64,
    /// Thought allocated, were free.
    pub(super) freed: u64,
    /// Were there or not, against what was thought.
    pub(super) presence: u64,
    /// Same use, other content.
    pub(super) refined: u64,
    /// Turned from movable to not, or back.
    pub(super) reclassified: u64,
}

impl Corrected {
    /// Pages whose use was wrong.
    pub(super) fn misjudged(&self) -> u64 {
        self.allocated + self.freed + self.presence
    }
}

impl KernelTrack {
    /// Says that frames hold `content`, and appends what that means to policies.
    pub(super) fn correct(
        &mut self,
        frames: Range<Frame>,
        content: Content,
        time_ns: TimeNs,
        ops: &mut Vec<Op>,
    ) -> Corrected {
        let mut done = Corrected::default();
        let mut at = frames.start;
        while at < frames.end {
            let old = self.pages.state(at);
            let same = (at..frames.end).take_while(|f| self.pages.state(*f) == old).count() as u32;
            let run = at..at + same;
            at = run.end;
            if self.pages.geometry().zone_of(run.start).is_none() || old.content() == content {
                continue;
            }
            let state = PageState::new(content).owned(old.is_own() && !content.is_free());
            self.pages.set(run.clone(), state.inferred(true));
            note(&mut done, old.content(), content, u64::from(same));
            operations(run, old, content, time_ns, ops);
        }
        self.note_peak();
        done
    }
}

fn is_there(content: Content) -> bool {
    content != Content::Absent
}

fn note(done: &mut Corrected, old: Content, new: Content, pages: u64) {
    if old == Content::Unknown || new == Content::Unknown {
        return;
    }
    if is_there(old) != is_there(new) {
        done.presence += pages;
    } else if old.is_free() != new.is_free() {
        let part = if new.is_free() { &mut done.freed } else { &mut done.allocated };
        *part += pages;
    } else if !old.is_free() {
        done.refined += pages;
        done.reclassified += if old.taints() != new.taints() { pages } else { 0 };
    }
}

fn operations(
    run: Range<Frame>,
    old: PageState,
    content: Content,
    time_ns: TimeNs,
    ops: &mut Vec<Op>,
) {
    let (start, pages) = (run.start, run.len() as u32);
    let mut push = |step| ops.push(Op { time_ns, step });
    if !is_there(content) {
        push(Step::Shrink { start, pages });
        return;
    }
    if !is_there(old.content()) {
        push(Step::Grow { start, pages });
    }
    let was_free = old.content().is_free() || !is_there(old.content());
    match (was_free, content.is_free()) {
        (true, true) => {}
        (true, false) => {
            let gfp = usual_gfp(content);
            for pfn in run {
                let (cpu, order, inferred) = (CpuId(0), 0, true);
                push(Step::Alloc { pfn, gfp, cpu, order, content, inferred });
            }
        }
        (false, true) => {
            for (pfn, order) in aligned_blocks(run, MAX_PAGE_ORDER) {
                push(Step::Free { pfn, cpu: CpuId(0), order });
            }
        }
        (false, false) => push(Step::SetContent { pfn: start, pages, content }),
    }
}

/// The aligned blocks of at most `max_order` that a range is made of, each as large as can be.
pub fn aligned_blocks(range: Range<Frame>, max_order: u8) -> impl Iterator<Item = (Frame, u8)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let left = range.end.checked_sub(at).filter(|left| *left > 0)?;
        let aligned = if at == 0 { u32::from(max_order) } else { at.trailing_zeros() };
        let order = aligned.min(left.ilog2()).min(u32::from(max_order)) as u8;
        let block = (at, order);
        at += 1 << order;
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn aligned_blocks_tile_the_range(start in 0u32..5000, pages in 0u32..5000) {
            let mut at = start;
            for (pfn, order) in aligned_blocks(start..start + pages, MAX_PAGE_ORDER) {
                prop_assert_eq!(pfn, at);
                prop_assert_eq!(pfn % (1 << order), 0);
                at += 1 << order;
                // The block is as large as it can be.
                let twice = 2 << order;
                let fits = pfn % twice == 0 && pfn + twice <= start + pages;
                prop_assert!(order == MAX_PAGE_ORDER || !fits);
            }
            prop_assert_eq!(at, start + pages);
        }
    }
}
