//! Counts of the events in a stretch of a trace.

use fragscope_trace::event::{EventBatch, PageEventKind, SideEvent, SideKind, Tags};
use fragscope_trace::header::Totals;

/// Counts of events; losses are those that the events themselves tell of.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All of them.
    pub totals: Totals,
    /// Page events by [`PageEventKind`].
    pub by_kind: [u64; PageEventKind::ALL.len()],
}

impl Tally {
    /// The counts of a batch.
    #[must_use]
    pub fn of(batch: &EventBatch) -> Tally {
        let mut tally = Tally::default();
        for event in &batch.pages {
            tally.by_kind[event.kind() as usize] += 1;
            let tags = event.tags();
            tally.totals.own_events += u64::from(tags.contains(Tags::OWN));
            tally.totals.late_events += u64::from(tags.contains(Tags::LATE));
        }
        for (_, side) in &batch.sides {
            tally.side(side);
        }
        tally.totals.events = batch.len() as u64;
        tally.totals.allocs = tally.by_kind[PageEventKind::Alloc as usize];
        tally.totals.frees = tally.by_kind[PageEventKind::Free as usize];
        tally
    }

    fn side(&mut self, event: &SideEvent) {
        match &event.kind {
            SideKind::Lost { cause, count, .. } => {
                *self.totals.lost.entry(*cause).or_default() += count;
            }
            SideKind::RegionCounts { regions, .. } => {
                for region in regions {
                    self.totals.counted_allocs += region.alloc_events();
                    self.totals.counted_frees += region.free_events();
                }
            }
            _ => {}
        }
    }

    /// Adds the counts of another stretch.
    pub fn add(&mut self, other: &Tally) {
        let Totals {
            events,
            allocs,
            frees,
            own_events,
            late_events,
            lost,
            counted_allocs,
            counted_frees,
        } = &other.totals;
        let to = &mut self.totals;
        to.events += events;
        to.allocs += allocs;
        to.frees += frees;
        to.own_events += own_events;
        to.late_events += late_events;
        to.counted_allocs += counted_allocs;
        to.counted_frees += counted_frees;
        for (cause, count) in lost {
            *to.lost.entry(*cause).or_default() += count;
        }
        for (to, from) in self.by_kind.iter_mut().zip(other.by_kind) {
            *to += from;
        }
    }
}
