//! Which regions turned tainted, in which track, and who did it.

use fragscope_trace::event::{SideEvent, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::Pfn;

use super::context::Contexts;
use crate::kernel_track::KernelTrack;
use crate::mm::allocator::TaintChange;
use crate::observe::{TaintEvent, TrackKind};

/// Taint events kept until somebody takes them; later ones are only in the counters.
const TAINTS_MAX: usize = 1 << 16;

/// Taint events of all tracks that nobody has taken yet.
#[derive(Debug, Default)]
pub struct TaintLog {
    contexts: Contexts,
    changes: Vec<TaintChange>,
    changes_seen: u64,
    taints: Vec<TaintEvent>,
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

    /// Records what an event of this order and these flags changed in the kernel track.
    #[inline]
    pub fn note_kernel(&mut self, kernel: &mut KernelTrack, time_ns: TimeNs, of: (u8, Gfp)) {
        if kernel.pages().taint_changes_seen() != self.changes_seen {
            self.record(kernel, time_ns, of);
        }
    }

    #[cold]
    fn record(&mut self, kernel: &mut KernelTrack, time_ns: TimeNs, (order, gfp): (u8, Gfp)) {
        self.changes_seen = kernel.pages().taint_changes_seen();
        kernel.take_taint_changes(&mut self.changes);
        let regions = &kernel.pages().geometry().regions;
        let room = TAINTS_MAX.saturating_sub(self.taints.len());
        self.taints.extend(self.changes.drain(..).take(room).map(|change| TaintEvent {
            time_ns,
            track: TrackKind::Kernel,
            region_start: Pfn(regions[change.region as usize].start.into()),
            tainted: change.tainted,
            pfn: Pfn(change.frame.into()),
            order,
            gfp,
            migratetype: gfp.migratetype(),
            comm: None,
            stack: Vec::new(),
        }));
    }

    /// Adds the events of a policy track.
    pub fn append(&mut self, taints: &mut Vec<TaintEvent>) {
        let room = TAINTS_MAX.saturating_sub(self.taints.len());
        self.taints.extend(taints.drain(..).take(room));
    }

    /// All events since the last call, by time, with their makers as far as those are known.
    pub fn take(&mut self) -> Vec<TaintEvent> {
        let mut taints = std::mem::take(&mut self.taints);
        taints.sort_by_key(|taint| (taint.time_ns, taint.track, taint.region_start, taint.pfn));
        for taint in &mut taints {
            if let Some((comm, stack)) = self.contexts.of(taint.time_ns, taint.pfn) {
                taint.comm = Some(comm.to_owned());
                taint.stack = stack.to_vec();
            }
        }
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
        log.note_kernel(&mut kernel, event.time_ns, (event.order(), event.gfp));
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
                cgroup: 0,
                stack: 3,
            },
        ));
        let [taint] = log.take().try_into().expect("one taint");
        assert_eq!((taint.comm.as_deref(), taint.order, taint.tainted), (Some("find"), 1, true));
        assert_eq!(taint.stack, ["alloc_inode+0x1"]);
        assert!(log.take().is_empty());
    }
}
