//! The codec as its users see it.

mod arbitrary;
mod golden;
mod hostile;
mod info;
mod raw;
mod round_trip;
mod stream;
