//! Who tainted regions: taint events grouped by their cause.

use std::collections::{BTreeMap, BTreeSet};

use fragscope_replay::observe::{TaintEvent, TrackKind};
use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Migratetype, Pfn};

use fragscope_replay::callsite::call_site;

/// What makes two taint events alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause<'a> {
    /// Process name, or that it was not recorded.
    pub comm: &'a str,
    /// Function that asked for the memory, or the type where no stack was recorded.
    pub site: &'a str,
}

impl<'a> Cause<'a> {
    fn of(event: &'a TaintEvent) -> Cause<'a> {
        Cause {
            comm: event.comm.as_deref().unwrap_or("not recorded"),
            site: call_site(&event.stack).unwrap_or(type_word(event.migratetype)),
        }
    }
}

fn type_word(migratetype: Migratetype) -> &'static str {
    match migratetype {
        Migratetype::Reclaimable => "(reclaimable kernel memory)",
        Migratetype::Movable => "(movable memory, pinned later)",
        _ => "(unmovable kernel memory)",
    }
}

/// All taint events of one cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit<'a> {
    /// The cause.
    pub cause: Cause<'a>,
    /// Times it turned a region tainted, by track in the order of [`TrackKind::ALL`].
    pub taints: [u64; 3],
    /// Regions of the kernel track that it tainted at least once.
    pub regions: BTreeSet<Pfn>,
    /// Its last event, of the kernel track where there is one.
    pub last: &'a TaintEvent,
}

impl Culprit<'_> {
    /// What a filter looks at.
    #[must_use]
    pub fn text(&self) -> String {
        let cgroup = self.last.cgroup_path.as_deref().unwrap_or_default();
        format!("{} {} {cgroup}", self.cause.comm, self.cause.site)
    }
}

/// Groups the events in which regions became tainted, those within `span` only; the one with most
/// taints in the kernel track first, then by name.
#[must_use]
pub fn culprits(events: &[TaintEvent], span: (TimeNs, TimeNs)) -> Vec<Culprit<'_>> {
    let mut by_cause: BTreeMap<Cause<'_>, Culprit<'_>> = BTreeMap::new();
    let within = |e: &&TaintEvent| e.tainted && e.time_ns >= span.0 && e.time_ns <= span.1;
    for event in events.iter().filter(within) {
        let cause = Cause::of(event);
        let culprit = by_cause.entry(cause).or_insert_with(|| Culprit {
            cause,
            taints: [0; 3],
            regions: BTreeSet::new(),
            last: event,
        });
        culprit.taints[event.track as usize] += 1;
        if event.track == TrackKind::Kernel {
            culprit.regions.insert(event.region_start);
        }
        let of_kernel = |e: &TaintEvent| e.track == TrackKind::Kernel;
        if of_kernel(event) || !of_kernel(culprit.last) {
            culprit.last = event;
        }
    }
    let mut list: Vec<Culprit<'_>> = by_cause.into_values().collect();
    list.sort_by_key(|c| std::cmp::Reverse((c.taints[0], c.taints[1], c.taints[2])));
    list
}

#[cfg(test)]
mod tests {
    use fragscope_replay::observe::StartState;
    use fragscope_trace::gfp::Gfp;

    use super::*;

    fn event(time_ns: u64, track: TrackKind, comm: &str, region: u64) -> TaintEvent {
        TaintEvent {
            time_ns,
            track,
            start: StartState::AsFound,
            region_start: Pfn(region << 18),
            tainted: true,
            pfn: Pfn(region << 18),
            order: 0,
            gfp: Gfp::KERNEL,
            migratetype: Migratetype::Unmovable,
            comm: Some(comm.to_owned()),
            pid: 4711,
            cgroup: 0,
            cgroup_path: None,
            stack: vec!["new_slab+0x1".to_owned(), "ext4_alloc_inode+0x2".to_owned()],
            placements: Vec::new(),
        }
    }

    #[test]
    fn the_worst_of_the_kernel_track_comes_first() {
        let events = [
            event(1, TrackKind::Kernel, "find", 4),
            event(2, TrackKind::Kernel, "nginx", 5),
            event(3, TrackKind::Kernel, "nginx", 5),
            event(4, TrackKind::Spb, "find", 6),
            event(99, TrackKind::Kernel, "find", 7),
        ];
        let list = culprits(&events, (0, 50));
        let names: Vec<_> = list.iter().map(|c| c.cause.comm).collect();
        assert_eq!(names, ["nginx", "find"]);
        assert_eq!((list[0].taints, list[0].regions.len()), ([2, 0, 0], 1));
        assert_eq!(list[1].taints, [1, 0, 1], "the event outside the span is not counted");
        assert_eq!(list[1].cause.site, "ext4_alloc_inode");
    }

    #[test]
    fn regions_that_turn_clean_are_nobodys_fault() {
        let mut clean = event(1, TrackKind::Kernel, "find", 4);
        clean.tainted = false;
        assert_eq!(culprits(&[clean], (0, 50)), []);
    }
}
