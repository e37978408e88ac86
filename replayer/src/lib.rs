//! Replays a fragscope trace: what the kernel did, what stock would do, what the superpageblock
//! allocator would do.
//!
//! * [`mm`]: the allocators;
//! * [`kernel_track`]: the state of the traced kernel's memory, page by page;
//! * [`engine`]: events in, operations for the policies out, samples of all tracks;
//! * [`start`]: what a policy track begins with;
//! * [`synth`]: traces of machines that do not exist;
//! * [`observe`]: what every surface shows;
//! * [`compare`], [`verdict`]: the tracks side by side, and in words;
//! * `locks` (feature `locks`): the free path's locking protocols under a model checker;
//! * [`bundled`]: a recording to begin with;
//! * [`cli`]: the program `fragscope-replay`.

pub mod bundled;
pub mod cli;
pub mod compare;
pub mod engine;
pub mod kernel_track;
#[cfg(feature = "locks")]
pub mod locks;
pub mod mm;
pub mod observe;
pub mod start;
pub mod synth;
#[cfg(test)]
mod testing;
pub mod verdict;
