//! Workers (patches 06, 15, 23, 25, 28).

use fragscope_trace::page::{Content, Migratetype};

use crate::mm::allocator::PageAllocator;
use crate::mm::flags::AllocFlags;
use crate::mm::frames::FrameState;
use crate::mm::settings::Settings;

use super::bed::*;

/// Superpageblock 0 is tainted by one page of its first pageblock; all else in it is `content`.
/// The others are empty.
fn tainted_and_full(spbs: u32, settings: &Settings, content: Content) -> Bed {
    let runs = [(0, 1, Content::Kernel), (1, u64::from(SPB) - 1, content)];
    Bed::with(spbs, settings, &runs)
}

/// One pageblock is emptied of what moves, and no other.
#[test]
fn p06_one_pageblock_is_emptied() {
    let bed = tainted_and_full(3, &Settings { p15: false, ..settings() }, Content::Anon);
    let evacuate = |block: u32| {
        let block = bed.block(block * BLOCK);
        crate::mm::spb::evacuate::evacuate_pageblock(&bed.mm, bed.zone(), block)
    };
    let movable = bed.counts(0).movable;
    assert_eq!((evacuate(5), bed.counts(0).free), (BLOCK, 1));
    assert_eq!(bed.counts(0).movable, movable - 1);
    // The pageblock that cannot be emptied is left to its unmovable page alone.
    assert_eq!((evacuate(0), bed.counts(0).free), (BLOCK - 1, 1));
    assert_eq!(bed.counts(0).unmovable, 1);
    bed.mm.check_invariants();
}

#[test]
fn p15_defragments_up_to_the_reserve() {
    let free_after = |settings: &Settings| {
        let bed = tainted_and_full(3, settings, Content::Anon);
        assert_eq!(bed.counts(0).free, 0);
        bed.advance_ms(20);
        (bed.counts(0).free, bed.counter("pages_moved"))
    };
    // 4 pageblocks of 16 pages; the first holds the unmovable page and yields 15 more.
    assert_eq!(free_after(&settings()), (4, 4 * 16 + 15));
    assert_eq!(free_after(&without("p15")), (0, 0));
}

/// On a machine whose memory is all in use, targets are had by reclaim.
#[test]
fn p15_targets_may_reclaim() {
    let free_after = |evacuate_reclaims: bool| {
        let settings = Settings { evacuate_reclaims, direct_reclaim: true, ..settings() };
        let spb = u64::from(SPB);
        let runs =
            [(0, 1, Content::Kernel), (1, spb - 1, Content::Anon), (spb, spb, Content::File)];
        let bed = Bed::with(2, &settings, &runs);
        bed.spbs().start_defrag(crate::mm::spb::geometry::SpbId(0));
        bed.advance_ms(20);
        (bed.counts(0).free, bed.counter("reclaimed_file") > 0)
    };
    assert_eq!((free_after(true), free_after(false)), ((4, true), (0, false)));
}

#[test]
fn p15_pinned_pages_make_it_rest() {
    let bed = tainted_and_full(3, &settings(), Content::Pinned);
    let passes = |ms: u64| {
        bed.advance_ms(ms);
        // Any change of the superpageblock asks for a pass.
        bed.spbs().start_defrag(crate::mm::spb::geometry::SpbId(0));
        bed.advance_ms(ms + 10);
        (bed.counter("spb_defrag_passes"), bed.counter("spb_defrag_fruitless"))
    };
    assert_eq!(passes(20), (1, 1));
    assert_eq!(passes(4000), (1, 1), "it rests for five seconds");
    assert_eq!(passes(5100), (2, 2));
}

#[test]
fn p15_logical_pages_survive_evacuation() {
    let bed = tainted_and_full(3, &settings(), Content::Anon);
    bed.advance_ms(20);
    for pfn in 1..SPB {
        let frame = bed.mm.buddy.frames.place(pfn).unwrap();
        assert_eq!(bed.mm.buddy.frames.owner(frame), pfn);
        let word = bed.mm.buddy.frames.word(frame);
        assert_eq!((word.state(), word.content()), (FrameState::Allocated, Content::Anon));
    }
}

#[test]
fn p23_evacuates_before_nofragment_is_dropped() {
    let tainted = |settings: &Settings| {
        let settings = Settings { p15: false, p27: false, ..settings.clone() };
        let bed = tainted_and_full(3, &settings, Content::Anon);
        bed.alloc(BLOCK_ORDER, UNMOVABLE);
        (bed.tainted(), bed.counter("targeted_evacuations_done"))
    };
    assert_eq!(tainted(&settings()), (vec![0], 1));
    let (tainted, evacuations) = tainted(&without("p23"));
    assert_eq!((tainted.len(), evacuations), (2, 0));
}

#[test]
fn p23_one_evacuation_empties_at_most_eight_pageblocks_each() {
    let settings = Settings { p15: false, ..settings() };
    let bed = tainted_and_full(3, &settings, Content::Anon);
    bed.alloc(BLOCK_ORDER, UNMOVABLE);
    assert_eq!(bed.counter("targeted_evacuation_blocks"), 8);
}

/// An unmovable request that is about to taint an empty superpageblock queues an evacuation.
#[test]
fn p25_tainting_queues_an_evacuation() {
    let evacuated = |settings: &Settings| {
        let settings = Settings { p15: false, ..settings.clone() };
        let bed = tainted_and_full(3, &settings, Content::Anon);
        bed.rmqueue(0, Migratetype::Unmovable, AllocFlags::empty()).unwrap();
        assert_eq!(bed.tainted().len(), 2);
        let queued = bed.counter("spb_evac_queued");
        bed.advance_ms(20);
        (queued, bed.counter("targeted_evacuations"))
    };
    assert_eq!(evacuated(&settings()), (1, 1));
    assert_eq!(evacuated(&without("p25")), (0, 0));
}

/// No evacuation is queued while a tainted superpageblock has just the block that was wanted.
#[test]
fn p25_over_rejection_is_not_depletion() {
    // One free unmovable page, and NOFRAGMENT-less claims of order 0 would find it; order 1 not.
    let queued = |order: u8| {
        let runs = [(1, u64::from(SPB) - 1, Content::Slab)];
        let bed = Bed::with(3, &Settings { p15: false, ..settings() }, &runs);
        let (buddy, zone) = (&bed.mm.buddy, bed.zone());
        let search = crate::mm::spb::search::Search::new(
            buddy,
            zone,
            order,
            Migratetype::Unmovable,
            AllocFlags::empty(),
        );
        search.relieve();
        bed.counter("spb_evac_queued")
    };
    assert_eq!((queued(0), queued(1)), (0, 1));
}

#[test]
fn p28_a_low_tainted_superpageblock_asks_for_slab() {
    let shrinks = |settings: &Settings, free_blocks: u32| {
        let used = u64::from(SPB - BLOCK * free_blocks) - 1;
        let runs = [(0, used, Content::Slab)];
        let bed = Bed::with(2, settings, &runs);
        bed.rmqueue(0, Migratetype::Unmovable, AllocFlags::NOFRAGMENT).unwrap();
        bed.counter("spb_slab_shrink_queued")
    };
    // High water: the reserve of 4 pageblocks.
    assert_eq!((shrinks(&settings(), 3), shrinks(&settings(), 8)), (1, 0));
    assert_eq!(shrinks(&without("p28"), 3), 0);
}

#[test]
fn p28_slab_yields_between_nothing_and_its_target() {
    let freed = |shrink_yields: bool| {
        let settings = Settings {
            shrink_yields,
            shrink_target_objects: 160,
            slab_objects_per_page: 16,
            ..settings()
        };
        let runs = [(0, u64::from(SPB) - 1, Content::Reclaimable)];
        let bed = Bed::with(2, &settings, &runs);
        bed.rmqueue(0, Migratetype::Unmovable, AllocFlags::NOFRAGMENT).unwrap();
        bed.advance_ms(20);
        assert_eq!(bed.counter("spb_slab_shrink_ran"), 1);
        bed.counter("reclaimed_slab")
    };
    assert_eq!((freed(false), freed(true)), (0, 10));
}
