//! `fragscope-agent`: the command line of the agent.
//!
//! Exit status: 0 done, 1 failed, 2 wrong usage; with `record -- COMMAND` that of the command.

mod about;
mod cli;
mod config;
mod confine;
mod cost_cli;
mod doctor;
mod probe_cli;
mod record;
mod serve;
mod signals;
mod snapshot_cli;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use fragscope_trace::causes;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, LogFormat};

/// Exit status for arguments that are understood, but mean nothing.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log(cli.log_format);
    let result = match cli.command {
        Command::Record(args) => record::run(args),
        Command::Serve(_) => serve::run(&std::env::args_os().collect::<Vec<_>>()),
        Command::Snapshot(args) => snapshot_cli::run(&args),
        Command::Probe1g(args) => probe_cli::run(&args),
        Command::Cost(args) => cost_cli::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completions { shell } => about::completions(shell),
        Command::Man => about::manual(),
    };
    result.unwrap_or_else(|error| {
        if error.is::<clap::Error>() {
            eprint!("{error:#}");
            return ExitCode::from(WRONG_USAGE);
        }
        eprintln!("fragscope-agent: {}", causes::in_one_line(error.as_ref()));
        ExitCode::FAILURE
    })
}

/// Warnings to standard error; `RUST_LOG` chooses otherwise. What the BPF programs log comes the
/// same way.
fn init_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}
