//! The fragscope trace: what a host did with its page frames, as values and as bytes.
//!
//! * [`page`]: pfns, orders, cpus, migratetypes and the sizes they are counted in;
//! * [`gfp`]: allocation flags in one canonical layout, whatever the traced kernel used;
//! * [`event`]: page events (frequent) and side events (rare);
//! * [`machine`]: geometry and settings of the traced host;
//! * [`snapshot`]: the state of every page frame at one time;
//! * [`region`]: what "1 GiB available" and "tainted" mean, with their formulas. Every surface
//!   of the project uses these definitions and no others;
//! * [`frame`], [`reader`], [`writer`]: one codec for files, pipes and sockets;
//! * [`info`]: statistics of a whole trace;
//! * [`rules`]: what readers may rely on; [`causes`]: errors as people read them.
//!
//! This crate knows nothing of BPF, of allocators or of screens.

pub mod causes;
mod codec;
pub mod event;
pub mod frame;
pub mod gfp;
pub mod header;
pub mod info;
pub mod machine;
pub mod page;
pub mod reader;
pub mod region;
pub mod rules;
pub mod snapshot;
pub mod writer;

pub use codec::{DecodeError, EncodeError, varint};
