//! Tests that trace the running kernel. Without the rights to load BPF programs they print that
//! they were skipped.

mod common;
mod probe_1g;
mod record;
mod serve;
mod snapshot;
#[path = "../../examples/storm.rs"]
#[expect(dead_code, reason = "its main is the example's")]
mod storm;
mod tracing;
