//! `fragscope-replay run`: one policy.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::events::EventFile;
use super::input::Input;
use super::output::{self, Lines};
use super::{PolicyArg, SettingsArgs, StartArg, TraceArg, usage};
use crate::compare::lock_report::LockReport;
use crate::compare::track_report::{Asked1g, TrackReport};
use crate::compare::{Comparison, Plan, compare, table};
use crate::mm::spb::debugfs;
use crate::observe::{StartState, TrackKind};
use crate::start::TrackSpec;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// Whose placement to replay.
    #[arg(long)]
    policy: PolicyArg,
    /// What to begin with.
    #[arg(long, default_value = "as-found")]
    start: StartArg,
    /// Seed of the history of a start from boot.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Write the superpageblock series' tracepoints to this file: as Parquet if its name ends in
    /// .parquet (columns: SCHEMA.md), otherwise one JSON object a line.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Only these tracepoints, for example spb_pb_taint,spb_alloc_fall_through.
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "events")]
    event_names: Vec<String>,
    /// Show superpageblocks at the end, as the series' debugfs file does.
    #[arg(long)]
    debugfs: bool,
    /// Show free memory at the end, as buddyinfo, pagetypeinfo and the log's memory dump do.
    #[arg(long)]
    free_lists: bool,
    /// Treat allocations as movable whose process or kernel stack has this in a name (what patch 34
    /// does for btrfs).
    #[arg(long, value_name = "TEXT")]
    retype_movable: Option<String>,
    /// Ask the policy for so many 1 GiB pages at the end.
    #[arg(long, value_name = "PAGES", default_value_t = 0)]
    ask_1g: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Replays and prints.
pub(super) fn run(args: &RunArgs) -> Result<()> {
    refuse_what_does_not_fit(args)?;
    let (policy, start) = (TrackKind::from(args.policy), StartState::from(args.start));
    let settings = args.settings.resolve()?;
    let input = Input::of_events(&args.trace.trace)?;
    let spec = TrackSpec { policy, start, seed: args.seed, settings };
    let events = args.events.as_ref().map(|path| EventFile::create(path, &args.event_names));
    let events = events.transpose()?;
    let plan = Plan {
        files: args.debugfs || args.free_lists,
        ask_1g: args.ask_1g,
        retype: args.retype_movable.clone(),
        recorder: events.as_ref().map(EventFile::recorder),
        ..Plan::one(spec)
    };
    let mut comparison = compare(|| input.open(), &plan).with_context(|| input.name())?;
    events.map_or(Ok(()), EventFile::finish)?;
    if policy != TrackKind::Kernel {
        comparison.tracks.retain(|track| track.policy == policy);
    }
    if args.json {
        return output::json(&comparison);
    }
    if plan.files {
        return output::text_out(&files_text(args, &comparison));
    }
    let mut text = table::text(&comparison);
    if let Some(run) = comparison.tracks.first().and_then(|track| track.runs.first()) {
        text += &details_text(run);
    }
    output::text_out(&text)
}

fn refuse_what_does_not_fit(args: &RunArgs) -> Result<()> {
    let policy = TrackKind::from(args.policy);
    if (args.debugfs || args.events.is_some()) && policy != TrackKind::Spb {
        return Err(usage("only the superpageblock allocator has this; use --policy spb"));
    }
    if policy != TrackKind::Kernel {
        return Ok(());
    }
    if StartState::from(args.start) != StartState::AsFound {
        return Err(usage("the kernel's own placement begins as found; use --start as-found"));
    }
    if args.ask_1g > 0 {
        return Err(usage(
            "a recording cannot be asked for 1 GiB pages; use --policy stock or spb",
        ));
    }
    if args.free_lists {
        return Err(usage(
            "a recording does not show the kernel's free lists; use --policy stock or spb",
        ));
    }
    Ok(())
}

/// What only one track of its own has room for, each part after an empty line.
fn details_text(run: &TrackReport) -> String {
    let locks = run.locks.iter().flat_map(LockReport::lines);
    let locks = locks.map(|(name, value)| format!("{name:<40} {value:>16}")).collect();
    let asked = run.asked_1g.as_ref().map_or_else(Vec::new, asked_lines);
    let counted = run.counters.iter().filter(|(_, count)| **count > 0);
    let counters =
        counted.map(|(name, count)| format!("{name:<40} {:>16}", output::grouped(*count)));
    let parts: [Vec<String>; 3] = [locks, asked, counters.collect()];
    let mut lines = Lines::default();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        lines.raw("");
        part.iter().for_each(|line| lines.raw(line));
    }
    lines.into_text()
}

fn asked_lines(asked: &Asked1g) -> Vec<String> {
    let moved = output::grouped(asked.moved_pages);
    let reclaimed = output::grouped(asked.reclaimed_pages);
    vec![
        format!("{} of {} pages of 1 GiB obtained,", asked.obtained, asked.asked),
        format!("by moving {moved} pages and reclaiming {reclaimed};"),
        format!("{} single pages found no target", asked.order_0_failures),
    ]
}

/// The files that were asked for.
fn files_text(args: &RunArgs, comparison: &Comparison) -> String {
    let run = comparison.tracks.first().and_then(|track| track.runs.first());
    let Some(files) = run.and_then(|run| run.memory_files.as_ref()) else { return String::new() };
    let mut text = String::new();
    if args.debugfs {
        text += &debugfs::print(files.superpageblocks.as_deref().unwrap_or_default());
    }
    if args.free_lists {
        text += &[&files.buddyinfo, "\n", &files.pagetypeinfo, "\n", &files.show_mem].concat();
    }
    text
}
