//! The moment the program began: what all its threads count time from.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::state::clock::Now;

/// When the program began.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(Instant);

impl Epoch {
    /// It begins now.
    #[must_use]
    pub fn now() -> Epoch {
        Epoch(Instant::now())
    }

    /// Time since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Both clocks of the screen.
    #[must_use]
    pub fn read(self) -> Now {
        Now { uptime: self.elapsed(), wall: Timestamp::now() }
    }
}
