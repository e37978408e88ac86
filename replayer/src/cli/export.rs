//! `fragscope-replay export`: a trace and its replay as Parquet.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::input::Input;
use super::output::{self, Lines, bytes, duration, grouped};
use super::synth::parse_seconds;
use super::{SettingsArgs, TraceArg};
use crate::export::{Plan, Written, export};
use crate::observe::{StartState, TrackKind};
use crate::start::TrackSpec;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// Directory for the files; it is made if need be. `SCHEMA.md` says what is in them.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Virtual time between samples of all tracks, for example 1s or 0.1s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_seconds)]
    interval: f64,
    /// Replay from boot as well, with this seed.
    #[arg(long, value_name = "SEED")]
    from_boot: Option<u64>,
    /// Only the kernel's own track.
    #[arg(long)]
    no_policies: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// Writes the tables.
pub(super) fn run(args: &ExportArgs) -> Result<()> {
    let plan = Plan { tracks: tracks(args)?, interval_ns: (args.interval * 1e9) as u64 };
    let input = Input::new(&args.trace.trace)?;
    let mut reader = input.open()?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("creating {}", args.out.display()))?;
    let started_ns = reader.header().started_ns;
    let show = io::stderr().is_terminal();
    let written = export(&mut reader, &args.out, &plan, |now_ns| {
        if show {
            eprint!("\rexporting: {} of virtual time", duration(now_ns - started_ns));
        }
    });
    if show {
        eprintln!();
    }
    let written = written.with_context(|| input.name())?;
    if args.json { output::json(&written) } else { output::text_out(&text(&written)) }
}

fn tracks(args: &ExportArgs) -> Result<Vec<TrackSpec>> {
    let settings = args.settings.resolve()?;
    let mut tracks = Vec::new();
    if args.no_policies {
        return Ok(tracks);
    }
    for policy in [TrackKind::Stock, TrackKind::Spb] {
        let spec = TrackSpec { settings: settings.clone(), ..TrackSpec::as_found(policy) };
        if let Some(seed) = args.from_boot {
            tracks.push(TrackSpec { start: StartState::FromBoot, seed, ..spec.clone() });
        }
        tracks.push(spec);
    }
    Ok(tracks)
}

fn text(written: &Written) -> String {
    let mut lines = Lines::default();
    let per_event = written.event_bytes as f64 / written.events.max(1) as f64;
    let events = grouped(written.events);
    lines.put("page events", format_args!("{events}, {per_event:.2} bytes each"));
    lines.put("samples", grouped(written.samples));
    lines.put("taint events", grouped(written.taints));
    lines.put("all files", bytes(written.bytes));
    lines.into_text()
}
