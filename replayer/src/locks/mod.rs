//! The locking protocols of the free path, explored exhaustively.
//!
//! A [`machine::Machine`] is a few CPUs, each with a task, a hardware interrupt and an NMI that
//! run small [`program`]s: which lock is taken, waited for or only tried, with interrupts on or
//! off, and which list is read and written under it. A model checker visits every interleaving.
//! [`free_path`], [`zonelist`] hold the programs, [`subject`] what is explored and what each
//! outcome should be, [`judge`] what must never be, [`explore`] the run, [`report`] what it looks
//! like.
//!
//! The model says whether a protocol can work; that the code of [`crate::mm`] follows it is
//! tested there, over the allocator's own source.
//!
//! Rules of the model:
//! * an interrupt arrives at any step while its CPU has interrupts on, an NMI at any step; each
//!   once for each CPU, and it runs to its end before what it interrupted goes on;
//! * a lock has an interrupt class ([`machine::IrqClass`]); waiting against its class is reported
//!   even where it does no harm;
//! * a write to a list is two steps, so that a context that should have been kept out is seen to
//!   lose a page.

pub mod explore;
pub mod free_path;
pub mod judge;
pub mod machine;
mod owned;
pub mod program;
pub mod report;
pub mod state;
pub mod subject;
mod trace;
pub mod zonelist;

#[cfg(test)]
mod tests;
