//! What the program prints about itself: its configuration, completions, manual page.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::cli::{Cli, Command};
use crate::config::{self, Config};

/// Does a subcommand.
///
/// # Errors
/// If the configuration is not understood, or nothing can be printed.
pub fn run(command: &Command) -> Result<()> {
    let mut out = Vec::new();
    match command {
        Command::Config { default: true, .. } => out.extend(config::default_text().into_bytes()),
        Command::Config { default: false, file } => {
            Config::load(file.as_deref())?;
            out.extend(b"the configuration is understood\n");
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "fragscope", &mut out);
        }
        Command::Man => clap_mangen::Man::new(Cli::command()).render(&mut out)?,
    }
    io::stdout().write_all(&out).context("cannot write to standard output")
}
