//! Replays a fragscope trace: what the kernel did, what stock would do, what the superpageblock
//! allocator would do.

pub mod mm;
pub mod observe;
