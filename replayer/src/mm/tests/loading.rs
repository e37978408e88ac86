//! Start states: a snapshot's lists, types and per-CPU pages come back as they were.

use fragscope_trace::machine::{Machine, Pageset, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::{FreeList, Snapshot};

use crate::mm::StockMm;
use crate::mm::allocator::PageAllocator;
use crate::mm::frames::FrameState;
use crate::mm::settings::Settings;
use crate::mm::testing;
use Migratetype::{Movable, Unmovable};

fn machine() -> Machine {
    testing::machine(9, &[(0, ZoneKind::Dma32, 0, 2048), (0, ZoneKind::Normal, 2048, 6144)])
}

fn list(cpu: Option<u16>, order: u8, migratetype: Migratetype, blocks: &[u64]) -> FreeList {
    let blocks = blocks.iter().map(|b| Pfn(*b)).collect();
    FreeList { zone: 1, cpu: cpu.map(CpuId), order, migratetype, blocks }
}

fn found(snapshot: &Snapshot, settings: &Settings) -> StockMm {
    let mm = StockMm::build(&snapshot.machine, settings).expect("a sound machine");
    mm.load(snapshot);
    mm.check_invariants();
    mm
}

fn listed(mm: &StockMm, order: u8, migratetype: Migratetype) -> Vec<u32> {
    use crate::mm::placement::Placement;
    let zone = &mm.buddy.zones[1];
    crate::mm::stock::Stock::lists(&mm.buddy, zone, order, migratetype)
        .flat_map(|list| mm.buddy.frames.iter(list).collect::<Vec<_>>())
        .collect()
}

/// Pages 2048.. of the NORMAL zone: pageblock 4 is unmovable with some free pages, the others are
/// movable.
fn snapshot() -> Snapshot {
    let mut snapshot = testing::snapshot(
        &machine(),
        &[
            (7, 9, Content::Reserved),
            (2048, 8, Content::Slab),
            (2060, 500, Content::Kernel),
            (2600, 400, Content::Anon),
        ],
    );
    snapshot.pageblocks =
        vec![(PfnRange::new(Pfn(2048), 512), Unmovable), (PfnRange::new(Pfn(2560), 4096), Movable)];
    snapshot.lists = vec![
        list(None, 10, Movable, &[6144, 4096, 7168, 3072]),
        list(None, 1, Unmovable, &[2058, 2056]),
        list(Some(1), 0, Movable, &[2561, 2560, 2563]),
        list(Some(0), 3, Movable, &[2568]),
        // A list that contradicts the states: 2600 is in use, 2562 is not aligned to order 2.
        list(None, 0, Movable, &[2600]),
        list(None, 2, Movable, &[2562]),
    ];
    snapshot
}

/// The order of list entries is kept; two free buddies of the unmovable block merge, as the
/// kernel would have merged them; what no list names comes behind, ascending.
#[test]
fn lists_keep_their_order() {
    let mm = found(&snapshot(), &Settings::default());
    assert_eq!(listed(&mm, 10, Movable), [6144, 4096, 7168, 3072, 5120]);
    assert_eq!(listed(&mm, 2, Unmovable), [2056]);
    assert_eq!(mm.pageblock_type(2048), Unmovable);
    assert_eq!(mm.pageblock_type(2560), Movable);
    let (buddy, cached) = mm.free_pages();
    assert_eq!((buddy + cached, cached), (8192 - 9 - 8 - 500 - 400, 3 + 8));
}

#[test]
fn cached_pages_keep_their_order() {
    let mm = found(&snapshot(), &Settings::default());
    let state = |frame| mm.frames().word(frame).state();
    assert!([2560, 2561, 2563, 2568].into_iter().all(|f| state(f) == FrameState::Pcp));
    let request =
        crate::mm::request::Request::new(0, fragscope_trace::gfp::Gfp::HIGHUSER_MOVABLE, CpuId(1));
    let taken: Vec<_> = (0..3).map(|_| mm.alloc(&request)).collect();
    assert_eq!(taken, [Ok(2561), Ok(2560), Ok(2563)]);
}

#[test]
fn without_per_cpu_lists_their_pages_are_in_the_zone() {
    let mm = found(&snapshot(), &Settings { pcp: false, ..Settings::default() });
    assert_eq!(mm.free_pages(), (8192 - 9 - 8 - 500 - 400, 0));
}

#[test]
fn every_allocated_page_lives_in_its_own_frame() {
    let mm = found(&snapshot(), &Settings::default());
    for frame in (2048..2056).chain(2060..2560).chain(2600..3000) {
        assert_eq!((mm.frames().place(frame), mm.frames().owner(frame)), (Some(frame), frame));
    }
    assert_eq!(mm.frames().place(7), None, "reserved pages are nobody's");
    assert_eq!(mm.frames().word(7).state(), FrameState::Reserved);
}

/// A pageset's tuning comes from the snapshot: high of 1000 where the minimum would be 252.
#[test]
fn pagesets_keep_their_tuning() {
    let mut snapshot = snapshot();
    snapshot.machine.zones[1].pagesets = vec![Pageset {
        cpu: CpuId(1),
        high: 1000,
        alloc_factor: Some(2),
        free_count: Some(5),
        flags: Some(0),
        ..Pageset::default()
    }];
    found(&snapshot, &Settings::default());
}

/// At boot only what no allocator placed stays, and all blocks are movable.
#[test]
fn at_boot_everything_else_is_free() {
    let mut snapshot = snapshot();
    for run in &mut snapshot.runs {
        run.pages = run.pages.min(4096 - run.start.0);
    }
    let mm = StockMm::build(&snapshot.machine, &Settings::default()).expect("a sound machine");
    mm.boot(&snapshot);
    mm.check_invariants();
    assert_eq!(listed(&mm, 10, Movable), [2048, 3072]);
    assert_eq!(mm.pageblock_type(2048), Movable);
    let absent: u64 = mm.census().iter().map(|r| r.count(|c| c == Content::Absent)).sum();
    assert_eq!(absent, 8192 - 4096, "what the snapshot does not name is not there");
}

/// Any snapshot whatever loads into a sound state.
mod hostile {
    use super::*;
    use proptest::prelude::*;

    fn lists() -> impl Strategy<Value = Vec<FreeList>> {
        let migratetype = (0..Migratetype::COUNT).prop_map(|i| Migratetype::ALL[i]);
        let cpu = prop::option::of((0..9u16).prop_map(CpuId));
        let blocks = prop::collection::vec(prop_oneof![0..9000u64, any::<u64>()], 0..30);
        let list = (0..4u16, cpu, 0..40u8, migratetype, blocks);
        let build = |(zone, cpu, order, migratetype, blocks): (u16, _, u8, _, Vec<u64>)| {
            let blocks = blocks.into_iter().map(|b| Pfn(b >> order.min(12) << order.min(12)));
            FreeList { zone, cpu, order, migratetype, blocks: blocks.collect() }
        };
        prop::collection::vec(list.prop_map(build), 0..20)
    }

    proptest! {
        #[test]
        fn lists_never_break_it(lists in lists(), pcp: bool) {
            let mut snapshot = snapshot();
            snapshot.lists = lists;
            found(&snapshot, &Settings { pcp, ..Settings::default() });
        }
    }
}
