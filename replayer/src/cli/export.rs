//! `fragscope-replay export`: a trace and its replay as Parquet.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::TraceArg;
use super::input::Input;
use super::output::{self, Lines, Progress, bytes, grouped};
use super::tracks::TracksArgs;
use crate::export::{Plan, Written, export};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// Directory for the files; it is made if need be. `SCHEMA.md` says what is in them.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    tracks: TracksArgs,
    /// Only the kernel's own track.
    #[arg(long, conflicts_with = "from_boot")]
    no_policies: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// Writes the tables.
pub(super) fn run(args: &ExportArgs) -> Result<()> {
    let tracks = if args.no_policies { Vec::new() } else { args.tracks.specs()? };
    let plan = Plan { tracks, interval_ns: args.tracks.interval_ns() };
    let input = Input::of_events(&args.trace.trace)?;
    input.open().with_context(|| input.name())?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("creating {}", args.out.display()))?;
    let mut progress = Progress::new("exporting", input.bytes());
    let written = export(|| input.open(), &args.out, &plan, |at| progress.show(at));
    progress.end();
    let written = written.with_context(|| input.name())?;
    if args.json { output::json(&written) } else { output::text_out(&text(&written)) }
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
