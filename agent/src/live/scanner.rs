//! Looks at the host's memory on a thread of their own, so that nothing has to wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use fragscope_trace::page::PfnRange;
use fragscope_trace::snapshot::{Snapshot, SnapshotRole};

use super::tick::thread_cpu_ns;
use crate::privileges::{Sandbox, spawn};
use crate::snapshot::Limits;

/// Looks at the host's memory, one look at a time.
pub trait HostScanner: Send {
    /// Takes one snapshot within `limits`.
    ///
    /// # Errors
    /// Why there is none.
    fn take(&mut self, role: SnapshotRole, limits: &Limits) -> Result<Snapshot, String>;

    /// Frames that got memory since the last snapshot, or since this was asked last.
    ///
    /// # Errors
    /// Why that is not known.
    fn grown(&mut self) -> Result<Vec<PfnRange>, String>;
}

/// A scanner of whatever source.
pub type TakeSnapshot = Box<dyn HostScanner>;

/// What the thread is asked.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// For a snapshot within these limits.
    Snapshot(SnapshotRole, Limits),
    /// For new memory.
    Growth,
}

/// What was seen.
pub(super) enum Seen {
    Snapshot(Box<Snapshot>),
    Grown(Vec<PfnRange>),
}

/// A request's number and the answer to it.
pub(super) type Answer = (u64, Result<Seen, String>);

/// The thread's other side. Dropping it lets the thread end after the look at hand.
pub(super) struct Scanner {
    requests: Sender<(u64, Look)>,
    answers: Receiver<Answer>,
    asked: u64,
    cpu_ns: Arc<AtomicU64>,
}

impl Scanner {
    /// Starts the thread.
    pub(super) fn start(
        mut host: TakeSnapshot,
        sandbox: Option<&Arc<Sandbox>>,
    ) -> std::io::Result<Scanner> {
        let (requests, asked) = unbounded::<(u64, Look)>();
        let (told, answers) = unbounded();
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let spent = Arc::clone(&cpu_ns);
        spawn("scanner", None, sandbox, move || {
            for (number, look) in asked {
                let seen = match look {
                    Look::Snapshot(role, limits) => {
                        host.take(role, &limits).map(|taken| Seen::Snapshot(Box::new(taken)))
                    }
                    Look::Growth => host.grown().map(Seen::Grown),
                };
                spent.store(thread_cpu_ns(), Ordering::Relaxed);
                if told.send((number, seen)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Scanner { requests, answers, asked: 0, cpu_ns })
    }

    /// CPU time that looks have taken so far.
    pub(super) fn cpu_ns(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.cpu_ns)
    }

    /// Asks for a look; gives the number that its answer will bear.
    pub(super) fn request(&mut self, look: Look) -> u64 {
        self.asked += 1;
        // A thread that has died leaves the answers' channel closed, which its reader sees.
        let _ = self.requests.send((self.asked, look));
        self.asked
    }

    /// Where answers come, also those to requests that nobody waits for any more.
    pub(super) fn answers(&self) -> &Receiver<Answer> {
        &self.answers
    }
}
