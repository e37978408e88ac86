//! `fragscope-replay compare`: all policies side by side.

use anyhow::{Context, Result};

use super::input::Input;
use super::{SettingsArgs, TraceArg, output};
use crate::compare::{Plan, compare as replay, table};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct CompareArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// Histories from boot to draw; figures are ranges over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Tracks replayed at once, each with 16 bytes a page frame; as many as there are processors
    /// if not given. Results do not depend on it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Replays and prints.
pub(super) fn compare(args: &CompareArgs) -> Result<()> {
    let mut plan = Plan::full(&args.settings.resolve()?, args.seeds);
    if let Some(jobs) = args.jobs {
        plan.at_once = jobs as usize;
    }
    let input = Input::of_events(&args.trace.trace)?;
    let comparison = replay(|| input.open(), &plan).with_context(|| input.name())?;
    if args.json { output::json(&comparison) } else { output::text_out(&table::text(&comparison)) }
}
