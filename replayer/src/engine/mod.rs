//! The replay: frames of a trace in, samples of all tracks out.
//!
//! [`observatory::Observatory`] is the front: it holds events back until the opening snapshot is
//! read ([`opening`]), lets the kernel track ([`crate::kernel_track`]) turn events into
//! operations ([`op`]), and hands those to policy tracks ([`policy`]), each on a thread of its
//! own ([`worker`]). At a later snapshot each track can be surveyed ([`checkpoint`], [`survey`]) to
//! be compared with the kernel. The result does not depend on how the threads run.

pub mod asked;
pub mod backfill;
pub mod began;
pub mod checkpoint;
pub mod context;
pub mod drive;
pub mod observatory;
pub mod op;
pub mod opening;
pub mod policy;
pub mod read_times;
pub mod retype;
pub mod sampled;
pub mod survey;
pub mod taints;
pub mod tally;
pub mod worker;

#[cfg(test)]
mod count_mode;
#[cfg(test)]
mod tests;
