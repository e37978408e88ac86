//! The front door of fragscope and its dashboard.
//!
//! * [`cli`]: the command line; [`config`]: the configuration file; [`launch`]: what is opened;
//! * [`conn`]: where traces come from, and how a connection says what it does;
//! * [`engine`]: the replay of each host, on threads of its own;
//! * [`state`]: pure data; takes news, actions and the time;
//! * [`input`]: from keys to actions, as data;
//! * [`view`]: draws the state; [`export`]: screens as files;
//! * [`app`], [`dashboard`]: the loop and the terminal ([`term`]) around it;
//! * [`headless`]: the same figures without a terminal; [`about`]: the program on itself;
//!   [`log`]: what happened, in a file.
//!
//! The screen computes no figure about memory: those come from the replay, defined in
//! [`fragscope_trace::region`].

pub mod about;
pub mod app;
pub mod cli;
pub mod config;
pub mod conn;
pub mod dashboard;
pub mod engine;
pub mod epoch;
pub mod export;
pub mod format;
pub mod headless;
pub mod input;
pub mod launch;
pub mod log;
pub mod signals;
pub mod state;
pub mod term;
pub mod view;

use std::io::{self, IsTerminal as _};

use anyhow::Result;

use app::Left;
use cli::Cli;
use config::Config;
use epoch::Epoch;

/// Runs the program; gives its exit status.
///
/// # Errors
/// If what was asked for can't be done.
pub fn run(cli: &Cli) -> Result<u8> {
    let epoch = Epoch::now();
    if let Some(command) = &cli.command {
        about::run(command)?;
        return Ok(0);
    }
    log::init(cli.log.as_deref())?;
    let mut config = Config::load(cli.config.as_deref())?;
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    config.theme.colour &= !no_colour;
    config.theme.ascii |= cli.ascii;
    if let Some(file) = &cli.svg {
        headless::picture(cli, file, &config, epoch)?;
        return Ok(0);
    }
    if cli.once || cli.json || !io::stdout().is_terminal() {
        headless::once(cli, epoch)?;
        return Ok(0);
    }
    Ok(match dashboard::run(cli, config, epoch)? {
        Left::Quit => 0,
        Left::Signal(signal) => 128 + signal.number() as u8,
    })
}
