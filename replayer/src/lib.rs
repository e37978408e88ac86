//! Replays a fragscope trace: what the kernel did, what stock would do, what the superpageblock
//! allocator would do.
//!
//! * [`mm`]: the allocators;
//! * [`kernel_track`]: the state of the traced kernel's memory, page by page;
//! * [`engine`]: events in, operations for the policies out, samples of all tracks;
//! * [`start`]: what a policy track begins with;
//! * [`synth`]: traces of machines that do not exist;
//! * [`import`]: traces from tables and from text; `export`, `plot`, `report` (feature `analysis`):
//!   tables, pictures, a page;
//! * [`sweep`]: grids of settings;
//! * [`observe`]: what every surface shows;
//! * [`diff`]: two comparisons against each other;
//! * [`compare`], [`verdict`]: the tracks side by side, and in words;
//! * [`fidelity`]: the stock model against the running kernel;
//! * [`bench`](mod@bench): how fast all that is;
//! * [`bundled`]: a recording to begin with;
//! * `locks` (feature `locks`): the free path's locking protocols under a model checker;
//! * [`cli`]: the program `fragscope-replay`.

pub mod bench;
pub mod bundled;
pub mod callsite;
pub mod cli;
pub mod compare;
pub mod diff;
pub mod engine;
#[cfg(feature = "analysis")]
pub mod export;
pub mod fidelity;
pub mod import;
pub mod kernel_track;
#[cfg(feature = "locks")]
pub mod locks;
pub mod mm;
pub mod observe;
#[cfg(feature = "analysis")]
pub mod plot;
#[cfg(feature = "analysis")]
pub mod report;
pub mod start;
pub mod sweep;
pub mod synth;
#[cfg(test)]
mod testing;
pub mod verdict;
