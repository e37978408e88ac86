//! Loading of the BPF programs, and what the kernel admits of them.

pub mod calibrate;
