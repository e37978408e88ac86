//! The allocators: everything that both policies share, and what they differ in.

pub mod allocator;
pub mod flavour;
pub mod frames;
pub mod request;
pub mod settings;
