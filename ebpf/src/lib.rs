//! What the BPF programs and user space agree on: record layouts, map shapes, constants.
//!
//! The programs are two binaries for the target `bpfel-unknown-none`, behind the feature `bpf`:
//! * `fragscope-probe` runs before tracing and on demand: calibration, identity of the caller,
//!   copying of struct pages (see [`probe`]);
//! * `fragscope-tracer` runs while tracing: page events (see [`record`], [`ring`], [`clock`]), rare
//!   events (see [`side`]), and maps of what is known of each page and region (see [`pagemap`],
//!   [`taint`]); or, where that costs too much, counters of page events by region (see [`counts`]).
//!
//! The library is `no_std`, has no dependency, and knows nothing of user space.

#![cfg_attr(not(test), no_std)]

pub mod clock;
pub mod counts;
pub mod pagemap;
pub mod probe;
pub mod record;
pub mod ring;
pub mod side;
pub mod taint;

/// The licence that both objects declare to the kernel in their section `license`. Only programs
/// under the GPL, also among others, may call the helpers that trace.
pub const LICENCE: &[u8; 13] = b"Dual MIT/GPL\0";
