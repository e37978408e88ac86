//! One order of events from many rings.
//!
//! A record becomes visible shortly after its program read the clock; an interrupt in between can
//! delay it. So the merger holds events back and releases only what is older than a bound that
//! the caller derives from a clock reading *before* it looked at the rings. An event that still
//! comes behind one already released is delivered, tagged `LATE`.

use fragscope_trace::event::{EventBatch, PageEvent, SideEvent, Tags, TimeNs};

/// Events waiting for their turn.
#[derive(Debug, Default)]
pub struct Merger {
    pages: Vec<PageEvent>,
    sides: Vec<SideEvent>,
    /// Time of the youngest event released.
    released_ns: TimeNs,
}

impl Merger {
    /// Adds a frequent event.
    #[inline]
    pub fn push_page(&mut self, event: PageEvent) {
        self.pages.push(event);
    }

    /// Adds a rare event.
    pub fn push_side(&mut self, event: SideEvent) {
        self.sides.push(event);
    }

    /// Events held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.pages.len() + self.sides.len()
    }

    /// Moves all events older than `before_ns` to the end of `out`, by time.
    pub fn release(&mut self, before_ns: TimeNs, out: &mut EventBatch) {
        // Rings deliver sorted runs, which a stable sort recognises.
        self.pages.sort_by_key(|e| e.time_ns);
        self.sides.sort_by_key(|e| e.time_ns);
        let pages = self.pages.partition_point(|e| e.time_ns < before_ns);
        let sides = self.sides.partition_point(|e| e.time_ns < before_ns);
        let from = out.pages.len();
        self.tag_late();
        out.pages.extend(self.pages.drain(..pages));
        for side in self.sides.drain(..sides) {
            // Behind all events of the same time: a context follows its allocation.
            let at = out.pages[from..].partition_point(|e| e.time_ns <= side.time_ns);
            out.sides.push(((from + at) as u32, side));
        }
        if let Some(last) = out.last_time_ns() {
            self.released_ns = self.released_ns.max(last);
        }
    }

    /// Tags the events that ought to have been released before.
    fn tag_late(&mut self) {
        let late = self.pages.partition_point(|e| e.time_ns < self.released_ns);
        for event in &mut self.pages[..late] {
            *event = event.tagged(Tags::LATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use fragscope_trace::event::SideKind;
    use fragscope_trace::page::{CpuId, Pfn};
    use proptest::prelude::*;

    use super::*;

    fn free(time_ns: TimeNs) -> PageEvent {
        PageEvent::free(time_ns, CpuId(0), Pfn(1), 0)
    }

    fn mark(time_ns: TimeNs) -> SideEvent {
        SideEvent { time_ns, cpu: None, kind: SideKind::Mark { text: String::new() } }
    }

    fn times(batch: &EventBatch) -> Vec<(TimeNs, bool)> {
        batch.pages.iter().map(|e| (e.time_ns, e.tags().contains(Tags::LATE))).collect()
    }

    #[test]
    fn an_event_behind_a_released_one_is_late() {
        let (mut merger, mut out) = (Merger::default(), EventBatch::default());
        merger.push_page(free(20));
        merger.push_page(free(10));
        merger.release(15, &mut out);
        merger.push_page(free(7));
        merger.push_page(free(10));
        merger.release(100, &mut out);
        assert_eq!(times(&out), [(10, false), (7, true), (10, false), (20, false)]);
    }

    #[test]
    fn sides_stand_behind_pages_of_the_same_time() {
        let (mut merger, mut out) = (Merger::default(), EventBatch::default());
        for time in [1, 3, 3, 5] {
            merger.push_page(free(time));
        }
        for time in [3, 0, 9] {
            merger.push_side(mark(time));
        }
        merger.release(6, &mut out);
        merger.release(10, &mut out);
        let at: Vec<_> = out.sides.iter().map(|(at, s)| (*at, s.time_ns)).collect();
        assert_eq!(at, [(0, 0), (3, 3), (4, 9)]);
    }

    proptest! {
        /// Whatever comes when: nothing is lost or doubled, what is not tagged late ascends, and
        /// what is tagged late is behind something older than itself.
        #[test]
        fn every_event_comes_out_once_and_in_order(
            passes in prop::collection::vec(
                (prop::collection::vec(0u64..1000, 0..20), 0u64..1000), 0..20),
        ) {
            let (mut merger, mut out) = (Merger::default(), EventBatch::default());
            let mut sent = Vec::new();
            for (arrivals, bound) in passes {
                for time in arrivals {
                    sent.push(time);
                    merger.push_page(free(time));
                }
                merger.release(bound, &mut out);
            }
            merger.release(TimeNs::MAX, &mut out);
            prop_assert_eq!(merger.held(), 0);
            let mut got: Vec<_> = out.pages.iter().map(|e| e.time_ns).collect();
            let mut youngest = 0;
            for (time, late) in times(&out) {
                prop_assert_eq!(late, time < youngest);
                youngest = youngest.max(time);
            }
            got.sort_unstable();
            sent.sort_unstable();
            prop_assert_eq!(got, sent);
        }
    }
}
