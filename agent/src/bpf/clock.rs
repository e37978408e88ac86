//! User space's side of the clock of events: see [`fragscope_ebpf::clock`].

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fragscope_trace::event::TimeNs;

use super::memory::MapMemory;

/// `CLOCK_MONOTONIC`, the clock of all events.
#[must_use]
pub fn now_ns() -> TimeNs {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The clock that programs give events their times from. Without programs ([`Default`]) it is just a
/// clock.
#[derive(Clone, Debug, Default)]
pub struct EventClock {
    epoch: Option<Arc<MapMemory>>,
}

impl EventClock {
    /// Maps the memory of `map`, which holds the epoch.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(map: impl AsFd) -> io::Result<EventClock> {
        Ok(EventClock { epoch: Some(Arc::new(MapMemory::new(map, size_of::<u64>())?)) })
    }

    /// Now, in ns: whatever happens after this returns, on any CPU, has at least this time.
    #[must_use]
    pub fn moment(&self) -> TimeNs {
        let now = now_ns();
        if let Some(epoch) = &self.epoch {
            epoch.word(0).fetch_add(1, Ordering::SeqCst);
        }
        now
    }
}
