//! `fragscope-replay report`: one page about a recording.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fragscope_trace::event::TimeNs;

use super::input::Input;
use super::output::{self, Progress};
use super::{SettingsArgs, TraceArg};
use crate::compare::{Comparison, Plan, compare};
use crate::observe::StartState;
use crate::plot::history::replay;
use crate::report::{Contents, page};

/// Samples of a report over the whole recording.
const SAMPLES: u64 = 240;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// The page to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Histories from boot to draw; figures are ranges over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Replays twice, once to the end with all seeds and once over time, and writes the page.
pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let input = Input::of_events(&args.trace.trace)?;
    let plan = Plan::full(&args.settings.resolve()?, args.seeds);
    let comparison = compare(|| input.open(), &plan).with_context(|| input.name())?;
    let shown = |start| start != StartState::FromBootIdeal;
    let specs = plan.tracks.into_iter().filter(|spec| shown(spec.start) && spec.seed <= 1);
    let mut progress = Progress::new("replaying", input.bytes());
    let interval_ns = interval_ns(&comparison);
    let history = replay(|| input.open(), specs.collect(), interval_ns, |at| progress.show(at));
    progress.end();
    let contents = Contents {
        comparison: &comparison,
        history: &history.with_context(|| input.name())?,
        command: &command(args),
    };
    write(&args.out, &page(&contents)?)
}

/// Virtual time between samples.
fn interval_ns(comparison: &Comparison) -> TimeNs {
    (comparison.trace.duration_ns / SAMPLES).max(1)
}

fn write(path: &Path, page: &str) -> Result<()> {
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))?;
    output::text_out(&format!("{}\n", path.display()))
}

/// What makes the same report again.
fn command(args: &ReportArgs) -> String {
    let file = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = format!("fragscope-replay report {}", file(&args.trace.trace));
    command += &format!(" --seeds {}", args.seeds);
    args.settings.set.iter().for_each(|set| command += &format!(" --set {set}"));
    if !args.settings.disable.is_empty() {
        command += &format!(" --disable {}", args.settings.disable.join(","));
    }
    command + &format!(" --out {}", file(&args.out))
}
