//! Which frames are in use, by a recording's opening snapshot and its events: a naive oracle that
//! the closing snapshot is compared with.

use fragscope_trace::event::{PageEvent, PageEventKind, SideEvent, SideKind, TimeNs};
use fragscope_trace::page::{Content, PfnRange};
use fragscope_trace::snapshot::{ChunkTime, Snapshot};

/// What is known of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Frame {
    #[default]
    Unknown,
    Free,
    Used,
}

/// Frames that the closing snapshot shows otherwise than the events say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Frames compared.
    pub(crate) compared: u64,
    /// In use, but free by the events: an allocation was not seen.
    pub(crate) not_seen_allocated: u64,
    /// Free, but in use by the events.
    pub(crate) not_seen_freed: u64,
}

/// Every event that changes a frame's state, with its time.
#[derive(Clone, Copy, Debug)]
struct Change {
    time_ns: TimeNs,
    range: PfnRange,
    to: Frame,
}

fn changes_of_page(event: &PageEvent) -> Option<Change> {
    let to = match event.kind() {
        PageEventKind::Alloc | PageEventKind::LruInsertion => Frame::Used,
        PageEventKind::Free => Frame::Free,
        PageEventKind::AllocFailed | PageEventKind::ZoneLocked | PageEventKind::PcpuDrain => {
            return None;
        }
    };
    Some(Change { time_ns: event.time_ns, range: event.range(), to })
}

fn changes_of_side(event: &SideEvent) -> Option<Change> {
    let (range, to) = match &event.kind {
        SideKind::Move { to, order, .. } => (PfnRange::new(*to, 1 << order), Frame::Used),
        SideKind::ContigTest { range, stopped_at } if *stopped_at >= range.end => {
            (*range, Frame::Used)
        }
        SideKind::Grow { range, .. } => (*range, Frame::Free),
        _ => return None,
    };
    Some(Change { time_ns: event.time_ns, range, to })
}

/// Applies the events between two snapshots of one recording and compares.
pub(crate) fn differences(
    opening: &Snapshot,
    pages: &[PageEvent],
    sides: &[SideEvent],
    closing: &Snapshot,
) -> Differences {
    let mut changes: Vec<Change> = pages.iter().filter_map(changes_of_page).collect();
    changes.extend(sides.iter().filter_map(changes_of_side));
    // Equal times keep their order.
    changes.sort_by_key(|change| change.time_ns);
    let end = closing.machine.end_pfn().0.max(opening.machine.end_pfn().0);
    let mut frames = states(opening, end);
    // When each frame was read for the last time, and whether something happened just then.
    let (read_first, read_last) = (read_times(opening, end), read_times(closing, end));
    let mut unsure = vec![false; frames.len()];
    for change in &changes {
        for pfn in change.range.raw().filter(|pfn| *pfn < end) {
            let at = pfn as usize;
            let (first, last) = (read_first[at], read_last[at]);
            let contained = change.time_ns < first.0;
            let later = last.1 > 0 && change.time_ns > last.1;
            unsure[at] |= last.0 <= change.time_ns && change.time_ns <= last.1;
            if !contained && !later {
                frames[at] = change.to;
            }
        }
    }
    let mut found = Differences::default();
    for (at, seen) in states(closing, end).into_iter().enumerate() {
        if seen == Frame::Unknown || frames[at] == Frame::Unknown || unsure[at] {
            continue;
        }
        found.compared += 1;
        found.not_seen_allocated += u64::from(seen == Frame::Used && frames[at] == Frame::Free);
        found.not_seen_freed += u64::from(seen == Frame::Free && frames[at] == Frame::Used);
    }
    found
}

fn states(snapshot: &Snapshot, end: u64) -> Vec<Frame> {
    let mut frames = vec![Frame::Unknown; end as usize];
    for run in &snapshot.runs {
        let state = match run.content {
            Content::Absent | Content::Reserved | Content::Unknown => Frame::Unknown,
            content if content.is_free() => Frame::Free,
            _ => Frame::Used,
        };
        frames[run.start.0 as usize..run.range().end.0 as usize].fill(state);
    }
    frames
}

fn read_times(snapshot: &Snapshot, end: u64) -> Vec<(TimeNs, TimeNs)> {
    let mut times = vec![(0, 0); end as usize];
    for ChunkTime { range, begin_ns, end_ns } in &snapshot.chunks {
        let to = range.end.0.min(end);
        times[range.start.0 as usize..to as usize].fill((*begin_ns, *end_ns));
    }
    times
}
