//! The common suite over every combination of policy and per-CPU lists, and the series' rules
//! patch by patch: each test is named after its patch and shows it switched on and off.

mod background;
mod bed;
mod content;
mod contig;
mod fallback;
mod index;
mod passes;
mod pcp;
mod readers;
mod refusal;
mod suite;
