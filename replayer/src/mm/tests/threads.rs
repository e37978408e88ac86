//! One allocator shared by threads, and frees that may not wait.

use std::sync::Mutex;
use std::thread;

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::{Content, CpuId};

use crate::mm::allocator::PageAllocator;
use crate::mm::flavour::{Lock, Smp, Up};
use crate::mm::frames::Frame;
use crate::mm::page_alloc::Mm;
use crate::mm::pcp::StockPcp;
use crate::mm::request::{Entry, FreeEntry, Request};
use crate::mm::settings::Settings;
use crate::mm::stock::Stock;
use crate::mm::testing;

/// Nothing that moves or drops pages: threads own what they allocated.
fn settings() -> Settings {
    Settings { compaction: false, direct_reclaim: false, ..Settings::default() }
}

fn build<A: PageAllocator>(pages: u64) -> A {
    let machine = testing::machine(9, &[(0, ZoneKind::Normal, 0, pages)]);
    let mm = A::build(&machine, &settings()).expect("a sound machine");
    mm.load(&testing::snapshot(&machine, &[]));
    mm
}

/// Pages that a thread leaves for others to free.
type Pool = Mutex<Vec<(Frame, u8)>>;

fn work(mm: &Mm<Smp, Stock, StockPcp<Smp>>, thread: u16, pool: &Pool, rounds: u32) {
    let mut random = 0x9e37_79b9_u32.wrapping_mul(u32::from(thread) + 1);
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random
    };
    // Two threads share each CPU, so that its lists are found locked.
    let cpu = CpuId(thread / 2);
    let gfps = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE, Gfp::ATOMIC];
    for _ in 0..rounds {
        let dice = next();
        if dice % 5 < 2 {
            let entry = if dice % 7 == 0 { Entry::NoLock } else { Entry::Normal };
            let order = [0, 0, 0, 1, 2, 3, 5, 9][(dice >> 8) as usize % 8];
            let gfp = gfps[(dice >> 16) as usize % 4];
            let request = Request { entry, ..Request::new(order, gfp, cpu) };
            if let Ok(frame) = mm.alloc(&request) {
                pool.lock().expect("no thread panics").push((frame, order));
            }
        } else {
            let mut pool = pool.lock().expect("no thread panics");
            let len = pool.len().max(1);
            let taken = pool.get(next() as usize % len).copied();
            if let Some((frame, order)) = taken {
                let index = pool.iter().position(|p| *p == (frame, order)).expect("just seen");
                pool.swap_remove(index);
                drop(pool);
                let entry = if dice % 3 == 0 { FreeEntry::NoLock } else { FreeEntry::Normal };
                mm.free(frame, order, cpu, entry).expect("it was allocated");
            }
        }
    }
}

#[test]
fn threads_lose_no_page() {
    let mm = build::<Mm<Smp, Stock, StockPcp<Smp>>>(1 << 15);
    let pool = Pool::default();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (mm, pool) = (&mm, &pool);
            scope.spawn(move || work(mm, thread, pool, 20_000));
        }
    });
    mm.check_invariants();
    let held: u64 = pool.lock().expect("no thread panics").iter().map(|(_, o)| 1 << o).sum();
    let parked = mm.buddy.census.rows(&mm.buddy.geometry)[0].pages[Content::Isolated.index()];
    let (buddy, cached) = mm.free_pages();
    assert_eq!(buddy + cached + u64::from(parked) + held, 1 << 15);
}

/// A free that may not wait parks its block while the zone lock is held; the next ordinary free
/// to the zone gives it back.
#[test]
fn a_free_that_may_not_wait_is_parked() {
    let mm = build::<Mm<Up, Stock, StockPcp<Up>>>(1 << 12);
    let request = Request::new(5, Gfp::KERNEL, CpuId(0));
    let [first, second] = [(); 2].map(|()| mm.alloc(&request).expect("free memory"));
    let zone = &mm.buddy.zones[0];
    {
        let _held = zone.lock.guard();
        mm.free(first, 5, CpuId(0), FreeEntry::NoLock).expect("allocated");
    }
    mm.check_invariants();
    assert_eq!(zone.deferred_blocks.get(), 1);
    assert_eq!(mm.free_pages().0, (1 << 12) - 64);
    mm.free(second, 5, CpuId(0), FreeEntry::Normal).expect("allocated");
    mm.check_invariants();
    assert_eq!(zone.deferred_blocks.get(), 0);
    assert_eq!(mm.free_pages().0, 1 << 12);
}

/// A request that may not wait fails rather than spin, and others wait for nobody's lists.
#[test]
fn a_request_that_may_not_wait_fails() {
    let mm = build::<Mm<Up, Stock, StockPcp<Up>>>(1 << 12);
    let nolock = Request { entry: Entry::NoLock, ..Request::new(0, Gfp::KERNEL, CpuId(0)) };
    {
        let _held = mm.buddy.zones[0].lock.guard();
        assert!(mm.alloc(&nolock).is_err());
    }
    assert!(mm.alloc(&nolock).is_ok());
    mm.check_invariants();
}
