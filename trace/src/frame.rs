//! Frames: the one codec for files, pipes and sockets.

use crate::event::EventBatch;
use crate::header::{End, Header};
use crate::snapshot::Snapshot;

/// One decoded part of a trace. A trace is one `Header`, then the others in any order.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Always first.
    Header(Box<Header>),
    /// A state of the machine.
    Snapshot(Box<Snapshot>),
    /// A run of events.
    Events(EventBatch),
    /// Always last, unless the trace was cut off.
    End(Box<End>),
}
