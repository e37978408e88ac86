//! Readers of free memory outside the allocator (patches 14, 29, 30, 33): they find what a recount
//! of all frames finds, and the same under both policies.

use std::collections::{BTreeMap, BTreeSet};

use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, Migratetype};
use proptest::prelude::*;

use crate::mm::allocator::PageAllocator;
use crate::mm::buddy::Buddy;
use crate::mm::flavour::Flavour;
use crate::mm::frames::{Frame, FrameState};
use crate::mm::placement::Placement;
use crate::mm::settings::Settings;
use crate::mm::zone::Zone;
use crate::mm::{SpbMm, StockMm, testing};

use super::bed::*;

/// Free blocks of a zone by order and type, counted frame by frame.
fn recount<F: Flavour, P: Placement<F>>(
    buddy: &Buddy<F, P>,
    zone: &Zone<F>,
) -> BTreeMap<(u8, Migratetype), BTreeSet<Frame>> {
    let mut blocks: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for frame in zone.start..zone.end {
        let word = buddy.frames.word(frame);
        if word.state() == FrameState::Buddy {
            blocks.entry((word.order(), word.migratetype())).or_default().insert(frame);
        }
    }
    blocks
}

/// Some free and some used memory of every type.
fn worked(settings: &Settings, steps: &[(u8, usize, bool, usize)]) -> Bed {
    let bed = Bed::new(4, settings);
    let shapes = [UNMOVABLE, RECLAIMABLE, MOVABLE];
    let mut live: Vec<(Frame, u8)> = Vec::new();
    for (order, shape, free, which) in steps {
        if *free && !live.is_empty() {
            let (frame, order) = live.swap_remove(which % live.len());
            bed.free(frame, order);
        } else {
            live.push((bed.alloc(*order, shapes[*shape]), *order));
        }
    }
    bed
}

fn steps() -> impl Strategy<Value = Vec<(u8, usize, bool, usize)>> {
    let step = (0..=2u8, 0..3usize, prop::bool::weighted(0.4), any::<usize>());
    prop::collection::vec(step, 1..120)
}

/// Letters of `show_mem` for each order, by a recount.
fn letters(bed: &Bed) -> Vec<String> {
    let blocks = recount(&bed.mm.buddy, bed.zone());
    let letters = [('U', 0), ('M', 1), ('E', 2), ('H', 3), ('C', 4), ('I', 5)];
    let of_order = |order: u8| {
        let has = |t: usize| blocks.contains_key(&(order, Migratetype::ALL[t]));
        letters.iter().filter(|(_, t)| has(*t)).map(|(letter, _)| letter).collect()
    };
    (0..=BLOCK_ORDER + 1).map(of_order).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn p30_letters_are_those_of_a_recount(steps in steps()) {
        let bed = worked(&settings(), &steps);
        let (buddy, zone) = (&bed.mm.buddy, bed.zone());
        let got: Vec<_> = (0..=BLOCK_ORDER + 1).map(|o| buddy.letters(zone, o)).collect();
        prop_assert_eq!(got, letters(&bed));
    }

    #[test]
    fn p33_hibernation_finds_each_free_block_once(steps in steps()) {
        let bed = worked(&settings(), &steps);
        let found = bed.mm.buddy.mark_free_pages(bed.zone());
        let blocks = recount(&bed.mm.buddy, bed.zone());
        let of_order = |((order, _), frames): (&(u8, _), &BTreeSet<Frame>)| {
            frames.iter().map(|f| (*f, *order)).collect::<Vec<_>>()
        };
        let expected: BTreeSet<_> = blocks.iter().flat_map(of_order).collect();
        prop_assert_eq!(found.len(), expected.len());
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    /// Rounds of reporting hand over every free pageblock once, and it stays on its list.
    #[test]
    fn p29_reporting_reaches_every_free_pageblock_once(steps in steps()) {
        let bed = worked(&settings(), &steps);
        let (buddy, zone) = (&bed.mm.buddy, bed.zone());
        let before = recount(buddy, zone);
        let large = before.iter().filter(|((order, _), _)| *order >= BLOCK_ORDER);
        let large: u64 = large.map(|(_, frames)| frames.len() as u64).sum();
        let mut rounds = Vec::new();
        while rounds.last() != Some(&0) {
            rounds.push(buddy.report_free_pages(zone));
        }
        prop_assert_eq!(rounds.into_iter().sum::<u64>(), large);
        prop_assert_eq!(recount(buddy, zone), before);
        bed.mm.check_invariants();
        // What leaves a list and comes back is reported again.
        let frame = bed.alloc(BLOCK_ORDER, MOVABLE);
        bed.free(frame, BLOCK_ORDER);
        prop_assert!(buddy.report_free_pages(zone) > 0);
    }

    /// The same pages, as found: the files read alike, wherever a policy keeps its lists.
    #[test]
    fn p14_files_equal_those_of_stock(
        runs in prop::collection::vec((0..120u64, 1..12u64, 0..4usize), 0..24)
    ) {
        let zones = [(0, ZoneKind::Dma32, 0, 1024), (0, ZoneKind::Normal, 1024, 1536)];
        let machine = testing::machine(BLOCK_ORDER, &zones);
        let mut snapshot = testing::snapshot(&machine, &used(&runs));
        snapshot.pageblocks = pageblock_types(&used(&runs));
        let settings = Settings { kcompactd_interval_ms: 0, p15: false, ..settings() };
        let stock = StockMm::build(&machine, &settings).unwrap();
        let spb = SpbMm::build(&machine, &settings).unwrap();
        stock.load(&snapshot);
        spb.load(&snapshot);
        let (of_stock, of_spb) = (stock.memory_files(), spb.memory_files());
        prop_assert!(of_stock.superpageblocks.is_none() && of_spb.superpageblocks.is_some());
        prop_assert_eq!(of_stock.buddyinfo, of_spb.buddyinfo);
        prop_assert_eq!(of_stock.pagetypeinfo, of_spb.pagetypeinfo);
        prop_assert_eq!(of_stock.show_mem, of_spb.show_mem);
        for (a, b) in stock.buddy.zones.iter().zip(&spb.buddy.zones) {
            let sorted = |mut blocks: Vec<(Frame, u8)>| { blocks.sort_unstable(); blocks };
            prop_assert_eq!(
                sorted(stock.buddy.mark_free_pages(a)),
                sorted(spb.buddy.mark_free_pages(b))
            );
        }
    }
}

/// Runs that follow each other: pages of 20 free, then some used. Kernel pages fill whole
/// pageblocks or share them with free ones.
fn used(runs: &[(u64, u64, usize)]) -> Vec<testing::RunShape> {
    let contents = [Content::Kernel, Content::Reclaimable, Content::Anon, Content::File];
    let mut at = 0;
    let mut all = Vec::new();
    for (gap, pages, content) in runs {
        let start = at + gap;
        all.push((start, *pages, contents[*content]));
        at = start + pages;
    }
    all.retain(|(start, pages, _)| {
        start + pages <= 2560 && !(start < &1024 && start + pages > 1024)
    });
    all
}

#[test]
fn p29_p30_p33_off_read_the_zones_own_lists_only() {
    let some = [(0, 0, false, 0), (0, 1, false, 0), (2, 2, false, 0)];
    let bed = worked(&settings(), &some);
    let (buddy, zone) = (&bed.mm.buddy, bed.zone());
    assert!(buddy.letters(zone, 0).contains('U') && !buddy.mark_free_pages(zone).is_empty());
    let bed = worked(&Settings { p29: false, p30: false, p33: false, ..settings() }, &some);
    let (buddy, zone) = (&bed.mm.buddy, bed.zone());
    assert_eq!(buddy.letters(zone, 0), "");
    assert!(buddy.mark_free_pages(zone).is_empty());
    assert_eq!(buddy.report_free_pages(zone), 0);
}

/// A budget for each list lets one round reach more superpageblocks than one for the zone.
#[test]
fn p29_a_budget_for_each_list_reports_sooner() {
    let first_round = |reporting_budget_per_list: bool| {
        let settings = Settings { reporting_budget_per_list, ..settings() };
        let bed = Bed::new(6, &settings);
        bed.mm.buddy.report_free_pages(bed.zone())
    };
    // 6 superpageblocks of 16 blocks of two pageblocks; a batch is 32 blocks.
    assert_eq!((first_round(true), first_round(false)), (96, 32));
}

/// What the snapshot found free counts as reported; what is freed later is reported.
#[test]
fn p29_reporting_runs_at_its_interval() {
    let bed = Bed::new(2, &Settings { page_reporting_ms: 2000, ..settings() });
    let frame = bed.alloc(BLOCK_ORDER, MOVABLE);
    bed.free(frame, BLOCK_ORDER);
    bed.advance_ms(10);
    bed.advance_ms(1500);
    assert_eq!(bed.counter("reported_blocks"), 0);
    bed.advance_ms(2100);
    assert_eq!(bed.counter("reported_blocks"), 1);
}
