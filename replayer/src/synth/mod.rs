//! Synthetic traces: a machine that does not exist, loaded by shapes that do.
//!
//! * [`machine`]: zones, watermarks and limits by the kernel's formulas, and the state at boot;
//! * [`workload`]: the shapes of load and their parameters; [`presets`]: named workloads;
//! * [`generate()`]: runs a workload in virtual time over the stock allocator, which gives every
//!   allocation its place, and writes what happens as an ordinary trace;
//! * [`like`]: a workload measured on a recording.
//!
//! The trace's kernel track is thus stock behaviour itself, without compaction. Same workload and
//! seed, same bytes, on every machine: see [`random`].

mod cache;
pub mod distribution;
mod generate;
pub mod gfp_text;
mod host;
mod kernel;
pub mod like;
pub mod machine;
mod objects;
pub mod presets;
mod process;
mod queue;
pub mod random;
mod slab;
mod standing;
mod state;
pub mod workload;

pub use generate::{Generated, generate};

use fragscope_trace::writer::WriteError;
use thiserror::Error;

use crate::mm::allocator::{BuildError, FreeError};

/// Why no trace could be generated.
#[derive(Debug, Error)]
pub enum SynthError {
    /// A figure of the machine or of the whole workload is impossible.
    #[error("{what}: found {found}, expected {expected}")]
    Config {
        /// Which figure.
        what: String,
        /// Its value.
        found: String,
        /// What is possible.
        expected: String,
    },
    /// A parameter of a load is impossible.
    #[error("load {load:?}: {fault}")]
    Parameter {
        /// Which load.
        load: String,
        /// Which parameter, its value, and what is possible.
        fault: String,
    },
    /// The configuration is not what it should be.
    #[error("the workload's configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// No preset has this name.
    #[error("no workload is named {name:?}; there are: {known}")]
    UnknownWorkload {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The allocator cannot model the machine.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A load freed what it does not hold: a fault of the generator.
    #[error("the generator freed a page that it does not hold: {0}")]
    Free(#[from] FreeError),
    /// The trace could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}
