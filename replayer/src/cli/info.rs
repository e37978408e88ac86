//! `fragscope-replay info`: what a recording contains.

use anyhow::{Context, Result};
use fragscope_trace::info::{SnapshotInfo, TraceInfo};
use fragscope_trace::machine::Machine;
use fragscope_trace::page::Migratetype;

use super::TraceArg;
use super::input::Input;
use super::output::{self, Lines, bytes, duration, grouped, pages};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Reads the whole trace and prints what is in it.
pub(super) fn info(args: &InfoArgs) -> Result<()> {
    let input = Input::new(&args.trace.trace)?;
    let read = || TraceInfo::read(&mut input.open()?);
    let info = read().with_context(|| input.name())?;
    if args.json { output::json(&info) } else { output::text_out(&text(&input.name(), &info)) }
}

fn text(name: &str, info: &TraceInfo) -> String {
    let mut lines = Lines::default();
    let header = &info.header;
    lines.put("trace", format_args!("{name}, {}", bytes(info.trace_bytes)));
    lines.put("recorded by", &header.recorder);
    if let Some(command) = &header.command {
        lines.put("command", command.join(" "));
    }
    put_machine(&mut lines, &header.machine);
    if !header.mode.is_full() {
        lines.put("mode", "count: events by GiB of memory and interval, none by itself");
    }
    lines.put("span", duration(info.span_ns));
    put_end(&mut lines, info);
    put_events(&mut lines, info);
    for snapshot in &info.snapshots {
        lines.put("snapshot", snapshot_line(snapshot, header.started_ns));
    }
    if info.snapshots.is_empty() {
        lines.put("snapshot", "none: pages that had no event are unknown, and no policy can begin");
    }
    for capability in header.capabilities.iter().filter(|c| !c.available) {
        lines.put("without", format_args!("{}: {}", capability.name, capability.lost_without));
    }
    lines.into_text()
}

fn put_machine(lines: &mut Lines, machine: &Machine) {
    let (release, arch) = (&machine.kernel_release, &machine.arch);
    let cpus = machine.cpus.iter().filter(|cpu| cpu.online).count();
    lines
        .put("machine", format_args!("{}, Linux {release}, {arch}, {cpus} CPUs", machine.hostname));
    for zone in &machine.zones {
        let label = zone.label();
        let (managed, span) = (pages(zone.managed_pages), pages(zone.spanned_pages));
        let free = pages(zone.free_pages);
        lines
            .put(&label, format_args!("{managed} managed of {span} spanned, {free} free at start"));
    }
}

fn put_end(lines: &mut Lines, info: &TraceInfo) {
    match (&info.end, &info.truncated) {
        (Some(end), _) => {
            let closing = if end.closing_snapshot { "with" } else { "without" };
            lines.put("end", format_args!("{:?}, {closing} a closing snapshot", end.reason));
        }
        (None, Some(cut)) => {
            lines.put("end", format_args!("{cut}; everything before it is here"));
        }
        (None, None) => lines.put("end", "no end frame"),
    }
}

fn put_events(lines: &mut Lines, info: &TraceInfo) {
    let per_event = info.bytes_per_event.map_or(String::new(), |b| format!(", {b:.2} bytes each"));
    let rate = info.events as f64 / (info.span_ns.max(1) as f64 / 1e9);
    lines.put("events", format_args!("{} ({rate:.0}/s{per_event})", grouped(info.events)));
    for (kind, count) in info.page_events.iter().filter(|(_, count)| **count > 0) {
        lines.put("", format_args!("{:>14}  {kind:?}", grouped(*count)));
    }
    for (kind, count) in &info.side_events {
        lines.put("", format_args!("{:>14}  {kind}", grouped(*count)));
    }
    let counted = info.counted_allocs.saturating_add(info.counted_frees);
    if counted > 0 {
        let (allocs, frees) = (grouped(info.counted_allocs), grouped(info.counted_frees));
        lines.put("counted only", format_args!("{allocs} allocations, {frees} frees"));
    }
    if info.sheds > 0 {
        lines.put("over budget", format_args!("{} times", grouped(info.sheds)));
    }
    lines.put("own events", grouped(info.own_events));
    lines.put("late events", grouped(info.late_events));
    let causes: Vec<String> =
        info.lost.iter().map(|(cause, count)| format!("{cause:?} {}", grouped(*count))).collect();
    let causes =
        if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
    lines.put("lost events", format_args!("{}{causes}", grouped(info.lost_events)));
    lines.put("order", "       unmovable         movable     reclaimable           frees");
    for (order, of) in &info.orders {
        let allocs = |t: Migratetype| grouped(of.allocs.get(&t).copied().unwrap_or(0));
        let (unmovable, movable, reclaimable) = (
            allocs(Migratetype::Unmovable),
            allocs(Migratetype::Movable),
            allocs(Migratetype::Reclaimable),
        );
        let frees = grouped(of.frees);
        lines.put(
            &format!("{order:>5}"),
            format_args!("{unmovable:>16}{movable:>16}{reclaimable:>16}{frees:>16}"),
        );
    }
}

fn snapshot_line(snapshot: &SnapshotInfo, started_ns: u64) -> String {
    let at = duration(snapshot.begin_ns.saturating_sub(started_ns));
    let took = (snapshot.end_ns.saturating_sub(snapshot.begin_ns)) as f64 / 1e6;
    let (role, source) = (snapshot.role, snapshot.source);
    let known: u64 = snapshot.pages.values().sum();
    format!(
        "{role:?} at {at}, read in {took:.1} ms from {source:?}: {} pages in {} runs, {}",
        grouped(known),
        grouped(snapshot.runs),
        bytes(snapshot.bytes)
    )
}
