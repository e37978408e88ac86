//! `fragscope-replay synth`: makes a trace of a machine that does not exist.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fragscope_trace::reader::TraceReader;
use serde::Serialize;

use super::output::{self, Lines, bytes, duration, grouped, pages};
use super::usage;
use crate::synth::like::{Calibration, FitReport, calibrate, fit, measure};
use crate::synth::presets::{PRESETS, preset};
use crate::synth::workload::Workload;
use crate::synth::{Generated, SynthError, generate};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct SynthArgs {
    /// The workload; `--list` shows what there is.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    workload: Option<String>,
    /// Measure this recording and make a workload like it; how well it fits is measured as well.
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["workload", "config"])]
    like: Option<PathBuf>,
    /// A workload as JSON; `--print-config` shows one to begin with.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the trace goes; `-` is standard output.
    #[arg(long, short, value_name = "FILE", required_unless_present_any = ["list", "print_config"])]
    output: Option<PathBuf>,
    /// RAM of the machine, for example 16G; the loads of a named workload scale with it.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Nodes of the machine; only node 0 has memory below 4 GiB.
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// CPUs of the machine.
    #[arg(long, value_name = "N")]
    cpus: Option<u16>,
    /// Virtual time, for example 480s, 30m or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    duration: Option<f64>,
    /// Multiply the rates of all loads.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    rate: f64,
    /// Seed: the same settings and seed give the same bytes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// List the named workloads.
    #[arg(long)]
    list: bool,
    /// Print the workload as JSON and do nothing else.
    #[arg(long)]
    print_config: bool,
    /// Print what was generated as JSON.
    #[arg(long)]
    json: bool,
}

/// Generates the trace and says what is in it.
pub(super) fn synth(args: &SynthArgs) -> Result<()> {
    if args.list {
        return output::text_out(&listing());
    }
    let calibration = args.like.as_deref().map(calibrated).transpose()?;
    let workload = resolve(args, calibration.as_ref())?;
    if args.print_config {
        return output::json(&workload);
    }
    let Some(path) = &args.output else { return Err(usage("--output FILE is missing")) };
    let to_stdout = path == Path::new("-");
    let generated = if to_stdout {
        generate_into(&workload, args.seed, io::stdout().lock())?
    } else {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        generate_into(&workload, args.seed, BufWriter::with_capacity(1 << 20, file))?
    };
    if to_stdout {
        // Standard output is the trace.
        return Ok(());
    }
    let fit = calibration.map(|calibration| fitted(&calibration, path)).transpose()?;
    let outcome = Outcome { generated, fit };
    if args.json { output::json(&outcome) } else { output::text_out(&text(&outcome)) }
}

/// What was generated, and how well it fits the recording it was to be like.
#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    generated: Generated,
    fit: Option<FitReport>,
}

fn open(path: &Path) -> Result<TraceReader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let reader = TraceReader::new(BufReader::with_capacity(1 << 20, file));
    reader.with_context(|| path.display().to_string())
}

fn calibrated(path: &Path) -> Result<Calibration> {
    calibrate(&mut open(path)?).with_context(|| path.display().to_string())
}

/// Measures the synthetic trace as the recording was measured.
fn fitted(calibration: &Calibration, path: &Path) -> Result<FitReport> {
    Ok(fit(&calibration.measured, &measure(&mut open(path)?)?))
}

fn generate_into(workload: &Workload, seed: u64, out: impl Write) -> Result<Generated> {
    let show = io::stderr().is_terminal();
    let generated = generate(workload, seed, out, |done| {
        if show {
            eprint!("\rgenerating {}: {:3.0} %", workload.name, done * 100.0);
        }
    });
    if show {
        eprintln!();
    }
    generated.map_err(impossible)
}

/// Settings that make no sense are wrong usage; everything else is a failure.
fn impossible(error: SynthError) -> anyhow::Error {
    match error {
        SynthError::Config { .. }
        | SynthError::Parameter { .. }
        | SynthError::Json(_)
        | SynthError::UnknownWorkload { .. } => usage(error.to_string()),
        error => error.into(),
    }
}

fn resolve(args: &SynthArgs, calibration: Option<&Calibration>) -> Result<Workload> {
    let mut workload = match (calibration, &args.workload, &args.config) {
        (Some(known), ..) => known.workload.clone(),
        (None, Some(name), _) => preset(name, args.memory).map_err(impossible)?,
        (None, None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("reading {}", path.display()))?;
            let mut workload = Workload::from_json(&text).map_err(impossible)?;
            if let Some(memory) = args.memory {
                workload.machine.memory_bytes = memory;
            }
            workload
        }
        (None, None, None) => {
            return Err(usage("give --workload NAME (see --list), --config FILE or --like TRACE"));
        }
    };
    workload.machine.nodes = args.nodes.unwrap_or(workload.machine.nodes);
    workload.machine.cpus = args.cpus.unwrap_or(workload.machine.cpus);
    workload.duration_s = args.duration.unwrap_or(workload.duration_s);
    workload.scale_rates(args.rate);
    workload.check().map_err(impossible)?;
    Ok(workload)
}

fn listing() -> String {
    let mut lines = Lines::default();
    for preset in PRESETS {
        lines.put(preset.name, format_args!("{}; {}", bytes(preset.memory_bytes), preset.meaning));
    }
    lines.into_text()
}

fn text(outcome: &Outcome) -> String {
    let generated = &outcome.generated;
    let mut lines = Lines::default();
    lines.put("workload", format_args!("{}, seed {}", generated.workload, generated.seed));
    let (of_trace, of_event) = (
        bytes(generated.trace_bytes),
        generated.trace_bytes as f64 / generated.events.max(1) as f64,
    );
    lines.put("trace", format_args!("{of_trace}, {of_event:.2} bytes an event"));
    lines.put("virtual time", duration(generated.duration_ns));
    lines.put("events", grouped(generated.events));
    lines.put("allocations", grouped(generated.allocs));
    lines.put("frees", grouped(generated.frees));
    lines.put("refused", grouped(generated.failed_allocs));
    lines.put("managed", pages(generated.managed_pages));
    lines.put("non-movable", format_args!("{} at most", pages(generated.peak_unmovable_pages)));
    match generated.low_memory_after_ns {
        Some(ns) => lines.put("memory ran low", format_args!("after {}", duration(ns))),
        None => lines.put("memory ran low", "never"),
    }
    lines.put("reclaimed", pages(generated.reclaimed_pages));
    if let Some(fit) = &outcome.fit {
        put_fit(&mut lines, fit);
    }
    lines.into_text()
}

fn put_fit(lines: &mut Lines, fit: &FitReport) {
    lines.put("fit", "distances are 0 for equal, 1 for nothing in common");
    lines.put("  rate", format_args!("{:.3} of the recording's", fit.rate_ratio));
    lines.put("  flags", format_args!("{:.3}", fit.gfp_distance));
    lines.put("  orders", format_args!("{:.3}", fit.order_distance));
    lines.put("  lifetimes", format_args!("{:.3}", fit.lifetime_distance));
    for class in &fit.classes {
        let (recorded, synthetic) = (class.recorded_per_s, class.synthetic_per_s);
        let (life, order) = (class.lifetime_distance, class.order_distance);
        lines.put("", format_args!("{}", class.gfp));
        lines.put(
            "",
            format_args!(
                "  {recorded:.1}/s, here {synthetic:.1}/s; lifetimes {life:.3}, orders {order:.3}"
            ),
        );
    }
}

/// `16G`, `512M`, or a number of bytes.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("unit {unit:?}: expected K, M, G or T (powers of 1024)")),
    };
    let number: u64 =
        number.parse().map_err(|_| "expected a whole number and a unit".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// `480s`, `30m`, `2h`, or a number of seconds.
pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unit {unit:?}: expected s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number and a unit".to_owned())?;
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read() {
        assert_eq!(parse_bytes("16G"), Ok(16 << 30));
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert!(parse_bytes("16X").unwrap_err().contains("expected K, M, G or T"));
        assert_eq!(parse_seconds("2h"), Ok(7200.0));
        assert!(parse_seconds("2d").is_err());
    }
}
