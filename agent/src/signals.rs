//! Signals as values on a channel.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use fragscope_agent::priority;
use fragscope_agent::privileges::{Sandbox, spawn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};
use signal_hook::low_level::siginfo::Cause;

/// All signals that ask a program to end, but for SIGKILL.
pub(crate) const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// A signal that asks this program to end, or, where it hangs on no terminal, to read its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its number, one of [`ENDING`].
    pub(crate) signal: i32,
    /// Whether a process sent it to this one; the terminal sends it to the whole group.
    pub(crate) by_process: bool,
}

impl Asked {
    /// Whether the terminal has gone, or a service is to read its settings again.
    #[must_use]
    pub(crate) fn is_hang_up(self) -> bool {
        self.signal == SIGHUP
    }

    /// Whether the program may take its time.
    #[must_use]
    pub(crate) fn is_interrupt(self) -> bool {
        self.signal == SIGINT
    }
}

/// Catches the signals from now on. With the first one the main thread, which is to act on it,
/// gets priority. The thread that waits for them is inside `sandbox`.
///
/// # Errors
/// If no handler or thread can be made.
pub(crate) fn catch(sandbox: Option<&Arc<Sandbox>>) -> io::Result<Receiver<Asked>> {
    let mut signals = SignalsInfo::<WithOrigin>::new(ENDING)?;
    let (tx, rx) = unbounded();
    spawn("signals", Some(priority::HIGHEST), sandbox, move || {
        for origin in signals.forever() {
            priority::raise_main_thread(priority::HIGHEST);
            if tx.send(asked(&origin)).is_err() {
                return;
            }
        }
    })?;
    Ok(rx)
}

fn asked(origin: &Origin) -> Asked {
    Asked { signal: origin.signal, by_process: matches!(origin.cause, Cause::Sent(_)) }
}
