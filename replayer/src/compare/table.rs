//! A comparison as text that can be pasted into a mail: at most 78 columns.

use fragscope_trace::region::Bounds;

use super::report::{Comparison, TrackComparison};
use super::trace_report::TraceReport;
use crate::cli::output::{Lines, bytes, duration, grouped, percent};
use crate::kernel_track::fidelity::Fidelity;
use crate::observe::StartState;
use crate::verdict::{Verdict, bounds_text};

/// Columns of a measure's name; the tracks share the rest.
const LABEL: usize = 27;
/// Columns of a line.
const WIDTH: usize = 78;

/// What a table of each start is called.
pub(crate) const TITLES: [(StartState, &str); 3] = [
    (StartState::AsFound, "As found: every page where the kernel had it; from now on"),
    (StartState::FromBoot, "From boot: placed by the policy through seeded histories"),
    (StartState::FromBootIdeal, "Ideal: packed on an empty machine (a bound, no forecast)"),
];

/// The whole comparison.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut lines = Lines::default();
    put_trace(&mut lines, &comparison.trace);
    let of_start = |start: StartState| -> Vec<&TrackComparison> {
        comparison.tracks.iter().filter(|track| track.start == start).collect()
    };
    for (start, title) in TITLES {
        let tracks = of_start(start);
        if !tracks.is_empty() {
            put_table(&mut lines, title, &tracks);
        }
    }
    for verdict in &comparison.verdicts {
        put_verdict(&mut lines, verdict);
    }
    if comparison.track(crate::observe::TrackKind::Stock, StartState::AsFound).is_some() {
        lines.raw("");
        lines.raw(&wrapped(
            "As found cannot cure taint that is there already; from boot and ideal do not know \
             the machine's real history. The truth for a patched kernel lies between.",
        ));
    }
    lines.into_text()
}

/// Machine, span, events, losses and fidelity.
pub(crate) fn put_trace(lines: &mut Lines, trace: &TraceReport) {
    let (host, release) = (&trace.hostname, &trace.kernel_release);
    let memory = bytes(trace.managed_pages * fragscope_trace::page::PAGE_SIZE);
    let model = if trace.kernel_is_models { "" } else { " (the stock model follows 6.18)" };
    lines.put("machine", format_args!("{host}, Linux {release}{model}, {memory} managed"));
    if let Some(command) = &trace.command {
        lines.put("command", command.join(" "));
    }
    let events = &trace.events;
    lines.put(
        "recording",
        format_args!(
            "{}, {} allocations, {} frees, {} failed",
            duration(trace.duration_ns),
            grouped(events.allocs),
            grouped(events.frees),
            grouped(events.failed_allocs)
        ),
    );
    if let Some(cut) = &trace.truncated {
        lines.put("", format_args!("{cut}; replayed up to there"));
    }
    lines.put("lost events", grouped(events.lost_events()));
    lines.put(
        "not traced",
        format_args!(
            "{} frees and {} allocations matched nothing;",
            grouped(events.unmatched_frees),
            grouped(events.unmatched_allocs),
        ),
    );
    lines.put(
        "",
        format_args!(
            "{} pages put right, {} deduced from their frees",
            grouped(events.repaired_pages),
            grouped(trace.anomalies.backfilled_pages)
        ),
    );
    for fidelity in &trace.fidelity {
        put_fidelity(lines, fidelity);
    }
    if trace.fidelity.is_empty() {
        lines.put("kernel track", "no later snapshot to check it against");
    }
}

fn put_fidelity(lines: &mut Lines, fidelity: &Fidelity) {
    lines.put(
        "kernel track",
        format_args!(
            "differs from the {} snapshot in {} pages ({}),",
            format!("{:?}", fidelity.role).to_lowercase(),
            grouped(fidelity.raw_difference_pages),
            percent(fidelity.raw_difference_ratio)
        ),
    );
    lines.put(
        "",
        format_args!(
            "{} of them unexplained ({})",
            grouped(fidelity.unexplained_pages),
            percent(fidelity.unexplained_ratio)
        ),
    );
    for (cause, pages) in &fidelity.difference_pages {
        lines.put("", format_args!("{:>12}  {cause:?}", grouped(*pages)));
    }
}

/// One row of a table.
pub(crate) type Measure = (&'static str, fn(&TrackComparison) -> Option<Bounds>);

/// What is told of every track.
pub(crate) const MEASURES: [Measure; 17] = [
    ("1 GiB free now", |t| Some(t.free_1g)),
    ("1 GiB evacuable, each", |t| Some(t.evacuable_1g)),
    ("1 GiB obtainable", |t| Some(t.obtainable_1g)),
    ("tainted", |t| Some(t.tainted_1g)),
    ("  floor", |t| Some(Bounds { min: t.floor_1g, max: t.floor_1g })),
    ("  by 512 pages or fewer", |t| Some(t.nearly_clean_1g)),
    ("  by has-bits", |t| t.has_bit_tainted_1g),
    ("  by pageblock type", |t| t.block_type_tainted_1g),
    ("  at the start", |t| Some(t.counter("start_tainted_1g"))),
    ("  newly during it", |t| Some(t.counter("taints_1g"))),
    ("unmovable pages", |t| Some(t.unmovable_pages)),
    ("events replayed", |t| Some(Bounds { min: t.events_replayed, max: t.events_replayed })),
    ("unmatched frees", |t| Some(t.unmatched_frees)),
    ("refused requests", |t| Some(t.refused)),
    ("pages moved", |t| Some(t.moved_pages)),
    ("pages reclaimed", |t| Some(t.reclaimed_pages)),
    ("events lost", |t| Some(Bounds { min: t.lost_events, max: t.lost_events })),
];

fn put_table(lines: &mut Lines, title: &str, tracks: &[&TrackComparison]) {
    lines.raw("");
    lines.raw(&match tracks.iter().map(|t| t.runs.len()).max() {
        Some(runs) if runs > 1 => format!("{title} ({runs} seeds)"),
        _ => title.to_owned(),
    });
    let column = ((WIDTH - LABEL) / tracks.len().max(1)).min(24);
    let mut header = format!("{:LABEL$}", "");
    for track in tracks {
        header += &format!("{:>column$}", track.policy.name());
    }
    lines.raw(header.trim_end());
    for (name, of) in MEASURES {
        let mut row = format!("{name:LABEL$}");
        for track in tracks {
            let value = of(track).map_or_else(|| "-".to_owned(), bounds_text);
            row += &format!("{value:>column$}");
        }
        lines.raw(&row);
    }
}

fn put_verdict(lines: &mut Lines, verdict: &Verdict) {
    lines.raw("");
    lines.raw(&wrapped(&format!("{} {} {}", verdict.text, verdict.price, verdict.why)));
    if !verdict.paths.is_empty() {
        let path = |(name, count): (&String, &Bounds)| format!("{name} {}", bounds_text(*count));
        let paths: Vec<String> = verdict.paths.iter().map(path).collect();
        lines.raw(&wrapped(&format!("SPB paths: {}.", paths.join(", "))));
    }
}

/// Text in lines of at most [`WIDTH`] columns.
pub(crate) fn wrapped(text: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}
