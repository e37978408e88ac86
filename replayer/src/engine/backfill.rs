//! Untraced allocations, put back where they must have been.
//!
//! A free of a page that was thought free shows that something took the page without an event
//! (bulk allocation, mostly). A first pass over a recording collects such frees; the second sees
//! an allocation, marked as inferred, as soon after the page's previous event as its clock tells.
//! The real one came some time later, so the memory taken by such pages is an upper bound.

use std::borrow::Cow;
use std::collections::VecDeque;

use fragscope_trace::event::{EventBatch, PageEvent, PageEventKind, Tags, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{CpuId, Pfn};

use crate::kernel_track::UnmatchedFree;

/// Inferred allocations by time.
#[derive(Clone, Debug, Default)]
pub struct Backfill {
    events: VecDeque<PageEvent>,
}

impl Backfill {
    /// The allocations that explain `frees`.
    #[must_use]
    pub fn new(frees: &[UnmatchedFree]) -> Backfill {
        let mut events: Vec<PageEvent> = frees.iter().map(allocation).collect();
        events.sort_by_key(|event| (event.time_ns, event.pfn));
        Backfill { events: events.into() }
    }

    /// Allocations not put back yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The batch with the allocations that fall into it.
    pub fn merge<'a>(&mut self, batch: &'a EventBatch) -> Cow<'a, EventBatch> {
        let is_due = |end: TimeNs| self.events.front().is_some_and(|e| e.time_ns <= end);
        if !batch.last_time_ns().is_some_and(is_due) {
            return Cow::Borrowed(batch);
        }
        let mut merged = EventBatch::default();
        for (pages, side) in batch.stretches() {
            for event in pages {
                self.put_before(event.time_ns, &mut merged);
                merged.pages.push(*event);
            }
            if let Some(side) = side {
                self.put_before(side.time_ns, &mut merged);
                merged.push_side(side.clone());
            }
        }
        Cow::Owned(merged)
    }

    fn put_before(&mut self, time_ns: TimeNs, merged: &mut EventBatch) {
        while let Some(event) = self.events.pop_front_if(|event| event.time_ns < time_ns) {
            merged.pages.push(event);
        }
    }
}

fn allocation(free: &UnmatchedFree) -> PageEvent {
    let (kind, gfp) = (PageEventKind::Alloc, Gfp::KERNEL);
    let pfn = Pfn(u64::from(free.pfn));
    let cpu = CpuId(0);
    PageEvent::new(kind, free.after_ns, cpu, pfn, free.order, gfp.migratetype(), gfp)
        .tagged(Tags::INFERRED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_stand_before_younger_events() {
        let free = |pfn, after_ns| UnmatchedFree { pfn, order: 0, time_ns: 100, after_ns };
        let mut backfill = Backfill::new(&[free(1, 25), free(2, 5), free(3, 90)]);
        let at = |time| PageEvent::free(time, CpuId(0), Pfn(9), 0);
        let batch = EventBatch { pages: vec![at(10), at(20), at(30)], sides: Vec::new() };
        let merged = backfill.merge(&batch).into_owned();
        let times: Vec<u64> = merged.pages.iter().map(|e| e.time_ns).collect();
        assert_eq!(times, [5, 10, 20, 25, 30]);
        assert_eq!(backfill.len(), 1);
        let early = EventBatch { pages: vec![at(40)], sides: Vec::new() };
        assert!(matches!(backfill.merge(&early), Cow::Borrowed(_)));
    }
}
