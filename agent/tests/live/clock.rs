//! Times of events against what must have happened in which order.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};

use fragscope_agent::bpf::tracer::{Tracer, TracerOptions};
use fragscope_ebpf::record::{KIND_ALLOC, KIND_FREE, Record};
use rustix::pipe::fcntl_setpipe_size;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Pages that go through a pipe.
const PIPED_PAGES: usize = 60_000;

/// Frees that no event tells of, with exact times as well: those of single pages of larger blocks, say.
const UNSEEN_FREES: u64 = 10;

/// Binds this thread to a CPU of those that there are.
fn bind(number: usize) {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let mut set = CpuSet::new();
    set.set(number % cpus);
    sched_setaffinity(None, &set).unwrap();
}

/// Pages written on one CPU and read, which frees them, on another. A pipe keeps two pages for the
/// next writes, so many are written and read at once.
fn pipe_pages() {
    const AT_ONCE: usize = 64;
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setpipe_size(&writer, (4 * AT_ONCE) << 12).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            bind(0);
            for _ in 0..PIPED_PAGES / AT_ONCE {
                writer.write_all(&[1; AT_ONCE << 12]).unwrap();
            }
        });
        scope.spawn(move || {
            bind(1);
            while reader.read(&mut [0; AT_ONCE << 12]).unwrap() > 0 {}
        });
    });
}

/// Everything that was recorded, by time.
fn records(tracer: &mut Tracer) -> Vec<Record> {
    let mut records = Vec::new();
    tracer.channel.drain(|_, record| records.push(record));
    records.sort_by_key(|record| record.time_ns());
    records
}

fn misses(tracer: &Tracer) -> u64 {
    tracer.misses().iter().map(|missed| missed.count).sum()
}

/// No page is allocated that is allocated already, but for the few whose frees nobody sees, whichever CPUs its events come from.
fn the_events_of_a_page_are_in_order(options: &TracerOptions) {
    let Some(_turn) = crate::common::turn() else { return };
    let mut tracer = Tracer::attach(options).unwrap();
    let missed_before = misses(&tracer);
    pipe_pages();
    let missed = misses(&tracer) - missed_before;
    tracer.detach();
    let mut allocated: HashMap<u32, bool> = HashMap::new();
    let (mut twice, mut pages) = (0, 0);
    for record in records(&mut tracer).iter().filter(|record| record.order() == 0) {
        let is_alloc = record.kind() == KIND_ALLOC;
        if is_alloc || record.kind() == KIND_FREE {
            let before = allocated.insert(record.pfn(), is_alloc);
            twice += u64::from(is_alloc && before == Some(true));
            pages += u64::from(!is_alloc && before == Some(true));
        }
    }
    assert!(pages >= PIPED_PAGES as u64 / 10, "{pages} pages seen allocated and freed");
    let allowed = missed + UNSEEN_FREES;
    assert!(twice <= allowed, "{twice} pages allocated twice, {missed} frees missed");
}

#[test]
fn the_events_of_a_page_are_in_order_where_bursts_share_a_reading() {
    the_events_of_a_page_are_in_order(&TracerOptions::default());
}

#[test]
fn the_events_of_a_page_are_in_order_with_exact_times() {
    let options = TracerOptions { exact_times: true, ..TracerOptions::default() };
    the_events_of_a_page_are_in_order(&options);
}

/// What happens after a moment has at least its time, and what happened before the next at most that
/// one's.
#[test]
fn a_moment_parts_events() {
    let Some(_turn) = crate::common::turn() else { return };
    let mut tracer = Tracer::attach(&TracerOptions::default()).unwrap();
    bind(0);
    let mut moments = vec![tracer.clock.moment()];
    for _ in 0..500 {
        fragscope_agent::bpf::memory::touch_fresh_pages(16 << 12).unwrap();
        moments.push(tracer.clock.moment());
    }
    tracer.detach();
    let times: Vec<u64> = records(&mut tracer)
        .iter()
        .filter(|record| record.kind() == KIND_ALLOC && record.is_own() && record.order() == 0)
        .map(|record| record.time_ns())
        .collect();
    for pair in moments.windows(2) {
        let from = times.partition_point(|time| *time < pair[0]);
        let to = times.partition_point(|time| *time <= pair[1]);
        assert!(to - from >= 16, "{} of 16 pages lie between two moments", to - from);
    }
}

/// One reading of the clock serves for many events, and with exact times for one.
#[test]
fn bursts_share_a_reading_unless_times_are_exact() {
    let Some(_turn) = crate::common::turn() else { return };
    let share = |exact_times| {
        let options = TracerOptions { exact_times, ..TracerOptions::default() };
        let mut tracer = Tracer::attach(&options).unwrap();
        bind(0);
        for _ in 0..4 {
            fragscope_agent::bpf::memory::touch_fresh_pages(1 << 20).unwrap();
        }
        tracer.detach();
        let mut records = records(&mut tracer);
        records.retain(|record| record.is_own());
        let follows = |pair: &&[Record]| pair[1].time_ns() == pair[0].time_ns() + 1;
        records.windows(2).filter(follows).count() as f64 / records.len() as f64
    };
    assert!(share(true) < 0.01);
    assert!(share(false) > 0.3);
}
