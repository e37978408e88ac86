//! One client: a bounded queue of encoded frames and a thread that writes them.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::connection::{Connection, HangUp};

/// Bytes that may wait for a client.
pub(super) const QUEUE_BYTES: usize = 32 << 20;

/// Encoded frames, shared by all clients.
pub(super) type Frames = Arc<[u8]>;

/// Why a client got no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMore {
    /// Its queue is full, or it took nothing for too long.
    Slow,
    /// It has gone.
    Gone,
}

/// The hub's side of a client. Dropping it lets the thread write what is queued, and hang up.
#[derive(Debug)]
pub(super) struct Client {
    queue: Sender<Frames>,
    queued: Arc<AtomicUsize>,
    /// Whether it was given up because it took nothing.
    is_stalled: Arc<AtomicBool>,
    socket: HangUp,
    peer: String,
}

impl Client {
    /// Starts the writing thread. `done` is dropped when it ends.
    pub(super) fn start(connection: Connection, done: Sender<()>) -> std::io::Result<Client> {
        let (queue, frames) = unbounded();
        let queued = Arc::new(AtomicUsize::new(0));
        let peer = connection.peer().to_owned();
        let socket = connection.hang_up()?;
        let is_stalled = Arc::new(AtomicBool::new(false));
        let (of_thread, stalled) = (Arc::clone(&queued), Arc::clone(&is_stalled));
        let client = Client { queue, queued, is_stalled, socket, peer };
        std::thread::Builder::new().name("client".to_owned()).spawn(move || {
            let result = write(connection, &frames, &of_thread);
            // How a write ends that took longer than it may.
            let is_timeout = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
            stalled.store(result.is_err_and(|error| is_timeout(&error)), Ordering::Release);
            drop(frames);
            // What is left in the queue will never be written: the client is gone, not slow.
            of_thread.store(0, Ordering::Release);
            drop(done);
        })?;
        Ok(client)
    }

    /// Queues frames, if there is room for them.
    pub(super) fn send(&self, frames: &Frames) -> Result<(), NoMore> {
        let queued = self.queued.load(Ordering::Acquire);
        // A snapshot of a large host may exceed the bound by itself: one thing always fits.
        if queued > 0 && queued + frames.len() > QUEUE_BYTES {
            return Err(NoMore::Slow);
        }
        self.queued.fetch_add(frames.len(), Ordering::AcqRel);
        self.queue.send(Arc::clone(frames)).map_err(|_| {
            let is_stalled = self.is_stalled.load(Ordering::Acquire);
            if is_stalled { NoMore::Slow } else { NoMore::Gone }
        })
    }

    /// Ends the connection now, also if its thread is stuck in a write.
    pub(super) fn hang_up(&self) {
        self.socket.now();
    }

    /// Who it is, for people.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }
}

/// Writes until the hub or the other end hangs up, or nothing is taken for too long.
fn write(
    mut connection: Connection,
    frames: &Receiver<Frames>,
    queued: &AtomicUsize,
) -> io::Result<()> {
    for part in frames {
        connection.write_all(&part)?;
        connection.flush()?;
        queued.fetch_sub(part.len(), Ordering::AcqRel);
    }
    connection.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_that_does_not_read_is_slow_and_one_that_left_is_gone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (done, ended) = crossbeam_channel::bounded(0);
        let connection = Connection::unix(ours, "test".to_owned()).unwrap();
        let client = Client::start(connection, done).unwrap();
        let part: Frames = vec![7; QUEUE_BYTES / 4].into();
        let sent = (0..10).take_while(|_| client.send(&part).is_ok()).count();
        assert_eq!(sent, 4);
        assert_eq!(client.send(&part), Err(NoMore::Slow));
        let mut some = [0; 100];
        theirs.read_exact(&mut some).unwrap();
        assert_eq!(some, [7; 100]);
        drop(theirs);
        // The writing thread notices, and its queue is closed.
        assert!(ended.recv().is_err());
        assert_eq!(client.send(&vec![1].into()), Err(NoMore::Gone));
    }

    #[test]
    fn a_client_that_takes_nothing_for_too_long_is_slow_however_little_waits() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let connection = Connection::unix(ours, "test".to_owned()).unwrap();
        connection.give_up_after(std::time::Duration::from_millis(10)).unwrap();
        let (done, ended) = crossbeam_channel::bounded(0);
        let client = Client::start(connection, done).unwrap();
        // More than a socket holds, and less than may wait.
        client.send(&vec![7; QUEUE_BYTES / 2].into()).unwrap();
        assert!(ended.recv().is_err());
        assert_eq!(client.send(&vec![1].into()), Err(NoMore::Slow));
    }
}
