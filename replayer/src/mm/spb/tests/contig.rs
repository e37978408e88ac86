//! Compaction and contiguous allocation (patches 17, 38, 39).

use fragscope_trace::page::{Content, CpuId, Migratetype};

use crate::mm::frames::Frame;
use crate::mm::placement::Placement;
use crate::mm::request::Request;
use crate::mm::settings::Settings;
use crate::mm::spb::Spb;

use super::bed::*;

fn candidates(bed: &Bed, order: u8) -> Vec<Frame> {
    let mut starts = Vec::new();
    Spb::contig_candidates(&bed.mm.buddy, bed.zone(), order, &mut starts);
    starts
}

/// Superpageblock 0 tainted, 1 half full of movable pages, 2 nearly full, 3 empty, 4 nearly
/// empty.
fn mixed(settings: &Settings) -> Bed {
    let spb = u64::from(SPB);
    let runs = [
        (0, 1, Content::Kernel),
        (spb, spb / 2, Content::Anon),
        (2 * spb, spb - 32, Content::Anon),
        (4 * spb, 40, Content::Anon),
    ];
    Bed::with(5, settings, &runs)
}

#[test]
fn p17_a_gigabyte_is_sought_in_empty_then_emptiest_clean_superpageblocks() {
    let bed = mixed(&settings());
    assert_eq!(candidates(&bed, 9), [3 * SPB, 4 * SPB, SPB, 2 * SPB]);
    assert!(candidates(&mixed(&without("p17")), 9).is_empty());
}

#[test]
fn p17_smaller_blocks_are_sought_in_full_superpageblocks_first() {
    let bed = mixed(&settings());
    assert_eq!(candidates(&bed, BLOCK_ORDER), [2 * SPB, SPB, 4 * SPB, 3 * SPB]);
    // With a search inside, the last two pageblocks of the nearly full one are the cheapest.
    let search = Settings { contig_fixed_block: false, ..settings() };
    assert_eq!(candidates(&mixed(&search), BLOCK_ORDER)[0], 3 * SPB - 2 * BLOCK);
}

#[test]
fn p17_a_held_superpageblock_is_isolated_until_it_is_freed() {
    let bed = mixed(&settings());
    Spb::contig_changed(&bed.mm.buddy, 3 * SPB, 9, true);
    assert_eq!(candidates(&bed, 9), [4 * SPB, SPB, 2 * SPB]);
    Spb::contig_changed(&bed.mm.buddy, 3 * SPB, 9, false);
    assert_eq!(candidates(&bed, 9)[0], 3 * SPB);
}

#[test]
fn p17_direct_compaction_empties_a_candidate_for_a_huge_page() {
    let served = |settings: &Settings| {
        // Every second pageblock is half used: none of two pageblocks is free. (With all of them
        // in use the superpageblocks would count as full, and full ones are no candidates.)
        let runs: Vec<_> = (0..2 * BLOCKS)
            .step_by(2)
            .map(|b| (u64::from(b * BLOCK), u64::from(BLOCK / 2), Content::Anon))
            .collect();
        let settings = Settings { compaction: true, ..settings.clone() };
        let bed = Bed::with(2, &settings, &runs);
        let request = Request::new(BLOCK_ORDER + 1, MOVABLE, CpuId(0));
        (bed.try_alloc(&request).is_ok(), bed.counter("spb_blocks_evacuated"))
    };
    let (ok, blocks) = served(&settings());
    assert!(ok && blocks > 0);
    assert_eq!(served(&without("p17")).1, 0);
}

#[test]
fn p16_targets_are_fragments_of_the_fullest_clean_superpageblock() {
    let targets = |settings: &Settings| {
        let spb = u64::from(SPB);
        // Superpageblock 1 is nearly full, 2 nearly empty; both have one fragment of 8 pages.
        let runs =
            [(0, 1, Content::Kernel), (spb, spb - 40, Content::Anon), (2 * spb, 8, Content::Anon)];
        let bed = Bed::with(3, settings, &runs);
        let mut found = Vec::new();
        Spb::preferred_targets(&bed.mm.buddy, bed.zone(), BLOCK_ORDER, 16, &mut found);
        found
    };
    assert_eq!(targets(&settings()), [2 * SPB - 40, 2 * SPB + 8]);
    assert!(targets(&without("p16")).is_empty());
}

#[test]
fn p38_compaction_skips_tainted_superpageblocks_without_movable_pages() {
    let next = |settings: &Settings| {
        let bed = Bed::with(2, settings, &[(0, u64::from(SPB), Content::Slab)]);
        Spb::next_source(&bed.mm.buddy, bed.zone(), bed.block(3 * BLOCK)).0
    };
    assert_eq!(next(&settings()), BLOCKS, "the first pageblock behind it");
    assert_eq!(next(&without("p38")), 3);
}

#[test]
fn p39_migration_leaves_the_reserve_alone() {
    let target = |settings: &Settings, used_blocks: u32| {
        let used = u64::from(used_blocks * BLOCK);
        let bed = Bed::with(2, settings, &[(0, used, Content::Slab)]);
        Spb::is_target(&bed.mm.buddy, bed.zone(), bed.block(SPB - BLOCK))
    };
    assert!(!target(&settings(), BLOCKS - 4), "4 free pageblocks are the reserve");
    assert!(target(&settings(), BLOCKS - 5));
    assert!(target(&without("p39"), BLOCKS - 4));
}

#[test]
fn bits_of_targets_are_set() {
    let bed = Bed::with(2, &settings(), &[(0, 1, Content::Kernel)]);
    let block = bed.block(0);
    Spb::page_arrived(&bed.mm.buddy, bed.zone(), 3, Migratetype::Movable);
    assert_eq!(bed.counts(0).movable, 1);
    assert!(bed.mm.buddy.blocks.has(block, crate::mm::pageblock::BlockFlags::HAS_MOVABLE));
}
