//! Times of page events, of which most are had without reading the clock.
//!
//! Reading it is the dearest part of an event: the helper costs as much as all the rest of its
//! program. So a CPU reads it for the first of a burst of events, and each further event of the burst
//! is told one nanosecond after the one before. A burst ends after [`BURST_EVENTS`] events, with the
//! kernel's tick (`jiffies`, every 1 to 10 ms), with the epoch (below), and before an event that
//! another CPU's may precede: one whose page this CPU was not the last to touch. So a time is never
//! late, it is early by less than a tick, and less than [`BURST_EVENTS`] events of its CPU; and these
//! orders are exact:
//!
//! * the events of one CPU;
//! * the events of one page, whichever CPUs they come from;
//! * page events and rare ones of one CPU, as rare ones end a burst;
//! * events and moments of user space: see below.
//!
//! The *epoch* is a word that everybody sees, and that ends the bursts of all CPUs when it changes.
//! Programs change it with each event of a block of several pages, as the byte map of pages
//! (`crate::pagemap`) has the block's first page only. User space changes it after it has noted a
//! time, so that everything that happens from then on has at least that time.

/// Events for which one reading of the clock serves, at most.
pub const BURST_EVENTS: u64 = 16;
