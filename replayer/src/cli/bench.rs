//! `fragscope-replay bench`: how fast the parts of a replay are here.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use anyhow::{Context, Result};
use fragscope_trace::reader::TraceReader;

use super::SettingsArgs;
use super::input::Input;
use super::output::{self, Lines, bytes};
use super::synth::parse_bytes;
use crate::bench::growth::{GrowthReport, SUBJECTS, growth};
use crate::bench::picture;
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
    /// Instead, how the cost of an event grows with the machine: the same load on synthetic
    /// machines of these sizes, for stock and each index of superpageblocks.
    #[arg(
        long,
        value_name = "SIZE,..",
        value_delimiter = ',',
        value_parser = parse_bytes,
        num_args = 0..=1,
        default_missing_value = "16G,64G,256G,1T",
        conflicts_with_all = ["trace", "parts", "set", "disable"]
    )]
    growth: Option<Vec<u64>>,
    /// Draw the growth into this file, as SVG.
    #[arg(long, value_name = "FILE", requires = "growth")]
    svg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub(super) fn bench(args: &BenchArgs) -> Result<()> {
    if let Some(sizes) = &args.growth {
        return bench_growth(sizes, args);
    }
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

fn bench_growth(sizes: &[u64], args: &BenchArgs) -> Result<()> {
    let show = io::stderr().is_terminal();
    let report = growth(sizes, args.repeat as usize, |memory| {
        if show {
            eprintln!("a machine of {}", bytes(memory));
        }
    })?;
    if let Some(path) = &args.svg {
        let drawing = picture::svg(&report);
        std::fs::write(path, drawing).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.json { output::json(&report) } else { output::text_out(&growth_text(&report)) }
}

fn growth_text(report: &GrowthReport) -> String {
    let mut lines = Lines::default();
    let row = |first: &str, cells: [String; 4]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
        format!("{first:<12}{cells}")
    };
    lines.raw("ns of CPU time per event, medians\n");
    lines.raw(&row("memory", SUBJECTS.map(str::to_owned)));
    for size in &report.sizes {
        let medians = SUBJECTS.map(|subject| format!("{:.1}", size.median(subject)));
        lines.raw(&row(&bytes(size.memory_bytes), medians));
    }
    lines.raw("");
    for (subject, growth) in &report.growth_over_stock {
        lines.raw(&format!("{subject}: grows {growth:.2} times as much as stock"));
    }
    lines.into_text()
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
