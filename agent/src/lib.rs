//! The fragscope agent: traces a host's page allocator with BPF and takes snapshots of it.
//!
//! * [`bpf`]: loads the programs, probes what the kernel admits;
//! * [`ring`], [`merge`]: from the programs' records to one order of events;
//! * [`live`]: a tracing session: threads, queues, a stream of frames;
//! * [`object`]: the BPF objects themselves; [`priority`]: of threads; [`heap`]: memory that is
//!   kept for the next snapshot;
//! * [`btf`]: names, sizes and offsets of the kernel's types;
//! * [`cost`]: what tracing adds to each allocation and free;
//! * [`privileges`]: what is given up once tracing is set up;
//! * [`probe_1g`]: how many 1 GiB pages the kernel really gives;
//! * [`machine`], [`proc`]: geometry and settings of the host;
//! * [`snapshot`]: the state of every page frame;
//! * [`tls`]: certificates of agents and of those who follow them.
//!
//! This crate knows nothing of allocators, analyses or screens: it is what runs on production
//! hosts.

pub mod bpf;
pub mod btf;
pub mod cost;
pub mod heap;
pub mod live;
pub mod machine;
pub mod merge;
pub mod object;
pub mod priority;
pub mod privileges;
pub mod probe_1g;
pub mod proc;
pub mod ring;
pub mod snapshot;
pub mod snapshots;
pub mod tls;
