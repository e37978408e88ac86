//! Who came, who was let in, and who was not: counts that the log and the metrics share.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why somebody is no client, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A process of a user or group that is not allowed.
    Caller,
    /// No certificate, a bad one, or no TLS at all; or too slow in showing it.
    Handshake,
    /// There are as many clients, or handshakes, as there may be.
    Full,
    /// Too slow, after it was let in.
    Slow,
}

impl Refusal {
    /// All of them.
    pub(crate) const ALL: [Refusal; 4] =
        [Refusal::Caller, Refusal::Handshake, Refusal::Full, Refusal::Slow];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Refusal::Caller => "caller",
            Refusal::Handshake => "handshake",
            Refusal::Full => "full",
            Refusal::Slow => "slow",
        }
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Census {
    connected: AtomicU64,
    admitted: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Census {
    /// One more client.
    pub(super) fn admit(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are connected now.
    pub(super) fn set_connected(&self, clients: usize) {
        self.connected.store(clients as u64, Ordering::Relaxed);
    }

    /// One that is not, or no longer, served. Warned of ever more seldom, so that nobody can fill
    /// the log from outside.
    pub(super) fn refuse(&self, why: Refusal, peer: &str, detail: &str) {
        let so_far = self.refused[why as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let name = why.name();
        if so_far.is_power_of_two() {
            log::warn!("{peer} is not served ({name}): {detail}; {so_far} so far");
        } else {
            log::debug!("{peer} is not served ({name}): {detail}");
        }
    }

    /// Clients let in so far.
    pub(crate) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Clients connected now.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many were not served for this reason.
    pub(crate) fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }
}
