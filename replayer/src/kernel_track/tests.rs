//! The kernel track against a model that keeps one content a page and does everything by hand.

use fragscope_trace::event::{PageEvent, PageEventKind, RepairSource, SideKind, Tags, TimeNs};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::region::RegionTotals;
use fragscope_trace::snapshot::{ChunkTime, Snapshot, SnapshotRole};
use proptest::prelude::*;

use super::KernelTrack;
use super::fidelity::DifferenceCause;
use crate::engine::op::{Op, Step};
use crate::mm::fallbacks::Fallbacks;
use crate::testing::{machine, side, snapshot};

const PAGES: u64 = 8192;

fn small() -> Machine {
    machine(&[4096, 4096])
}

/// Every page free, read at time 0, so that no later event is contained.
fn opened(machine: &Machine) -> KernelTrack {
    let mut track = KernelTrack::new(machine, 0).unwrap();
    track.open(&snapshot(machine, SnapshotRole::Opening, 0, |_| Content::Free));
    track
}

#[derive(Clone, Debug)]
enum Do {
    Alloc(u64, u8, Gfp, bool),
    Free(u64, u8),
    Lru(u64, u8),
    Resync(u64, u64, Content),
    Move(u64, u64, u8),
    Grow(u64, u64),
    Shrink(u64, u64),
}

fn any_do() -> impl Strategy<Value = Do> {
    let block = || {
        (0u8..=10).prop_flat_map(|order| {
            (0..PAGES >> order).prop_map(move |block| (block << order, order))
        })
    };
    let gfp = prop::sample::select(vec![
        Gfp::KERNEL,
        Gfp::HIGHUSER_MOVABLE,
        Gfp::KERNEL | Gfp::RECLAIMABLE,
    ]);
    let range = || (0..PAGES, 1u64..300).prop_map(|(at, n)| (at, n.min(PAGES - at)));
    let content = prop::sample::select(vec![
        Content::Free,
        Content::Anon,
        Content::Slab,
        Content::Kernel,
        Content::Unknown,
    ]);
    let to = 0u64..PAGES;
    prop_oneof![
        8 => (block(), gfp, any::<bool>()).prop_map(|((at, o), g, own)| Do::Alloc(at, o, g, own)),
        8 => block().prop_map(|(at, o)| Do::Free(at, o)),
        2 => block().prop_map(|(at, o)| Do::Lru(at, o)),
        1 => (range(), content).prop_map(|((at, n), c)| Do::Resync(at, n, c)),
        1 => (block(), to).prop_map(|((at, o), to)| Do::Move(at, to >> o << o, o)),
        1 => range().prop_map(|(at, n)| Do::Grow(at, n)),
        1 => range().prop_map(|(at, n)| Do::Shrink(at, n)),
    ]
}

/// One content a page, changed page by page.
struct Model {
    pages: Vec<Content>,
    unmatched_frees: u64,
    unmatched_allocs: u64,
}

impl Model {
    fn range(at: u64, order: u8) -> std::ops::Range<usize> {
        at as usize..(at + (1 << order)) as usize
    }

    fn apply(&mut self, what: &Do) {
        match what {
            Do::Alloc(at, order, gfp, _) => {
                for page in &mut self.pages[Self::range(*at, *order)] {
                    let taken = page.is_allocated() && *page != Content::Unknown;
                    self.unmatched_allocs += u64::from(taken);
                    *page = Content::of_allocation(*gfp);
                }
            }
            Do::Free(at, order) => {
                for page in &mut self.pages[Self::range(*at, *order)] {
                    self.unmatched_frees += u64::from(page.is_free());
                    *page = Content::Free;
                }
            }
            Do::Lru(at, order) => {
                let pages = &mut self.pages[Self::range(*at, *order)];
                if !pages.iter().all(|page| page.is_movable()) {
                    pages.fill(Content::Movable);
                }
            }
            Do::Resync(at, n, content) => {
                self.pages[*at as usize..(at + n) as usize].fill(*content);
            }
            Do::Move(from, to, order) => {
                for i in 0..1usize << order {
                    let source = self.pages[*from as usize + i];
                    self.pages[*to as usize + i] =
                        if source.is_allocated() { source } else { Content::Movable };
                }
            }
            Do::Grow(at, n) => {
                let pages = &mut self.pages[*at as usize..(at + n) as usize];
                pages
                    .iter_mut()
                    .filter(|p| **p == Content::Absent)
                    .for_each(|p| *p = Content::Free);
            }
            Do::Shrink(at, n) => self.pages[*at as usize..(at + n) as usize].fill(Content::Absent),
        }
    }
}

fn apply(track: &mut KernelTrack, what: &Do, time_ns: TimeNs, ops: &mut Vec<Op>) {
    let cpu = CpuId(1);
    let source = RepairSource::Snapshot;
    let range = |at: u64, n: u64| PfnRange::new(Pfn(at), n);
    match *what {
        Do::Alloc(at, order, gfp, own) => {
            let tags = if own { Tags::OWN } else { Tags::empty() };
            let event = PageEvent::alloc(time_ns, cpu, Pfn(at), order, gfp).tagged(tags);
            track.page_event(event, ops);
        }
        Do::Free(at, order) => {
            track.page_event(PageEvent::free(time_ns, cpu, Pfn(at), order), ops);
        }
        Do::Lru(at, order) => {
            let (kind, mt) = (PageEventKind::LruInsertion, Migratetype::Movable);
            let gfp = Gfp::empty();
            track.page_event(PageEvent::new(kind, time_ns, cpu, Pfn(at), order, mt, gfp), ops);
        }
        Do::Resync(at, n, content) => {
            let kind = SideKind::Resync { range: range(at, n), content, source };
            track.side_event(&side(time_ns, kind), ops);
        }
        Do::Move(from, to, order) => {
            let kind = SideKind::Move { from: Pfn(from), to: Pfn(to), order };
            track.side_event(&side(time_ns, kind), ops);
        }
        Do::Grow(at, n) => {
            let kind = SideKind::Grow { node: 0, zone: 0, range: range(at, n), source };
            track.side_event(&side(time_ns, kind), ops);
        }
        Do::Shrink(at, n) => {
            let kind = SideKind::Shrink { range: range(at, n), source };
            track.side_event(&side(time_ns, kind), ops);
        }
    }
}

fn contents(track: &KernelTrack) -> Vec<Content> {
    (0..PAGES as u32).map(|frame| track.pages().state(frame).content()).collect()
}

/// Everything that is kept incrementally, from scratch.
fn check_counts(track: &KernelTrack, pages: &[Content]) {
    let count = |holds: fn(Content) -> bool| pages.iter().filter(|p| holds(**p)).count() as u64;
    assert_eq!(track.pages().free_pages(), count(Content::is_free));
    assert_eq!(track.pages().unmovable_pages(), count(Content::taints));
    for region in track.pages().regions() {
        let start = region.start.0 as usize;
        let mut counted = [0; Content::COUNT];
        for page in &pages[start..start + region.span_pages as usize] {
            counted[page.index()] += 1;
        }
        assert_eq!(region.pages, counted);
    }
    let totals = RegionTotals::new(track.machine(), &track.pages().regions());
    assert_eq!(totals.free_pages, count(Content::is_free));
}

proptest! {
    #[test]
    fn the_track_is_the_model(steps in prop::collection::vec(any_do(), 1..80)) {
        let machine = small();
        let mut track = opened(&machine);
        let pages = vec![Content::Free; PAGES as usize];
        let mut model = Model { pages, unmatched_frees: 0, unmatched_allocs: 0 };
        let mut ops = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            apply(&mut track, step, 10_000_000 * (i as u64 + 1), &mut ops);
            // Memory that was announced is given to the allocator by freeing it: no anomaly, and
            // the model doesn't tell it apart.
            let announced = matches!(step, Do::Grow(..) | Do::Shrink(..));
            model.apply(step);
            prop_assert_eq!(contents(&track), model.pages.clone(), "after {:?}", step);
            if announced {
                return Ok(());
            }
        }
        check_counts(&track, &model.pages);
        prop_assert_eq!(track.anomalies().unmatched_free_pages, model.unmatched_frees);
        prop_assert_eq!(track.anomalies().unmatched_alloc_pages, model.unmatched_allocs);
    }

    /// Operations alone tell which pages of the workload are allocated: a reader that only
    /// follows them ends with the same set as the track, but for the recorder's own pages.
    #[test]
    fn operations_tell_the_workloads_pages(steps in prop::collection::vec(any_do(), 1..80)) {
        let machine = small();
        let mut track = opened(&machine);
        let mut ops = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            if matches!(step, Do::Move(..) | Do::Shrink(..) | Do::Resync(_, _, Content::Unknown)) {
                continue;
            }
            apply(&mut track, step, 10_000_000 * (i as u64 + 1), &mut ops);
        }
        let mut live = vec![false; PAGES as usize];
        for op in &ops {
            match op.step {
                Step::Alloc { pfn, order, .. } => {
                    let block = &mut live[pfn as usize..(pfn + (1 << order)) as usize];
                    prop_assert!(block.iter().all(|l| !l), "allocated twice: {:?}", op);
                    block.fill(true);
                }
                Step::Free { pfn, order, .. } => {
                    live[pfn as usize..(pfn + (1 << order)) as usize].fill(false);
                }
                _ => {}
            }
        }
        for frame in 0..PAGES as u32 {
            let state = track.pages().state(frame);
            let expected = state.content().is_allocated() && !state.is_own();
            prop_assert_eq!(live[frame as usize], expected, "frame {}: {:?}", frame, state);
        }
    }

    /// A snapshot read chunk by chunk while events go on, and those events: together they are
    /// the truth, whatever the reading saw of each page.
    #[test]
    fn snapshot_and_events_merge_to_the_truth(
        steps in prop::collection::vec((any_do(), 1u64..4_000_000), 1..60),
        reads in prop::collection::vec(1u64..30_000_000, 8),
    ) {
        let machine = small();
        let is_workload = |step: &Do| matches!(step, Do::Alloc(..) | Do::Free(..));
        let mut truth = Model {
            pages: vec![Content::Free; PAGES as usize],
            unmatched_frees: 0,
            unmatched_allocs: 0,
        };
        let (mut read, mut chunks) = (vec![Content::Free; PAGES as usize], Vec::new());
        let mut events = Vec::new();
        let (mut now, mut at, mut next) = (100_000_000, 0u64, 0);
        let begin_ns = now;
        for (step, wait) in steps.iter().filter(|(step, _)| is_workload(step)) {
            now += wait;
            while next < 8 && now >= begin_ns + reads[next] {
                let (from, to) = (at as usize, (at + PAGES / 8) as usize);
                read[from..to].copy_from_slice(&truth.pages[from..to]);
                let range = PfnRange::new(Pfn(at), PAGES / 8);
                chunks.push(ChunkTime { range, begin_ns: now - 1, end_ns: now - 1 });
                (at, next) = (at + PAGES / 8, next + 1);
            }
            truth.apply(step);
            events.push((step, now));
        }
        for from in (at..PAGES).step_by(PAGES as usize / 8) {
            let to = from + PAGES / 8;
            read[from as usize..to as usize].copy_from_slice(&truth.pages[from as usize..to as usize]);
            let range = PfnRange::new(Pfn(from), PAGES / 8);
            chunks.push(ChunkTime { range, begin_ns: now + 1, end_ns: now + 1 });
        }
        let mut opening =
            snapshot(&machine, SnapshotRole::Opening, begin_ns, |pfn| read[pfn as usize]);
        (opening.chunks, opening.end_ns) = (chunks, now + 1);
        let mut track = KernelTrack::new(&machine, 0).unwrap();
        track.open(&opening);
        let mut ops = Vec::new();
        for (step, time_ns) in events {
            apply(&mut track, step, time_ns, &mut ops);
        }
        let is_free = |pages: &[Content]| pages.iter().map(|p| p.is_free()).collect::<Vec<_>>();
        prop_assert_eq!(is_free(&contents(&track)), is_free(&truth.pages));
    }
}

fn closing(machine: &Machine, time_ns: TimeNs, content: impl Fn(u64) -> Content) -> Snapshot {
    snapshot(machine, SnapshotRole::Closing, time_ns, content)
}

#[test]
fn a_later_snapshot_is_compared_and_adopted() {
    let machine = small();
    let mut track = opened(&machine);
    let mut ops = Vec::new();
    apply(&mut track, &Do::Alloc(0, 4, Gfp::HIGHUSER_MOVABLE, false), 10_000_000, &mut ops);
    apply(&mut track, &Do::Alloc(64, 0, Gfp::KERNEL, false), 99_900_000, &mut ops);
    ops.clear();
    // 8 pages freed unseen, 4 allocated unseen, one racing with the reading, one not known.
    let found = closing(&machine, 100_000_000, |pfn| match pfn {
        0..8 => Content::File,
        100..104 => Content::Kernel,
        200 => Content::Unknown,
        _ => Content::Free,
    });
    let fidelity = track.compare(&found, None, 0, &mut ops);
    assert_eq!((fidelity.missed_alloc_pages, fidelity.missed_free_pages), (4, 9));
    assert_eq!((fidelity.raw_difference_pages, fidelity.compared_pages), (14, PAGES));
    let causes = [
        (DifferenceCause::Unknown, 1),
        (DifferenceCause::ReadingWindow, 1),
        (DifferenceCause::BulkAllocation, 4),
        (DifferenceCause::Unexplained, 8),
    ];
    assert_eq!(fidelity.difference_pages.into_iter().collect::<Vec<_>>(), causes);
    assert_eq!(fidelity.refined_pages, 8, "movable pages are known to be file pages now");
    let pages = contents(&track);
    assert!(
        pages[..8].iter().all(|p| *p == Content::File) && pages[8..16].iter().all(|p| p.is_free())
    );
    assert_eq!((pages[64], pages[100]), (Content::Kernel, Content::Kernel), "the event wins");
    let frees = ops.iter().filter(|op| matches!(op.step, Step::Free { .. })).count();
    let allocs = ops.iter().filter(|op| matches!(op.step, Step::Alloc { .. })).count();
    assert_eq!((frees, allocs), (1, 4));
    assert_eq!(track.anomalies().repaired_pages[&RepairSource::Snapshot], 12);
    let again = track.compare(&found, None, 0, &mut ops);
    assert_eq!(again.raw_difference_pages, 2, "only what is not known or raced");
}

#[test]
fn losses_explain_as_many_pages_as_were_lost() {
    let machine = small();
    let mut track = opened(&machine);
    let mut ops = Vec::new();
    for page in [3, 9, 12] {
        apply(&mut track, &Do::Alloc(page, 0, Gfp::HIGHUSER_MOVABLE, false), 10_000_000, &mut ops);
    }
    let fidelity =
        track.compare(&closing(&machine, 100_000_000, |_| Content::Free), None, 2, &mut ops);
    assert_eq!(fidelity.difference_pages[&DifferenceCause::LostEvents], 2);
    assert_eq!(fidelity.unexplained_pages, 1);
}

#[test]
fn a_free_without_allocation_is_kept_for_a_second_pass() {
    let machine = small();
    let mut track = opened(&machine);
    track.keep_unmatched();
    let mut ops = Vec::new();
    apply(&mut track, &Do::Free(7, 0), 50_000_000, &mut ops);
    apply(&mut track, &Do::Free(7, 0), 90_000_000, &mut ops);
    let kept = track.take_unmatched();
    assert_eq!(kept.len(), 2);
    assert_eq!((kept[0].pfn, kept[0].after_ns), (7, 0));
    assert!((50_000_000..50_100_000).contains(&kept[1].after_ns), "{kept:?}");
    assert!(ops.is_empty(), "nothing was placed, so there is nothing to free");
}

#[test]
fn an_untraced_allocation_came_after_the_page_was_seen_free() {
    let machine = small();
    let mut track = opened(&machine);
    track.keep_unmatched();
    let mut ops = Vec::new();
    track.compare(&closing(&machine, 60_000_000, |_| Content::Free), None, 0, &mut ops);
    apply(&mut track, &Do::Free(7, 0), 90_000_000, &mut ops);
    let kept = track.take_unmatched();
    assert!((60_000_000..60_100_000).contains(&kept[0].after_ns), "{kept:?}");
}

#[test]
fn own_pages_are_real_but_no_workload() {
    let machine = small();
    let mut track = opened(&machine);
    let mut ops = Vec::new();
    apply(&mut track, &Do::Alloc(16, 2, Gfp::KERNEL, true), 10_000_000, &mut ops);
    assert_eq!((track.pages().unmovable_pages(), ops.len()), (4, 0));
    apply(&mut track, &Do::Free(16, 2), 20_000_000, &mut ops);
    assert_eq!((track.pages().unmovable_pages(), ops.len()), (0, 0));
    assert_eq!(track.peak_unmovable_pages(), 4);
}

#[test]
fn own_requests_can_be_made_workload() {
    let machine = small();
    let mut track = opened(&machine);
    track.serve_own();
    let mut ops = Vec::new();
    apply(&mut track, &Do::Alloc(16, 2, Gfp::KERNEL, true), 10_000_000, &mut ops);
    assert_eq!((track.pages().own_pages(), track.events().own_events), (0, 1));
    apply(&mut track, &Do::Free(16, 2), 20_000_000, &mut ops);
    let pfns = ops.iter().map(|op| match op.step {
        Step::Alloc { pfn, .. } => (true, pfn),
        Step::Free { pfn, .. } => (false, pfn),
        _ => panic!("{op:?}"),
    });
    assert_eq!(pfns.collect::<Vec<_>>(), [(true, 16), (false, 16)]);
}

#[test]
fn fallbacks_are_counted_where_they_happen() {
    let machine = small();
    let mut track = opened(&machine);
    for (pfn, claimed) in [(5, false), (6, false), (4100, true)] {
        let kind = SideKind::ExtFrag {
            pfn: Pfn(pfn),
            alloc_order: 0,
            fallback_order: 0,
            alloc_type: Migratetype::Unmovable,
            fallback_type: Migratetype::Movable,
            change_ownership: claimed,
        };
        track.side_event(&side(10_000_000, kind), &mut Vec::new());
    }
    let (stolen, claimed) =
        (Fallbacks { claims: 0, steals: 2 }, Fallbacks { claims: 1, steals: 0 });
    assert_eq!(track.fallbacks(), [(Pfn(0), stolen), (Pfn(4096), claimed)]);
}

#[test]
fn list_movements_tell_per_cpu_lists_from_the_buddy() {
    let machine = small();
    let mut track = opened(&machine);
    let mut ops = Vec::new();
    let mut movement = |track: &mut KernelTrack, kind, at: u64, order| {
        let (mt, gfp) = (Migratetype::Reclaimable, Gfp::empty());
        let event = PageEvent::new(kind, 10_000_000, CpuId(0), Pfn(at), order, mt, gfp);
        track.page_event(event, &mut ops);
    };
    movement(&mut track, PageEventKind::ZoneLocked, 512, 2);
    assert_eq!(contents(&track)[511..517].iter().filter(|c| **c == Content::Pcp).count(), 4);
    let pages = |blocks: Vec<u64>| (0..).zip(blocks).map(|(order, n)| n << order).sum::<u64>();
    assert_eq!(pages(track.pages().free_blocks()), PAGES - 4);
    let free = PageEvent::free(11_000_000, CpuId(0), Pfn(600), 0);
    let mut more = Vec::new();
    track.page_event(PageEvent::alloc(10_500_000, CpuId(0), Pfn(600), 0, Gfp::KERNEL), &mut more);
    track.page_event(free, &mut more);
    assert_eq!(contents(&track)[600], Content::Pcp, "it goes to a list of its CPU first");
    movement(&mut track, PageEventKind::PcpuDrain, 600, 0);
    assert_eq!(contents(&track)[600], Content::Free);
    assert_eq!(track.pages().free_pages(), PAGES);
    assert!(ops.is_empty(), "where free pages wait is no workload");
}

#[test]
fn a_snapshot_between_events_leaves_what_is_younger() {
    let machine = small();
    let mut track = opened(&machine);
    let mut ops = Vec::new();
    apply(&mut track, &Do::Alloc(5, 0, Gfp::KERNEL, false), 90_000_000, &mut ops);
    let fidelity =
        track.compare(&closing(&machine, 60_000_000, |_| Content::Free), None, 0, &mut ops);
    assert_eq!((fidelity.newer_pages, fidelity.raw_difference_pages), (1, 0));
    assert_eq!(contents(&track)[5], Content::Kernel);
}

#[test]
fn taint_changes_name_the_region_once() {
    let machine = small();
    let mut track = opened(&machine);
    let mut changes = Vec::new();
    let mut ops = Vec::new();
    for page in [4100, 4101] {
        apply(&mut track, &Do::Alloc(page, 0, Gfp::KERNEL, false), 10_000_000, &mut ops);
    }
    track.take_taint_changes(&mut changes);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].region, changes[0].frame, changes[0].tainted), (1, 4100, true));
}
