//! The command `fragscope-agent cost`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use fragscope_agent::cost::{CostOptions, CostReport, Outcome, Spread, Way, measure};

use crate::cli::TracerArgs;
use crate::signals;

/// Measure what tracing adds to each page allocation and free on this host
///
/// A thread of this program takes and gives back memory: with nothing attached, while this program
/// traces as `record` does, counts as `record --mode count` does, or runs programs that do nothing,
/// and, where they are present, while ftrace and perf trace allocations and frees; and LRU insertions
/// as well, where `record` listens to those because programs can't attach to functions. The whole host
/// is traced meanwhile. A round takes a few seconds, and longer in proportion to a larger `--mib`; everything is
/// detached at the end, also when a signal ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct CostArgs {
    /// How often each way of tracing has its turn
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Memory that is taken and given back in a storm: a little stays in the caches, more does not
    #[arg(long, value_name = "MIB", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=65536))]
    mib: u32,
    #[command(flatten)]
    tracer: TracerArgs,
    /// Print JSON: field names are stable
    #[arg(long)]
    json: bool,
}

/// Measures, and prints the result to stdout.
///
/// # Errors
/// If nothing can be measured.
pub(crate) fn run(args: &CostArgs) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals::ENDING {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    let options = CostOptions { rounds: args.rounds, mib: args.mib, tracer: args.tracer.options() };
    let report = measure(&options, &stop)?;
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { to_text(&report) };
    match writeln!(io::stdout(), "{text}") {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to standard output")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn to_text(report: &CostReport) -> String {
    let base = report.base_ns_per_event;
    let mut lines = vec![
        "ns of CPU time per page allocated or freed    median      low     high".to_owned(),
        row("nothing traced", base),
    ];
    for (way, outcome) in &report.ways {
        match outcome {
            Outcome::Measured(cost) => lines.push(row(label(*way), cost.added_ns_per_event)),
            Outcome::Unavailable(why) => {
                lines.push(format!("{}: not measured, {why}", label(*way)));
            }
        }
    }
    for (way, outcome) in &report.ways {
        let Outcome::Measured(cost) = outcome else { continue };
        let mode = match way {
            Way::Full => "Recording",
            Way::Count => "Counting",
            _ => continue,
        };
        if let Some(ratio) = cost.ratio_to_ftrace {
            lines.push(format!("{mode} adds {ratio:.2} of what ftrace adds."));
        }
        if let Some(ratio) = cost.ratio_to_perf {
            lines.push(format!("{mode} adds {ratio:.2} of what perf adds."));
        }
        if let (Some(ftrace), Some(perf)) = (cost.ratio_to_ftrace_lru, cost.ratio_to_perf_lru) {
            lines.push(format!(
                "{mode} listens to LRU insertions, too: {ftrace:.2} of ftrace and {perf:.2} of perf \
                 that do."
            ));
        }
        if let (Some(reader), Some(lost)) = (cost.reader_ns_per_event, cost.lost_events) {
            lines.push(format!("Reading took {reader:.0} ns per event; {lost} events were lost."));
        }
    }
    lines.join("\n")
}

fn row(label: &str, spread: Spread) -> String {
    let Spread { median, low, high } = spread;
    format!("{label:<42} {median:>9.0} {low:>8.0} {high:>8.0}")
}

fn label(way: Way) -> &'static str {
    match way {
        Way::Full => "added by fragscope, all events recorded",
        Way::Count => "added by fragscope, events counted",
        Way::Floor => "added by programs that do nothing",
        Way::Ftrace => "added by ftrace, read by nobody",
        Way::Perf => "added by perf record",
        Way::FtraceLru => "added by ftrace, LRU insertions as well",
        Way::PerfLru => "added by perf, LRU insertions as well",
    }
}
