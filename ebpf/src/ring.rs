//! The rings of page events: one per CPU and program, inside one mmapable array.
//!
//! The array's elements are pages. Ring `r` is a [`Header`] page followed by a power of two of
//! data pages with [`PAGE_RECORDS`] records each:
//!
//! ```text
//! element   r * (1 + data_pages)      header
//!           ... + 1 + 0               records 0..256
//!           ... + 1 + 1               records 256..512
//! ```
//!
//! The number of a ring is `cpu * kinds + kind`. Only the program of that kind on that CPU writes
//! it, and that program never nests in itself (Linux 6.1 and later skip a raw tracepoint program
//! that is entered again), so a plain store of `head` after the record publishes it. The reader
//! owns `tail`. Both only ever grow.
//!
//! On older kernels, and where a CPU may reorder stores, the records go to a BPF ring buffer per
//! CPU instead; the headers then serve for their counters only, and `data_pages` is 0.

/// Bytes in an element of the array.
pub const PAGE_BYTES: usize = 4096;
/// Records in a data page.
pub const PAGE_RECORDS: u64 = (PAGE_BYTES / size_of::<crate::record::Record>()) as u64;
/// log2 of [`PAGE_RECORDS`].
pub const PAGE_RECORDS_SHIFT: u32 = PAGE_RECORDS.trailing_zeros();

/// Records go to the rings of this module.
pub const CHANNEL_PAGES: u32 = 0;
/// Records go to one BPF ring buffer per CPU.
pub const CHANNEL_RINGBUF: u32 = 1;

/// First page of a ring. The first line belongs to the program, the second to the reader.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    /// Records ever written.
    pub head: u64,
    /// The program's last reading of `tail`.
    pub cached_tail: u64,
    /// Events dropped because the ring was full.
    pub lost_full: u64,
    /// Events dropped because they made no sense (a page outside the array of struct pages).
    pub lost_bad: u64,
    /// Events that the program meant to deliver: written + lost + shed. Counted where the
    /// program begins, apart from the counts above.
    pub emitted: u64,
    /// Events that were counted by region (see [`crate::counts`]) and not recorded, because the
    /// reader asked for it.
    pub shed: u64,
    unused: [u64; 2],
    /// Records ever read.
    pub tail: u64,
    /// Not 0 while the reader wants events counted instead of recorded.
    pub shedding: u64,
}

const _: () = assert!(size_of::<Header>() <= PAGE_BYTES);
const _: () = assert!(core::mem::offset_of!(Header, tail) == 64);
const _: () = assert!(1 << PAGE_RECORDS_SHIFT == PAGE_RECORDS);
