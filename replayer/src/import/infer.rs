//! What events alone do not say: geometry, and what memory held before the first event.

use std::collections::BTreeMap;

use fragscope_trace::event::{EventBatch, PageEvent, PageEventKind};
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, PAGE_SIZE, Pfn};
use fragscope_trace::snapshot::{PageRun, Snapshot};

use super::ImportError;
use super::bare::Known;
use crate::synth::machine::{Booted, MachineSpec};

/// A machine and its opening state.
pub(super) struct Inference {
    pub(super) machine: Machine,
    pub(super) snapshot: Snapshot,
}

impl Inference {
    /// Takes what is known, infers the rest, and says what it inferred.
    pub(super) fn new(
        events: &EventBatch,
        known: &Known,
        said: &mut Vec<String>,
    ) -> Result<Inference, ImportError> {
        let pages = &events.pages;
        let begin_ns = pages.first().map_or(0, |event| event.time_ns);
        if let Some(snapshot) = &known.snapshot {
            let mut snapshot = snapshot.clone();
            (snapshot.begin_ns, snapshot.end_ns) = (begin_ns, begin_ns);
            snapshot.chunks.clear();
            said.push(
                "the opening state is a snapshot of another trace, taken at another time".into(),
            );
            return Ok(Inference { machine: snapshot.machine.clone(), snapshot });
        }
        let booted = booted(pages, known, said)?;
        let mut snapshot = booted.snapshot(begin_ns);
        mark_older_pages(&mut snapshot, pages, said);
        Ok(Inference { machine: booted.machine, snapshot })
    }
}

fn booted(
    pages: &[PageEvent],
    known: &Known,
    said: &mut Vec<String>,
) -> Result<Booted, ImportError> {
    let cpus = pages.iter().map(|event| event.cpu.0).max().unwrap_or(0) + 1;
    if let Some(machine) = &known.machine {
        return Ok(Booted { machine: machine.clone(), reserved: Vec::new() });
    }
    let end = pages.iter().map(|event| event.range().end.0).max().unwrap_or(0);
    let low_bytes = known.low_bytes.unwrap_or(3 << 30);
    let memory_bytes = known.memory_bytes.unwrap_or_else(|| memory_up_to(end, low_bytes));
    let spec = MachineSpec {
        low_bytes: low_bytes.min(memory_bytes),
        ..MachineSpec::new(memory_bytes, cpus)
    };
    said.push(format!(
        "geometry: {} MiB of RAM, {} MiB of it below 4 GiB, one node, {cpus} CPUs{}",
        memory_bytes >> 20,
        spec.low_bytes >> 20,
        if known.memory_bytes.is_none() { " (from the highest page seen)" } else { "" }
    ));
    let mut booted = Booted::new(&spec, BTreeMap::new())?;
    booted.machine.hostname = "imported".to_owned();
    booted.machine.kernel_release = "unknown".to_owned();
    Ok(booted)
}

/// The least memory that has a page frame before `end`.
fn memory_up_to(end: u64, low_bytes: u64) -> u64 {
    let end_bytes = end.saturating_mul(PAGE_SIZE);
    let bytes = match end_bytes {
        below if below <= low_bytes => below,
        above => low_bytes + above.saturating_sub(4 << 30),
    };
    bytes.checked_next_multiple_of(128 << 20).unwrap_or(bytes).max(256 << 20)
}

/// Pages whose first event is a free were in use before: nobody knows as what.
fn mark_older_pages(snapshot: &mut Snapshot, pages: &[PageEvent], said: &mut Vec<String>) {
    let mut seen: BTreeMap<u64, bool> = BTreeMap::new();
    for event in pages {
        let freed = match event.kind() {
            PageEventKind::Alloc => false,
            PageEventKind::Free => true,
            _ => continue,
        };
        for pfn in event.range().raw() {
            seen.entry(pfn).or_insert(freed);
        }
    }
    let older: Vec<u64> =
        seen.into_iter().filter(|(_, freed)| *freed).map(|(pfn, _)| pfn).collect();
    said.push(format!(
        "opening state: {} pages whose first event is a free count as used for an unknown purpose, \
         all others as free",
        older.len()
    ));
    snapshot.notes = vec!["Inferred from events: pages without any are taken for free.".into()];
    snapshot.runs = carve(&snapshot.runs, &older);
}

/// Runs in which single pages, ascending, are unknown instead of free.
fn carve(runs: &[PageRun], older: &[u64]) -> Vec<PageRun> {
    let mut carved = Vec::new();
    let mut older = older.iter().copied().peekable();
    for run in runs {
        let end = run.range().end.0;
        let mut at = run.start.0;
        while older.next_if(|pfn| *pfn < at).is_some() {}
        while let Some(pfn) = older.next_if(|pfn| *pfn < end) {
            if run.content != Content::Free {
                continue;
            }
            push_free(&mut carved, run, at, pfn);
            match carved.last_mut() {
                Some(last) if last.content == Content::Unknown && last.range().end.0 == pfn => {
                    last.pages += 1;
                }
                _ => carved.push(PageRun {
                    start: Pfn(pfn),
                    pages: 1,
                    content: Content::Unknown,
                    order: 0,
                    migratetype: run.migratetype,
                }),
            }
            at = pfn + 1;
        }
        if at == run.start.0 {
            carved.push(*run);
        } else {
            push_free(&mut carved, run, at, end);
        }
    }
    carved
}

/// Free pages as maximal aligned blocks.
fn push_free(runs: &mut Vec<PageRun>, of: &PageRun, from: u64, to: u64) {
    let mut at = from;
    while at < to {
        let order = at.trailing_zeros().min((to - at).ilog2()).min(of.order.into()) as u8;
        let start = Pfn(at);
        runs.push(PageRun { start, pages: 1 << order, order, ..*of });
        at += 1 << order;
    }
}
