//! The bounded queue between the thread that drains the rings and the one that hands frames on.
//!
//! Bounded by events, not by batches. The draining side never waits: what finds no room is given
//! back to it and counted there. Emptied batches travel back, so that a steady stream allocates
//! nothing, and hence adds nothing of its own to the trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use fragscope_trace::event::EventBatch;

/// Empty batches kept for reuse.
const SPARE_BATCHES: usize = 16;

/// Makes a queue for `limit` events.
#[must_use]
pub fn queue<T>(limit: usize) -> (BatchSender<T>, BatchReceiver<T>, Recycler) {
    let (tx, rx) = unbounded();
    let (spare_tx, spare_rx) = bounded(SPARE_BATCHES);
    let queued = Arc::new(AtomicUsize::new(0));
    (
        BatchSender { tx, queued: queued.clone(), limit, spare: spare_rx },
        BatchReceiver { rx, queued },
        Recycler { spare: spare_tx },
    )
}

/// A batch, or the last word of the sender.
#[derive(Debug)]
pub enum Item<T> {
    /// Events.
    Batch(EventBatch),
    /// Nothing follows.
    Last(T),
}

/// The draining side.
#[derive(Debug)]
pub struct BatchSender<T> {
    tx: Sender<Item<T>>,
    queued: Arc<AtomicUsize>,
    limit: usize,
    spare: Receiver<EventBatch>,
}

impl<T> BatchSender<T> {
    /// Queues `batch`, or gives it back if it finds no room.
    ///
    /// # Errors
    /// The batch.
    pub fn try_send(&self, batch: EventBatch) -> Result<(), EventBatch> {
        let events = batch.len();
        // One sender only, so the sum cannot be overtaken between test and addition.
        if self.queued.load(Ordering::Acquire) + events > self.limit {
            return Err(batch);
        }
        self.queued.fetch_add(events, Ordering::AcqRel);
        self.tx.send(Item::Batch(batch)).map_err(|error| match error.0 {
            Item::Batch(batch) => batch,
            Item::Last(_) => EventBatch::default(),
        })
    }

    /// Queues the last word; it always finds room.
    pub fn finish(self, last: T) {
        // Without a receiver nobody is left to care.
        let _ = self.tx.send(Item::Last(last));
    }

    /// An empty batch, with memory of its own if there is a spare one.
    #[must_use]
    pub fn empty_batch(&self) -> EventBatch {
        self.spare.try_recv().unwrap_or_default()
    }
}

/// The receiving side.
#[derive(Debug)]
pub struct BatchReceiver<T> {
    rx: Receiver<Item<T>>,
    queued: Arc<AtomicUsize>,
}

impl<T> BatchReceiver<T> {
    /// The channel itself, to wait on. Everything received must be passed to
    /// [`BatchReceiver::received`].
    #[must_use]
    pub fn channel(&self) -> &Receiver<Item<T>> {
        &self.rx
    }

    /// Makes room for as many events as `item` has.
    pub fn received(&self, item: &Item<T>) {
        if let Item::Batch(batch) = item {
            self.queued.fetch_sub(batch.len(), Ordering::AcqRel);
        }
    }
}

/// Takes emptied batches back. May be cloned and used from any thread.
#[derive(Clone, Debug)]
pub struct Recycler {
    spare: Sender<EventBatch>,
}

impl Recycler {
    /// Returns the memory of `batch` for another.
    pub fn recycle(&self, mut batch: EventBatch) {
        batch.clear();
        // With enough spare ones it is simply freed.
        let _ = self.spare.try_send(batch);
    }
}

#[cfg(test)]
mod tests {
    use fragscope_trace::event::PageEvent;
    use fragscope_trace::page::{CpuId, Pfn};

    use super::*;

    fn batch(events: usize) -> EventBatch {
        let page = PageEvent::free(1, CpuId(0), Pfn(1), 0);
        EventBatch { pages: vec![page; events], sides: Vec::new() }
    }

    #[test]
    fn room_is_counted_in_events() {
        let (tx, rx, recycler) = queue::<()>(10);
        assert!(tx.try_send(batch(6)).is_ok());
        assert_eq!(tx.try_send(batch(5)).unwrap_err().len(), 5);
        assert!(tx.try_send(batch(4)).is_ok());
        let item = rx.channel().recv().unwrap();
        rx.received(&item);
        assert!(tx.try_send(batch(6)).is_ok());
        let Item::Batch(used) = item else { panic!("a batch was sent") };
        let capacity = used.pages.capacity();
        recycler.recycle(used);
        let again = tx.empty_batch();
        assert!(again.is_empty());
        assert_eq!(again.pages.capacity(), capacity);
    }
}
