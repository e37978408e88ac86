//! From a worker to the screen, without ever stalling a live host's events.

use std::collections::VecDeque;

use fragscope_replay::observe::BlockChanges;
use fragscope_trace::event::TimeNs;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::state::HostId;
use crate::state::blocks::join;
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
            self.join_blocks();
        }
        self.waiting.push_back(update);
        self.flush()
    }

    /// Makes one of all changes of pageblocks that wait: none may be skipped.
    fn join_blocks(&mut self) {
        let mut joined: Option<(TimeNs, Vec<BlockChanges>)> = None;
        self.waiting.retain_mut(|update| {
            let Update::Blocks(time_ns, changes) = update else {
                return true;
            };
            let (to_ns, all) = joined.get_or_insert_default();
            *to_ns = *time_ns;
            join(all, std::mem::take(changes));
            false
        });
        let update = joined.map(|(time_ns, changes)| Update::Blocks(time_ns, changes));
        self.waiting.extend(update);
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
    use std::collections::BTreeSet;

    use fragscope_replay::observe::{BlockCensus, FreeBlocks, StartState, TrackKind};
    use fragscope_trace::page::Content;

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

    #[test]
    fn what_waits_stays_bounded_and_no_pageblock_is_forgotten() {
        let (channel, mut screen) = tokio::sync::mpsc::channel(1);
        let mut outbox = Outbox::new(HostId(0), channel, false);
        let census = BlockCensus::new(None, [(Content::Free, 1)], FreeBlocks::default());
        for i in 0..5000 {
            let (kind, start) = (TrackKind::Spb, StartState::AsFound);
            let changes = BlockChanges { kind, start, blocks: vec![(i % 700, census)] };
            outbox.send(Update::Blocks(i.into(), vec![changes])).expect("the screen listens");
            assert!(outbox.waiting.len() <= WAITING_MAX + 1);
        }
        let mut seen = BTreeSet::new();
        while let Ok((_, Update::Blocks(_, changes))) = screen.try_recv() {
            seen.extend(changes.iter().flat_map(|c| &c.blocks).map(|(block, _)| *block));
            outbox.flush().expect("the screen listens");
        }
        assert_eq!(seen.len(), 700);
    }
}
