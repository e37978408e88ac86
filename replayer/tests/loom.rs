//! The lock-free parts of the allocator under the checker `loom`, over the allocator's own source
//! and a machine of four pageblocks: `RUSTFLAGS="--cfg loom" cargo test --test loom`.
//!
//! Each test runs once as it is, in all interleavings, and once with a fault of one line in the
//! protocol, which it must find.
#![cfg(loom)]

mod small_machine;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use fragscope_replay::mm::allocator::PageAllocator;
use fragscope_replay::mm::cache::Cache;
use fragscope_replay::mm::flavour::checked::{Checked, with_fault};
use fragscope_replay::mm::flavour::{Fault, Word};
use fragscope_replay::mm::frames::Frame;
use fragscope_replay::mm::geometry::PageblockId;
use fragscope_replay::mm::page_alloc::Mm;
use fragscope_replay::mm::pcp_buddy::PcpBuddy;
use fragscope_replay::mm::request::{FreeEntry, Request};
use fragscope_replay::mm::sequence::{SequenceKind, UpdateSequence};
use fragscope_replay::mm::settings::Settings;
use fragscope_replay::mm::stock::Stock;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::CpuId;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread;

type SmallMm = Mm<Checked, Stock, PcpBuddy<Checked>>;

const PAGES: u64 = 16;
const BLOCK_ORDER: u8 = 2;
/// Owner's word of CPU 0.
const CPU0_OWNS: u32 = 1;

/// Runs a test in all interleavings; returns how many there were.
fn check(test: impl Fn() + Sync + Send + 'static) -> u64 {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    let runs = std::sync::Arc::new(AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        test();
    });
    runs.load(Ordering::Relaxed)
}

/// The test holds, and with the fault it fails in the words of `symptom`.
fn check_with_fault(fault: Fault, symptom: &str, test: fn()) {
    let runs = check(test);
    println!("{runs} interleavings");
    assert!(runs > 10, "{runs} interleavings are hardly a race");
    let message = failure(|| with_fault(fault, || check(test)));
    let Some(message) = message else { panic!("the fault {fault:?} goes unnoticed") };
    assert!(message.contains(symptom), "{fault:?}: {message}");
}

/// What a check that fails says.
fn failure(check: impl FnOnce() -> u64) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
}

/// An allocator with all pages free.
fn small() -> Arc<SmallMm> {
    let machine = small_machine::machine(PAGES, BLOCK_ORDER, BLOCK_ORDER + 1, 3);
    let settings = Settings { region_order: 3, ..Settings::default() };
    let mm = SmallMm::build(&machine, &settings).expect("a sound machine");
    mm.boot(&small_machine::all_free(&machine));
    Arc::new(mm)
}

fn alloc(mm: &SmallMm, cpu: u16) -> Frame {
    mm.alloc(&Request::new(0, Gfp::HIGHUSER_MOVABLE, CpuId(cpu))).expect("memory is free")
}

fn free(mm: &SmallMm, frame: Frame, cpu: u16, entry: FreeEntry) {
    mm.free(frame, 0, CpuId(cpu), entry).expect("the page is allocated");
}

/// A page of a pageblock that CPU 0 owns.
fn page_of_cpu0(mm: &SmallMm) -> Frame {
    let page = alloc(mm, 0);
    mm.buddy.blocks.set_owner(mm.buddy.pageblock(page), CPU0_OWNS);
    page
}

fn free_pages(mm: &SmallMm) -> u64 {
    let (zone, cached) = PageAllocator::free_pages(mm);
    zone + cached
}

/// Drains all lists; then every page must be on a buddy list, and all lists whole.
fn everything_is_free(mm: &SmallMm) {
    mm.cache.drain_zone(&mm.buddy, &mm.buddy.zones[0]);
    let zone = &mm.buddy.zones[0];
    {
        let _guard = mm.buddy.lock(zone);
        mm.buddy.flush_deferred(zone);
    }
    mm.check_invariants();
    assert_eq!(PageAllocator::free_pages(mm), (PAGES, 0), "pages of the zone and of per-CPU lists");
}

#[test]
fn remote_pushes_and_an_absorb_lose_nothing() {
    check_with_fault(Fault::PushByStore, "pages of the zone", || {
        let mm = small();
        let pages = [page_of_cpu0(&mm), page_of_cpu0(&mm)];
        let push = |cpu: u16, page| {
            let mm = Arc::clone(&mm);
            thread::spawn(move || free(&mm, page, cpu, FreeEntry::Normal))
        };
        let pushers = [push(1, pages[0]), push(2, pages[1])];
        let page = alloc(&mm, 0);
        for pusher in pushers {
            pusher.join().expect("a pusher");
        }
        free(&mm, page, 0, FreeEntry::Normal);
        everything_is_free(&mm);
    });
}

static LATE_PUSHES: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_push_that_races_with_cpu_dead_is_there_again_when_the_cpu_is() {
    check_with_fault(Fault::OnlineWithoutAbsorb, "once the CPU is back", || {
        let mm = small();
        let page = page_of_cpu0(&mm);
        let pusher = {
            let mm = Arc::clone(&mm);
            thread::spawn(move || free(&mm, page, 1, FreeEntry::Normal))
        };
        mm.cpu_offline(CpuId(0));
        pusher.join().expect("the pusher");
        LATE_PUSHES.fetch_add(PAGES - free_pages(&mm), Ordering::Relaxed);
        mm.cpu_online(CpuId(0));
        assert_eq!(free_pages(&mm), PAGES, "pages known as free once the CPU is back");
        everything_is_free(&mm);
    });
    assert!(LATE_PUSHES.load(Ordering::Relaxed) > 0, "no push was late");
}

#[test]
fn owned_pageblocks_of_a_dead_cpu_leave_no_trace_on_its_list() {
    check_with_fault(Fault::ReinitOwned, "the list of owned", || {
        let mm = small();
        let page = page_of_cpu0(&mm);
        let (first, second) = (mm.buddy.pageblock(page), PageblockId(3));
        mm.buddy.blocks.list_owned(0, first);
        let pusher = {
            let mm = Arc::clone(&mm);
            thread::spawn(move || free(&mm, page, 1, FreeEntry::Normal))
        };
        mm.cpu_offline(CpuId(0));
        mm.cpu_online(CpuId(0));
        mm.buddy.blocks.set_owner(second, CPU0_OWNS);
        mm.buddy.blocks.list_owned(0, second);
        pusher.join().expect("the pusher");
        mm.cache.drain_zone(&mm.buddy, &mm.buddy.zones[0]);
        assert_eq!(mm.buddy.blocks.owner(first), 0, "the owner of a whole free pageblock");
        assert_eq!(mm.buddy.blocks.first_owned(0), Some(second), "the list of owned pageblocks");
        mm.buddy.blocks.disown(second);
        everything_is_free(&mm);
    });
}

static REFUSED: AtomicU64 = AtomicU64::new(0);

#[test]
fn frees_that_find_the_lists_locked_reach_the_zone() {
    check_with_fault(Fault::TryLockSucceeds, "NotAllocated", || {
        let mm = small();
        let (page, other) = (alloc(&mm, 0), alloc(&mm, 0));
        let drainer = {
            let mm = Arc::clone(&mm);
            thread::spawn(move || {
                free(&mm, other, 1, FreeEntry::NoLock);
                mm.cache.drain_cpu(&mm.buddy, &mm.buddy.zones[0], mm.buddy.geometry.cpu(CpuId(0)));
            })
        };
        free(&mm, page, 0, FreeEntry::Normal);
        let again = alloc(&mm, 0);
        drainer.join().expect("the drainer");
        REFUSED.fetch_add(mm.buddy.counters.pcp_trylock_failures.get(), Ordering::Relaxed);
        free(&mm, again, 0, FreeEntry::Normal);
        everything_is_free(&mm);
    });
    assert!(REFUSED.load(Ordering::Relaxed) > 0, "no try-lock ever failed");
}

const FOR_NOTHING: &str = "the request fails although a zone has memory";

/// One zone is on the list before and after the rebuild, in another place; in between, none is.
fn request_during_a_rebuild(kind: SequenceKind) {
    let sequence = Arc::new(UpdateSequence::<Checked>::new(kind));
    let places = Arc::new([AtomicU32::new(1), AtomicU32::new(0)]);
    let writer = {
        let (sequence, places) = (Arc::clone(&sequence), Arc::clone(&places));
        thread::spawn(move || {
            sequence.rebuild(|| {
                places[0].store(0, Ordering::Relaxed);
                places[1].store(1, Ordering::Relaxed);
            });
        })
    };
    loop {
        let seen = sequence.begin();
        // The later place is looked at first, so that the zone can be missed.
        let found = places.iter().rev().any(|place| place.load(Ordering::Relaxed) == 1);
        if found {
            break;
        }
        assert!(sequence.changed(seen, true), "{FOR_NOTHING}");
    }
    writer.join().expect("the writer");
}

#[test]
fn no_request_fails_because_of_a_rebuild() {
    check_with_fault(Fault::AnnouncedLate, FOR_NOTHING, || {
        request_during_a_rebuild(SequenceKind::Seqlock);
    });
}

static WENT_SLOWLY: AtomicU64 = AtomicU64::new(0);

/// The same of the whole allocator: its only zone leaves its zonelist and comes back.
#[test]
fn no_allocation_fails_because_of_a_rebuild() {
    check_with_fault(Fault::AnnouncedLate, "memory is free", || {
        let mm = small();
        let writer = {
            let mm = Arc::clone(&mm);
            thread::spawn(move || mm.rebuild_zonelists())
        };
        let page = alloc(&mm, 0);
        writer.join().expect("the writer");
        WENT_SLOWLY.fetch_add(mm.buddy.counters.slowpath.get(), Ordering::Relaxed);
        free(&mm, page, 0, FreeEntry::Normal);
        everything_is_free(&mm);
    });
    assert!(WENT_SLOWLY.load(Ordering::Relaxed) > 0, "no request met the rebuild");
}

#[test]
fn a_request_inside_a_counted_rebuild_can_fail_for_nothing() {
    let counted = || request_during_a_rebuild(SequenceKind::Counter);
    let message = failure(|| check(counted)).expect("some interleaving fails");
    assert!(message.contains(FOR_NOTHING), "{message}");
}
