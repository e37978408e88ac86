//! Speed of the codec: events per second encoded and decoded, and pages of a snapshot.
//!
//! The events are made up, after the habits of a Linux host under a build: order-0 pages from
//! per-CPU stacks, freed mostly in the order they were allocated in, a microsecond apart. Set
//! `FRAGSCOPE_TRACE` to the path of a recording to measure with that one instead.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fragscope_trace::event::{EventBatch, PageEvent};
use fragscope_trace::frame::Frame;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::{Header, TraceMode};
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId, Migratetype, PAGE_SIZE, Pfn};
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole, SnapshotSource};
use fragscope_trace::writer::TraceWriter;

/// Most events of a recording that are used.
const MOST_EVENTS: usize = 4 << 20;
/// Events of a frame, as a recording to a file has them, and as a live view has them.
const BATCHES: [usize; 2] = [1 << 16, 1 << 10];

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// One CPU: its stack of free pages, and the groups of pages that processes on it hold.
struct Cpu {
    free: Vec<u64>,
    held: Vec<Vec<u64>>,
    /// Pages that the running process still takes, or gives back.
    taking: u64,
    giving: Vec<u64>,
}

impl Cpu {
    /// The next event's pfn, and whether it is an allocation.
    fn step(&mut self, fresh: &mut u64, random: &mut Random) -> (u64, bool) {
        let last = self.giving.len().saturating_sub(1);
        let out_of_turn =
            if random.below(12) == 0 { random.below(last as u64 + 1) as usize } else { last };
        if !self.giving.is_empty() {
            let pfn = self.giving.remove(out_of_turn);
            self.free.push(pfn);
            return (pfn, false);
        }
        if self.taking == 0 {
            if self.held.len() > 40 {
                self.giving = self.held.swap_remove(random.below(40) as usize);
                self.giving.reverse();
                return self.step(fresh, random);
            }
            self.taking = 1 + random.below(600);
            self.held.push(Vec::new());
        }
        self.taking -= 1;
        let pfn = self.free.pop().unwrap_or_else(|| {
            *fresh = if random.below(14) == 0 { random.below(1 << 22) } else { *fresh + 1 };
            *fresh
        });
        if let Some(group) = self.held.last_mut() {
            group.push(pfn);
        }
        (pfn, true)
    }
}

fn synthetic(count: usize) -> Vec<PageEvent> {
    let mut random = Random(88_172_645_463_325_252);
    let new = |_| Cpu { free: vec![], held: vec![], taking: 0, giving: vec![] };
    let mut cpus: Vec<Cpu> = (0..2).map(new).collect();
    let (mut fresh, mut time, mut cpu) = (1 << 20, 1_000_000_000, 0);
    let event = |_| {
        if random.below(12) == 0 {
            cpu = random.below(2) as usize;
        }
        let magnitude = random.below(13);
        time += 200 + random.below(400) + random.below(1 << magnitude);
        let (pfn, taken) = cpus[cpu].step(&mut fresh, &mut random);
        let id = CpuId(cpu as u16);
        if !taken {
            return PageEvent::free(time, id, Pfn(pfn), 0);
        }
        let gfp = [Gfp::KERNEL | Gfp::ZERO, Gfp::KERNEL, Gfp::KERNEL | Gfp::RECLAIMABLE];
        let gfp = gfp.get(random.below(60) as usize).copied();
        PageEvent::alloc(time, id, Pfn(pfn), 0, gfp.unwrap_or(Gfp::HIGHUSER_MOVABLE | Gfp::ZERO))
    };
    (0..count).map(event).collect()
}

fn recorded(path: &str) -> Vec<PageEvent> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut reader = TraceReader::new(file).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut events = Vec::new();
    while events.len() < MOST_EVENTS
        && let Ok(Some(frame)) = reader.next_frame()
    {
        if let Frame::Events(batch) = frame {
            events.extend(batch.pages);
        }
    }
    events
}

fn header() -> Header {
    let machine = Machine {
        hostname: String::new(),
        kernel_release: String::new(),
        arch: String::new(),
        page_size: PAGE_SIZE,
        pageblock_order: 9,
        max_page_order: 10,
        cpus: Vec::new(),
        zones: Vec::new(),
        ram: Vec::new(),
        sysctls: std::collections::BTreeMap::new(),
        facts: std::collections::BTreeMap::new(),
    };
    let (started_unix_ns, started_ns) = (0, 0);
    let (capabilities, command) = (Vec::new(), None);
    let (recorder, mode) = (String::new(), TraceMode::Full);
    Header { recorder, started_unix_ns, started_ns, machine, capabilities, command, mode }
}

fn encode(batches: &[EventBatch], level: i32) -> Vec<u8> {
    let mut writer = TraceWriter::with_level(Vec::new(), &header(), level).expect("a header");
    for batch in batches {
        writer.events(batch).expect("a vector takes all");
    }
    writer.into_inner()
}

fn decode(bytes: &[u8]) -> usize {
    let mut reader = TraceReader::new(bytes).expect("a header");
    let mut count = 0;
    while let Some(frame) = reader.next_frame().expect("what was written") {
        if let Frame::Events(batch) = frame {
            count += black_box(&batch).pages.len();
            reader.recycle(batch);
        }
    }
    count
}

fn events(criterion: &mut Criterion) {
    let events = match std::env::var("FRAGSCOPE_TRACE") {
        Ok(path) => recorded(&path),
        Err(_) => synthetic(1 << 20),
    };
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(events.len() as u64)).sample_size(10);
    for size in BATCHES {
        let batch = |pages: &[PageEvent]| EventBatch { pages: pages.to_vec(), sides: Vec::new() };
        let batches: Vec<EventBatch> = events.chunks(size).map(batch).collect();
        for level in [1, 3] {
            let bytes = encode(&batches, level);
            let each = bytes.len() as f64 / events.len() as f64;
            let name = format!("level {level}, {size} a frame, {each:.2} bytes each");
            group.bench_function(BenchmarkId::new("encode", &name), |b| {
                b.iter(|| encode(&batches, level).len());
            });
            group.bench_function(BenchmarkId::new("decode", &name), |b| {
                b.iter(|| decode(&bytes));
            });
        }
    }
    group.finish();
}

/// A machine whose memory is in runs of 1 to 64 pages of every content.
fn fragmented(runs: usize) -> Snapshot {
    let mut random = Random(1);
    let mut start = 0;
    let run = |_| {
        let pages = 1 + random.below(64);
        let content = Content::ALL[random.below(Content::COUNT as u64) as usize];
        let migratetype = Migratetype::ALL[random.below(3) as usize];
        let run = PageRun { start: Pfn(start), pages, content, order: 0, migratetype };
        start += pages;
        run
    };
    Snapshot {
        source: SnapshotSource::Synthetic,
        role: SnapshotRole::Standalone,
        begin_ns: 0,
        end_ns: 0,
        machine: header().machine,
        chunks: Vec::new(),
        runs: (0..runs).map(run).collect(),
        pageblocks: Vec::new(),
        lists: Vec::new(),
        notes: Vec::new(),
    }
}

fn snapshots(criterion: &mut Criterion) {
    let snapshot = fragmented(1 << 20);
    let encode = || {
        let mut writer = TraceWriter::new(Vec::new(), &header()).expect("a header");
        writer.snapshot(&snapshot).expect("a vector takes all");
        writer.into_inner()
    };
    let bytes = encode();
    let mut group = criterion.benchmark_group("snapshot runs");
    group.throughput(Throughput::Elements(snapshot.runs.len() as u64)).sample_size(10);
    let each = bytes.len() as f64 / snapshot.runs.len() as f64;
    let name = format!("{each:.2} bytes each");
    group.bench_function(BenchmarkId::new("encode", &name), |b| b.iter(|| encode().len()));
    group.bench_function(BenchmarkId::new("decode", &name), |b| b.iter(|| decode(&bytes)));
    group.finish();
}

criterion_group!(benches, events, snapshots);
criterion_main!(benches);
