//! The tracer object: page events, rare events, and the byte map of pages.
//!
//! For any target but BPF this is an empty program, so that the workspace builds with all
//! features.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", expect(internal_features, reason = "atomics of the BPF target"))]
#![cfg_attr(
    target_arch = "bpf",
    expect(unsafe_code, reason = "maps are raw memory and helpers are unsafe functions")
)]

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
