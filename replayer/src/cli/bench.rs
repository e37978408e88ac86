//! `fragscope-replay bench`: how fast the parts of a replay are here.

use std::path::PathBuf;

use anyhow::{Context, Result};
use fragscope_trace::reader::TraceReader;

use super::SettingsArgs;
use super::input::Input;
use super::output::{self, Lines};
use crate::bench::{BenchReport, Part, measure};
use crate::bundled;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct BenchArgs {
    /// The recording; `-` reads standard input. Without it, the recording that comes with the
    /// program.
    #[arg(value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How often each part runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Only this part; may be given several times.
    #[arg(long = "part", value_name = "PART", value_enum)]
    parts: Vec<Part>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub(super) fn bench(args: &BenchArgs) -> Result<()> {
    let settings = args.settings.resolve()?;
    let repeats = args.repeat as usize;
    let parts = if args.parts.is_empty() { &Part::ALL[..] } else { &args.parts };
    let report = match &args.trace {
        Some(path) => {
            let input = Input::of_events(path)?;
            measure(|| input.open(), &settings, parts, repeats).with_context(|| input.name())?
        }
        None => {
            let open = || TraceReader::new(bundled::recording());
            measure(open, &settings, parts, repeats).context("the bundled recording")?
        }
    };
    if args.json { output::json(&report) } else { output::text_out(&text(&report)) }
}

fn text(report: &BenchReport) -> String {
    let mut lines = Lines::default();
    let (events, repeats) = (output::grouped(report.events), report.repeats);
    lines.raw(&format!("{events} events, {repeats} runs of each part\n"));
    lines.raw("million events per second of CPU time     median      low     high");
    for (part, spread) in &report.spread {
        let [median, low, high] = [spread.median, spread.low, spread.high].map(|rate| rate / 1e6);
        let clock = if *part == "pipeline" { "all tracks, by the wall clock" } else { part };
        lines.raw(&format!("{clock:<40} {median:>7.1} {low:>8.1} {high:>8.1}"));
    }
    lines.raw("");
    if let Some(cpu) = report.pipeline_cpu_ns_per_event {
        lines.raw(&format!("all tracks: {cpu:.0} ns of CPU time per event"));
    }
    for (track, bytes) in &report.bytes_per_frame {
        lines.raw(&format!("{track} track: {bytes:.1} bytes of memory per page frame"));
    }
    lines.raw(&format!("trace: {:.2} bytes per event", report.bytes_per_event));
    lines.into_text()
}
