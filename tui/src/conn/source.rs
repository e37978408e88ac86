//! What every origin of a trace can do.

use std::time::Duration;

use fragscope_trace::frame::Frame;

use super::phase::Phase;

/// What came.
#[derive(Debug)]
pub enum Arrival {
    /// The next frame of the trace. After a [`Frame::Header`] another trace begins.
    Frame(Frame),
    /// Nothing within the time given.
    Nothing,
    /// The connection changed; the source goes on.
    Phase(Phase),
    /// No more will come, for a reason worth saying or none.
    Over(Option<String>),
    /// No more can come.
    Failed(String),
}

/// An origin of a trace.
pub trait Source: Send {
    /// Waits for what comes next, at most about `patience` where it can tell.
    fn next(&mut self, patience: Duration) -> Arrival;

    /// Share of the trace that was given, 0..1, where its length is known.
    fn progress(&self) -> Option<f64> {
        None
    }

    /// Asks for the end of the trace, in order where that is in its power: what follows is the
    /// rest, and then [`Arrival::Over`].
    fn stop(&mut self);

    /// Takes an emptied batch back, to use its memory again.
    fn recycle(&mut self, _batch: fragscope_trace::event::EventBatch) {}
}
