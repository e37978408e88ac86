//! The passes of one search (patches 10 to 14, 27, 31).

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, Migratetype};

use crate::mm::flags::AllocFlags;
use crate::mm::placement::Placement;
use crate::mm::request::Entry;
use crate::mm::settings::Settings;
use crate::mm::spb::Spb;
use crate::mm::spb::event::{Outcome, SpbEvent};
use crate::mm::spb::geometry::SpbId;
use crate::mm::spb::index::SpbIndex;

use super::bed::*;

const NOFRAGMENT: AllocFlags = AllocFlags::NOFRAGMENT;

/// Outcome and superpageblocks visited of the last walk.
fn last_walk(bed: &Bed) -> (Outcome, u32) {
    let walk = |event: &SpbEvent| match event {
        SpbEvent::SpbAllocWalk { outcome, n_spbs_visited, .. } => Some((*outcome, *n_spbs_visited)),
        _ => None,
    };
    bed.events().iter().rev().find_map(walk).unwrap()
}

/// Movable pages in all blocks of a superpageblock but the last `free`.
fn fill(bed: &Bed, spb: u32, free: u32) {
    bed.occupy(spb * SPB..(spb + 1) * SPB - free * BLOCK, MOVABLE);
}

#[test]
fn p10_movable_pages_fill_the_fullest_clean_superpageblock() {
    let served_by = |settings: Settings| {
        let bed = Bed::new(3, &Settings { spb_index: index("linear"), ..settings });
        fill(&bed, 0, 30);
        fill(&bed, 1, 4);
        spb_of(bed.alloc(0, MOVABLE))
    };
    assert_eq!(served_by(settings()), 1, "it is nearly full, the other nearly empty");
    let off = Settings { spb_rotation: false, ..without("p10") };
    assert_eq!(served_by(off), 0, "one bucket in address order");
}

fn index(name: &str) -> crate::mm::settings::IndexKind {
    let mut settings = Settings::default();
    settings.set("spb_index", name).unwrap();
    settings.spb_index
}

#[test]
fn p12_whole_pageblocks_come_from_the_fullest_clean_superpageblock() {
    let served_by = |settings: &Settings| {
        let bed = Bed::new(3, settings);
        // The hint for pageblocks points to superpageblock 0; number 1 becomes fuller.
        bed.alloc(BLOCK_ORDER, MOVABLE);
        bed.alloc(BLOCK_ORDER, MOVABLE);
        fill(&bed, 1, 4);
        let flags = AllocFlags::empty();
        let (buddy, zone) = (&bed.mm.buddy, bed.zone());
        let frame = Spb::whole_pageblock(buddy, zone, Migratetype::Movable, flags).unwrap();
        spb_of(frame)
    };
    assert_eq!(served_by(&settings()), 1);
    assert_eq!(served_by(&without("p12")), 0);
}

#[test]
fn p12_bulk_requests_do_not_fragment() {
    let begins = |settings: &Settings| {
        let bed = Bed::new(2, settings);
        Spb::begins_nofragment(&bed.mm.buddy, Entry::Bulk)
    };
    assert!(begins(&settings()) && !begins(&without("p12")));
}

#[test]
fn pass_1_serves_from_the_own_list_of_the_preferred_category() {
    let bed = Bed::new(3, &settings());
    let unmovable = bed.alloc(0, UNMOVABLE);
    bed.events();
    let next = bed.alloc(0, UNMOVABLE);
    assert_eq!(spb_of(next), spb_of(unmovable));
    assert_eq!(last_walk(&bed).0, Outcome::Pass1);
    let movable = bed.alloc(0, MOVABLE);
    assert_ne!(spb_of(movable), spb_of(unmovable), "clean ones serve movable pages");
}

/// A wholly free pageblock in a tainted superpageblock is relabelled before any other is tainted.
#[test]
fn pass_2_relabels_a_free_pageblock_of_a_tainted_superpageblock() {
    let bed = Bed::new(3, &settings());
    let first = bed.alloc(0, UNMOVABLE);
    bed.events();
    let reclaimable = bed.rmqueue(0, Migratetype::Reclaimable, NOFRAGMENT).unwrap();
    assert_eq!(last_walk(&bed).0, Outcome::Pass2);
    assert_eq!(spb_of(reclaimable), spb_of(first));
    assert_eq!(bed.block_type(reclaimable), Migratetype::Reclaimable);
    assert_eq!(bed.tainted(), [spb_of(first)]);
}

/// A tainted superpageblock whose only free pages are in one movable pageblock, a quarter free.
fn with_movable_fragment(settings: &Settings) -> Bed {
    let runs = [
        (0, u64::from(BLOCK), Content::Kernel),
        (u64::from(BLOCK + BLOCK / 4), u64::from(SPB - BLOCK - BLOCK / 4), Content::Anon),
    ];
    Bed::with(3, settings, &runs)
}

#[test]
fn p23_pass_2b_relabels_however_little_is_free() {
    let bed = with_movable_fragment(&settings());
    let frame = bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT).unwrap();
    assert_eq!(last_walk(&bed).0, Outcome::Pass2b);
    assert_eq!(bed.block_type(frame), Migratetype::Unmovable);
    // With the 50 % rule the block is refused, and pass 2d borrows from it instead.
    let bed = with_movable_fragment(&without("p23"));
    let frame = bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT).unwrap();
    assert_eq!(last_walk(&bed).0, Outcome::Pass2d);
    assert_eq!(bed.block_type(frame), Migratetype::Movable);
}

/// A tainted superpageblock whose only free pages are reclaimable.
fn with_reclaimable_fragment(settings: &Settings) -> Bed {
    let runs = [
        (0, u64::from(BLOCK / 2), Content::Reclaimable),
        (u64::from(BLOCK), u64::from(SPB - BLOCK), Content::Anon),
    ];
    Bed::with(3, settings, &runs)
}

#[test]
fn p27_borrows_across_types_and_gives_back() {
    let bed = with_reclaimable_fragment(&settings());
    let frame = bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT).unwrap();
    assert_eq!(last_walk(&bed).0, Outcome::Pass2c);
    assert_eq!(bed.block_type(frame), Migratetype::Reclaimable, "not relabelled");
    let free = |t: Migratetype| bed.zone().blocks(0, t);
    let before = free(Migratetype::Reclaimable);
    bed.free(frame, 0);
    let listed = bed.mm.buddy.free_block_of(frame).unwrap().1;
    assert_eq!(listed.migratetype(), Migratetype::Reclaimable, "back on its source list");
    assert!(free(Migratetype::Unmovable) == 0 && free(Migratetype::Reclaimable) <= before + 1);
    let off = with_reclaimable_fragment(&without("p27"));
    assert_eq!(off.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT), None);
}

#[test]
fn pass_3_opens_an_empty_superpageblock_for_movable_pages() {
    let bed = Bed::new(2, &settings());
    bed.alloc(0, MOVABLE);
    assert_eq!(last_walk(&bed).0, Outcome::Pass3);
}

/// Movable pages get into tainted superpageblocks only above the reserve of 4 pageblocks.
#[test]
fn pass_4_leaves_the_reserve_of_tainted_superpageblocks() {
    let bed = Bed::new(1, &settings());
    bed.alloc(BLOCK_ORDER, UNMOVABLE);
    let mut taken = 0;
    while bed.rmqueue(BLOCK_ORDER, Migratetype::Movable, NOFRAGMENT).is_some() {
        assert_eq!(last_walk(&bed).0, Outcome::Pass4);
        taken += 1;
    }
    assert_eq!(bed.counts(0).free, bed.counts(0).reserve(&settings()));
    assert!(taken > BLOCKS / 2);
}

#[test]
fn p31_a_hint_saves_the_walk() {
    let visited = |settings: &Settings| {
        let bed = Bed::new(3, settings);
        bed.alloc(0, UNMOVABLE);
        // The first own-list hit leaves the hint.
        bed.alloc(0, UNMOVABLE);
        bed.alloc(0, UNMOVABLE);
        last_walk(&bed)
    };
    assert_eq!(visited(&settings()), (Outcome::Pass1, 0));
    assert_eq!(visited(&without("p31")), (Outcome::Pass1, 1));
}

/// A hint is followed into a superpageblock of the other category, unless that is forbidden.
#[test]
fn p31_a_hint_does_not_know_categories() {
    let served_by = |any: bool| {
        let bed = Bed::new(3, &Settings { hint_any_category: any, ..settings() });
        let first = bed.alloc(0, MOVABLE);
        bed.alloc(0, MOVABLE);
        let home = spb_of(first);
        // Taint the hinted superpageblock: everything else is full.
        bed.occupy((0..3 * SPB).filter(|f| f / SPB != home), MOVABLE);
        let rest = AllocFlags::empty();
        bed.rmqueue(0, Migratetype::Unmovable, rest).unwrap();
        assert_eq!(bed.tainted(), [home]);
        bed.events();
        bed.rmqueue(0, Migratetype::Movable, NOFRAGMENT).unwrap();
        last_walk(&bed).0
    };
    assert_eq!(served_by(true), Outcome::Pass1);
    assert_eq!(served_by(false), Outcome::Pass4);
}

/// Hints are written by the walk of pass 1; a hit leaves them alone, unless told otherwise.
#[test]
fn p31_hits_do_not_spread_a_hint() {
    let zone_hint = |hint_hits_refresh: bool| {
        let bed = Bed::new(3, &Settings { hint_hits_refresh, ..settings() });
        bed.alloc(0, MOVABLE);
        let walked_to = bed.alloc(0, MOVABLE);
        let index = bed.spbs().index();
        index.served(1, 0, Migratetype::Movable, SpbId(2));
        assert_eq!(spb_of(bed.alloc(0, MOVABLE)), spb_of(walked_to), "CPU 0 keeps its own");
        assert_eq!(last_walk(&bed), (Outcome::Pass1, 0));
        // A CPU without a hint of its own sees the zone's.
        let [own, of_zone] = index.hints(1, 0, Migratetype::Movable);
        assert_eq!(own, Some(SpbId(2)));
        of_zone
    };
    assert_eq!(zone_hint(false), None, "the zone's is still the same as CPU 1's");
    assert_eq!(zone_hint(true), Some(SpbId(0)), "CPU 0's superpageblock");
}

/// The high-order atomic reserve relabels in tainted superpageblocks, unless that is forbidden.
#[test]
fn highatomic_runs_the_relabelling_passes() {
    let outcome = |relabels: bool| {
        let bed = Bed::new(3, &Settings { highatomic_relabels: relabels, ..settings() });
        bed.alloc(0, UNMOVABLE);
        bed.events();
        let found = bed.rmqueue(1, Migratetype::HighAtomic, NOFRAGMENT);
        (found.is_some(), last_walk(&bed).0)
    };
    assert_eq!(outcome(true), (true, Outcome::Pass2));
    assert_eq!(outcome(false), (false, Outcome::NoPage));
}

#[test]
fn atomic_requests_of_every_order_are_served_from_tainted_superpageblocks() {
    let bed = Bed::new(4, &settings());
    let first = bed.alloc(0, UNMOVABLE);
    for order in 0..=BLOCK_ORDER {
        assert_eq!(spb_of(bed.alloc(order, Gfp::ATOMIC)), spb_of(first), "order {order}");
    }
    assert_eq!(bed.tainted(), [spb_of(first)]);
}
