//! What the BPF programs and user space agree on: record layouts, map shapes, constants.
//!
//! The programs are two binaries for the target `bpfel-unknown-none`, behind the feature `bpf`:
//! * `fragscope-probe` runs before tracing and on demand: calibration, identity of the caller,
//!   copying of struct pages;
//! * `fragscope-tracer` runs while tracing.
//!
//! The library is `no_std`, has no dependency, and knows nothing of user space.

#![cfg_attr(not(test), no_std)]

pub mod probe;
