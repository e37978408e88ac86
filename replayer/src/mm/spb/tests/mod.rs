//! The common suite over every combination of policy and per-CPU lists, and the series' own rules
//! patch by patch.

mod suite;
