//! The superpageblock allocator: what the series "mm: reliable 1GB page allocation" (v2) changes.
//!
//! Memory is cut into superpageblocks of 1 GiB. One that holds (or held) unmovable or reclaimable
//! pages is *tainted*, others are *clean*. Requests for such pages are served inside tainted ones,
//! fullest first, and enter a clean one only as a last resort; movable requests are served from
//! clean ones. Workers move movable pages out of tainted ones.
//!
//! Each file names at its top the mechanism it holds and the patches that it covers. Every patch
//! with behaviour is a switch `pNN` of [`super::settings::Settings`].

pub mod background;
pub mod bitmap;
pub mod category;
pub mod claim;
mod compaction;
pub mod content;
mod contig;
pub mod debugfs;
pub mod evacuate;
pub mod event;
pub mod geometry;
pub mod index;
pub mod lists;
pub mod passes;
pub mod placement;
mod refill;
pub mod relax;
pub mod search;
mod start;
pub mod superpageblock;
pub mod supply;
pub mod visits;
pub mod workers;
pub mod zone;

pub use placement::Spb;

#[cfg(test)]
mod tests;
