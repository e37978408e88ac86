//! Tests that trace the running kernel. Without the rights to load BPF programs they print that
//! they were skipped.

mod access;
mod budgets;
mod clock;
mod common;
mod context;
mod cost;
mod count;
mod faults;
mod makers;
mod pki;
mod probe_1g;
mod record;
mod rights;
mod serve;
mod service;
mod snapshot;
mod tracing;
