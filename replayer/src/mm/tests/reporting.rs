//! Free page reporting over the stock lists.

use proptest::prelude::*;

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{CpuId, Migratetype};

use crate::mm::allocator::PageAllocator;
use crate::mm::flavour::Up;
use crate::mm::frames::{Frame, FrameState, Mark};
use crate::mm::geometry::PageblockId;
use crate::mm::page_alloc::Mm;
use crate::mm::pcp::StockPcp;
use crate::mm::request::{FreeEntry, Request};
use crate::mm::settings::Settings;
use crate::mm::stock::Stock;
use crate::mm::testing;
use Migratetype::{Movable, Unmovable};

type TestMm = Mm<Up, Stock, StockPcp<Up>>;

/// One NORMAL zone of `blocks` pageblocks of 512 pages, all free, whose reports begin with an order.
fn bed(blocks: u64, order: u64) -> TestMm {
    let machine = testing::machine(9, &[(0, ZoneKind::Normal, 0, blocks * 512)]);
    let settings = Settings {
        pcp: false,
        page_reporting_order: Some(order),
        kcompactd_interval_ms: 0,
        ..Settings::default()
    };
    let mm = TestMm::build(&machine, &settings).expect("a sound machine");
    mm.load(&testing::snapshot(&machine, &[]));
    mm
}

fn alloc(mm: &TestMm, order: u8, gfp: Gfp) -> Option<Frame> {
    mm.alloc(&Request::new(order, gfp, CpuId(0))).ok()
}

fn report_all(mm: &TestMm) -> u64 {
    let rounds = std::iter::repeat_with(|| mm.buddy.report_free_pages(&mm.buddy.zones[0]));
    rounds.take_while(|reported| *reported > 0).sum()
}

/// Every free block on a list: first frame, order, and whether it was reported.
fn free_blocks(mm: &TestMm) -> Vec<(Frame, u8, bool)> {
    let frames = &mm.buddy.frames;
    let words = (0..frames.len()).map(|frame| (frame, frames.word(frame)));
    let listed = words.filter(|(_, word)| word.state() == FrameState::Buddy);
    listed.map(|(f, word)| (f, word.order(), word.marks().contains(Mark::REPORTED))).collect()
}

/// An unmovable page claims the first two pageblocks. What is left of them is one free block of
/// each order below 10, of which that of order 9 is the second pageblock and that of order 8 lies in
/// the first. What is reported of half a pageblock or more turns movable, with all else that is
/// free in its pageblock; smaller blocks change nothing.
#[test]
fn a_reported_half_of_a_pageblock_turns_it_movable() {
    let types_after = |order| {
        let mm = bed(128, order);
        assert_eq!(alloc(&mm, 0, Gfp::KERNEL), Some(0));
        report_all(&mm);
        mm.check_invariants();
        let kind = |block| mm.buddy.blocks.migratetype(PageblockId(block));
        let small = mm.buddy.frames.word(1).migratetype();
        (kind(0), kind(1), small)
    };
    assert_eq!(types_after(10), (Unmovable, Unmovable, Unmovable));
    assert_eq!(types_after(9), (Unmovable, Movable, Unmovable));
    assert_eq!(types_after(8), (Movable, Movable, Movable));
    assert_eq!(types_after(5), (Movable, Movable, Movable));
}

/// A quarter of a pageblock is reported and stays what it was.
#[test]
fn a_reported_quarter_of_a_pageblock_keeps_its_type() {
    let mm = bed(128, 7);
    let pages: Vec<Frame> = (0..5).filter_map(|_| alloc(&mm, 8, Gfp::KERNEL)).collect();
    assert_eq!(alloc(&mm, 7, Gfp::KERNEL), Some(pages[4] + 256), "half of the sixth");
    report_all(&mm);
    let block = mm.buddy.pageblock(pages[4]);
    assert_eq!(mm.buddy.blocks.migratetype(block), Unmovable);
    assert!(mm.buddy.frames.word(pages[4] + 384).marks().contains(Mark::REPORTED));
}

/// A batch of 32 blocks of order 8 has 8192 pages: a zone reports nothing that has not so many
/// above its low watermark, 32 * 512 + 1 pages with a pageblock as the smallest.
#[test]
fn a_zone_near_its_low_watermark_reports_nothing() {
    let reported = |blocks, order| {
        let mm = bed(blocks, order);
        let low = mm.buddy.zones[0].mark(crate::mm::flags::Mark::Low);
        (report_all(&mm), low)
    };
    assert_eq!(reported(16, 8).0, 0);
    let (blocks, low) = reported(17, 8);
    assert!(low < 512 && blocks > 0, "8704 pages, {low} of them below the watermark");
    assert_eq!(reported(32, 9).0, 0);
    assert!(reported(34, 9).0 > 0);
}

/// What a snapshot found free counts as reported, if there is reporting at all; what is freed
/// later does not.
#[test]
fn memory_found_free_is_reported_already() {
    let machine = testing::machine(9, &[(0, ZoneKind::Normal, 0, 128 * 512)]);
    let loaded = |page_reporting_ms| {
        let settings = Settings { page_reporting_ms, pcp: false, ..Settings::default() };
        let mm = TestMm::build(&machine, &settings).expect("a sound machine");
        mm.load(&testing::snapshot(&machine, &[]));
        mm
    };
    assert_eq!(report_all(&loaded(0)), 64);
    let mm = loaded(2000);
    assert_eq!(report_all(&mm), 0);
    let frame = alloc(&mm, 9, Gfp::KERNEL).expect("memory is free");
    mm.free(frame, 9, CpuId(0), FreeEntry::Normal).expect("allocated");
    assert_eq!(report_all(&mm), 1);
}

const REQUESTS: [Gfp; 3] = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::RECLAIMABLE];

proptest! {
    /// Whatever is free stays free and is reported once, if it is large enough; a batch that is
    /// put back merges no blocks that were not buddies before, but for pageblocks of one type now.
    #[test]
    fn reports_reach_every_large_block_and_lose_no_page(
        steps in prop::collection::vec((0u8..=9, 0usize..3, any::<bool>()), 0..120),
        order in 5u64..=9,
    ) {
        let mm = bed(64, order);
        let mut live: Vec<(Frame, u8)> = Vec::new();
        for (order, request, frees) in steps {
            if frees && !live.is_empty() {
                let (frame, order) = live.swap_remove(usize::from(order) % live.len());
                mm.free(frame, order, CpuId(0), FreeEntry::Normal).expect("allocated");
            } else if let Some(frame) = alloc(&mm, order, REQUESTS[request]) {
                live.push((frame, order));
            }
        }
        let before = mm.free_pages();
        let spared = mm.buddy.zones[0].free_pages.get();
        let reported = report_all(&mm);
        mm.check_invariants();
        prop_assert_eq!(mm.free_pages(), before);
        for (frame, order) in &live {
            prop_assert!(mm.buddy.frames.word(*frame).is_allocated());
            prop_assert_eq!(mm.buddy.frames.word(*frame).order(), *order);
        }
        let blocks = free_blocks(&mm);
        if spared > (32 << order) + 1024 {
            let missed = |block: &&(Frame, u8, bool)| u64::from(block.1) >= order && !block.2;
            prop_assert_eq!(blocks.iter().find(missed), None);
            prop_assert!(reported > 0);
        }
        prop_assert!(blocks.iter().all(|block| u64::from(block.1) >= order || !block.2));
    }
}
