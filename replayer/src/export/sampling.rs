//! A batch cut at the times at which all tracks are sampled.

use fragscope_trace::event::{EventBatch, TimeNs};

/// Cuts off the part of a batch that comes before the first page event at or after `time_ns`.
/// The rest stays. `None` if all of the batch is earlier.
pub(crate) fn cut_before(batch: &mut EventBatch, time_ns: TimeNs) -> Option<EventBatch> {
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
