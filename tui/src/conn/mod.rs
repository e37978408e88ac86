//! Where traces come from: this host's agent, a socket, a pipe, a file.
//!
//! A [`source::Source`] gives frames and tells how its connection stands ([`phase`]). Nothing
//! here looks into a frame.

pub mod address;
pub mod local;
pub mod phase;
pub mod recording;
pub mod socket;
pub mod source;
pub mod wire;
