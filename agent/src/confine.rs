//! Confinement of this program: prepared before tracing begins, entered when all is set up.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use fragscope_agent::live::cgroups;
use fragscope_agent::privileges::{Needs, Sandbox, keep_priority};

/// Prepares the sandbox, unless it is switched `off`. Names of cgroups are read in any case.
///
/// # Errors
/// If threads can't be confined; `--no-sandbox` does without.
pub(crate) fn prepare(off: bool, mut needs: Needs) -> Result<Option<Arc<Sandbox>>> {
    if off {
        log::warn!("this program keeps all its rights: there is no sandbox");
        return Ok(None);
    }
    needs.read.extend(cgroups::mount_of_host());
    let (sandbox, confined) =
        Sandbox::prepare(&needs).context("no sandbox (--no-sandbox does without)")?;
    log::info!("when tracing is set up: {confined}");
    Ok(Some(sandbox))
}

/// Confines the calling thread, too.
///
/// # Errors
/// If that fails, although it was tried before.
pub(crate) fn enter(sandbox: Option<&Arc<Sandbox>>) -> Result<()> {
    if let Some(sandbox) = sandbox {
        keep_priority();
        sandbox.enter()?;
    }
    Ok(())
}
