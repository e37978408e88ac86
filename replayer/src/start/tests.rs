//! Start states: what a snapshot had must be there, wherever the policy puts it.

use fragscope_trace::machine::Machine;
use fragscope_trace::page::Content;
use fragscope_trace::snapshot::{Snapshot, SnapshotRole};

use super::survivors::{is_placed, survivors};
use super::{FillReport, TrackSpec, build};
use crate::mm::allocator::PageAllocator;
use crate::mm::settings::Settings;
use crate::mm::{SpbMm, StockMm};
use crate::observe::{StartState, TrackKind};
use crate::testing::{machine, snapshot};

const PAGES: u64 = 16_384;

/// A third of everything allocated, in stretches, with fixed pages among it.
fn found() -> (Machine, Snapshot) {
    let machine = machine(&[PAGES]);
    let found = snapshot(&machine, SnapshotRole::Opening, 60_000_000_000, |pfn| match pfn {
        0..300 => Content::Reserved,
        1024..1536 => Content::Hugetlb,
        p if p % 97 < 20 => Content::File,
        p if p % 97 < 27 => Content::Anon,
        p if p % 97 < 30 => Content::Slab,
        p if p % 97 < 31 => Content::PageTable,
        p if p % 97 < 32 => Content::Reclaimable,
        p if p % 97 < 35 => Content::Pcp,
        _ => Content::Free,
    });
    (machine, found)
}

fn start<A: PageAllocator>(start: StartState, seed: u64) -> (A, FillReport) {
    let (machine, found) = found();
    let spec = TrackSpec { policy: TrackKind::Stock, start, seed, settings: Settings::default() };
    build(&spec, &machine, &found).unwrap()
}

fn totals(allocator: &impl PageAllocator) -> [u64; Content::COUNT] {
    let mut totals = [0; Content::COUNT];
    for region in allocator.census() {
        for (total, pages) in totals.iter_mut().zip(region.pages) {
            *total += u64::from(pages);
        }
    }
    totals
}

/// Where each page of the snapshot went.
fn places(allocator: &impl PageAllocator) -> Vec<Option<u32>> {
    (0..PAGES as u32).map(|pfn| allocator.frames().place(pfn)).collect()
}

fn keeps_what_was_found<A: PageAllocator>() {
    let (_, found) = found();
    let expected = found.totals();
    for (state, seed) in
        [(StartState::AsFound, 0), (StartState::FromBoot, 1), (StartState::FromBootIdeal, 1)]
    {
        let (allocator, report) = start::<A>(state, seed);
        assert_eq!(report.refused_survivor_pages, 0);
        let totals = totals(&allocator);
        for content in Content::ALL.into_iter().filter(|c| !c.is_free()) {
            assert_eq!(
                totals[content.index()],
                expected[content.index()],
                "{content:?}, {state:?}"
            );
        }
        for (pfn, place) in places(&allocator).into_iter().enumerate() {
            let content = content_of(&found, pfn as u64);
            assert_eq!(place.is_some(), content.is_allocated(), "{content:?} at {pfn}, {state:?}");
            if state == StartState::AsFound || !is_placed(content) {
                assert!(place.is_none_or(|frame| frame == pfn as u32), "{content:?} moved");
            }
        }
        allocator.check_invariants();
    }
}

fn content_of(snapshot: &Snapshot, pfn: u64) -> Content {
    let at = snapshot.runs.partition_point(|run| run.start.0 + run.pages <= pfn);
    snapshot.runs[at].content
}

#[test]
fn every_start_state_keeps_what_was_found() {
    keeps_what_was_found::<StockMm>();
    keeps_what_was_found::<SpbMm>();
}

#[test]
fn a_history_runs_low_once_and_leaves_no_filler() {
    let (stock, report) = start::<StockMm>(StartState::FromBoot, 4);
    let expected = survivors(&found().1).iter().map(|s| 1 << s.order).sum::<u64>();
    assert_eq!(report.survivor_pages, expected);
    let few = PAGES * 5 / 100;
    assert!(report.filler_pages > PAGES / 3, "{report:?}");
    assert!((few - 100..=few + 100).contains(&report.lowest_free_pages), "{report:?}");
    let (buddy, pcp) = PageAllocator::free_pages(&stock);
    let free = found().1.totals();
    assert_eq!(buddy + pcp, free[Content::Free.index()] + free[Content::Pcp.index()]);
    let ideal = start::<StockMm>(StartState::FromBootIdeal, 4).1;
    assert_eq!(ideal.filler_pages, 0);
}

#[test]
fn the_seed_is_all_that_is_drawn() {
    let of = |seed| places(&start::<SpbMm>(StartState::FromBoot, seed).0);
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn blocks_survive_as_blocks() {
    let (_, mut found) = found();
    found.runs = vec![fragscope_trace::snapshot::PageRun {
        start: fragscope_trace::page::Pfn(1024),
        pages: 1024,
        content: Content::Anon,
        order: 9,
        migratetype: fragscope_trace::page::Migratetype::Movable,
    }];
    let units: Vec<(u32, u8)> = survivors(&found).iter().map(|s| (s.pfn, s.order)).collect();
    assert_eq!(units, [(1024, 9), (1536, 9)]);
}
