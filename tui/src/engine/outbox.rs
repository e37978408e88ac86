//! From a worker to the screen, without ever stalling a live host's events.

use std::collections::VecDeque;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::state::HostId;
use crate::state::host::Update;

/// News that may wait when the screen does not take them; live samples beyond are skipped.
const WAITING_MAX: usize = 256;

/// The screen has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Sends news of one host.
pub struct Outbox {
    host: HostId,
    channel: Sender<(HostId, Update)>,
    /// Whether the worker may wait for the screen: it may while it reads a recording.
    may_wait: bool,
    waiting: VecDeque<Update>,
}

impl Outbox {
    /// An outbox for a host's news.
    #[must_use]
    pub fn new(host: HostId, channel: Sender<(HostId, Update)>, may_wait: bool) -> Outbox {
        Outbox { host, channel, may_wait, waiting: VecDeque::new() }
    }

    /// Whose news it sends.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Sends news, in order.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub fn send(&mut self, update: Update) -> Result<(), Gone> {
        if self.may_wait {
            return self.channel.blocking_send((self.host, update)).map_err(|_| Gone);
        }
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.retain(|u| !matches!(u, Update::Sample(_)));
        }
        self.waiting.push_back(update);
        self.flush()
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub fn flush(&mut self) -> Result<(), Gone> {
        while let Some(update) = self.waiting.pop_front() {
            match self.channel.try_send((self.host, update)) {
                Ok(()) => {}
                Err(TrySendError::Full((_, update))) => {
                    self.waiting.push_front(update);
                    return Ok(());
                }
                Err(TrySendError::Closed(_)) => return Err(Gone),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_that_stands_still_does_not_stop_a_live_host() {
        let (channel, mut screen) = tokio::sync::mpsc::channel(2);
        let mut outbox = Outbox::new(HostId(0), channel, false);
        for i in 0..10 {
            assert_eq!(outbox.send(Update::Progress(f64::from(i))), Ok(()));
        }
        let mut seen = Vec::new();
        while let Ok((_, Update::Progress(p))) = screen.try_recv() {
            seen.push(p as u64);
            outbox.flush().expect("the screen listens");
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>(), "all of it, in order");
        drop(screen);
        assert_eq!(outbox.send(Update::Progress(0.0)), Err(Gone));
    }
}
