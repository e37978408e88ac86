//! The command `fragscope-agent probe-1g`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use fragscope_agent::probe_1g::{Probe, ProbeStop, ThisHost, probe};

use crate::signals;

/// Ask the kernel for 1 GiB pages, say how many it gave and where, and give them back
///
/// This changes the host while it runs: the pools of 1 GiB pages grow by what is granted, one page
/// after the other, and get their old sizes back at the end, also when a signal or an error ends
/// the probe. The kernel may migrate memory to grant a page. It is not asked for more when less
/// than 1.5 GiB of memory is available. Only SIGKILL leaves the pools grown: then write the old
/// number (usually 0) to /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    /// Ask for no more than this
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Print JSON: field names are stable
    #[arg(long)]
    json: bool,
}

/// Probes, and prints the result to stdout. An interrupted probe has failed.
///
/// # Errors
/// If the host has no such pages or does not let this process ask for them.
pub(crate) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals::ENDING {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    let found = probe(&ThisHost::open()?, args.max, &stop)?;
    let text = if args.json { serde_json::to_string_pretty(&found)? } else { to_text(&found) };
    match writeln!(io::stdout(), "{text}") {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to standard output")?,
    }
    let complete = found.stopped != ProbeStop::Interrupted;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn to_text(probe: &Probe) -> String {
    let why = match probe.stopped {
        ProbeStop::Refused => "then the kernel refused",
        ProbeStop::Limit => "as many as it was asked for",
        ProbeStop::LowMemory => "then other memory would have run short",
        ProbeStop::Interrupted => "then the probe was interrupted",
    };
    let millis = (probe.end_ns - probe.begin_ns) / 1_000_000;
    let head = format!(
        "The kernel gave {} pages of 1 GiB, {why}. All were given back after {millis} ms.",
        probe.granted_1g
    );
    let rows = probe.start_pfns.iter().map(|pfn| format!("  first page frame {pfn}"));
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}
