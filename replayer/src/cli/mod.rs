//! The program `fragscope-replay`.
//!
//! This module says what can be typed; each command has a module that does it. Results go to
//! standard output, as text or (`--json`) as one JSON object whose field names are those of the
//! types in [`crate::compare`] and [`fragscope_trace::info`]; everything else goes to standard
//! error. Exit status: 0 done, 1 failed, 2 wrong usage.

mod about;
mod bench;
mod compare;
mod diff;
mod events;
#[cfg(feature = "analysis")]
mod export;
mod fidelity;
mod import;
mod info;
mod input;
#[cfg(feature = "locks")]
mod locks;
pub(crate) mod output;
#[cfg(feature = "analysis")]
mod plot;
mod policies;
#[cfg(feature = "analysis")]
mod report;
mod run;
mod sweep;
mod synth;
#[cfg(feature = "analysis")]
mod tracks;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use fragscope_trace::causes;

use crate::mm::settings::Settings;
use crate::observe::{StartState, TrackKind};

/// Replay a recording of page allocations through the stock allocator and the superpageblock
/// allocator.
#[derive(Debug, Parser)]
#[command(name = "fragscope-replay", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a recording contains.
    Info(info::InfoArgs),
    /// Replay a recording through one policy and show its 1 GiB figures at the end.
    Run(run::RunArgs),
    /// Replay a recording through all policies and show them side by side.
    Compare(compare::CompareArgs),
    /// Measure how faithful the stock model is: its replay against the kernel's own snapshots.
    Fidelity(fidelity::FidelityArgs),
    /// List the settings of the allocators, with their defaults and where those come from.
    Policies(policies::PoliciesArgs),
    /// Search the locking protocols of the free path for deadlocks and corruption.
    #[cfg(feature = "locks")]
    Locks(locks::LocksArgs),
    /// Write a recording and the results of its replay as Parquet.
    #[cfg(feature = "analysis")]
    Export(export::ExportArgs),
    /// Draw a recording and its replay as pictures.
    #[cfg(feature = "analysis")]
    Plot(plot::PlotArgs),
    /// Write one page about a recording: verdict, figures, tables, method and limits.
    #[cfg(feature = "analysis")]
    Report(report::ReportArgs),
    /// Say whether one comparison is worse than another; fails if it is.
    Diff(diff::DiffArgs),
    /// Replay recordings with many settings: a grid, or patches off one at a time.
    Sweep(sweep::SweepArgs),
    /// Make a trace of exported tables, or of text that perf or ftrace printed.
    Import(import::ImportArgs),
    /// Make a trace of a machine and a load that do not exist.
    Synth(synth::SynthArgs),
    /// Measure how fast the parts of a replay are here.
    Bench(bench::BenchArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff).
    Man,
}

/// Whose placement to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PolicyArg {
    /// What the kernel did.
    Kernel,
    /// What the stock allocator would do.
    Stock,
    /// What the superpageblock allocator would do.
    Spb,
}

impl From<PolicyArg> for TrackKind {
    fn from(policy: PolicyArg) -> TrackKind {
        match policy {
            PolicyArg::Kernel => TrackKind::Kernel,
            PolicyArg::Stock => TrackKind::Stock,
            PolicyArg::Spb => TrackKind::Spb,
        }
    }
}

/// What to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StartArg {
    /// Each page where the kernel had it.
    AsFound,
    /// All pages placed by the policy, through a seeded history.
    FromBoot,
    /// Only the pages that were there, placed on an empty machine: a bound.
    FromBootIdeal,
}

impl From<StartArg> for StartState {
    fn from(start: StartArg) -> StartState {
        match start {
            StartArg::AsFound => StartState::AsFound,
            StartArg::FromBoot => StartState::FromBoot,
            StartArg::FromBootIdeal => StartState::FromBootIdeal,
        }
    }
}

/// Where the trace is.
#[derive(Debug, clap::Args)]
struct TraceArg {
    /// The recording; `-` reads standard input.
    #[arg(value_name = "FILE")]
    trace: PathBuf,
}

/// Settings of the allocators.
#[derive(Debug, clap::Args)]
struct SettingsArgs {
    /// Change a setting; `fragscope-replay policies` lists them.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Switch patches of the series off, for example p21,p27.
    #[arg(long, value_name = "PATCH", value_delimiter = ',')]
    disable: Vec<String>,
}

impl SettingsArgs {
    /// The settings that are meant.
    fn resolve(&self) -> Result<Settings> {
        let mut settings = Settings::default();
        for assignment in &self.set {
            let (name, value) = assignment
                .split_once('=')
                .ok_or_else(|| usage(format!("--set {assignment}: expected NAME=VALUE")))?;
            settings.set(name.trim(), value.trim()).map_err(|error| usage(error.to_string()))?;
        }
        for name in &self.disable {
            settings.set(name, "off").map_err(|error| usage(error.to_string()))?;
        }
        Ok(settings)
    }
}

/// What was typed makes no sense: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Info(args) => info::info(&args),
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Fidelity(args) => fidelity::fidelity(&args),
        Command::Policies(args) => policies::policies(&args),
        #[cfg(feature = "locks")]
        Command::Locks(args) => locks::locks(&args),
        #[cfg(feature = "analysis")]
        Command::Export(args) => export::run(&args),
        #[cfg(feature = "analysis")]
        Command::Plot(args) => plot::run(&args),
        #[cfg(feature = "analysis")]
        Command::Report(args) => report::run(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Import(args) => import::run(&args),
        Command::Synth(args) => synth::synth(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Completions { shell } => about::completions(shell),
        Command::Man => about::manual(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fragscope-replay: {}", causes::in_one_line(error.as_ref()));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}
