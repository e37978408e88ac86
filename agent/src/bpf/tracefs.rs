//! Access to tracefs without changing the host.
//!
//! Where tracefs is not mounted, the work runs on a thread with a mount namespace of its own, in
//! which it is. File descriptors opened there stay valid afterwards.

#![expect(unsafe_code, reason = "unsharing the mount namespace of a thread")]

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use thiserror::Error;

/// Where tracefs belongs, and where old systems have it.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why tracefs can't be used.
#[derive(Debug, Error)]
pub enum TracefsError {
    /// The kernel has none.
    #[error("this kernel has no tracefs ({} does not exist)", PLACES[0])]
    Missing,
    /// It is not mounted and can't be.
    #[error("tracefs is not mounted, and mounting it privately failed: {0}")]
    Mount(#[source] io::Error),
}

/// Runs `work` with the path of a mounted tracefs.
///
/// # Errors
/// [`TracefsError`] if there is none and none can be mounted; `work` did not run then.
pub fn with_tracefs<T: Send>(work: impl FnOnce(&Path) -> T + Send) -> Result<T, TracefsError> {
    if let Some(place) = PLACES.iter().find(|p| is_mounted(p)) {
        return Ok(work(Path::new(place)));
    }
    if !Path::new(PLACES[0]).exists() {
        return Err(TracefsError::Missing);
    }
    let on_thread = || {
        mount_privately().map_err(TracefsError::Mount)?;
        Ok(work(Path::new(PLACES[0])))
    };
    std::thread::scope(|scope| match scope.spawn(on_thread).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Whether tracefs is mounted where this process can see it.
#[must_use]
pub fn is_mounted_anywhere() -> bool {
    PLACES.iter().any(|p| is_mounted(p))
}

fn is_mounted(place: &str) -> bool {
    Path::new(place).join("events").is_dir()
}

fn mount_privately() -> io::Result<()> {
    // SAFETY: only the mount namespace (and the working directory) of this short-lived thread is
    // unshared, not the table of file descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tracefs", PLACES[0], "tracefs", MountFlags::RDONLY, None)?;
    Ok(())
}
