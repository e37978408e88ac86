//! What happened, in a file: connections, traces, failures, and what the agent says.
//!
//! The terminal is the dashboard's, so nothing is logged unless a file is named.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

/// Logs to a file from now on, if one is named. An existing file is continued.
///
/// # Errors
/// If the file can't be written.
pub fn init(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    format.with_writer(Mutex::new(file)).init();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "fragscope begins");
    Ok(())
}
