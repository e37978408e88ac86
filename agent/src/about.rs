//! What the program prints about its own command line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints completions for a shell.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fragscope-agent", &mut out);
    print(&out)
}

/// Prints the manual page.
pub(crate) fn manual() -> Result<ExitCode> {
    let mut out = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut out)?;
    print(&out)
}

fn print(out: &[u8]) -> Result<ExitCode> {
    io::stdout().write_all(out).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
