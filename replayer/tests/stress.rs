//! The allocators under real threads: each CPU's thread allocates and frees, also what others
//! allocated, while CPUs go offline and come back, zonelists are rebuilt and a 1 GiB block is tried
//! again and again.
//! Afterwards every page is accounted for and all lists are whole.

mod small_machine;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fragscope_replay::mm::allocator::PageAllocator;
use fragscope_replay::mm::flavour::Smp;
use fragscope_replay::mm::frames::Frame;
use fragscope_replay::mm::free_path::Protocol;
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
/// Long after which threads that are not done wait for each other.
const DEADLOCK_AFTER: Duration = Duration::from_secs(180);
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
            self.mm.rebuild_zonelists();
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

/// Ends the process when threads that should be done by then are not: they wait for each other.
struct Watchdog(Arc<AtomicBool>);

impl Watchdog {
    fn new() -> Watchdog {
        let done = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&done);
        thread::spawn(move || {
            let end = Instant::now() + DEADLOCK_AFTER;
            while Instant::now() < end {
                if watched.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
            eprintln!("threads still wait after {DEADLOCK_AFTER:?}: a deadlock");
            std::process::abort();
        });
        Watchdog(done)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn stress<A: PageAllocator + Sync>(settings: &Settings) {
    let _watchdog = Watchdog::new();
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
    assert!(count("zonelist_rebuilds") > 1, "nobody rebuilt the zonelists");
    let (pushed, locked) = (count("pcp_remote_frees"), count("pcp_remote_locked"));
    assert_eq!(pushed, count("pcp_absorbed"), "every remote free was taken in");
    let protocol = bench.mm.free_path();
    assert_eq!(pushed > 0, protocol == Some(Protocol::LocalTrylockRemoteLlist), "pushed frees");
    let locks = matches!(protocol, Some(Protocol::Blocking | Protocol::TrylockZone));
    assert_eq!(locked > 0, locks, "{locked} frees under another owner's lock");
    if protocol == Some(Protocol::LocalTrylockRemoteLlist) {
        assert_eq!(count("pcp_fallbacks_remote"), 0, "remote frees that found a lock held");
    }
}

/// Counters that say what the threads came by.
const SHOWN: [&str; 16] = [
    "allocs",
    "frees",
    "pcp_hits",
    "pcp_local_frees",
    "pcp_remote_frees",
    "pcp_remote_locked",
    "pcp_lock_waits",
    "pcp_trylock_failures",
    "pcp_fallbacks_alloc",
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
    stress::<Mm<Smp, Stock, EitherPcp<Smp>>>(&Settings::default());
}

#[test]
fn superpageblocks_keep_every_page() {
    stress::<Mm<Smp, Spb<Smp>, EitherPcp<Smp>>>(&Settings::default());
}

#[test]
fn superpageblocks_without_remote_lists_keep_every_page() {
    let settings = Settings { free_path: Protocol::TrylockZone, ..Settings::default() };
    stress::<Mm<Smp, Spb<Smp>, EitherPcp<Smp>>>(&settings);
}

/// Threads have no interrupt handlers, which the deadlock of this protocol needs.
#[test]
fn superpageblocks_whose_frees_wait_keep_every_page() {
    let settings = Settings { free_path: Protocol::Blocking, ..Settings::default() };
    stress::<Mm<Smp, Spb<Smp>, EitherPcp<Smp>>>(&settings);
}
