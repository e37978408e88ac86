//! The event table of has-bits and counters (patches 07, 08, 09).

use std::collections::BTreeSet;

use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use proptest::prelude::*;

use crate::mm::allocator::PageAllocator;
use crate::mm::flags::AllocFlags;
use crate::mm::frames::FrameState;
use crate::mm::geometry::PageblockId;
use crate::mm::pageblock::BlockFlags;
use crate::mm::request::{FreeEntry, Request};
use crate::mm::settings::Settings;
use crate::mm::spb::category::Counts;
use crate::mm::spb::debugfs;
use crate::mm::spb::event::{Outcome, SpbEvent};

use super::bed::*;

const BOTH: BlockFlags = BlockFlags::HAS_UNMOVABLE.union(BlockFlags::HAS_RECLAIMABLE);

#[test]
fn p08_a_fresh_superpageblock_is_empty() {
    let bed = Bed::new(2, &settings());
    let empty = Counts { free: BLOCKS, total: BLOCKS, ..Counts::default() };
    assert_eq!(bed.counts(0), empty);
}

#[test]
fn p08_memory_reserved_at_boot_counts_as_movable() {
    let bed = Bed::with(2, &settings(), &[(0, 5, Content::Reserved)]);
    assert_eq!((bed.counts(0).movable, bed.counts(0).unmovable), (1, 0));
    assert_eq!(bed.counts(0).free, BLOCKS - 1);
}

#[test]
fn p08_a_pageblock_that_becomes_free_forgets_everything() {
    let bed = Bed::new(2, &settings());
    let frames: Vec<_> = (0..BLOCK).map(|_| bed.alloc(0, UNMOVABLE)).collect();
    assert_eq!(bed.tainted(), [0]);
    assert_eq!(bed.block_type(frames[0]), Migratetype::Unmovable);
    bed.events();
    frames[1..].iter().for_each(|frame| bed.free(*frame, 0));
    assert_eq!(bed.tainted(), [0], "one page keeps the taint");
    bed.free(frames[0], 0);
    assert!(bed.tainted().is_empty());
    assert_eq!(bed.block_type(frames[0]), Migratetype::Movable, "free pageblocks are movable");
    let cleared = SpbEvent::SpbPbTaint {
        pfn: frames[0] / BLOCK * BLOCK,
        migratetype: Migratetype::Unmovable,
        set: false,
        is_first_or_last: true,
    };
    assert!(bed.events().contains(&cleared));
}

/// The largest free block covers two pageblocks; taking one page of it marks both as used.
#[test]
fn p08_taking_part_of_a_block_uses_all_its_pageblocks() {
    let bed = Bed::new(2, &settings());
    bed.alloc(0, MOVABLE);
    let Counts { free, movable, .. } = bed.counts(0);
    assert_eq!((free, movable), (BLOCKS - 2, 2));
}

/// Pageblocks without memory stay uninitialised: no list has them, and no request gets them.
#[test]
fn p04_holes_are_in_no_list() {
    let hole = SPB + 3 * BLOCK..SPB + 5 * BLOCK;
    let runs = [(u64::from(hole.start), u64::from(2 * BLOCK), Content::Absent)];
    let bed = Bed::with(2, &settings(), &runs);
    let Counts { free, reserved, total, .. } = bed.counts(1);
    assert_eq!((free, reserved, total), (BLOCKS - 2, 2, BLOCKS));
    let mut served = 0;
    while let Ok(frame) = bed.try_alloc(&Request::new(0, MOVABLE, CpuId(0))) {
        assert!(!hole.contains(&frame));
        served += 1;
    }
    assert_eq!(served, 2 * SPB - 2 * BLOCK);
}

/// A borrowed page sets the borrower's bit, unless content is not tracked.
#[test]
fn p07_bits_follow_content() {
    let bits = |settings: &Settings| {
        let bed = Bed::with(2, settings, &[]);
        let source = bed.alloc(0, RECLAIMABLE);
        // Leave nothing in the tainted superpageblock but reclaimable fragments.
        let rest = (BLOCK..SPB).filter(|f| bed.block(*f) != bed.block(source));
        bed.occupy(rest, MOVABLE);
        let borrowed = bed.rmqueue(0, Migratetype::Unmovable, AllocFlags::NOFRAGMENT).unwrap();
        assert_eq!(bed.block(borrowed), bed.block(source));
        bed.mm.buddy.blocks.flags(bed.block(borrowed)) & BOTH
    };
    assert_eq!(bits(&settings()), BOTH);
    assert_eq!(bits(&without("p07")), BlockFlags::HAS_RECLAIMABLE);
}

#[test]
fn p09_superpageblocks_grow_with_the_zone() {
    let half = u64::from(SPB);
    let grown = |settings: &Settings| {
        let bed = Bed::with(2, settings, &[(half, half, Content::Absent)]);
        assert_eq!(bed.spbs().len(), 1);
        bed.mm.grow(PfnRange::new(Pfn(half), half));
        bed.mm.check_invariants();
        bed
    };
    let bed = grown(&settings());
    assert_eq!((bed.spbs().len(), bed.counts(1).free), (2, BLOCKS));
    // Without metadata the new memory is served last, from the zone's own lists.
    let bed = grown(&without("p09"));
    assert_eq!(bed.spbs().len(), 1);
    bed.occupy(0..SPB, MOVABLE);
    bed.events();
    assert_eq!(spb_of(bed.alloc(0, MOVABLE)), 1);
    let from_zone =
        |e: &SpbEvent| matches!(e, SpbEvent::SpbAllocWalk { outcome: Outcome::ZoneFallback, .. });
    assert!(bed.events().iter().any(from_zone));
}

#[test]
fn a_gigantic_page_isolates_its_superpageblock() {
    let bed = Bed::with(2, &settings(), &[(0, u64::from(SPB), Content::Gigantic)]);
    assert!(bed.counts(0).contig_allocated);
    bed.mm.free(0, 9, CpuId(0), FreeEntry::Normal).unwrap();
    bed.mm.check_invariants();
    assert!(!bed.counts(0).contig_allocated);
    assert_eq!(bed.counts(0).free, BLOCKS);
}

/// The state as the series' debugfs file shows it, read back.
#[test]
fn p10_the_debugfs_file_shows_lists_and_counters() {
    let bed = Bed::with(3, &settings(), &[(0, u64::from(SPB), Content::Gigantic)]);
    bed.alloc(0, UNMOVABLE);
    let zones = debugfs::state(&bed.mm.buddy);
    let [zone] = &zones[..] else { panic!("one zone") };
    let lists: Vec<_> = zone.lists.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(lists, [("contig_alloc", 1), ("empty", 1), ("tainted/almost_empty", 1)]);
    assert_eq!(zone.superpageblocks[1].unmovable, bed.counts(1).unmovable);
    assert_eq!(debugfs::parse(&debugfs::print(&zones)).unwrap(), zones);
}

/// One random step: an order-n request of a type, or a free.
#[derive(Clone, Debug)]
enum Work {
    Alloc(u8, usize),
    Free(usize),
}

fn work() -> impl Strategy<Value = Vec<Work>> {
    let alloc = (0..=BLOCK_ORDER, 0..5usize).prop_map(|(order, gfp)| Work::Alloc(order, gfp));
    let step = prop_oneof![3 => alloc, 2 => any::<usize>().prop_map(Work::Free)];
    prop::collection::vec(step, 1..300)
}

/// What a recount of pages says a pageblock's bits must be, and may be.
fn check_bits(bed: &Bed, block: PageblockId) {
    let buddy = &bed.mm.buddy;
    let flags = buddy.blocks.flags(block);
    let range = buddy.geometry.block_in_zone(block);
    let mut used = false;
    for frame in range.clone() {
        let word = buddy.frames.word(frame);
        if word.state() != FrameState::Allocated {
            continue;
        }
        used = true;
        let needed = match word.migratetype() {
            Migratetype::Unmovable => BlockFlags::HAS_UNMOVABLE,
            Migratetype::Reclaimable => BlockFlags::HAS_RECLAIMABLE,
            _ => BlockFlags::HAS_MOVABLE,
        };
        assert!(flags.contains(needed), "{block:?} has {flags:?}, needs {needed:?}");
    }
    let free: u32 = buddy.count_block_pages(block).free;
    let any = BOTH | BlockFlags::HAS_MOVABLE;
    if flags.contains(BlockFlags::ALL_FREE) {
        assert!(!used && !flags.intersects(any), "wholly free {block:?} has {flags:?}");
    } else {
        assert!(flags.intersects(any), "{block:?} with {free} free pages has no bit");
    }
}

/// How often a pageblock could have come to hold both non-movable types.
fn mixings(bed: &Bed) -> u64 {
    let counters = bed.counters();
    let ways = ["steals", "claims_partial", "claims_whole", "pass_2c", "pass_2d"];
    ways.iter().map(|name| counters[*name]).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bits cover what is in each pageblock, counters follow the bits, every superpageblock is on
    /// its list (all three re-derived after each step), and a pageblock comes to hold both
    /// non-movable types only by a borrow, a steal or a claim.
    #[test]
    fn p24_bits_are_what_a_recount_allows(work in work(), borrow: bool) {
        let settings = Settings { p27: borrow, ..settings() };
        let bed = Bed::new(3, &settings);
        let shapes = [UNMOVABLE, RECLAIMABLE, MOVABLE, MOVABLE, fragscope_trace::gfp::Gfp::ATOMIC];
        let mut live = Vec::new();
        let mut mixed = BTreeSet::new();
        for step in work {
            let before = mixings(&bed);
            match step {
                Work::Alloc(order, gfp) => {
                    let request = Request::new(order, shapes[gfp], CpuId(0));
                    live.extend(bed.try_alloc(&request).map(|frame| (frame, order)));
                }
                Work::Free(which) if !live.is_empty() => {
                    let (frame, order) = live.swap_remove(which % live.len());
                    bed.free(frame, order);
                }
                Work::Free(_) => {}
            }
            let blocks: Vec<_> = bed.mm.buddy.blocks.online().collect();
            blocks.iter().for_each(|block| check_bits(&bed, *block));
            let with_both = |b: &&PageblockId| bed.mm.buddy.blocks.flags(**b).contains(BOTH);
            let now: BTreeSet<_> = blocks.iter().filter(with_both).map(|b| b.0).collect();
            if now.difference(&mixed).next().is_some() {
                prop_assert!(mixings(&bed) > before, "a pageblock was mixed by nothing known");
            }
            mixed = now;
        }
    }
}
