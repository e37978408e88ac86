//! The generator's main loop: boots the machine, runs its loads in virtual time, and writes the
//! trace as it goes.

use std::collections::BTreeMap;
use std::io::Write;

use fragscope_trace::event::{SideKind, TimeNs};
use fragscope_trace::header::{End, EndReason, Header, TraceMode};
use fragscope_trace::machine::Machine;
use fragscope_trace::snapshot::SnapshotRole;
use fragscope_trace::writer::TraceWriter;
use serde::Serialize;

use super::SynthError;
use super::cache::CacheLoad;
use super::host::{Host, ns};
use super::kernel::{self, Caller, Counts, Kernel};
use super::machine::Booted;
use super::objects::ObjectLoad;
use super::process::ProcessLoad;
use super::queue::{Queue, Task};
use super::random::Rng;
use super::slab::SlabLoad;
use super::workload::{Shape, Workload};
use super::{standing, state};

/// `CLOCK_MONOTONIC` at the start of every synthetic trace.
const START_NS: TimeNs = 1_000_000_000;
/// Wall clock at the start of every synthetic trace: 2026-01-01, so that the same settings give
/// the same bytes at any time.
const START_UNIX_NS: u64 = 1_767_225_600_000_000_000;
/// Process id of the first load; its processes count up from there.
const FIRST_PID: u32 = 100_000;

/// What was generated. Units are in the names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generated {
    /// Name of the workload.
    pub workload: String,
    /// The seed.
    pub seed: u64,
    /// Virtual time.
    pub duration_ns: u64,
    /// Page events and side events.
    pub events: u64,
    /// Of these, allocations.
    pub allocs: u64,
    /// Of these, frees.
    pub frees: u64,
    /// Of these, requests that the kernel refused.
    pub failed_allocs: u64,
    /// Allocations by order.
    pub allocs_by_order: Vec<u64>,
    /// Allocations by type: unmovable, movable, reclaimable.
    pub allocs_by_type: Vec<u64>,
    /// Pages taken back for lack of memory.
    pub reclaimed_pages: u64,
    /// When memory first ran low, from the start; `None` if it never did.
    pub low_memory_after_ns: Option<u64>,
    /// Largest number of non-movable pages at once.
    pub peak_unmovable_pages: u64,
    /// Managed pages of the machine.
    pub managed_pages: u64,
    /// Size of the trace.
    pub trace_bytes: u64,
}

/// Generates a trace of a workload. The same workload and seed give the same bytes.
///
/// # Errors
/// If the workload makes no sense, or the output fails.
pub fn generate<W: Write>(
    workload: &Workload,
    seed: u64,
    out: W,
    mut progress: impl FnMut(f64),
) -> Result<Generated, SynthError> {
    workload.check()?;
    let booted = Booted::new(&workload.machine, facts(workload, seed)?)?;
    let mut opening = booted.snapshot(START_NS);
    let allocator = kernel::boot(&opening)?;
    let standing = standing::place(&allocator, workload, seed);
    if !standing.is_empty() {
        opening = state::snapshot(&allocator, &booted.machine, SnapshotRole::Opening, START_NS);
    }
    let mut writer = TraceWriter::new(out, &header(&opening.machine))?;
    writer.snapshot(&opening)?;
    let end_ns = START_NS + ns(workload.duration_s);
    let mut sink = |batch: &_| -> Result<(), SynthError> { Ok(writer.events(batch)?) };
    let unmovable = standing.iter().filter(|(block, _)| !block.movable);
    let unmovable_pages = unmovable.map(|(block, _)| 1 << block.order).sum();
    let kernel = Kernel::new(allocator, START_NS, unmovable_pages, &mut sink);
    let mut host = host(workload, &booted.machine, kernel, seed);
    for (block, life_s) in standing {
        if let Some(seconds) = life_s {
            host.queue.put(START_NS + ns(seconds), Task::Free(block));
        }
    }
    let mut run = Run::begin(workload, seed, &mut host);
    while let Some((at_ns, task)) = host.queue.take_before(end_ns) {
        host.kernel.advance(at_ns)?;
        run.execute(task, &mut host)?;
        host.balance()?;
        run.report(at_ns, end_ns, &mut progress);
    }
    host.kernel.advance(end_ns)?;
    host.kernel.flush()?;
    let now_ns = host.kernel.now_ns();
    let role = SnapshotRole::Closing;
    let closing = state::snapshot(host.kernel.allocator(), &booted.machine, role, now_ns);
    let mut counts = std::mem::take(&mut host.kernel.counts);
    counts.totals.events += counts.totals.allocs + counts.totals.frees + counts.failed_allocs;
    drop(host);
    writer.snapshot(&closing)?;
    writer.end(&End {
        reason: EndReason::Generated,
        time_ns: now_ns,
        closing_snapshot: true,
        totals: counts.totals.clone(),
    })?;
    Ok(summary(workload, seed, &booted.machine, &counts, writer.bytes_written()))
}

fn summary(
    workload: &Workload,
    seed: u64,
    machine: &Machine,
    counts: &Counts,
    trace_bytes: u64,
) -> Generated {
    Generated {
        workload: workload.name.clone(),
        seed,
        duration_ns: ns(workload.duration_s),
        events: counts.totals.events,
        allocs: counts.totals.allocs,
        frees: counts.totals.frees,
        failed_allocs: counts.failed_allocs,
        allocs_by_order: counts.allocs_by_order.to_vec(),
        allocs_by_type: counts.allocs_by_type.to_vec(),
        reclaimed_pages: counts.reclaimed_pages,
        low_memory_after_ns: counts.low_memory_at_ns.map(|at| at - START_NS),
        peak_unmovable_pages: counts.peak_unmovable_pages,
        managed_pages: machine.managed_pages(),
        trace_bytes,
    }
}

/// What the trace says about its origin: enough to make it again.
fn facts(workload: &Workload, seed: u64) -> Result<BTreeMap<String, String>, SynthError> {
    Ok([
        ("synthetic_workload".to_owned(), workload.name.clone()),
        ("synthetic_config".to_owned(), serde_json::to_string(workload)?),
        ("synthetic_seed".to_owned(), seed.to_string()),
        ("transparent_hugepage".to_owned(), "always".to_owned()),
    ]
    .into())
}

fn header(machine: &Machine) -> Header {
    Header {
        recorder: format!("fragscope-replay synth {}", env!("CARGO_PKG_VERSION")),
        started_unix_ns: START_UNIX_NS,
        started_ns: START_NS,
        machine: machine.clone(),
        capabilities: Vec::new(),
        command: None,
        mode: TraceMode::Full,
    }
}

fn host<'a>(workload: &Workload, machine: &Machine, kernel: Kernel<'a>, seed: u64) -> Host<'a> {
    Host {
        kernel,
        queue: Queue::default(),
        cache: Vec::new(),
        cache_pages: 0,
        processes: Vec::new(),
        managed_pages: machine.managed_pages(),
        cpus: machine.cpus.len() as u16,
        swap_share: workload.reclaim.swap_share,
        remote_free_share: workload.remote_free_share,
        rng: Rng::stream(seed, "host"),
    }
}

/// A load at work.
enum Running<'w> {
    Cache(CacheLoad<'w>),
    Processes(ProcessLoad<'w>),
    Objects(ObjectLoad<'w>),
    Slab(SlabLoad<'w>),
    /// Nothing to do: it was placed before the trace began.
    Standing,
}

/// All loads, and how far they are.
struct Run<'w> {
    loads: Vec<Running<'w>>,
    reported: u64,
}

impl<'w> Run<'w> {
    /// Sets all loads up for their first step.
    fn begin(workload: &'w Workload, seed: u64, host: &mut Host<'_>) -> Run<'w> {
        let mut loads = Vec::new();
        for (index, load) in workload.loads.iter().enumerate() {
            let rng = Rng::stream(seed, &load.name);
            let index = index as u16;
            let mut stack = 0;
            if !load.stack.is_empty() {
                stack = u32::from(index) + 1;
                let frames = load.stack.clone();
                host.kernel.side(None, SideKind::Stack { id: stack, frames });
            }
            let pid = FIRST_PID * (u32::from(index) + 1);
            let caller = Caller { comm: &load.comm, pid, stack };
            loads.push(match &load.shape {
                Shape::Cache(c) => Running::Cache(CacheLoad::new(index, c, caller, rng)),
                Shape::Processes(c) => Running::Processes(ProcessLoad::new(index, c, caller, rng)),
                Shape::Objects(c) => Running::Objects(ObjectLoad::new(index, c, caller, rng)),
                Shape::Slab(c) => Running::Slab(SlabLoad::new(index, c, caller, rng)),
                Shape::Standing(_) => Running::Standing,
            });
            host.step_after(index, 0.0);
        }
        Run { loads, reported: 0 }
    }

    fn execute(&mut self, task: Task, host: &mut Host<'_>) -> Result<(), SynthError> {
        match task {
            Task::Free(block) => host.free(block),
            Task::Step { load } => match &mut self.loads[usize::from(load)] {
                Running::Cache(load) => load.step(host),
                Running::Processes(load) => load.step(host),
                Running::Objects(load) => load.step(host),
                Running::Slab(load) => load.step(host),
                Running::Standing => Ok(()),
            },
            Task::Process { load, slot } => match &mut self.loads[usize::from(load)] {
                Running::Processes(load) => load.go_on(slot, host),
                _ => Ok(()),
            },
        }
    }

    /// Tells the progress in percent steps.
    fn report(&mut self, at_ns: TimeNs, end_ns: TimeNs, progress: &mut impl FnMut(f64)) {
        let percent = (at_ns - START_NS) * 100 / (end_ns - START_NS).max(1);
        if percent > self.reported {
            self.reported = percent;
            progress(percent as f64 / 100.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fragscope_trace::event::{PageEvent, PageEventKind};
    use fragscope_trace::frame::Frame;
    use fragscope_trace::page::Content;
    use fragscope_trace::reader::TraceReader;
    use fragscope_trace::snapshot::Snapshot;

    use super::super::presets::preset;
    use super::*;

    /// One GiB under pressure, in two virtual seconds.
    fn tiny() -> Workload {
        let mut workload = preset("small", Some(1 << 30)).unwrap();
        workload.duration_s = 2.0;
        workload.scale_rates(8.0);
        workload
    }

    fn bytes(workload: &Workload, seed: u64) -> (Vec<u8>, Generated) {
        let mut out = Vec::new();
        let generated = generate(workload, seed, &mut out, |_| {}).unwrap();
        (out, generated)
    }

    fn read(bytes: &[u8]) -> (Vec<PageEvent>, Vec<Snapshot>, End) {
        let mut reader = TraceReader::new(bytes).unwrap();
        let (mut events, mut snapshots, mut end) = (Vec::new(), Vec::new(), None);
        while let Some(frame) = reader.next_frame().unwrap() {
            match frame {
                Frame::Header(_) => {}
                Frame::Snapshot(snapshot) => snapshots.push(*snapshot),
                Frame::Events(batch) => events.extend(batch.pages),
                Frame::End(last) => end = Some(*last),
            }
        }
        (events, snapshots, end.unwrap())
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let workload = tiny();
        assert_eq!(bytes(&workload, 1), bytes(&workload, 1));
        assert_ne!(bytes(&workload, 1).0, bytes(&workload, 2).0);
    }

    /// Replays the events over the opening snapshot, page by page: nothing is handed out twice or
    /// freed twice, and the closing snapshot is what remains.
    #[test]
    fn events_lead_from_the_opening_to_the_closing_state() {
        let (out, generated) = bytes(&tiny(), 3);
        let (events, snapshots, end) = read(&out);
        let mut used: BTreeMap<u64, Content> = BTreeMap::new();
        let in_use = |content: Content| content.is_allocated();
        for event in &events {
            for pfn in event.range().raw() {
                let before = match event.kind() {
                    PageEventKind::Alloc => used.insert(pfn, Content::of_allocation(event.gfp)),
                    PageEventKind::Free => used.remove(&pfn),
                    _ => continue,
                };
                assert_eq!(before.is_some(), event.kind() == PageEventKind::Free, "{event:?}");
            }
        }
        let [opening, closing] = &snapshots[..] else { panic!("{} snapshots", snapshots.len()) };
        assert!(opening.runs.iter().all(|run| !in_use(run.content)));
        assert_eq!(closing.role, SnapshotRole::Closing);
        let runs = closing.runs.iter().filter(|run| in_use(run.content));
        let found: BTreeMap<u64, Content> =
            runs.flat_map(|run| run.range().raw().map(|pfn| (pfn, run.content))).collect();
        assert_eq!(found, used);
        assert!(events.is_sorted_by_key(|event| event.time_ns));
        let of = |kind| events.iter().filter(|event| event.kind() == kind).count() as u64;
        let counted = (of(PageEventKind::Alloc), of(PageEventKind::Free));
        assert_eq!((generated.allocs, generated.frees), counted);
        assert_eq!(end.totals.events, generated.events);
        assert!(generated.low_memory_after_ns.is_some() && generated.reclaimed_pages > 0);
    }

    #[test]
    fn another_load_leaves_the_streams_of_the_others_alone() {
        let mut alone = tiny();
        alone.loads.retain(|load| load.name == "network");
        let mut both = alone.clone();
        both.loads.push(tiny().loads.into_iter().find(|load| load.name == "buffers").unwrap());
        let atomic = |workload: &Workload| -> Vec<u8> {
            let events = read(&bytes(workload, 4).0).0;
            let of_load = |event: &&PageEvent| event.gfp.contains(fragscope_trace::gfp::Gfp::HIGH);
            events.iter().filter(of_load).map(|event| event.order()).collect()
        };
        let (alone, both) = (atomic(&alone), atomic(&both));
        let common = alone.len().min(both.len());
        assert!(common > 1000);
        assert_eq!(alone[..common], both[..common]);
    }
}
