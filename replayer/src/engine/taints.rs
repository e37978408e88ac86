//! Which regions turned tainted, in which track, and who did it.

use std::collections::{HashMap, VecDeque};

use fragscope_trace::event::{SideEvent, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::Pfn;

use super::context::Contexts;
use super::op::{Op, Step};
use crate::kernel_track::KernelTrack;
use crate::mm::allocator::TaintChange;
use crate::mm::frames::Frame;
use crate::observe::{Placement, Release, StartState, TaintEvent, TrackKind};

/// Taint events kept until somebody takes them; later ones are only in the counters.
const TAINTS_MAX: usize = 1 << 16;

/// Pages whose release is waited for; of older ones it is not told.
const HELD_MAX: usize = 4096;

/// An allocation that turned a region of the kernel tainted: when, and its page.
type Key = (TimeNs, Pfn);

/// Taint events of all tracks that nobody has taken yet.
#[derive(Debug, Default)]
pub struct TaintLog {
    contexts: Contexts,
    changes: Vec<TaintChange>,
    changes_seen: u64,
    taints: Vec<TaintEvent>,
    placements: HashMap<Key, Vec<Placement>>,
    held: VecDeque<Key>,
}

impl TaintLog {
    /// Begins with the kernel track as it is: what is tainted by now is no event.
    pub fn begin(&mut self, kernel: &KernelTrack) {
        self.changes_seen = kernel.pages().taint_changes_seen();
    }

    /// Takes note of who made an allocation.
    pub fn note_context(&mut self, event: &SideEvent) {
        self.contexts.note(event);
    }

    /// Records what an event of this order and these flags changed in the kernel track, and asks
    /// the policy tracks where they put it.
    #[inline]
    pub fn note_kernel(
        &mut self,
        kernel: &mut KernelTrack,
        time_ns: TimeNs,
        of: (u8, Gfp),
        ops: &mut Vec<Op>,
    ) {
        if kernel.pages().taint_changes_seen() != self.changes_seen {
            self.record(kernel, time_ns, of, ops);
        }
    }

    #[cold]
    fn record(
        &mut self,
        kernel: &mut KernelTrack,
        time_ns: TimeNs,
        (order, gfp): (u8, Gfp),
        ops: &mut Vec<Op>,
    ) {
        self.changes_seen = kernel.pages().taint_changes_seen();
        kernel.take_taint_changes(&mut self.changes);
        for change in self.changes.iter().filter(|change| change.tainted) {
            ops.push(Op { time_ns, step: Step::Locate { pfn: change.frame, order } });
            self.held.push_back((time_ns, Pfn(change.frame.into())));
        }
        self.held.drain(..self.held.len().saturating_sub(HELD_MAX));
        let regions = &kernel.pages().geometry().regions;
        let room = TAINTS_MAX.saturating_sub(self.taints.len());
        self.taints.extend(self.changes.drain(..).take(room).map(|change| {
            let region_start = Pfn(regions[change.region as usize].start.into());
            TaintEvent::new(
                time_ns,
                (TrackKind::Kernel, StartState::AsFound),
                (region_start, change.tainted),
                Pfn(change.frame.into()),
                (order, gfp),
            )
        }));
    }

    /// Takes note of where a policy track put such allocations.
    pub fn note_placements(&mut self, placements: impl IntoIterator<Item = (Key, Placement)>) {
        for (key, placement) in placements {
            self.placements.entry(key).or_default().push(placement);
        }
    }

    /// Pages since the last call that no longer taint what they tainted.
    pub fn take_releases(&mut self, kernel: &KernelTrack) -> Vec<Release> {
        let pages = kernel.pages();
        let mut releases = Vec::new();
        self.held.retain(|&(tainted_ns, pfn)| {
            let frame = pfn.0 as Frame;
            let touched = pages.touched(frame);
            let stays = touched <= pages.tick(tainted_ns) && pages.state(frame).content().taints();
            if !stays {
                let time_ns = pages.time_after_tick(touched).max(tainted_ns);
                releases.push(Release { tainted_ns, pfn, time_ns });
            }
            stays
        });
        releases
    }

    /// Adds the events of a policy track.
    pub fn append(&mut self, taints: &mut Vec<TaintEvent>) {
        let room = TAINTS_MAX.saturating_sub(self.taints.len());
        self.taints.extend(taints.drain(..).take(room));
    }

    /// All events since the last call up to a time, by time, with their makers as far as those are
    /// known.
    pub fn take_until(&mut self, time_ns: TimeNs) -> Vec<TaintEvent> {
        self.taints.sort_by_key(|taint| {
            (taint.time_ns, taint.track, taint.start, taint.region_start, taint.pfn)
        });
        let later = self.taints.partition_point(|taint| taint.time_ns <= time_ns);
        let later = self.taints.split_off(later);
        let mut taints = std::mem::replace(&mut self.taints, later);
        for taint in &mut taints {
            if let Some((maker, stack)) = self.contexts.of(taint.time_ns, taint.pfn) {
                taint.comm = Some(maker.comm.clone());
                (taint.pid, taint.cgroup) = (maker.pid, maker.cgroup);
                taint.cgroup_path = self.contexts.cgroup(maker.cgroup).cloned();
                taint.stack = stack.to_vec();
            }
            if taint.track == TrackKind::Kernel && taint.tainted {
                let key = (taint.time_ns, taint.pfn);
                taint.placements = self.placements.remove(&key).unwrap_or_default();
            }
        }
        self.placements.retain(|(tainted_ns, _), _| *tainted_ns > time_ns);
        taints
    }
}

#[cfg(test)]
mod tests {
    use fragscope_trace::event::{PageEvent, SideKind};
    use fragscope_trace::page::{Content, CpuId};
    use fragscope_trace::snapshot::SnapshotRole;

    use super::*;
    use crate::testing::{machine, side, snapshot};

    #[test]
    fn a_taint_knows_its_maker() {
        let machine = machine(&[4096]);
        let mut kernel = KernelTrack::new(&machine, 0).unwrap();
        kernel.open(&snapshot(&machine, SnapshotRole::Opening, 0, |_| Content::Free));
        let mut log = TaintLog::default();
        log.begin(&kernel);
        let event = PageEvent::alloc(7_000_000, CpuId(0), Pfn(80), 1, Gfp::KERNEL);
        kernel.page_event(event, &mut Vec::new());
        let mut ops = Vec::new();
        log.note_kernel(&mut kernel, event.time_ns, (event.order(), event.gfp), &mut ops);
        let step = Step::Locate { pfn: 80, order: 1 };
        assert_eq!(ops, [Op { time_ns: 7_000_000, step }]);
        assert!(log.take_releases(&kernel).is_empty());
        let kind = SideKind::Stack { id: 3, frames: vec!["alloc_inode+0x1".into()] };
        log.note_context(&side(7_000_000, kind));
        log.note_context(&side(
            7_000_000,
            SideKind::Context {
                pfn: Pfn(80),
                order: 1,
                gfp: Gfp::KERNEL,
                pid: 1,
                comm: "find".into(),
                cgroup: 9,
                stack: 3,
            },
        ));
        assert!(log.take_until(6_999_999).is_empty(), "it comes later");
        let path = "/build".to_owned();
        log.note_context(&side(7_000_000, SideKind::Cgroup { id: 9, path }));
        let [taint] = log.take_until(7_000_000).try_into().expect("one taint");
        assert_eq!((taint.comm.as_deref(), taint.order, taint.tainted), (Some("find"), 1, true));
        assert_eq!(taint.stack, ["alloc_inode+0x1"]);
        assert_eq!((taint.cgroup, taint.cgroup_path.as_deref()), (9, Some("/build")));
        assert!(log.take_until(TimeNs::MAX).is_empty());
        let free = PageEvent::free(9_000_000, CpuId(0), Pfn(80), 1);
        kernel.page_event(free, &mut Vec::new());
        let [release] = log.take_releases(&kernel).try_into().expect("one release");
        assert_eq!((release.tainted_ns, release.pfn), (7_000_000, Pfn(80)));
        assert!(release.time_ns.abs_diff(9_000_000) < 1 << 17, "{release:?}");
        assert!(log.take_releases(&kernel).is_empty());
    }
}
