//! A remote agent behind a socket. Reconnects for as long as the program runs.

use std::io::{self, BufReader};
use std::time::Duration;

use fragscope_trace::event::EventBatch;
use fragscope_trace::frame::Frame;
use fragscope_trace::reader::{ReadError, TraceReader};

use super::address::Address;
use super::phase::Phase;
use super::source::{Arrival, Source};
use super::wire::{Identity, Wire};
use crate::epoch::Epoch;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// The first wait before another attempt; doubled after each failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// An agent must accept, and then send its header, each within this time.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// How long one read may block, so that waiting can be given up.
const READ_MAX: Duration = Duration::from_millis(250);
/// A connected agent that says nothing for so long is gone: it reports its cost every second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

type Reader = TraceReader<BufReader<Wire>>;

enum Link {
    /// Not wanted any more.
    Closed,
    /// To be tried at this time since the program began.
    Down { retry_at: Duration },
    /// Connected; the last frame came at `heard`.
    Up { reader: Box<Reader>, heard: Duration },
}

/// The connection.
pub struct Socket {
    address: Address,
    identity: Option<Identity>,
    epoch: Epoch,
    link: Link,
    /// When it broke, or the program began.
    down_since: Duration,
    wait: Duration,
}

impl Socket {
    /// A connection that is opened with the first [`Source::next`]. Over the network it takes an
    /// `identity` to show.
    #[must_use]
    pub fn new(address: Address, identity: Option<Identity>, epoch: Epoch) -> Socket {
        let link = Link::Down { retry_at: Duration::ZERO };
        Socket { address, identity, epoch, link, down_since: epoch.elapsed(), wait: RETRY_MIN }
    }

    fn connect(&self) -> Result<Reader, String> {
        let named = |e: io::Error| format!("{}: {e}", self.address);
        let identity = self.identity.as_ref();
        let wire = Wire::connect(&self.address, identity, GREETING_MAX).map_err(named)?;
        let timeout = wire.read_timeout().map_err(named)?;
        let input = BufReader::with_capacity(BUFFER_BYTES, wire);
        let reader = TraceReader::new(input).map_err(|e| format!("{}: {e}", self.address))?;
        timeout.set(READ_MAX).map_err(named)?;
        Ok(reader)
    }

    /// Tries to connect when it is time; the header is the first frame.
    fn retry(&mut self, retry_at: Duration, patience: Duration) -> Arrival {
        let left = retry_at.saturating_sub(self.epoch.elapsed());
        if !left.is_zero() {
            std::thread::sleep(left.min(patience));
            return Arrival::Nothing;
        }
        match self.connect() {
            Ok(reader) => {
                let header = Box::new(reader.header().clone());
                self.wait = RETRY_MIN;
                let heard = self.epoch.elapsed();
                self.link = Link::Up { reader: Box::new(reader), heard };
                Arrival::Frame(Frame::Header(header))
            }
            Err(why) => self.lost(why),
        }
    }

    fn lost(&mut self, why: String) -> Arrival {
        let now = self.epoch.elapsed();
        if matches!(self.link, Link::Up { .. }) {
            self.down_since = now;
        }
        let retry_at = now + self.wait;
        self.wait = (self.wait * 2).min(RETRY_MAX);
        self.link = Link::Down { retry_at };
        Arrival::Phase(Phase::Lost { since: self.down_since, retry_at, why })
    }
}

/// Whether a read only took too long; it can be tried again.
fn is_timeout(error: &ReadError) -> bool {
    let ReadError::Io { source, .. } = error else {
        return false;
    };
    matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Source for Socket {
    fn next(&mut self, patience: Duration) -> Arrival {
        let now = self.epoch.elapsed();
        let (reader, heard) = match &mut self.link {
            Link::Down { retry_at } => {
                let retry_at = *retry_at;
                return self.retry(retry_at, patience);
            }
            Link::Closed => return Arrival::Over(None),
            Link::Up { reader, heard } => (reader, heard),
        };
        match reader.next_frame() {
            Ok(Some(frame)) => {
                *heard = now;
                Arrival::Frame(frame)
            }
            Ok(None) => {
                let cut = reader.truncated().map(|t| t.what.clone());
                self.lost(cut.unwrap_or_else(|| "the agent has ended".to_owned()))
            }
            Err(error) if is_timeout(&error) && now.saturating_sub(*heard) < SILENCE_MAX => {
                Arrival::Nothing
            }
            Err(error) if is_timeout(&error) => {
                self.lost(format!("silent for {} s", SILENCE_MAX.as_secs()))
            }
            Err(error) => self.lost(error.to_string()),
        }
    }

    fn stop(&mut self) {
        self.link = Link::Closed;
    }

    fn recycle(&mut self, batch: EventBatch) {
        if let Link::Up { reader, .. } = &mut self.link {
            reader.recycle(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_is_retried_ever_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let address = Address::Unix(dir.path().join("none.sock"));
        let mut socket = Socket::new(address, None, Epoch::now());
        let Arrival::Phase(Phase::Lost { retry_at, why, .. }) = socket.next(Duration::ZERO) else {
            panic!("nothing listens there");
        };
        assert!(why.contains("none.sock"), "{why}");
        assert!(retry_at >= RETRY_MIN);
        assert!(matches!(socket.next(Duration::ZERO), Arrival::Nothing), "not before its time");
        assert_eq!(socket.wait, RETRY_MIN * 2);
    }
}
