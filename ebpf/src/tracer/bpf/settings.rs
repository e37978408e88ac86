//! Values that user space sets before it loads the object. They land in frozen read-only data, so
//! the verifier prunes what they turn off.

use aya_ebpf::Global;
use fragscope_ebpf::ring::CHANNEL_PAGES;

/// Where page events go: one of `fragscope_ebpf::ring::CHANNEL_*`.
#[unsafe(no_mangle)]
pub(super) static CHANNEL: Global<u32> = Global::new(CHANNEL_PAGES);
/// Rings per CPU.
#[unsafe(no_mangle)]
pub(super) static RING_KINDS: Global<u32> = Global::new(0);
/// Data pages of each ring: a power of two, or 0.
#[unsafe(no_mangle)]
pub(super) static RING_DATA_PAGES: Global<u32> = Global::new(0);
/// Address of the struct page of pfn 0.
#[unsafe(no_mangle)]
pub(super) static VMEMMAP_BASE: Global<u64> = Global::new(0);
/// `sizeof(struct page)`.
#[unsafe(no_mangle)]
pub(super) static PAGE_STRUCT_BYTES: Global<u64> = Global::new(64);
/// Its log2, or 0 where it is no power of two.
#[unsafe(no_mangle)]
pub(super) static PAGE_STRUCT_SHIFT: Global<u32> = Global::new(0);
/// Thread group id of the tracing process in the initial pid namespace.
#[unsafe(no_mangle)]
pub(super) static OWN_TGID: Global<u64> = Global::new(0);
/// The host's `__GFP_MOVABLE`.
#[unsafe(no_mangle)]
pub(super) static GFP_MOVABLE: Global<u32> = Global::new(8);
/// The host's `__GFP_RECLAIMABLE`.
#[unsafe(no_mangle)]
pub(super) static GFP_RECLAIMABLE: Global<u32> = Global::new(16);
/// Regions whose events can be counted, 0 if none ever are.
#[unsafe(no_mangle)]
pub(super) static COUNT_REGIONS: Global<u32> = Global::new(0);
/// Elements of counters for each CPU.
#[unsafe(no_mangle)]
pub(super) static COUNT_ELEMENTS: Global<u32> = Global::new(0);
/// Events for which one reading of the clock serves: at most
/// [`fragscope_ebpf::clock::BURST_EVENTS`], or 0 to read it for each.
#[unsafe(no_mangle)]
pub(super) static BURST: Global<u64> = Global::new(0);
/// Contexts that one CPU may emit in [`super::context::WINDOW_NS`]; 0 turns them off.
#[unsafe(no_mangle)]
pub(super) static CONTEXT_BUDGET: Global<u64> = Global::new(0);
/// The bit of `page->flags` that marks the head of a large folio, as a mask; 0 if not known.
#[unsafe(no_mangle)]
pub(super) static PG_HEAD: Global<u64> = Global::new(0);
/// Where the order of a large folio stands, in bytes from its first struct page.
#[unsafe(no_mangle)]
pub(super) static FOLIO_ORDER_AT: Global<u64> = Global::new(64);

/// Offsets of `pfn`, `order`, `gfp_flags` in `kmem:mm_page_alloc`.
#[unsafe(no_mangle)]
pub(super) static ALLOC_AT: Global<[u32; 3]> = Global::new([8, 16, 24]);
/// Offsets of `pfn`, `order` in `kmem:mm_page_free`.
#[unsafe(no_mangle)]
pub(super) static FREE_AT: Global<[u32; 2]> = Global::new([8, 16]);
/// Offsets of `pfn`, `alloc_order`, `fallback_order`, `alloc_migratetype`,
/// `fallback_migratetype`, `change_ownership` in `kmem:mm_page_alloc_extfrag`.
#[unsafe(no_mangle)]
pub(super) static EXTFRAG_AT: Global<[u32; 6]> = Global::new([8, 16, 20, 24, 28, 32]);
