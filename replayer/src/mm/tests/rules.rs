//! The stock rules, one by one, on a machine of a few pageblocks without per-CPU lists.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::{Watermarks, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};

use crate::mm::allocator::PageAllocator;
use crate::mm::fallbacks::Fallbacks;
use crate::mm::flavour::Up;
use crate::mm::frames::{Frame, ListId};
use crate::mm::geometry::PageblockId;
use crate::mm::page_alloc::Mm;
use crate::mm::pcp::StockPcp;
use crate::mm::placement::Placement;
use crate::mm::request::{FreeEntry, Request};
use crate::mm::settings::Settings;
use crate::mm::stock::Stock;
use crate::mm::testing;
use crate::mm::zone::Zone;
use Migratetype::{HighAtomic, Movable, Reclaimable, Unmovable};

type TestMm = Mm<Up, Stock, StockPcp<Up>>;

/// One NORMAL zone of `blocks` pageblocks of 512 pages with `runs` in it.
fn bed(blocks: u64, runs: &[testing::RunShape], settings: &Settings) -> TestMm {
    let machine = testing::machine(9, &[(0, ZoneKind::Normal, 0, blocks * 512)]);
    let mm = TestMm::build(&machine, settings).expect("a sound machine");
    mm.load(&testing::snapshot(&machine, runs));
    mm.check();
    mm
}

fn without_pcp() -> Settings {
    Settings { pcp: false, direct_reclaim: false, compaction: false, ..Settings::default() }
}

fn zone(mm: &TestMm) -> &Zone<Up> {
    &mm.buddy.zones[0]
}

fn kind(mm: &TestMm, block: u32) -> Migratetype {
    mm.buddy.blocks.migratetype(PageblockId(block))
}

fn alloc(mm: &TestMm, order: u8, gfp: Gfp) -> Option<Frame> {
    let frame = mm.alloc(&Request::new(order, gfp, CpuId(0))).ok();
    mm.check();
    frame
}

fn free(mm: &TestMm, frame: Frame, order: u8) {
    mm.free(frame, order, CpuId(0), FreeEntry::Normal).expect("allocated");
    mm.check();
}

fn listed(mm: &TestMm, order: u8, migratetype: Migratetype) -> Vec<Frame> {
    let lists: Vec<ListId> = Stock::lists(&mm.buddy, zone(mm), order, migratetype).collect();
    lists.into_iter().flat_map(|list| mm.buddy.frames.iter(list).collect::<Vec<_>>()).collect()
}

/// All memory is free in movable blocks of order 10, ascending. An unmovable page claims the
/// first of them whole: both of its pageblocks turn unmovable, and the rest of it is split, upper
/// halves at list heads.
#[test]
fn a_first_unmovable_page_claims_the_largest_block() {
    let mm = bed(8, &[], &without_pcp());
    assert_eq!(listed(&mm, 10, Movable), [0, 1024, 2048, 3072]);
    assert_eq!(alloc(&mm, 0, Gfp::KERNEL), Some(0));
    assert_eq!([kind(&mm, 0), kind(&mm, 1), kind(&mm, 2)], [Unmovable, Unmovable, Movable]);
    for order in 0..10 {
        assert_eq!(listed(&mm, order, Unmovable), [1 << order]);
    }
    assert_eq!(alloc(&mm, 0, Gfp::KERNEL), Some(1));
    assert_eq!(alloc(&mm, 1, Gfp::KERNEL), Some(2));
    assert_eq!(alloc(&mm, 0, Gfp::HIGHUSER_MOVABLE), Some(1024));
    assert_eq!(mm.buddy.counters.claims_whole.get(), 1);
    assert_eq!(mm.fallbacks(), [(Pfn(0), Fallbacks { claims: 1, steals: 0 })]);
}

/// Fallback order: an unmovable request prefers a reclaimable block to a movable one.
#[test]
fn fallbacks_come_in_order() {
    let mm = bed(8, &[], &without_pcp());
    alloc(&mm, 10, Gfp::KERNEL | Gfp::RECLAIMABLE);
    free(&mm, 0, 10);
    // Freed as two pageblocks, which merge again: both are reclaimable and free.
    assert_eq!(listed(&mm, 10, Reclaimable), [0]);
    assert_eq!(alloc(&mm, 0, Gfp::KERNEL), Some(0));
    assert_eq!([kind(&mm, 0), kind(&mm, 1)], [Unmovable, Unmovable]);
}

/// Pageblock 1 holds 504 movable pages and 8 free ones; everything else is full. An unmovable
/// request finds 8 free + (512 - 8 - 504) = 8 alike pages, less than 256: no claim, but the boost
/// has happened. NOFRAGMENT is dropped, then the page is stolen and the type stays.
#[test]
fn few_alike_pages_are_stolen_not_claimed() {
    let full = [(0, 1016, Content::Anon), (1024, 7 * 512, Content::Anon)];
    let mm = bed(8, &full, &without_pcp());
    drop_marks(&mm);
    assert_eq!(alloc(&mm, 0, Gfp::KERNEL), Some(1016));
    let counters = &mm.buddy.counters;
    assert_eq!((counters.claims_refused.get(), counters.steals.get()), (1, 1));
    assert_eq!(mm.fallbacks(), [(Pfn(0), Fallbacks { claims: 0, steals: 1 })]);
    assert_eq!(counters.nofragment_dropped.get(), 1);
    assert_eq!(kind(&mm, 1), Movable);
    assert_eq!(zone(&mm).boost.get(), 512, "one pageblock");
    // The rest stays on the movable lists.
    assert_eq!([0, 1, 2].map(|o| listed(&mm, o, Movable)), [[1017], [1018], [1020]]);
}

/// The same with 300 kernel pages instead of movable ones in the block: 8 + 300 >= 256, so the
/// block is claimed with its free pages.
#[test]
fn many_alike_pages_are_claimed() {
    let full = [(0, 716, Content::Anon), (716, 300, Content::Unknown), (1024, 3584, Content::Anon)];
    let mm = bed(9, &full, &without_pcp());
    drop_marks(&mm);
    assert_eq!(alloc(&mm, 0, Gfp::KERNEL), Some(1016));
    assert_eq!(mm.buddy.counters.claims_partial.get(), 1);
    assert_eq!(kind(&mm, 1), Unmovable);
    assert_eq!(listed(&mm, 2, Unmovable), [1020]);
}

/// A movable request of order 0 never claims a block below order 4: the only free memory is an
/// unmovable block of order 3, and it is stolen without even counting.
#[test]
fn movable_requests_do_not_claim_small_blocks() {
    let full = [(0, 1024, Content::Kernel), (1024, 7 * 512, Content::Anon)];
    let mm = bed(8, &full, &without_pcp());
    free(&mm, 1016, 3);
    drop_marks(&mm);
    assert_eq!(kind(&mm, 1), Unmovable);
    assert_eq!(alloc(&mm, 0, Gfp::HIGHUSER_MOVABLE), Some(1016));
    let counters = &mm.buddy.counters;
    assert_eq!((counters.claims_refused.get(), counters.steals.get()), (0, 1));
    assert_eq!(zone(&mm).boost.get(), 0);
}

/// A steal looks for the smallest block, a claim for the largest.
#[test]
fn steals_take_the_smallest_block() {
    // Free: order 1 at 510, order 3 at 1016; both in blocks full of movable pages.
    let full = [(0, 510, Content::Anon), (512, 504, Content::Anon), (1024, 3584, Content::Anon)];
    let mm = bed(9, &full, &without_pcp());
    drop_marks(&mm);
    assert_eq!(alloc(&mm, 0, Gfp::KERNEL), Some(510));
    assert_eq!(mm.buddy.counters.claims_refused.get(), 2, "the order-3 block first");
}

/// One refill of the per-CPU list steals all its blocks after the first refusals, because the
/// mode is remembered. With a batch of 63 it wants 63 >> 2 = 15 blocks of order 2; the 64 free
/// pages of a movable pageblock are 16. The first block tries to claim orders 6 to 2, of which
/// only order 6 has a block.
#[test]
fn a_refill_remembers_that_it_steals() {
    let full = [(0, 960, Content::Anon), (1024, 519 * 512 - 1024 + 512, Content::Anon)];
    let mm = bed(520, &full, &Settings { pcp: true, ..without_pcp() });
    drop_marks(&mm);
    assert_eq!(alloc(&mm, 2, Gfp::KERNEL), Some(960));
    let counters = &mm.buddy.counters;
    assert_eq!(counters.claims_refused.get(), 1);
    assert_eq!((counters.steals.get(), counters.pcp_refill_blocks.get()), (15, 15));
}

/// A freed block goes to the head of its list, unless the block that it forms with its buddy has
/// a free buddy itself: then a merge is likely and it waits at the tail.
#[test]
fn a_block_that_may_merge_soon_waits_at_the_tail() {
    let mm = bed(8, &[(0, 4096, Content::Anon)], &without_pcp());
    free(&mm, 100, 0);
    free(&mm, 200, 0);
    assert_eq!(listed(&mm, 0, Movable), [200, 100], "at the head");
    free(&mm, 302, 1);
    // 300's buddy 301 is allocated, but 302 and 303 are a free block of order 1.
    free(&mm, 300, 0);
    assert_eq!(listed(&mm, 0, Movable), [200, 100, 300]);
    free(&mm, 301, 0);
    assert_eq!((listed(&mm, 0, Movable), listed(&mm, 2, Movable)), (vec![200, 100], vec![300]));
}

/// 1 % of 102400 pages is 1024, two pageblocks: the third request finds no room.
#[test]
fn the_atomic_reserve_is_one_percent() {
    let mm = bed(200, &[(0, 4096, Content::Anon)], &without_pcp());
    let reserve = |frame| {
        mm.buddy.reserve_highatomic(zone(&mm), frame, 1);
        mm.check();
        zone(&mm).reserved_highatomic.get()
    };
    assert_eq!([reserve(0), reserve(2), reserve(600), reserve(1200)], [512, 512, 1024, 1024]);
    assert_eq!([kind(&mm, 0), kind(&mm, 1), kind(&mm, 2)], [HighAtomic, HighAtomic, Movable]);
    free(&mm, 600, 3);
    assert_eq!(zone(&mm).free_highatomic.get(), 8);
    assert!(mm.buddy.unreserve_highatomic(zone(&mm), Movable, false));
    assert_eq!((kind(&mm, 1), zone(&mm).reserved_highatomic.get()), (Movable, 512));
    assert!(!mm.buddy.unreserve_highatomic(zone(&mm), Movable, false), "the last one is kept");
}

/// Every other page of the lower half is movable, the upper half is free but for a page in each
/// pageblock: no pageblock is free. A direct compaction for a huge page moves the lower pages
/// into the upper pageblocks.
#[test]
fn compaction_makes_a_huge_page() {
    let lower = (0..2048u64).step_by(2).map(|frame| (frame, 1, Content::Anon));
    let upper = (4..8u64).map(|block| (block * 512, 1, Content::Anon));
    let runs: Vec<_> = lower.chain(upper).collect();
    let settings = Settings { pcp: false, direct_reclaim: false, ..Settings::default() };
    let mm = bed(8, &runs, &settings);
    drop_marks(&mm);
    let thp = Gfp::HIGHUSER_MOVABLE | Gfp::COMP | Gfp::NOMEMALLOC | Gfp::NOWARN;
    let frame = alloc(&mm, 9, thp).expect("compaction succeeds");
    assert!(frame < 2048, "the freed pageblock is {frame:#x}");
    assert_eq!(mm.buddy.counters.compact_success.get(), 1);
    assert!(mm.buddy.counters.pages_moved.get() >= 256);
}

/// A kernel page fails a range at once; an order-0 slab page looks movable and fails it only
/// after the ten pages before it were moved, to the next range, which moves them once more; a
/// pinned page too.
#[test]
fn contiguous_ranges_fail_early_or_late() {
    let attempt = |content| {
        let runs = [(0, 10, Content::Anon), (100, 1, content), (1024, 3072, Content::Kernel)];
        let mm = bed(8, &runs, &without_pcp());
        drop_marks(&mm);
        let frame = mm.alloc_contig(9, CpuId(0), Content::Gigantic);
        mm.check();
        (frame, mm.buddy.counters.pages_moved.get())
    };
    assert_eq!(attempt(Content::Anon), (Some(0), 11));
    assert_eq!(attempt(Content::Kernel), (Some(512), 0));
    assert_eq!(attempt(Content::Slab), (Some(512), 20));
    assert_eq!(attempt(Content::Pinned), (Some(512), 20));
}

/// Without a minimum, so that the last pages can be taken. The high watermark limits boosts.
fn drop_marks(mm: &TestMm) {
    zone(mm).set_marks(&Watermarks { high: 1000, ..Watermarks::default() }, &[0; 4]);
}

/// A zone is on the zonelists from its first page of memory to its last.
#[test]
fn zonelists_hold_the_zones_that_have_memory() {
    let zones = [(0, ZoneKind::Dma32, 0, 2048), (0, ZoneKind::Normal, 2048, 2048)];
    let mut machine = testing::machine(9, &zones);
    machine.zones[1].managed_pages = 0;
    machine.zones[1].present_pages = 0;
    let mm = TestMm::build(&machine, &without_pcp()).expect("a sound machine");
    mm.load(&testing::snapshot(&machine, &[(2048, 2048, Content::Absent)]));
    let rebuilds = || mm.buddy.counters.zonelist_rebuilds.get();
    let serves = || {
        let frame = alloc(&mm, 0, Gfp::HIGHUSER_MOVABLE).expect("memory is free");
        free(&mm, frame, 0);
        mm.buddy.zone_of(frame).kind
    };
    assert_eq!((serves(), rebuilds()), (ZoneKind::Dma32, 1));
    let upper = PfnRange::new(Pfn(2048), 1024);
    mm.grow(upper);
    assert_eq!((serves(), rebuilds()), (ZoneKind::Normal, 2));
    mm.grow(PfnRange::new(Pfn(3072), 1024));
    assert_eq!(rebuilds(), 2, "the zone had memory");
    assert_eq!(mm.shrink(PfnRange::new(Pfn(2048), 2048)), 2048);
    assert_eq!((serves(), rebuilds()), (ZoneKind::Dma32, 3));
}
