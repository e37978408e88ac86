//! `fragscope-replay sweep`: a grid of settings over recordings.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::input::Input;
use super::output::{self, Progress};
use super::usage;
use crate::compare::passes::at_once;
use crate::sweep::run::{Run, SweepPlan, run};
use crate::sweep::{Grid, table};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct SweepArgs {
    /// The recordings.
    #[arg(value_name = "FILE", required = true)]
    traces: Vec<PathBuf>,
    /// An axis: a setting with its values, for example reserve_divisor=16,32,64;
    /// `fragscope-replay policies` lists them. Several axes span a grid.
    #[arg(long = "set", value_name = "NAME=VALUE,..")]
    set: Vec<String>,
    /// Replay with these patches off, too, for example p20 or p21,p27; several times: one group
    /// off at a time.
    #[arg(long, value_name = "PATCH,..")]
    disable: Vec<String>,
    /// Histories from boot to draw; 0 replays as found only.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=1000))]
    seeds: u64,
    /// Tracks replayed at once, each with 16 bytes a page frame; as many as there are processors
    /// if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// Write the result as Parquet and as pictures into this directory; it is made if need be.
    #[cfg(feature = "analysis")]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON: a list of replays.
    #[arg(long)]
    json: bool,
}

/// Replays and prints.
pub(super) fn sweep(args: &SweepArgs) -> Result<()> {
    let variants = grid(args)?.variants().map_err(|error| usage(error.to_string()))?;
    let at_once = args.jobs.map_or_else(at_once, |jobs| jobs as usize);
    let plan = SweepPlan { variants, seeds: args.seeds, at_once };
    let mut progress = Progress::new("replaying", args.traces.len() as u64);
    let mut runs: Vec<Run> = Vec::new();
    for (index, path) in args.traces.iter().enumerate() {
        progress.show(index as u64);
        let input = Input::of_events(path)?;
        let of_trace = run(&input.name(), || input.open(), &plan);
        runs.extend(of_trace.with_context(|| input.name())?);
    }
    progress.end();
    #[cfg(feature = "analysis")]
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        crate::sweep::output::write(&runs, dir)?;
    }
    if args.json { output::json(&runs) } else { output::text_out(&table::text(&runs)) }
}

fn grid(args: &SweepArgs) -> Result<Grid> {
    let mut grid = Grid::default();
    for axis in &args.set {
        let (name, values) = axis
            .split_once('=')
            .ok_or_else(|| usage(format!("--set {axis}: expected NAME=VALUE,VALUE,..")))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        grid.axes.push((name.trim().to_owned(), values));
    }
    let group = |group: &String| group.split(',').map(|patch| patch.trim().to_owned()).collect();
    grid.disabled = args.disable.iter().map(group).collect();
    Ok(grid)
}
