//! What was recorded, and how far it can be trusted.

use fragscope_trace::page::PAGE_SIZE;

use super::html::Html;
use crate::cli::output::{bytes, duration, grouped, percent};
use crate::compare::trace_report::TraceReport;
use crate::export::names::Named;

/// Title, host and time.
pub(super) fn put_heading(html: &mut Html, title: &str, trace: &TraceReport) {
    html.element("h1", "", title);
    let mut said = format!(
        "Linux {}, {} of memory; {} recorded",
        trace.kernel_release,
        bytes(trace.managed_pages * PAGE_SIZE),
        duration(trace.duration_ns)
    );
    if let Some(date) = date(trace.started_unix_ns) {
        said += &format!(" on {date}");
    }
    html.element("p", "faint", &said);
    html.element(
        "p",
        "",
        "How many 1 GiB pages could this host give, how many could it have given under another \
         allocation policy, and at what price? The same requests were replayed through the stock \
         page allocator and through the superpageblock allocator (SPB). A region of 1 GiB is \
         tainted if it holds anything that cannot be moved: one such page is enough to spoil it.",
    );
}

/// Wall-clock time in UTC; nothing for a trace that does not know it.
fn date(unix_ns: u64) -> Option<String> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    (unix_ns > 0).then(|| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// The recording, its losses and repairs.
pub(super) fn put(html: &mut Html, trace: &TraceReport) {
    html.element("h2", "", "The recording");
    let rows: Vec<Vec<String>> =
        facts(trace).into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    html.within("div", "wide", |html| html.table(&["", ""], &rows));
    if let Some(cut) = &trace.truncated {
        html.element("p", "", &format!("{cut}; replayed up to there."));
    }
    if let Some(command) = &trace.command {
        html.element("pre", "", &command.join(" "));
    }
}

fn facts(trace: &TraceReport) -> Vec<(&'static str, String)> {
    let (events, anomalies) = (&trace.events, &trace.anomalies);
    let source = trace.opening_source.map_or("none", Named::name);
    let mut facts = vec![
        ("recorded by", trace.recorder.clone()),
        ("opening state read from", source.to_owned()),
        ("allocations", grouped(events.allocs)),
        ("frees", grouped(events.frees)),
        ("failed requests", grouped(events.failed_allocs)),
        ("lost events", grouped(events.lost_events())),
        ("frees that matched nothing", grouped(events.unmatched_frees)),
        ("allocations that matched nothing", grouped(events.unmatched_allocs)),
        ("pages put right from other events", grouped(events.repaired_pages)),
        ("pages deduced from their frees", grouped(anomalies.backfilled_pages)),
        ("most non-movable memory", bytes(trace.peak_unmovable_pages * PAGE_SIZE)),
    ];
    for fidelity in &trace.fidelity {
        let (pages, share) = (fidelity.raw_difference_pages, fidelity.raw_difference_ratio);
        let said = format!("{} pages ({})", grouped(pages), percent(share));
        facts.push(("kernel track, apart from a later snapshot", said));
    }
    facts
}
