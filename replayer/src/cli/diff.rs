//! `fragscope-replay diff`: two comparisons against each other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::output::{self, Lines};
use crate::diff::{Change, Diff, Side, diff as differ};
use crate::verdict::bounds_text;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// What `compare --json` printed before.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// What it prints now.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// How much worse a figure may be, in percent of what it was.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000))]
    tolerate: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what changed, and fails if anything became worse.
pub(super) fn diff(args: &DiffArgs) -> Result<()> {
    let found = differ(&side(&args.a)?, &side(&args.b)?, args.tolerate);
    let text = text(&found);
    let printed = if args.json { output::json(&found) } else { output::text_out(&text) };
    printed?;
    if !found.holds {
        bail!("{} is worse than {}", args.b.display(), args.a.display());
    }
    Ok(())
}

fn side(path: &Path) -> Result<Side> {
    let json = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Side::parse(&json).with_context(|| path.display().to_string())
}

fn text(diff: &Diff) -> String {
    let mut lines = Lines::default();
    let changed = diff.differences.iter().filter(|found| found.change != Change::Same);
    for found in changed {
        let word = if found.change == Change::Worse { "WORSE" } else { "better" };
        let track = format!("{} {:?}", found.policy.name(), found.start);
        let (a, b) = (bounds_text(found.a), bounds_text(found.b));
        lines.raw(&format!("{word:<7} {track:<22} {:<16} {a} -> {b}", found.figure));
    }
    for (policy, start) in &diff.missing {
        lines.raw(&format!("GONE    {} {start:?}", policy.name()));
    }
    let same = diff.differences.iter().filter(|found| found.change == Change::Same).count();
    lines.raw(&format!("{same} of {} figures are the same", diff.differences.len()));
    lines.into_text()
}
