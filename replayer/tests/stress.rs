//! The allocators under real threads: each CPU's thread allocates and frees, also what others
//! allocated, while CPUs go offline and come back and a 1 GiB block is tried again and again.
//! Afterwards every page is accounted for and all lists are whole.

mod small_machine;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fragscope_replay::mm::allocator::PageAllocator;
use fragscope_replay::mm::flavour::Smp;
use fragscope_replay::mm::frames::Frame;
use fragscope_replay::mm::page_alloc::Mm;
use fragscope_replay::mm::pcp_buddy::EitherPcp;
use fragscope_replay::mm::request::{FreeEntry, Request};
use fragscope_replay::mm::settings::Settings;
use fragscope_replay::mm::spb::Spb;
use fragscope_replay::mm::stock::Stock;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId};

const PAGES: u64 = 1 << 20;
const GIB_ORDER: u8 = 18;
const CPUS: u16 = 4;
/// How long each test loads its allocator.
const LOAD: Duration = Duration::from_secs(4);
/// Blocks that a thread keeps at most.
const KEPT_MAX: usize = 3_000;

type Block = (Frame, u8);

/// What threads share beside the allocator.
struct Bench<A> {
    mm: A,
    /// Held while a CPU runs, or stops and starts.
    running: [Mutex<()>; CPUS as usize],
    /// Blocks that one thread allocated and another will free.
    passed_on: Mutex<Vec<Block>>,
    done: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers of a thread: xorshift, so that a seed repeats its choices.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

impl<A: PageAllocator> Bench<A> {
    fn new(settings: &Settings) -> Bench<A> {
        let machine = small_machine::machine(PAGES, 9, 10, CPUS);
        let mm = A::build(&machine, settings).expect("a sound machine");
        mm.boot(&small_machine::all_free(&machine));
        Bench {
            mm,
            running: Default::default(),
            passed_on: Mutex::default(),
            done: AtomicBool::new(false),
        }
    }

    fn free(&self, (frame, order): Block, cpu: u16, numbers: &mut Numbers) {
        let entry = match numbers.next(16) {
            0 => FreeEntry::NoLock,
            _ => FreeEntry::Normal,
        };
        self.mm.free(frame, order, CpuId(cpu), entry).expect("the block is allocated");
    }

    /// One step of a CPU's thread.
    fn step(&self, cpu: u16, kept: &mut Vec<Block>, numbers: &mut Numbers) {
        match numbers.next(10) {
            0..5 if kept.len() < KEPT_MAX => kept.extend(self.alloc(cpu, numbers)),
            5 => {
                let from = kept.len() - kept.len().min(8);
                lock(&self.passed_on).extend(kept.drain(from..));
            }
            6..8 => {
                let block = lock(&self.passed_on).pop();
                block.into_iter().for_each(|block| self.free(block, cpu, numbers));
            }
            _ if !kept.is_empty() => {
                let which = numbers.next(kept.len() as u64) as usize;
                self.free(kept.swap_remove(which), cpu, numbers);
            }
            _ => {}
        }
    }

    /// A block whose pages stay where they are, so that nothing moves under its holder.
    fn alloc(&self, cpu: u16, numbers: &mut Numbers) -> Option<Block> {
        let order = match numbers.next(100) {
            0 => 9,
            1..20 => numbers.next(4) as u8 + 1,
            _ => 0,
        };
        let shapes = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::ATOMIC];
        let gfp = shapes[numbers.next(3) as usize];
        let request = Request { content: Content::Pinned, ..Request::new(order, gfp, CpuId(cpu)) };
        Some((self.mm.alloc(&request).ok()?, order))
    }

    fn work(&self, cpu: u16) {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ u64::from(cpu) << 32 | 1);
        let mut kept = Vec::new();
        let end = Instant::now() + LOAD;
        while Instant::now() < end {
            let _running = lock(&self.running[usize::from(cpu)]);
            self.step(cpu, &mut kept, &mut numbers);
        }
        lock(&self.passed_on).append(&mut kept);
    }

    /// Stops and starts CPUs in turn.
    fn hotplug(&self) {
        for cpu in (1..CPUS).cycle() {
            if self.done.load(Ordering::Relaxed) {
                return;
            }
            let _stopped = lock(&self.running[usize::from(cpu)]);
            self.mm.cpu_offline(CpuId(cpu));
            thread::yield_now();
            self.mm.cpu_online(CpuId(cpu));
        }
    }

    /// Takes and gives back 1 GiB. Returns how often that went well.
    fn gigantic(&self) -> u32 {
        let mut obtained = 0;
        while !self.done.load(Ordering::Relaxed) {
            if let Some(frame) = self.mm.alloc_contig(GIB_ORDER, CpuId(0), Content::Hugetlb) {
                obtained += 1;
                self.mm
                    .free(frame, GIB_ORDER, CpuId(0), FreeEntry::Normal)
                    .expect("the block is allocated");
            }
        }
        obtained
    }

    /// Frees everything, drains, and looks at every page.
    fn settle(&self) {
        let mut numbers = Numbers(7);
        for block in lock(&self.passed_on).drain(..) {
            self.free(block, 0, &mut numbers);
        }
        for cpu in 0..CPUS {
            self.mm.cpu_offline(CpuId(cpu));
            self.mm.cpu_online(CpuId(cpu));
        }
        // Parked blocks reach the lists with the next ordinary free to their zone.
        let request = Request::new(10, Gfp::KERNEL, CpuId(0));
        let frame = self.mm.alloc(&request).expect("memory is free");
        self.mm.free(frame, 10, CpuId(0), FreeEntry::Normal).expect("it was allocated");
        self.mm.check_invariants();
        let (zone, cached) = self.mm.free_pages();
        assert_eq!(zone + cached, PAGES, "free pages once everything was freed");
    }
}

fn stress<A: PageAllocator + Sync>(settings: &Settings, takes_remote_frees: bool) {
    let bench = Bench::<A>::new(settings);
    let obtained = thread::scope(|scope| {
        let bench = &bench;
        let workers: Vec<_> = (0..CPUS).map(|cpu| scope.spawn(move || bench.work(cpu))).collect();
        let hotplug = scope.spawn(|| bench.hotplug());
        let gigantic = scope.spawn(|| bench.gigantic());
        let worked =
            workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>();
        bench.done.store(true, Ordering::Relaxed);
        hotplug.join().expect("hotplug");
        let obtained = gigantic.join().expect("contiguous allocation");
        worked.expect("the workers");
        obtained
    });
    bench.settle();
    let counters = bench.mm.counters();
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    println!("1 GiB obtained {obtained} times");
    for name in SHOWN {
        println!("{name} {}", count(name));
    }
    assert!(count("frees") > 10_000, "the threads did little");
    assert!(count("contig_attempts") > 0, "nobody tried for 1 GiB");
    let remote = count("pcp_remote_frees");
    assert_eq!(remote, count("pcp_absorbed"), "every remote free was taken in");
    assert_eq!(remote > 0, takes_remote_frees, "{remote} remote frees");
    if takes_remote_frees {
        assert_eq!(count("pcp_fallbacks_remote"), 0, "remote frees that found a lock held");
    }
}

/// Counters that say what the threads came by.
const SHOWN: [&str; 12] = [
    "allocs",
    "frees",
    "pcp_hits",
    "pcp_remote_frees",
    "pcp_trylock_failures",
    "pcp_fallbacks_own",
    "pcp_fallbacks_remote",
    "pcp_fallbacks_dead",
    "direct_frees",
    "deferred_frees",
    "zone_locks",
    "contig_attempts",
];

#[test]
fn stock_keeps_every_page() {
    stress::<Mm<Smp, Stock, EitherPcp<Smp>>>(&Settings::default(), false);
}

#[test]
fn superpageblocks_keep_every_page() {
    stress::<Mm<Smp, Spb<Smp>, EitherPcp<Smp>>>(&Settings::default(), true);
}

#[test]
fn superpageblocks_without_remote_lists_keep_every_page() {
    let settings = Settings { p03: false, ..Settings::default() };
    stress::<Mm<Smp, Spb<Smp>, EitherPcp<Smp>>>(&settings, false);
}
