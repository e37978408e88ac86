//! The codec as its users see it.

mod arbitrary;
mod round_trip;
