//! The recorded command.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, bounded};
use fragscope_agent::privileges::{Sandbox, spawn};
use rustix::process::{Pid, Signal, kill_process};

use crate::signals::Asked;

/// A running command.
#[derive(Debug)]
pub(super) struct Child {
    pid: Option<Pid>,
    exited: Receiver<i32>,
    status: Option<i32>,
}

impl Child {
    /// Starts `command` in this program's process group, with its standard output on standard
    /// error if `stdout_is_ours`. Signals are at their defaults in it. The thread that waits for it
    /// is inside `sandbox`; the command is not.
    pub(super) fn start(
        command: &[OsString],
        stdout_is_ours: bool,
        sandbox: Option<&Arc<Sandbox>>,
    ) -> Result<Child> {
        let (program, arguments) = command.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(arguments);
        if stdout_is_ours {
            command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        }
        let name = program.to_string_lossy();
        let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
        let pid = Pid::from_raw(child.id() as i32);
        let (tx, exited) = bounded(1);
        spawn("waiter", None, sandbox, move || {
            let status = child.wait().map_or(1, shell_status);
            // Nobody listens when this program is ending.
            let _ = tx.send(status);
        })?;
        Ok(Child { pid, exited, status: None })
    }

    /// Tells the status once, as a shell would report it.
    pub(super) fn exited(&self) -> &Receiver<i32> {
        &self.exited
    }

    /// Keeps the status.
    pub(super) fn note_exit(&mut self, status: i32) {
        self.status = Some(status);
    }

    /// The status, if it has ended.
    pub(super) fn status(&self) -> Option<i32> {
        self.status
    }

    /// Passes a signal on that a process sent to this program alone. What comes from the terminal
    /// reached the command already.
    pub(super) fn pass_on(&self, asked: Asked) {
        let (Some(pid), None) = (self.pid, self.status) else { return };
        if !asked.by_process {
            return;
        }
        let signal = if asked.is_interrupt() { Signal::INT } else { Signal::TERM };
        if let Err(error) = kill_process(pid, signal) {
            log::debug!("the command was not signalled: {error}");
        }
    }
}

/// 128 + signal for a command that was killed.
fn shell_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1)
}
