//! Refusals and relaxation (patches 18, 20, 26, 35, 36).

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, CpuId, Migratetype};

use crate::mm::allocator::PageAllocator;
use crate::mm::flags::AllocFlags;
use crate::mm::request::{Entry, Refusal, Request};
use crate::mm::settings::Settings;
use crate::mm::spb::event::{RelaxStep, SpbEvent};
use crate::mm::{SpbMm, testing};

use super::bed::*;

fn steps(bed: &Bed) -> Vec<RelaxStep> {
    let step = |event: SpbEvent| match event {
        SpbEvent::SpbAllocAtomicRelax { step, .. } => Some(step),
        _ => None,
    };
    bed.events().into_iter().filter_map(step).collect()
}

/// Superpageblock 0 is tainted and full; the others are empty.
fn full_tainted(spbs: u32, settings: &Settings) -> Bed {
    let runs = [
        (0, u64::from(BLOCK), Content::Kernel),
        (u64::from(BLOCK), u64::from(SPB - BLOCK), Content::Slab),
    ];
    Bed::with(spbs, settings, &runs)
}

/// The same, with movable pages beside the unmovable pageblock.
fn movable_in_tainted(spbs: u32, settings: &Settings) -> Bed {
    let runs = [
        (0, u64::from(BLOCK), Content::Kernel),
        (u64::from(BLOCK), u64::from(SPB - BLOCK), Content::Anon),
    ];
    Bed::with(spbs, settings, &runs)
}

#[test]
fn p18_atomic_requests_relax_in_steps() {
    let bed = full_tainted(3, &settings());
    bed.alloc(0, Gfp::ATOMIC);
    assert_eq!(steps(&bed), [RelaxStep::AddTaintedOk, RelaxStep::DropNofragment]);
    let bed = full_tainted(3, &without("p18"));
    bed.alloc(0, Gfp::ATOMIC);
    assert_eq!(steps(&bed), [RelaxStep::DropNofragment]);
}

#[test]
fn p18_noretry_does_not_taint() {
    let gfp = Gfp::NOWAIT | Gfp::NORETRY;
    let outcome = |settings: &Settings| {
        let bed = full_tainted(3, settings);
        let got = bed.try_alloc(&Request::new(0, gfp, CpuId(0))).map(|_| ());
        (got, bed.tainted().len(), steps(&bed)[0])
    };
    let refused = (Err(Refusal::Policy), 1, RelaxStep::NoretrySkip);
    assert_eq!(outcome(&settings()), refused);
    assert_eq!(outcome(&without("p18")), (Ok(()), 2, RelaxStep::DropNofragment));
}

#[test]
fn p35_refuses_a_high_order_that_could_be_lower() {
    let outcome = |settings: &Settings, gfp: Gfp| {
        let bed = movable_in_tainted(3, settings);
        bed.try_alloc(&Request::new(2, gfp, CpuId(0))).map(|_| ())
    };
    let optional = Gfp::NOWAIT;
    assert!(optional.contains(Gfp::NOWARN));
    assert_eq!(outcome(&settings(), optional), Err(Refusal::Policy));
    assert_eq!(outcome(&without("p35"), optional), Ok(()));
    // Who wants to be warned, or must not fail, is served.
    assert_eq!(outcome(&settings(), Gfp::ATOMIC), Ok(()));
    assert_eq!(outcome(&settings(), optional | Gfp::NOFAIL), Ok(()));
}

#[test]
fn p26_refuses_rather_than_tainting_for_a_cheap_fallback() {
    // Superpageblock 0 has one free unmovable page: enough to be seen, not for order 2.
    let got = |settings: &Settings| {
        let runs = [
            (1, u64::from(BLOCK - 1), Content::Kernel),
            (u64::from(BLOCK), u64::from(SPB - BLOCK), Content::Slab),
        ];
        let bed = Bed::with(3, settings, &runs);
        let flags = AllocFlags::HIGHORDER_OPTIONAL;
        let frame = bed.rmqueue(2, Migratetype::Unmovable, flags);
        (frame.is_some(), bed.counter("spb_highorder_refused"))
    };
    assert_eq!(got(&settings()), (false, 1));
    assert_eq!(got(&without("p26")), (true, 0));
}

/// While nothing is tainted the first taint cannot be avoided; nor when the tainted ones are full.
#[test]
fn p26_does_not_refuse_what_no_tainted_superpageblock_could_have() {
    let flags = AllocFlags::HIGHORDER_OPTIONAL;
    let bed = Bed::new(3, &settings());
    assert!(bed.rmqueue(2, Migratetype::Unmovable, flags).is_some());
    let bed = full_tainted(3, &settings());
    assert!(bed.rmqueue(2, Migratetype::Unmovable, flags).is_some());
    assert_eq!(bed.counter("spb_highorder_refused"), 0);
}

/// Which callers have a cheap fallback (`spb-allocator` 2.1).
#[test]
fn p26_refusal_table_by_gfp_shape() {
    let bed = Bed::new(1, &settings());
    let optional = |gfp: Gfp| {
        use crate::mm::placement::Placement;
        let request = Request::new(3, gfp, CpuId(0));
        let none = AllocFlags::empty();
        let flags = crate::mm::spb::Spb::slow_flags(&bed.mm.buddy, &request, none, none);
        flags.contains(AllocFlags::HIGHORDER_OPTIONAL)
    };
    let table = [
        (Gfp::KERNEL, false),
        (Gfp::KERNEL | Gfp::NORETRY, true),
        (Gfp::KERNEL | Gfp::NORETRY | Gfp::RETRY_MAYFAIL, false),
        (Gfp::ATOMIC, true),
        (Gfp::NOWAIT, true),
        (Gfp::ATOMIC | Gfp::NOMEMALLOC, false),
        (Gfp::ATOMIC | Gfp::MEMALLOC, false),
        (Gfp::NOWAIT | Gfp::NOFAIL, false),
        (Gfp::KERNEL | Gfp::NOFAIL, false),
    ];
    for (gfp, expected) in table {
        assert_eq!(optional(gfp), expected, "{gfp:?}");
    }
}

/// A request that can reclaim gets a page of a tainted superpageblock by reclaim before a clean
/// one is touched.
#[test]
fn p20_reclaims_rather_than_tainting() {
    let tainted = |p20: bool| {
        let settings = Settings { p20, p23: false, direct_reclaim: true, ..settings() };
        let runs = [
            (0, u64::from(BLOCK), Content::Kernel),
            (u64::from(BLOCK), u64::from(SPB - BLOCK), Content::File),
        ];
        let bed = Bed::with(3, &settings, &runs);
        bed.alloc(0, UNMOVABLE);
        bed.tainted()
    };
    assert_eq!(tainted(true), [0]);
    assert_eq!(tainted(false).len(), 2);
}

/// When nothing helps, NOFRAGMENT is dropped as the last resort.
#[test]
fn p20_drops_nofragment_at_last() {
    let bed = full_tainted(3, &settings());
    bed.alloc(0, UNMOVABLE);
    assert_eq!(bed.tainted().len(), 2);
    assert_eq!(bed.counter("nofragment_dropped"), 1);
}

/// On a machine of several nodes, requests begin with NOFRAGMENT where their node has a DMA32 zone
/// only; on the others they taint at once. With NOFRAGMENT there it is given up when the search
/// comes to the other node's memory.
#[test]
fn nodes_without_dma32_begin_without_nofragment() {
    let spb = u64::from(SPB);
    let zones = [
        (0, ZoneKind::Dma32, 0, spb),
        (0, ZoneKind::Normal, spb, 2 * spb),
        (1, ZoneKind::Normal, 3 * spb, 2 * spb),
    ];
    let machine = testing::machine(BLOCK_ORDER, &zones);
    let tainted_and_full =
        [(0, spb, Content::Slab), (spb, spb, Content::Slab), (3 * spb, spb, Content::Slab)];
    let dropped = |cpu: u16, nofragment_needs_dma32: bool| {
        let mm =
            SpbMm::build(&machine, &Settings { nofragment_needs_dma32, ..settings() }).unwrap();
        let mut snapshot = testing::snapshot(&machine, &tainted_and_full);
        snapshot.pageblocks = pageblock_types(&tainted_and_full);
        mm.load(&snapshot);
        let frame = mm.alloc(&Request::new(0, UNMOVABLE, CpuId(cpu))).unwrap();
        assert_eq!(spb_of(frame), if cpu < 2 { 2 } else { 4 }, "the own node's empty one");
        mm.counters()["nofragment_dropped"]
    };
    // CPUs 0 and 1 are those of node 0.
    assert_eq!((dropped(0, true), dropped(2, true), dropped(2, false)), (1, 0, 1));
}

/// A no-lock request steals inside a tainted superpageblock before it taints another.
#[test]
fn p36_nolock_requests_do_not_fragment() {
    let tainted = |p36: bool| {
        // Pass 2b keeps its rule and pass 2d is off, so that only a steal finds the free page.
        // No-lock requests are served from per-CPU lists only.
        let settings = Settings { p36, p23: false, p27: false, pcp: true, ..settings() };
        let runs = [
            (0, u64::from(BLOCK), Content::Kernel),
            (u64::from(BLOCK) + 1, u64::from(SPB - BLOCK) - 1, Content::Anon),
        ];
        let bed = Bed::with(3, &settings, &runs);
        bed.enter(Entry::NoLock, 0, Gfp::NOWARN | Gfp::NOMEMALLOC).unwrap();
        bed.tainted().len()
    };
    assert_eq!((tainted(true), tainted(false)), (1, 2));
}
