//! `fragscope-replay run`: one policy.

use anyhow::{Context, Result};

use super::input::Input;
use super::output::{self, Lines};
use super::{PolicyArg, SettingsArgs, StartArg, TraceArg, usage};
use crate::compare::lock_report::LockReport;
use crate::compare::{Plan, compare, table};
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Replays and prints.
pub(super) fn run(args: &RunArgs) -> Result<()> {
    let (policy, start) = (TrackKind::from(args.policy), StartState::from(args.start));
    if policy == TrackKind::Kernel && start != StartState::AsFound {
        return Err(usage("the kernel's own placement begins as found; use --start as-found"));
    }
    let settings = args.settings.resolve()?;
    let input = Input::new(&args.trace.trace)?;
    let spec = TrackSpec { policy, start, seed: args.seed, settings };
    let mut comparison =
        compare(|| input.open(), &Plan::one(spec)).with_context(|| input.name())?;
    if policy != TrackKind::Kernel {
        comparison.tracks.retain(|track| track.policy == policy);
    }
    if args.json {
        return output::json(&comparison);
    }
    let mut text = table::text(&comparison);
    if let Some(track) = comparison.tracks.first().and_then(|track| track.runs.first()) {
        let mut lines = Lines::default();
        lines.raw("");
        for (name, value) in track.locks.iter().flat_map(LockReport::lines) {
            lines.raw(&format!("{name:<40} {value:>16}"));
        }
        lines.raw("");
        for (name, count) in track.counters.iter().filter(|(_, count)| **count > 0) {
            lines.raw(&format!("{name:<40} {:>16}", output::grouped(*count)));
        }
        text += &lines.into_text();
    }
    output::text_out(&text)
}
