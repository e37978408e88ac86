//! What side events change.

use fragscope_trace::event::{
    CountedPlace, RegionCount, RepairSource, SideEvent, SideKind, TimeNs,
};
use fragscope_trace::page::{Content, Migratetype, Pfn, PfnRange, REGION_PAGES};

use super::KernelTrack;
use super::pages::PageState;
use crate::engine::op::{Op, Step};

/// Compactions that can run at once and be told apart; later ones are taken for the first.
const COMPACTIONS_MAX: usize = 4096;

impl KernelTrack {
    /// Applies one side event and appends what policies have to do for it. Contexts, stacks,
    /// marks and costs are not the track's matter.
    pub fn side_event(&mut self, event: &SideEvent, ops: &mut Vec<Op>) {
        self.events.side_events += 1;
        let time_ns = event.time_ns;
        match &event.kind {
            SideKind::Move { from, to, order } => self.moved(*from, *to, *order, time_ns, ops),
            SideKind::ExtFrag { pfn, fallback_order, alloc_type, change_ownership, .. } => {
                self.ext_frag(*pfn, *fallback_order, *alloc_type, *change_ownership);
            }
            SideKind::Lost { cause, count, .. } => {
                *self.events.lost.entry(*cause).or_default() += count;
            }
            SideKind::Filtered { count, .. } => self.count("filtered_events", *count),
            SideKind::ContigTest { range, stopped_at } => {
                self.contig_test(*range, *stopped_at, time_ns);
            }
            SideKind::Grow { range, source, .. } => self.grow(*range, *source, time_ns, ops),
            SideKind::Shrink { range, source } => {
                self.resync(*range, Content::Absent, *source, time_ns, ops);
            }
            SideKind::Resync { range, content, source } => {
                self.resync(*range, *content, *source, time_ns, ops);
            }
            SideKind::Cpu { cpu, online } => {
                let step = Step::Cpu { cpu: *cpu, online: *online };
                ops.push(Op { time_ns, step });
            }
            SideKind::Compaction { begin, zone } => self.compaction(*begin, *zone),
            SideKind::Migrated { succeeded, failed, .. } => {
                self.count("pgmigrate_success", *succeeded);
                self.count("pgmigrate_fail", *failed);
            }
            SideKind::Check { free_pages, pcp_pages, .. } => {
                let kernel_free_pages = free_pages.iter().chain(pcp_pages).sum();
                ops.push(Op { time_ns, step: Step::Check { kernel_free_pages } });
            }
            SideKind::RegionCounts { since_ns, regions } => {
                self.count_regions((*since_ns, time_ns), regions);
            }
            SideKind::Shed { begin, .. } => self.count("sheds", u64::from(*begin)),
            SideKind::Context { .. }
            | SideKind::Stack { .. }
            | SideKind::Cgroup { .. }
            | SideKind::Mark { .. }
            | SideKind::Cost { .. }
            | SideKind::Probe1g { .. } => {}
        }
    }

    fn count_regions(&mut self, span: (TimeNs, TimeNs), regions: &[RegionCount]) {
        for region in regions {
            let allocs = match region.place {
                CountedPlace::Failed => &mut self.events.failed_allocs,
                CountedPlace::Region(_) | CountedPlace::Outside => &mut self.events.allocs,
            };
            *allocs = allocs.saturating_add(region.alloc_events());
            self.events.frees = self.events.frees.saturating_add(region.free_events());
        }
        self.counted.add(span, regions);
    }

    /// The pages of `from` are at `to` now; those of `from` follow as frees.
    fn moved(&mut self, from: Pfn, to: Pfn, order: u8, time_ns: TimeNs, ops: &mut Vec<Op>) {
        if self.is_contained(time_ns, to) {
            return;
        }
        let pages = 1 << order;
        let (sources, targets) = (
            self.pages.clip(PfnRange::new(from, pages)),
            self.pages.clip(PfnRange::new(to, pages)),
        );
        if sources.len() as u64 != pages || targets.len() as u64 != pages {
            self.anomalies.outside_events += 1;
            return;
        }
        let into_free = self.all(&targets, Content::is_free);
        self.anomalies.moves_into_free_blocks += u64::from(into_free);
        for (source, target) in sources.clone().zip(targets.clone()) {
            let state = self.pages.state(source);
            let moved = if state.content().is_allocated() {
                state
            } else {
                PageState::new(Content::Movable).inferred(true)
            };
            self.pages.set(target..target + 1, moved);
        }
        self.pages.touch(targets.clone(), self.pages.tick(time_ns));
        self.count("moved_blocks", 1);
        self.count("moved_pages", pages);
        let step = Step::Rename { from: sources.start, to: targets.start, order };
        ops.push(Op { time_ns, step });
    }

    fn ext_frag(&mut self, pfn: Pfn, order: u8, alloc_type: Migratetype, claimed: bool) {
        self.count(if claimed { "extfrag_claims" } else { "extfrag_steals" }, 1);
        let taints = alloc_type != Migratetype::Movable;
        if taints {
            self.count(
                if claimed { "extfrag_claims_unmovable" } else { "extfrag_steals_unmovable" },
                1,
            );
        }
        let frames = self.pages.clip(PfnRange::new(pfn, 1));
        if frames.is_empty() {
            return;
        }
        let region = self.pages.geometry().region_of(frames.start);
        let fallbacks = &mut self.fallbacks[region.0 as usize];
        fallbacks.claims += u64::from(claimed);
        fallbacks.steals += u64::from(!claimed);
        if claimed {
            self.types.set(self.pages.geometry(), frames.start, order, alloc_type);
        }
    }

    /// A range in which every page was found free for a contiguous allocation is taken by it: no
    /// event says so. Pieces below 1 GiB may hold anything.
    ///
    /// Whether a policy could have built it is not a question of placing pages one by one, so no
    /// operation follows; the free will find nothing to free.
    fn contig_test(&mut self, range: PfnRange, stopped_at: Pfn, time_ns: TimeNs) {
        self.count("contig_tests", 1);
        if stopped_at < range.end {
            return;
        }
        self.count("contig_successes", 1);
        self.contiguous.push(range);
        let whole = range.pages().is_multiple_of(REGION_PAGES)
            && range.start.0.is_multiple_of(REGION_PAGES);
        let content = if whole { Content::Gigantic } else { Content::Unknown };
        let frames = self.pages.clip(range);
        let taken = frames.len() as u64;
        self.correct(frames, content, time_ns, &mut Vec::new());
        self.anomalies.repair(RepairSource::Contiguous, taken);
    }

    fn grow(&mut self, range: PfnRange, source: RepairSource, time_ns: TimeNs, ops: &mut Vec<Op>) {
        let frames = self.pages.clip(range);
        let mut grown = 0;
        let mut at = frames.start;
        while at < frames.end {
            let absent = |f: &u32| self.pages.state(*f).content() == Content::Absent;
            let run = (at..frames.end).take_while(absent).count() as u32;
            if run > 0 {
                // The free events of its blocks may follow; until then it is only deduced.
                self.pages.set(at..at + run, PageState::new(Content::Free).inferred(true));
                ops.push(Op { time_ns, step: Step::Grow { start: at, pages: run } });
                grown += u64::from(run);
            }
            at += run.max(1);
        }
        self.count("grown_pages", grown);
        self.anomalies.repair(source, grown);
    }

    fn resync(
        &mut self,
        range: PfnRange,
        content: Content,
        source: RepairSource,
        time_ns: TimeNs,
        ops: &mut Vec<Op>,
    ) {
        if self.is_contained(time_ns, range.start) {
            return;
        }
        let frames = self.pages.clip(range);
        let done = self.correct(frames.clone(), content, time_ns, ops);
        self.pages.touch(frames, self.pages.tick(time_ns));
        self.anomalies.repair(source, done.misjudged());
        self.anomalies.refined_pages += done.refined;
        self.anomalies.reclassified_pages += done.reclassified;
    }

    fn compaction(&mut self, begin: bool, zone: PfnRange) {
        if begin {
            self.count("compactions", 1);
            if self.compactions.len() < COMPACTIONS_MAX {
                self.compactions.push(zone);
            }
        } else if let Some(at) = self.compactions.iter().position(|open| *open == zone) {
            self.compactions.swap_remove(at);
        }
    }
}
