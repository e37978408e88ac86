//! The command `fragscope-agent snapshot`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use fragscope_agent::snapshot::Limits;
use fragscope_agent::snapshot::report::Report;
use fragscope_agent::snapshot::source::{Snapshotter, SourceChoice};
use fragscope_trace::snapshot::SnapshotRole;

use crate::cli::parse_duration;

/// Show the 1 GiB regions of this host as they are now
///
/// Reads the state of every page frame without tracing. One row per zone and region: whether a
/// 1 GiB page is to be had there, and what stands in the way.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SnapshotArgs {
    /// Print JSON: field names are stable, sizes are in pages
    #[arg(long)]
    json: bool,
    /// Where to read from
    #[arg(long, value_enum, default_value_t)]
    source: SourceChoice,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
    /// Pause after each 256 MiB read, to spare the CPUs of a large host
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pause: Duration,
}

/// Takes a snapshot and prints it to stdout.
///
/// # Errors
/// If no snapshot can be taken, or stdout cannot be written to.
pub(crate) fn run(args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    let limits = Limits { pause: args.pause, ..Limits::within(args.timeout) };
    let mut snapshotter = Snapshotter::open(args.source, None).context("no snapshot")?;
    let snapshot = snapshotter.take(SnapshotRole::Standalone, &limits).context("no snapshot")?;
    let report = Report::new(&snapshot);
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => report.to_string(),
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to standard output")?,
    }
    Ok(ExitCode::SUCCESS)
}
