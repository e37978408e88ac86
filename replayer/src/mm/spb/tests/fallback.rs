//! Claim and steal (patches 05, 11, 19, 24) and the oddities that are settings.

use fragscope_trace::page::{Content, Migratetype};

use crate::mm::flags::AllocFlags;
use crate::mm::settings::Settings;
use crate::mm::spb::event::{ClaimRefusal, SpbEvent};

use super::bed::*;

const NOFRAGMENT: AllocFlags = AllocFlags::NOFRAGMENT;

fn refusals(bed: &Bed) -> Vec<ClaimRefusal> {
    let reason = |event: SpbEvent| match event {
        SpbEvent::SpbClaimBlockRefused { reason, .. } => Some(reason),
        _ => None,
    };
    bed.events().into_iter().filter_map(reason).collect()
}

/// Superpageblock 0 of `spbs` is tainted by an unmovable pageblock; its only free pages are in a
/// reclaimable pageblock, half free.
fn with_half_reclaimable(spbs: u32, settings: &Settings) -> Bed {
    let runs = [
        (0, u64::from(BLOCK), Content::Kernel),
        (u64::from(BLOCK), u64::from(BLOCK / 2), Content::Reclaimable),
        (u64::from(2 * BLOCK), u64::from(SPB - 2 * BLOCK), Content::Anon),
    ];
    let bed = Bed::with(spbs, settings, &runs);
    assert_eq!(bed.block_type(BLOCK), Migratetype::Reclaimable);
    bed
}

#[test]
fn p24_non_movable_types_do_not_take_each_others_pageblocks() {
    // Without borrowing (patch 27) only a claim or a steal could help.
    let claimed = |p24: bool| {
        let bed = with_half_reclaimable(10, &Settings { p24, p27: false, ..settings() });
        let frame = bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT);
        (frame.map(spb_of), refusals(&bed).contains(&ClaimRefusal::CrossTypeNotFree))
    };
    assert_eq!(claimed(true), (None, true));
    assert_eq!(claimed(false), (Some(0), false));
}

#[test]
fn p24_steals_skip_the_other_non_movable_type() {
    let stolen = |p24: bool| {
        let settings = Settings { p24, p27: false, p19: false, ..settings() };
        let bed = with_half_reclaimable(2, &settings);
        let flags = NOFRAGMENT | AllocFlags::NOFRAG_TAINTED_OK;
        bed.rmqueue(0, Migratetype::Unmovable, flags).map(spb_of)
    };
    assert_eq!(stolen(true), None);
    assert_eq!(stolen(false), Some(0));
}

/// Above eight superpageblocks a claim under NOFRAGMENT may go below a pageblock.
#[test]
fn p19_packs_above_eight_superpageblocks() {
    let claims = |spbs: u32, p19: bool| {
        let settings = Settings { p19, p24: false, p27: false, ..settings() };
        let bed = with_half_reclaimable(spbs, &settings);
        bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT).is_some()
    };
    assert!(!claims(8, true));
    assert!(claims(9, true));
    assert!(!claims(9, false));
}

/// With a free choice, a claim takes a small block in a tainted superpageblock before a large
/// one in an empty one.
#[test]
fn p11_fallbacks_prefer_tainted_superpageblocks() {
    let claimed_in = |p11: bool| {
        let settings = Settings { p11, p24: false, p27: false, ..settings() };
        let bed = with_half_reclaimable(3, &settings);
        spb_of(bed.rmqueue(0, Migratetype::Unmovable, AllocFlags::empty()).unwrap())
    };
    assert_eq!(claimed_in(true), 0);
    assert_ne!(claimed_in(false), 0);
}

#[test]
fn p05_claims_boost_no_watermark() {
    let boost = |p05: bool| {
        let settings =
            Settings { p05, p24: false, p27: false, min_free_kbytes: Some(1024), ..settings() };
        let bed = with_half_reclaimable(10, &settings);
        bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT).unwrap();
        bed.zone().boost.get()
    };
    assert_eq!(boost(true), 0);
    assert!(boost(false) > 0);
}

/// An unmovable request without NOFRAGMENT and without a tainted superpageblock claims a whole
/// pageblock of an empty one.
#[test]
fn p13_the_first_taint_claims_a_whole_block() {
    let bed = Bed::new(3, &settings());
    assert_eq!(bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT), None);
    let frame = bed.rmqueue(0, Migratetype::Unmovable, AllocFlags::empty()).unwrap();
    assert_eq!(bed.tainted(), [spb_of(frame)]);
    assert_eq!(bed.counter("claims_whole"), 1);
}

/// The 50 % rule holds for claims in tainted superpageblocks, unless the setting waives it.
#[test]
fn claims_in_tainted_superpageblocks_keep_the_half_rule() {
    let claimed = |claim_half_rule: bool| {
        // Superpageblock 0 is tainted; one reclaimable pageblock has two free pages.
        let runs = [
            (0, u64::from(BLOCK), Content::Kernel),
            (u64::from(BLOCK), u64::from(BLOCK - 2), Content::Reclaimable),
            (u64::from(2 * BLOCK), u64::from(SPB - 2 * BLOCK), Content::Anon),
        ];
        let settings = Settings { claim_half_rule, p24: false, p27: false, ..settings() };
        let bed = Bed::with(10, &settings, &runs);
        let found = bed.rmqueue(0, Migratetype::Unmovable, NOFRAGMENT).is_some();
        (found, refusals(&bed).contains(&ClaimRefusal::InsufficientCompat))
    };
    assert_eq!(claimed(true), (false, true));
    assert_eq!(claimed(false), (true, false));
}

/// Movable requests do not fall back into tainted superpageblocks that are down to their reserve.
#[test]
fn movable_fallbacks_leave_the_reserve() {
    let bed = Bed::new(1, &settings());
    bed.alloc(BLOCK_ORDER, UNMOVABLE);
    while bed.rmqueue(BLOCK_ORDER, Migratetype::Movable, NOFRAGMENT).is_some() {}
    let reserve = bed.counts(0).reserve(&settings());
    assert_eq!(bed.counts(0).free, reserve);
    let left = bed.rmqueue(0, Migratetype::Movable, AllocFlags::empty());
    assert_eq!((left, bed.counts(0).free), (None, reserve), "stranded for movable pages");
}
