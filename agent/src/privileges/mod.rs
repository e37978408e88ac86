//! What this program may do once it is set up: read what it was opened for, and little else.
//!
//! Rights belong to threads. Each thread that works after the set-up enters the [`Sandbox`] before
//! it begins, and whatever it starts is inside, too. The thread that starts a recorded command stays
//! outside until it has, so that the command runs as it was asked for.
//!
//! | what | afterwards | how later steps do without |
//! |---|---|---|
//! | capabilities | none ([`capabilities`]) | programs and maps are loaded, descriptors stay open |
//! | `/proc/kpageflags`, `pagetypeinfo`, `iomem`, `kallsyms` | kept open ([`held`]) | read through the descriptors, whose opener had the rights |
//! | other files | `/proc` and `/sys` may be read, by Landlock ([`files`]) | counters, CPUs, names of cgroups |
//! | the trace's folder | only if files are rotated there | |
//! | system calls | those of reading, writing and threads, by seccomp ([`syscalls`]) | |
//! | priority | may still be raised: the limit is, before the capability goes | |
//! | new privileges | none (`no_new_privs`) | |

pub mod capabilities;
pub mod files;
pub mod held;
pub mod syscalls;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::bounded;
use landlock::{RestrictSelfError, RulesetError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use self::files::Files;
use self::syscalls::Filter;
use crate::priority;

/// `RLIMIT_NICE` of a process that may take any priority: 20 - nice.
const ANY_PRIORITY: u64 = 40;

/// What a program needs beyond reading `/proc` and `/sys`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files, or folders with all below, that are read again: certificates, configuration.
    pub read: Vec<PathBuf>,
    /// Folders in which files are made, renamed and removed: of rotated traces.
    pub write_in: Vec<PathBuf>,
    /// Folders from which a socket's name is removed in the end.
    pub remove_in: Vec<PathBuf>,
    /// Whether other processes (the recorded command) are signalled.
    pub signals: bool,
}

/// Why a thread is not confined.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A file that must stay usable can't be opened.
    #[error("{path}: {source}", path = path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: landlock::PathFdError,
    },
    /// Landlock refuses.
    #[error("files can't be confined: {0}")]
    Files(#[from] RulesetError),
    /// A descriptor can't be had.
    #[error("files can't be confined: {0}")]
    Descriptor(io::Error),
    /// The kernel has no filter of system calls, or refuses this one.
    #[error("system calls can't be confined: {0}")]
    Syscalls(#[from] seccompiler::Error),
    /// The filter can't be made.
    #[error("system calls can't be confined: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// Capabilities stay.
    #[error("capabilities can't be given up: {0}")]
    Capabilities(io::Error),
    /// No thread to try it.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl From<RestrictSelfError> for SandboxError {
    fn from(error: RestrictSelfError) -> SandboxError {
        SandboxError::Files(error.into())
    }
}

/// What holds inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined {
    /// Names of the capabilities that are left.
    pub capabilities: Vec<&'static str>,
    /// Whether Landlock confines files; kernels before 5.13 have none.
    pub files: bool,
}

impl std::fmt::Display for Confined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.capabilities.as_slice() {
            [] => f.write_str("no capabilities")?,
            left => write!(f, "only {}", left.join(" and "))?,
        }
        f.write_str(", no new privileges, system calls filtered")?;
        f.write_str(if self.files {
            ", files confined"
        } else {
            ", files not confined (this kernel has no Landlock)"
        })
    }
}

/// The confinement of one program, for any number of its threads.
#[derive(Debug)]
pub struct Sandbox {
    files: Files,
    filter: Filter,
}

impl Sandbox {
    /// Prepares a sandbox, and tries it on a thread that is good for nothing else. Files that take
    /// rights are opened here ([`held`]).
    ///
    /// # Errors
    /// [`SandboxError`] if a thread could not be confined.
    pub fn prepare(needs: &Needs) -> Result<(Arc<Sandbox>, Confined), SandboxError> {
        held::hold();
        let sandbox = Sandbox { files: Files::new(needs)?, filter: Filter::new(needs)? };
        let sandbox = Arc::new(sandbox);
        let tried = Arc::clone(&sandbox);
        let confined = std::thread::spawn(move || tried.enter()).join();
        let confined = confined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((sandbox, confined))
    }

    /// Confines the calling thread, and all that it starts, for good.
    ///
    /// # Errors
    /// [`SandboxError`]; the thread is then confined in part.
    pub fn enter(&self) -> Result<Confined, SandboxError> {
        capabilities::forget_inheritable();
        let files = self.files.enter()?;
        let capabilities = capabilities::give_up().map_err(SandboxError::Capabilities)?;
        self.filter.enter()?;
        Ok(Confined { capabilities, files })
    }
}

/// Lets all threads raise their priority later, without a capability. Processes started afterwards
/// inherit that.
pub fn keep_priority() {
    let limit = Rlimit { current: Some(ANY_PRIORITY), maximum: Some(ANY_PRIORITY) };
    let has = getrlimit(Resource::Nice).current.is_none_or(|limit| limit >= ANY_PRIORITY);
    if let (false, Err(error)) = (has, setrlimit(Resource::Nice, limit)) {
        log::debug!("priorities can't be raised later: {error}");
    }
}

/// Starts a thread with priority `nice` (if it may) inside `sandbox` (if there is one).
///
/// # Errors
/// If there is no thread, or it can't be confined; `work` does not begin then.
pub fn spawn<T: Send + 'static>(
    name: &str,
    nice: Option<i32>,
    sandbox: Option<&Arc<Sandbox>>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<Option<T>>> {
    let sandbox = sandbox.cloned();
    let (entered_tx, entered) = bounded(1);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(nice) = nice {
            priority::raise_this_thread(nice);
        }
        let result = sandbox.map_or(Ok(()), |sandbox| sandbox.enter().map(drop));
        let is_inside = result.is_ok();
        // The starting thread waits for this.
        let _ = entered_tx.send(result);
        is_inside.then(work)
    })?;
    match entered.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(_) => Err(io::Error::other("a thread ended before it began")),
    }
}
