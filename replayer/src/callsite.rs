//! Which function of a kernel stack is to be named: the first that is not the allocator itself.

/// Prefixes of functions between a caller and the page allocator's tracepoint. A stack is read
/// from the inside; the first frame without such a prefix is the call site.
const PLUMBING: &[&str] = &[
    "__alloc_frozen_pages",
    "__alloc_pages",
    "__alloc_skb",
    "__filemap_get_folio",
    "__folio_alloc",
    "__get_free_page",
    "__kmalloc",
    "__kmem_cache",
    "__kvmalloc",
    "__pte_alloc",
    "__slab_alloc",
    "__traceiter_",
    "__vmalloc",
    "___slab_alloc",
    "___kmalloc",
    "alloc_frozen_pages",
    "alloc_from_pcs",
    "alloc_pages",
    "alloc_slab_page",
    "alloc_slab",
    "alloc_thread_stack",
    "allocate_slab",
    "bpf_",
    "folio_alloc",
    "get_free_pages",
    "get_zeroed_page",
    "kmalloc",
    "kmem_cache_alloc",
    "kvmalloc",
    "new_slab",
    "pte_alloc_one",
    "refill_sheaf",
    "trace_",
    "vmalloc",
];

/// The frame that asked for memory, without its offset; the innermost one if all are plumbing.
#[must_use]
pub fn call_site(stack: &[String]) -> Option<&str> {
    let plumbing = |frame: &str| PLUMBING.iter().any(|p| frame.starts_with(p));
    let frame = stack.iter().find(|f| !plumbing(f)).or(stack.first())?;
    Some(function(frame))
}

/// `name` of `name+0x1a`.
#[must_use]
pub fn function(frame: &str) -> &str {
    frame.split_once('+').map_or(frame, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: &[&str]) -> Vec<String> {
        frames.iter().map(|f| (*f).to_owned()).collect()
    }

    #[test]
    fn the_allocator_is_not_to_blame() {
        let frames = stack(&[
            "bpf_prog_f1",
            "__alloc_frozen_pages_noprof+0x2a1",
            "allocate_slab+0x66",
            "kmem_cache_alloc_noprof+0x200",
            "ext4_alloc_inode+0x1d",
            "alloc_inode+0x2a",
        ]);
        assert_eq!(call_site(&frames), Some("ext4_alloc_inode"));
    }

    #[test]
    fn a_stack_of_plumbing_names_its_inmost_frame() {
        assert_eq!(call_site(&stack(&["new_slab+0x1", "kmalloc+0x2"])), Some("new_slab"));
        assert_eq!(call_site(&[]), None);
    }
}
