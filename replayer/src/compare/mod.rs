//! The tracks of one recording side by side.
//!
//! * [`track_report`]: the figures of one track, the same for every surface that prints them;
//!   [`lock_report`]: those of its locks;
//! * [`trace_report`]: the recording, its losses, and how far the kernel track can be trusted;
//! * [`passes`]: which tracks are replayed, how many at once;
//! * [`report`]: the comparison, with ranges over seeds; [`table`]: as text for a mail.

pub mod lock_report;
pub mod passes;
pub mod report;
pub mod table;
pub mod trace_report;
pub mod track_report;

pub use passes::{CompareError, Plan, compare};
pub use report::Comparison;
