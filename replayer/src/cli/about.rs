//! What the program prints about its own command line.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Args;

/// Prints completions for a shell.
pub(super) fn completions(shell: Shell) -> Result<()> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "fragscope-replay", &mut out);
    print(&out)
}

/// Prints the manual page.
pub(super) fn manual() -> Result<()> {
    let mut out = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut out)?;
    print(&out)
}

fn print(out: &[u8]) -> Result<()> {
    io::stdout().write_all(out).context("cannot write to standard output")
}
