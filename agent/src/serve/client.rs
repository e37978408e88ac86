//! One client: a bounded queue of encoded frames and a thread that writes them.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Bytes that may wait for a client.
pub(super) const QUEUE_BYTES: usize = 32 << 20;

/// Encoded frames, shared by all clients.
pub(super) type Frames = Arc<[u8]>;

/// Why a client got no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its queue is full.
    Slow,
    /// It has gone.
    Gone,
}

/// The hub's side of a client. Dropping it lets the thread write what is queued, and hang up.
#[derive(Debug)]
pub(super) struct Client {
    queue: Sender<Frames>,
    queued: Arc<AtomicUsize>,
    stream: UnixStream,
}

impl Client {
    /// Starts the writing thread. `done` is dropped when it ends.
    pub(super) fn start(stream: UnixStream, done: Sender<()>) -> std::io::Result<Client> {
        let (queue, frames) = unbounded();
        let queued = Arc::new(AtomicUsize::new(0));
        let client = Client { queue, queued: Arc::clone(&queued), stream: stream.try_clone()? };
        std::thread::Builder::new().name("client".to_owned()).spawn(move || {
            write(stream, &frames, &queued);
            drop(frames);
            // What is left in the queue will never be written: the client is gone, not slow.
            queued.store(0, Ordering::Release);
            drop(done);
        })?;
        Ok(client)
    }

    /// Queues frames, if there is room for them.
    pub(super) fn send(&self, frames: &Frames) -> Result<(), Refusal> {
        let queued = self.queued.load(Ordering::Acquire);
        // A snapshot of a large host may exceed the bound by itself: one thing always fits.
        if queued > 0 && queued + frames.len() > QUEUE_BYTES {
            return Err(Refusal::Slow);
        }
        self.queued.fetch_add(frames.len(), Ordering::AcqRel);
        self.queue.send(Arc::clone(frames)).map_err(|_| Refusal::Gone)
    }

    /// Ends the connection now, also if its thread is stuck in a write.
    pub(super) fn hang_up(&self) {
        // A connection that is closed already needs nothing.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Writes until the hub or the other end hangs up.
fn write(mut stream: UnixStream, frames: &Receiver<Frames>, queued: &AtomicUsize) {
    for part in frames {
        if stream.write_all(&part).is_err() {
            return;
        }
        queued.fetch_sub(part.len(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_client_that_does_not_read_is_slow_and_one_that_left_is_gone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (done, ended) = crossbeam_channel::bounded(0);
        let client = Client::start(ours, done).unwrap();
        let part: Frames = vec![7; QUEUE_BYTES / 4].into();
        let sent = (0..10).take_while(|_| client.send(&part).is_ok()).count();
        assert_eq!(sent, 4);
        assert_eq!(client.send(&part), Err(Refusal::Slow));
        let mut some = [0; 100];
        theirs.read_exact(&mut some).unwrap();
        assert_eq!(some, [7; 100]);
        drop(theirs);
        // The writing thread notices, and its queue is closed.
        assert!(ended.recv().is_err());
        assert_eq!(client.send(&vec![1].into()), Err(Refusal::Gone));
    }
}
