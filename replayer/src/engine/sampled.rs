//! A trace through an observatory, with a stop at even steps of virtual time.

use fragscope_trace::event::{EventBatch, SideEvent, SideKind, TimeNs};
use fragscope_trace::frame::Frame;

use super::observatory::{Observatory, ReplayError};

/// Feeds frames and stops whenever it is time to look.
#[derive(Clone, Copy, Debug)]
pub struct Sampled {
    started_ns: TimeNs,
    interval_ns: TimeNs,
    next_ns: TimeNs,
}

impl Sampled {
    /// Stops every `interval_ns` (at least 1) after `started_ns`.
    #[must_use]
    pub fn new(started_ns: TimeNs, interval_ns: TimeNs) -> Sampled {
        let interval_ns = interval_ns.max(1);
        Sampled { started_ns, interval_ns, next_ns: started_ns + interval_ns }
    }

    /// Stops only every `interval_ns` after `started_ns` from now on, if that is less often.
    pub fn widen(&mut self, interval_ns: TimeNs) {
        if interval_ns > self.interval_ns {
            let steps = (self.next_ns - self.started_ns).div_ceil(interval_ns);
            self.interval_ns = interval_ns;
            self.next_ns = self.started_ns + steps * interval_ns;
        }
    }

    /// Feeds a frame. `look` sees the tracks as they are before the first event at or after each
    /// step, and the time of the step; steps between two events are one.
    ///
    /// # Errors
    /// If a track cannot go on, or `look` fails.
    pub fn feed<E: From<ReplayError>>(
        &mut self,
        frame: Frame,
        observatory: &mut Observatory,
        look: impl FnMut(&mut Observatory, TimeNs) -> Result<(), E>,
    ) -> Result<(), E> {
        match frame {
            Frame::Events(batch) => self.feed_events(batch, observatory, look).map(|_| ()),
            frame => Ok(observatory.feed(&frame)?),
        }
    }

    /// The same for events; gives what is left of the batch back, to use its memory again.
    ///
    /// # Errors
    /// If a track cannot go on, or `look` fails.
    pub fn feed_events<E: From<ReplayError>>(
        &mut self,
        mut batch: EventBatch,
        observatory: &mut Observatory,
        mut look: impl FnMut(&mut Observatory, TimeNs) -> Result<(), E>,
    ) -> Result<EventBatch, E> {
        while let Some(part) = cut_before(&mut batch, self.next_ns) {
            observatory.feed_events(&part)?;
            look(observatory, self.next_ns)?;
            let first = batch.pages.first().map(|event| event.time_ns);
            let first_ns = first.or_else(|| counts_at(&batch)).unwrap_or(self.next_ns);
            let steps = first_ns.saturating_sub(self.next_ns) / self.interval_ns + 1;
            self.next_ns = self.next_ns.saturating_add(steps.saturating_mul(self.interval_ns));
        }
        observatory.feed_events(&batch)?;
        Ok(batch)
    }
}

/// Time of the first counts in a batch that has no page events, as those of count mode have none.
fn counts_at(batch: &EventBatch) -> Option<TimeNs> {
    let is_counts = |side: &&SideEvent| matches!(side.kind, SideKind::RegionCounts { .. });
    let counts = || batch.sides.iter().map(|(_, side)| side).find(is_counts);
    if batch.pages.is_empty() { counts().map(|side| side.time_ns) } else { None }
}

/// Cuts off the part of a batch that comes before the first page event at or after `time_ns`, or
/// where events are counted only, before the first counts. The rest stays. `None` if all of the
/// batch is earlier.
fn cut_before(batch: &mut EventBatch, time_ns: TimeNs) -> Option<EventBatch> {
    if batch.pages.is_empty() {
        let is_due = |(_, side): &(u32, SideEvent)| {
            side.time_ns >= time_ns && matches!(side.kind, SideKind::RegionCounts { .. })
        };
        let at = batch.sides.iter().position(is_due)?;
        let rest = EventBatch { pages: Vec::new(), sides: batch.sides.split_off(at) };
        return Some(std::mem::replace(batch, rest));
    }
    let at = batch.pages.iter().position(|event| event.time_ns >= time_ns)?;
    let later_sides = batch.sides.partition_point(|(position, _)| (*position as usize) <= at);
    let mut sides = batch.sides.split_off(later_sides);
    for (position, _) in &mut sides {
        *position -= at as u32;
    }
    let rest = EventBatch { pages: batch.pages.split_off(at), sides };
    Some(std::mem::replace(batch, rest))
}

#[cfg(test)]
mod tests {
    use fragscope_trace::event::{PageEvent, SideEvent, SideKind};
    use fragscope_trace::page::{CpuId, Pfn};

    use super::*;

    #[test]
    fn parts_are_the_whole_in_its_order() {
        let mut whole = EventBatch::default();
        for time in 0..10 {
            if time % 3 == 0 {
                let kind = SideKind::Mark { text: time.to_string() };
                whole.push_side(SideEvent { time_ns: time, cpu: None, kind });
            }
            whole.pages.push(PageEvent::free(time, CpuId(0), Pfn(time), 0));
        }
        for cut in 0..10 {
            let mut rest = whole.clone();
            let first = cut_before(&mut rest, cut).unwrap();
            assert!(first.pages.iter().all(|event| event.time_ns < cut));
            let joined: Vec<_> = first.iter().chain(rest.iter()).collect();
            assert_eq!(joined, whole.iter().collect::<Vec<_>>(), "cut at {cut}");
        }
        assert!(cut_before(&mut whole, 10).is_none());
    }
}
