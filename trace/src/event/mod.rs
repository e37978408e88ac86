//! Events: what happened to page frames, and when.
//!
//! *Page events* are frequent (a million a second and more) and fill 24 bytes each. *Side events*
//! are rare and carry whatever they need. An [`EventBatch`] holds both in one order.

mod counts;
mod page;
mod side;

pub use counts::{CountedPlace, OrderCount, RegionCount, TypeOrderCount};
pub use page::{PageEvent, PageEventKind, Tags};
pub use side::{Budget, LossCause, ProbeStop, RepairSource, SideEvent, SideKind};

/// Nanoseconds of `CLOCK_MONOTONIC` on the traced host. Of a page event that the agent recorded without
/// `--exact-times` it may be early by less than a tick of the host's kernel (1 to 10 ms), but never so
/// much that events of one page or one CPU change their order.
pub type TimeNs = u64;

/// A run of events in delivery order: by time, but for events tagged `LATE`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBatch {
    /// The frequent ones.
    pub pages: Vec<PageEvent>,
    /// The rare ones, each with the number of `pages` that come before it; ascending.
    pub sides: Vec<(u32, SideEvent)>,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EventRef<'a> {
    /// A frequent one.
    Page(PageEvent),
    /// A rare one.
    Side(&'a SideEvent),
}

impl EventRef<'_> {
    /// When it happened.
    #[must_use]
    pub fn time_ns(self) -> TimeNs {
        match self {
            EventRef::Page(event) => event.time_ns,
            EventRef::Side(event) => event.time_ns,
        }
    }
}

impl EventBatch {
    /// Appends a rare event after all page events so far.
    pub fn push_side(&mut self, event: SideEvent) {
        self.sides.push((self.pages.len() as u32, event));
    }

    /// Number of events of both sorts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len() + self.sides.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.sides.is_empty()
    }

    /// Forgets the events and keeps the memory.
    pub fn clear(&mut self) {
        self.pages.clear();
        self.sides.clear();
    }

    /// Time of the last event in the batch.
    #[must_use]
    pub fn last_time_ns(&self) -> Option<TimeNs> {
        let page = self.pages.last().map(|e| e.time_ns);
        page.max(self.sides.last().map(|(_, e)| e.time_ns))
    }

    /// All events in order. The hot loop of a replay goes over stretches instead:
    /// see [`EventBatch::stretches`].
    pub fn iter(&self) -> impl Iterator<Item = EventRef<'_>> {
        self.stretches().flat_map(|(pages, side)| {
            pages.iter().map(|e| EventRef::Page(*e)).chain(side.map(EventRef::Side))
        })
    }

    /// The batch as runs of page events, each followed by the side event that ends it (the last
    /// run by none).
    pub fn stretches(&self) -> impl Iterator<Item = (&[PageEvent], Option<&SideEvent>)> {
        let mut from = 0;
        let ends = self.sides.iter().map(|(at, side)| (*at as usize, Some(side)));
        ends.chain([(self.pages.len(), None)]).map(move |(to, side)| {
            let run = &self.pages[from.min(to)..to.min(self.pages.len())];
            from = to;
            (run, side)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{CpuId, Pfn};

    #[test]
    fn sides_stand_where_they_were_pushed() {
        let mark = |text: &str| SideEvent {
            time_ns: 0,
            cpu: None,
            kind: SideKind::Mark { text: text.into() },
        };
        let mut batch = EventBatch::default();
        batch.push_side(mark("a"));
        batch.pages.push(PageEvent::free(1, CpuId(0), Pfn(1), 0));
        batch.push_side(mark("b"));
        batch.push_side(mark("c"));
        batch.pages.push(PageEvent::free(2, CpuId(0), Pfn(2), 0));
        let order: Vec<String> = batch
            .iter()
            .map(|e| match e {
                EventRef::Page(p) => p.pfn.0.to_string(),
                EventRef::Side(SideEvent { kind: SideKind::Mark { text }, .. }) => text.clone(),
                EventRef::Side(_) => String::new(),
            })
            .collect();
        assert_eq!(order, ["a", "1", "b", "c", "2"]);
    }
}
