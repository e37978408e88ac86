//! Allocations that a change to their caller would make movable (patch 34: btrfs allocates the
//! pages of tree nodes as movable ones; setting them so is an experiment for any caller).
//!
//! A first pass finds the allocations whose process or kernel stack has a text in its name; in the
//! second the policies see them as requests for movable memory on the LRU lists. The kernel track
//! stays what the kernel did.

use std::collections::{HashMap, HashSet};

use fragscope_trace::event::{EventBatch, PageEvent, SideKind, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, Pfn};

use super::op::{Op, Step};

/// Which allocations are made movable.
#[derive(Clone, Debug, Default)]
pub struct Retype {
    text: String,
    /// Stacks that have the text in a frame, by id.
    stacks: HashMap<u32, bool>,
    allocations: HashSet<(TimeNs, Pfn)>,
}

impl Retype {
    /// Allocations of whatever has `text` in the name of its process or of a frame of its stack.
    #[must_use]
    pub fn new(text: &str) -> Retype {
        Retype { text: text.to_owned(), ..Retype::default() }
    }

    /// Looks through a batch of the first pass.
    pub fn note(&mut self, batch: &EventBatch) {
        for (_, side) in batch.stretches() {
            let Some(side) = side else { continue };
            match &side.kind {
                SideKind::Stack { id, frames } => {
                    let has = frames.iter().any(|frame| frame.contains(&self.text));
                    self.stacks.insert(*id, has);
                }
                SideKind::Context { pfn, comm, stack, .. } => {
                    let by_stack = self.stacks.get(stack).copied().unwrap_or(false);
                    if by_stack || comm.contains(&self.text) {
                        self.allocations.insert((side.time_ns, *pfn));
                    }
                }
                _ => {}
            }
        }
    }

    /// Allocations found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Whether none was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allocations.is_empty()
    }

    /// Makes what an event became movable, if it is one of them.
    #[inline]
    pub fn apply(&self, event: &PageEvent, ops: &mut [Op]) {
        if self.allocations.is_empty() || !self.allocations.contains(&(event.time_ns, event.pfn)) {
            return;
        }
        for op in ops {
            if let Step::Alloc { pfn, gfp, content, .. } = &mut op.step
                && u64::from(*pfn) == event.pfn.0
            {
                *gfp = (*gfp - Gfp::RECLAIMABLE) | Gfp::MOVABLE;
                *content = Content::File;
            }
        }
    }
}
