//! Per-CPU lists that own pageblocks (patches 02, 03, 21).

use fragscope_trace::page::{Content, CpuId};
use proptest::prelude::*;

use crate::mm::allocator::PageAllocator;
use crate::mm::frames::Frame;
use crate::mm::free_path::Protocol;
use crate::mm::settings::Settings;
use crate::mm::virtual_hold::Stranded;

use super::bed::*;

fn with_pcp() -> Settings {
    Settings { pcp: true, ..settings() }
}

fn pcp_without(patch: &str) -> Settings {
    Settings { pcp: true, ..without(patch) }
}

/// Enough requests in a row that refills take whole pageblocks, of which the last come.
fn run_of_pages(bed: &Bed, cpu: u16, pages: usize) -> Vec<Frame> {
    (0..pages).map(|_| bed.alloc_on(cpu, 0, MOVABLE)).collect()
}

#[test]
fn p02_long_runs_own_pageblocks() {
    let owned = |settings: &Settings| {
        let bed = Bed::new(4, settings);
        run_of_pages(&bed, 0, 200);
        bed.counter("pcp_whole_blocks")
    };
    assert!(owned(&with_pcp()) > 0);
    assert_eq!(owned(&pcp_without("p02")), 0);
}

#[test]
fn p02_a_whole_pageblock_merges_and_is_disowned() {
    let bed = Bed::new(4, &with_pcp());
    let frames = run_of_pages(&bed, 0, 400);
    let owned = |f: &&Frame| bed.mm.buddy.blocks.owner(bed.block(**f)) != 0;
    assert!(frames.iter().filter(owned).count() > 0);
    frames.iter().for_each(|frame| bed.free(*frame, 0));
    bed.mm.cpu_offline(CpuId(0));
    bed.mm.cpu_online(CpuId(0));
    assert!(bed.counter("pcp_merges") > 0);
    assert_eq!(frames.iter().filter(owned).count(), 0);
    assert_eq!(bed.counts(0).free, BLOCKS);
}

#[test]
fn p03_pages_freed_elsewhere_come_home() {
    let freed = |settings: &Settings| {
        let bed = Bed::new(4, settings);
        let frames = run_of_pages(&bed, 0, 200);
        frames.iter().for_each(|frame| bed.free_on(1, *frame, 0));
        let remote = bed.counter("pcp_remote_frees");
        let again = run_of_pages(&bed, 0, 1);
        assert!(frames.contains(&again[0]));
        (remote > 0, bed.counter("pcp_absorbed") == remote)
    };
    assert_eq!(freed(&with_pcp()), (true, true));
    // Without patch 03 the owner's lists are locked from afar: nothing is pushed or absorbed.
    assert_eq!(freed(&pcp_without("p03")), (false, true));
}

/// Frees pages of CPU 0's pageblocks on CPU 1 while CPU 0's lists are held, and later; says which
/// counters went up.
fn remote_frees_of(protocol: Protocol) -> [u64; 5] {
    let settings = Settings { free_path: protocol, ..with_pcp() };
    let bed = Bed::new(4, &settings);
    let [.., first, second] = run_of_pages(&bed, 0, 200)[..] else { panic!("200 pages") };
    bed.mm.at(1_000_000, CpuId(0));
    run_of_pages(&bed, 0, 1);
    bed.mm.at(1_000_001, CpuId(1));
    bed.free_on(1, first, 0);
    bed.mm.at(1_000_001 + settings.hold_hit_ns, CpuId(1));
    bed.free_on(1, second, 0);
    bed.mm.check_invariants();
    [
        "pcp_fallbacks_remote",
        "pcp_remote_locked",
        "pcp_remote_frees",
        "pcp_lock_waits",
        "pcp_lock_wait_ns",
    ]
    .map(|name| bed.counter(name))
}

#[test]
fn p03_protocols_differ_in_what_finds_the_owners_lock_held() {
    let hold = Settings::default().hold_hit_ns;
    assert_eq!(remote_frees_of(Protocol::LocalTrylockRemoteLlist), [0, 0, 2, 0, 0]);
    assert_eq!(remote_frees_of(Protocol::TrylockZone), [1, 1, 0, 0, 0]);
    // The second free comes just when the first, which waited, lets go.
    assert_eq!(remote_frees_of(Protocol::Blocking), [0, 2, 0, 1, hold - 1]);
}

#[test]
fn p03_pages_wait_for_their_owner_in_no_count() {
    let bed = Bed::new(4, &with_pcp());
    let [.., first, second, third] = run_of_pages(&bed, 0, 200)[..] else { panic!("200 pages") };
    let free = |bed: &Bed| {
        let (zone, cached) = PageAllocator::free_pages(&bed.mm);
        zone + cached
    };
    let before = free(&bed);
    for (now, frame) in [(100, first), (400, second)] {
        bed.mm.at(now, CpuId(1));
        bed.free_on(1, frame, 0);
    }
    let waiting = bed.mm.stranded();
    assert_eq!(waiting, Stranded { pages: 2, pages_max: 2, age_max_ns: 300 });
    assert_eq!(free(&bed), before);
    bed.mm.at(1_100, CpuId(0));
    bed.free(third, 0);
    bed.mm.cpu_offline(CpuId(0));
    assert_eq!(free(&bed), before + 3);
    assert_eq!(bed.mm.stranded(), Stranded { pages: 0, pages_max: 2, age_max_ns: 1_000 });
}

#[test]
fn p03_no_page_is_lost_when_the_owner_goes_away() {
    let bed = Bed::new(4, &with_pcp());
    let frames = run_of_pages(&bed, 0, 200);
    let (early, late) = frames.split_at(100);
    early.iter().for_each(|frame| bed.free_on(1, *frame, 0));
    bed.mm.cpu_offline(CpuId(0));
    bed.mm.check_invariants();
    let remote = bed.counter("pcp_remote_frees");
    late.iter().for_each(|frame| bed.free_on(1, *frame, 0));
    assert_eq!(bed.counter("pcp_remote_frees"), remote, "a dead CPU gets nothing");
    bed.mm.cpu_online(CpuId(0));
    bed.mm.cpu_offline(CpuId(1));
    bed.mm.check_invariants();
    let (buddy, cached) = PageAllocator::free_pages(&bed.mm);
    assert_eq!((buddy, cached), (u64::from(4 * SPB), 0));
}

/// A tainted superpageblock with free fragments on its unmovable list.
#[test]
fn p21_refills_adopt_partial_pageblocks() {
    let adopted = |settings: &Settings| {
        let runs = [
            (0, u64::from(BLOCK / 2), Content::Kernel),
            (u64::from(BLOCK), u64::from(SPB - BLOCK), Content::Slab),
        ];
        let bed = Bed::with(2, settings, &runs);
        // The second refill asks for more than one page.
        (0..4).for_each(|_| _ = bed.alloc(0, UNMOVABLE));
        let owner = bed.mm.buddy.blocks.owner(bed.block(0));
        (bed.counter("pcp_adopted"), owner)
    };
    let large_batch = |settings: Settings| Settings { adoption_floor_pages: 4, ..settings };
    assert_eq!(adopted(&large_batch(with_pcp())), (1, 1));
    assert_eq!(adopted(&large_batch(pcp_without("p21"))), (0, 0));
    // Below the floor nothing is adopted.
    let high_floor = Settings { adoption_floor_pages: 100, ..with_pcp() };
    assert_eq!(adopted(&high_floor), (0, 0));
}

/// One random step of two CPUs.
fn steps() -> impl Strategy<Value = Vec<(u16, u8, bool, usize)>> {
    prop::collection::vec((0..2u16, 0..3u8, any::<bool>(), any::<usize>()), 1..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The work list of fresh pages merges exactly what a walk of all lists does.
    #[test]
    fn p02_incremental_merging_equals_the_full_walk(steps in steps(), runs in 0..4usize) {
        let state = |incremental_merge: bool| {
            let bed = Bed::new(3, &Settings { incremental_merge, ..with_pcp() });
            let mut live: Vec<(Frame, u8)> =
                run_of_pages(&bed, 0, 60 * runs).into_iter().map(|f| (f, 0)).collect();
            for (cpu, order, free, which) in &steps {
                if *free && !live.is_empty() {
                    let (frame, order) = live.swap_remove(which % live.len());
                    bed.free_on(*cpu, frame, order);
                } else {
                    let request = crate::mm::request::Request::new(*order, MOVABLE, CpuId(*cpu));
                    live.extend(bed.try_alloc(&request).map(|frame| (frame, *order)));
                }
            }
            let words: Vec<_> = (0..3 * SPB).map(|f| bed.mm.buddy.frames.word(f)).collect();
            (words, bed.counters())
        };
        let (full, incremental) = (state(false), state(true));
        prop_assert_eq!(full.0, incremental.0);
        prop_assert_eq!(full.1, incremental.1);
    }
}
