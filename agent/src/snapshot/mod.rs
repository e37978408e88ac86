//! The state of every page frame of this host.
