//! The allocators: everything that both policies share, and what they differ in.
//!
//! A track is an [`page_alloc::Mm`]: frames, zones and rules ([`buddy::Buddy`]), a
//! [`placement::Placement`] that says where free blocks are kept and which one serves a request,
//! and a [`cache::Cache`] of per-CPU lists in front. Everything is generic over the lock
//! [`flavour::Flavour`] and dispatched statically.

pub mod allocated;
pub mod allocator;
pub mod buddy;
pub mod cache;
pub mod census;
pub mod check;
pub mod claim;
pub mod clock;
pub mod compact;
pub mod compaction;
pub mod contig;
pub mod counters;
pub mod fallbacks;
pub mod flags;
pub mod flavour;
pub mod fragindex;
pub mod frames;
pub mod free_lists;
pub mod free_path;
pub mod geometry;
pub mod highatomic;
pub mod hotplug;
pub(crate) mod huge_pages;
pub mod isolate;
pub mod kcompactd;
pub mod load;
pub mod migrate;
pub mod obtainable;
pub mod page_alloc;
mod page_list;
pub mod page_reporting;
pub mod pageblock;
pub mod pcp;
pub mod pcp_buddy;
pub mod pcp_limits;
pub mod per_thread;
pub mod placement;
pub mod reclaim;
pub mod request;
pub mod rmqueue;
pub mod scanner;
pub mod sequence;
pub mod settings;
pub mod slowpath;
pub mod spb;
pub mod stock;
pub mod take;
pub mod track;
pub mod virtual_hold;
pub mod watermark;
pub mod zone;
pub mod zone_free;

/// The superpageblock allocator for one thread.
pub type SpbMm =
    page_alloc::Mm<flavour::Up, spb::Spb<flavour::Up>, pcp_buddy::EitherPcp<flavour::Up>>;

/// The stock allocator for one thread.
pub type StockMm = page_alloc::Mm<flavour::Up, stock::Stock, pcp_buddy::EitherPcp<flavour::Up>>;

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
