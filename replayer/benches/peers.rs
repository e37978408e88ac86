//! Allocation and free of pages against another allocator, side by side: `cargo bench -p
//! fragscope-replay --bench peers`.
//!
//! Each thread allocates a run of blocks and frees them again, in the same order. All subjects are
//! measured in turn, so that each round meets the same machine; the median of the rounds counts.
//! `buddy_system_allocator` keeps free blocks in ordered sets behind one lock and knows no types,
//! watermarks, per-CPU lists or statistics.

#[path = "../tests/small_machine/mod.rs"]
mod small_machine;
mod threads;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use buddy_system_allocator::FrameAllocator;
use fragscope_replay::mm::allocator::PageAllocator;
use fragscope_replay::mm::flavour::Smp;
use fragscope_replay::mm::page_alloc::Mm;
use fragscope_replay::mm::pcp_buddy::EitherPcp;
use fragscope_replay::mm::request::{FreeEntry, Request};
use fragscope_replay::mm::settings::Settings;
use fragscope_replay::mm::spb::Spb;
use fragscope_replay::mm::stock::Stock;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::CpuId;

const PAGES: u64 = 1 << 20;
/// Blocks that a thread holds before it frees them.
const RUN: usize = 64;
const ROUNDS: usize = 9;
const ORDERS: [u8; 2] = [0, 9];
const THREADS: [u16; 2] = [1, 2];

/// A page allocator for several threads.
trait Subject: Sync {
    fn alloc(&self, order: u8, cpu: u16) -> u64;
    fn free(&self, frame: u64, order: u8, cpu: u16);
}

struct Ours<A>(A);

impl<A: PageAllocator + Sync> Ours<A> {
    fn new() -> Ours<A> {
        let machine = small_machine::machine(PAGES, 9, 10, 2);
        let mm = A::build(&machine, &Settings::default()).expect("a sound machine");
        mm.boot(&small_machine::all_free(&machine));
        Ours(mm)
    }
}

impl<A: PageAllocator + Sync> Subject for Ours<A> {
    fn alloc(&self, order: u8, cpu: u16) -> u64 {
        let request = Request::new(order, Gfp::HIGHUSER_MOVABLE, CpuId(cpu));
        u64::from(self.0.alloc(&request).expect("memory is free"))
    }

    fn free(&self, frame: u64, order: u8, cpu: u16) {
        let freed = self.0.free(frame as u32, order, CpuId(cpu), FreeEntry::Normal);
        freed.expect("the block is allocated");
    }
}

struct BuddySystem(Mutex<FrameAllocator<32>>);

impl BuddySystem {
    fn new() -> BuddySystem {
        let mut frames = FrameAllocator::new();
        frames.insert(0..PAGES as usize);
        BuddySystem(Mutex::new(frames))
    }
}

impl Subject for BuddySystem {
    fn alloc(&self, order: u8, _: u16) -> u64 {
        let mut frames = self.0.lock().expect("no thread panics");
        frames.alloc(1 << order).expect("memory is free") as u64
    }

    fn free(&self, frame: u64, order: u8, _: u16) {
        self.0.lock().expect("no thread panics").dealloc(frame as usize, 1 << order);
    }
}

/// Allocates and frees until told to stop. Returns the pairs of both.
fn work(subject: &dyn Subject, order: u8, cpu: u16, stop: &AtomicBool) -> u64 {
    let (mut frames, mut pairs) = (Vec::with_capacity(RUN), 0);
    while !stop.load(Ordering::Relaxed) {
        frames.extend((0..RUN).map(|_| subject.alloc(order, cpu)));
        pairs += frames.len() as u64;
        frames.drain(..).for_each(|frame| subject.free(frame, order, cpu));
    }
    pairs
}

fn main() {
    let subjects: [(&str, Box<dyn Subject>); 3] = [
        ("fragscope stock", Box::new(Ours::<Mm<Smp, Stock, EitherPcp<Smp>>>::new())),
        ("fragscope spb", Box::new(Ours::<Mm<Smp, Spb<Smp>, EitherPcp<Smp>>>::new())),
        ("buddy_system_allocator", Box::new(BuddySystem::new())),
    ];
    println!("ns for one allocation and its free, each thread     order 0   order 9");
    for threads in THREADS {
        let mut ns = vec![[Vec::new(), Vec::new()]; subjects.len()];
        for _ in 0..ROUNDS {
            for (of_subject, (_, subject)) in ns.iter_mut().zip(&subjects) {
                for (of_order, order) in of_subject.iter_mut().zip(ORDERS) {
                    let pairs = threads::throughput(threads, |cpu, stop| {
                        work(subject.as_ref(), order, cpu, stop)
                    });
                    of_order.push(1e9 * f64::from(threads) / pairs);
                }
            }
        }
        for ((name, _), of_orders) in subjects.iter().zip(ns) {
            let [zero, nine] = of_orders.map(threads::median);
            println!("{name:30} {threads} threads {zero:18.0} {nine:9.0}");
        }
    }
}
