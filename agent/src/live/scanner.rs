//! Snapshots on a thread of their own, so that nothing has to wait for one.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use fragscope_trace::snapshot::{Snapshot, SnapshotRole};

/// Takes one snapshot within the time given, or says why not.
pub type TakeSnapshot =
    Box<dyn FnMut(SnapshotRole, Instant) -> Result<Snapshot, String> + Send + 'static>;

/// A request's number and the answer to it.
pub(super) type Answer = (u64, Result<Snapshot, String>);

/// The thread's other side. Dropping it lets the thread end after the snapshot at hand.
pub(super) struct Scanner {
    requests: Sender<(u64, SnapshotRole, Instant)>,
    answers: Receiver<Answer>,
    asked: u64,
}

impl Scanner {
    /// Starts the thread.
    pub(super) fn start(mut take: TakeSnapshot) -> std::io::Result<Scanner> {
        let (requests, asked) = unbounded::<(u64, SnapshotRole, Instant)>();
        let (told, answers) = unbounded();
        std::thread::Builder::new().name("scanner".to_owned()).spawn(move || {
            for (number, role, deadline) in asked {
                if told.send((number, take(role, deadline))).is_err() {
                    return;
                }
            }
        })?;
        Ok(Scanner { requests, answers, asked: 0 })
    }

    /// Asks for a snapshot; gives the number that its answer will bear.
    pub(super) fn request(&mut self, role: SnapshotRole, deadline: Instant) -> u64 {
        self.asked += 1;
        // A thread that has died leaves the answers' channel closed, which its reader sees.
        let _ = self.requests.send((self.asked, role, deadline));
        self.asked
    }

    /// Where answers come, also those to requests that nobody waits for any more.
    pub(super) fn answers(&self) -> &Receiver<Answer> {
        &self.answers
    }
}
