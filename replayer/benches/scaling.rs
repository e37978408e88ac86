//! Throughput of two threads on two CPUs against one: `cargo bench -p fragscope-replay --bench
//! scaling`.
//!
//! Each thread is bound to a processor, allocates a run of single pages on its own CPU of the
//! model and frees them again. One thread and two are measured in turn, so that each pair meets the
//! same machine; the median of the pairs' ratios counts, and every page must be free afterwards.

#[path = "../tests/small_machine/mod.rs"]
mod small_machine;
mod threads;

use std::sync::atomic::{AtomicBool, Ordering};

use fragscope_replay::mm::allocator::PageAllocator;
use fragscope_replay::mm::flavour::Smp;
use fragscope_replay::mm::free_path::Protocol;
use fragscope_replay::mm::page_alloc::Mm;
use fragscope_replay::mm::pcp_buddy::EitherPcp;
use fragscope_replay::mm::request::{FreeEntry, Request};
use fragscope_replay::mm::settings::Settings;
use fragscope_replay::mm::spb::Spb;
use fragscope_replay::mm::stock::Stock;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::CpuId;
use threads::median;

const PAGES: u64 = 1 << 20;
/// Pages that a thread holds before it frees them.
const RUN: usize = 64;
const PAIRS: usize = 15;

/// Allocations and frees until told to stop.
fn work(mm: &impl PageAllocator, cpu: u16, stop: &AtomicBool) -> u64 {
    let request = Request::new(0, Gfp::HIGHUSER_MOVABLE, CpuId(cpu));
    let mut frames = Vec::with_capacity(RUN);
    let mut operations = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..RUN {
            frames.push(mm.alloc(&request).expect("memory is free"));
        }
        operations += 2 * frames.len() as u64;
        for frame in frames.drain(..) {
            mm.free(frame, 0, CpuId(cpu), FreeEntry::Normal).expect("the page is allocated");
        }
    }
    operations
}

/// Operations per second of so many threads, each on its own CPU of the model.
fn throughput(mm: &(impl PageAllocator + Sync), number: u16) -> f64 {
    threads::throughput(number, |cpu, stop| work(mm, cpu, stop))
}

fn measure<A: PageAllocator + Sync>(name: &str, settings: &Settings) {
    let machine = small_machine::machine(PAGES, 9, 10, 2);
    let mm = A::build(&machine, settings).expect("a sound machine");
    mm.boot(&small_machine::all_free(&machine));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        one.push(throughput(&mm, 1));
        two.push(throughput(&mm, 2));
    }
    let ratios = one.iter().zip(&two).map(|(one, two)| two / one).collect();
    let (zone, cached) = mm.free_pages();
    assert_eq!(zone + cached, PAGES, "free pages once everything was freed");
    println!(
        "{name:32} one thread {:6.2} M/s, two {:6.2} M/s, ratio {:.2}",
        median(one) / 1e6,
        median(two) / 1e6,
        median(ratios),
    );
}

fn main() {
    measure::<Mm<Smp, Stock, EitherPcp<Smp>>>("stock", &Settings::default());
    for free_path in Protocol::ALL {
        let settings = Settings { free_path, ..Settings::default() };
        measure::<Mm<Smp, Spb<Smp>, EitherPcp<Smp>>>(&format!("spb, {free_path}"), &settings);
    }
}
