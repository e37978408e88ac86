//! Work of one or more threads, each bound to a processor of its own, timed together.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const SPAN: Duration = Duration::from_millis(200);

/// Keeps the calling thread on the `number`-th of the processors that the process may use, so that
/// two threads never share one while another is idle.
fn bind(number: u16) {
    let usable = sched_getaffinity(None).expect("the process may use some processors");
    let processors = (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu));
    let mut own = CpuSet::new();
    own.set(processors.cycle().nth(usize::from(number)).expect("one processor at least"));
    sched_setaffinity(None, &own).expect("a processor that the process may use");
}

/// Operations per second of so many threads. `work` is told the number of its thread, goes on
/// until the flag says stop, and returns how many operations it did.
pub(crate) fn throughput(threads: u16, work: impl Fn(u16, &AtomicBool) -> u64 + Sync) -> f64 {
    let (stop, operations) = (AtomicBool::new(false), AtomicU64::new(0));
    let ready = Barrier::new(usize::from(threads) + 1);
    let seconds = thread::scope(|scope| {
        for number in 0..threads {
            let (stop, operations, ready, work) = (&stop, &operations, &ready, &work);
            scope.spawn(move || {
                bind(number);
                ready.wait();
                operations.fetch_add(work(number, stop), Ordering::Relaxed);
            });
        }
        ready.wait();
        let begin = Instant::now();
        thread::sleep(SPAN);
        stop.store(true, Ordering::Relaxed);
        begin.elapsed().as_secs_f64()
    });
    operations.load(Ordering::Relaxed) as f64 / seconds
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
