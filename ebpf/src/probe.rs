//! Maps of the probe object.
//!
//! | program | type | does |
//! |---|---|---|
//! | `copy_pages` | raw tracepoint, run on demand with args\[0\] = kernel address, args\[1\] = bytes (0: [`CHUNK_BYTES`]) | copies from there to `CHUNK`, and the helper's return code to `PROBE`\[[`COPY_RC`]\] |
//! | `locate_cpu` | raw tracepoint, run on demand on one CPU | stores the address of that CPU's element of a per-CPU map to `PROBE`\[[`CPU_SLOT`]\] |
//! | `identify` | raw tracepoint, run on demand | stores the caller's thread group id to `PROBE`\[[`OWN_TGID`]\] |
//! | `pair_page` | raw tracepoint `mm_page_alloc` | notes the struct page's address for this CPU, and stores it to `PAIRS` with the pfn noted there |
//! | `pair_pfn` | tracepoint `kmem:mm_page_alloc` | notes the pfn, and stores it to `PAIRS` with the address noted there |
//!
//! Which of the last two runs first is not ours to say: classic programs of all processes hang on
//! one probe, which is registered with the first of them. So pairs are stored as if either came
//! first, and only those of the true order agree on one base address.

/// Bytes that one run of `copy_pages` copies.
pub const CHUNK_BYTES: usize = 4 << 20;

/// Element of `PROBE` with the return code of the last copy: 0, or a negative errno as `i64`
/// (-34 for an address in user range, -14 for an unmapped one). The chunk is zeroed on failure.
pub const COPY_RC: u32 = 0;
/// Element of `PROBE` with the thread group id (in the initial pid namespace) of the process that
/// ran `identify`.
pub const OWN_TGID: u32 = 1;
/// First of [`PAIR_ORDERS`] elements of `PROBE` with the number of pairs ever stored as if that
/// order were true.
pub const PAIRS_STORED: u32 = 4;
/// Element of `PROBE` with the address that `locate_cpu` found. Two CPUs' addresses differ as their
/// per-CPU offsets do.
pub const CPU_SLOT: u32 = 3;
/// Elements of `PROBE`.
pub const PROBE_SLOTS: u32 = 8;

/// Elements of `PAIRS` for each order; later pairs overwrite the oldest.
pub const PAIR_SLOTS: u32 = 2048;

/// Orders in which the programs may run: the number of an order is that of its part of `PAIRS`.
pub const PAIR_ORDERS: u32 = 2;
/// `pair_page` runs first.
pub const PAGE_FIRST: u32 = 0;
/// `pair_pfn` runs first.
pub const PFN_FIRST: u32 = 1;

/// One allocation as both kinds of tracepoint saw it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Address of the struct page; 0 if the slot was never written.
    pub page: u64,
    /// The page's pfn.
    pub pfn: u64,
}
