//! Rare events: one layout for all, in one BPF ring buffer.

/// A fallback to another type's block. Words: pfn, alloc order, fallback order, alloc type,
/// fallback type, whether the pageblock changed its type.
pub const SIDE_EXTFRAG: u32 = 0;
/// A range tested for isolation. Words: start, end, first pfn that was not free.
pub const SIDE_CONTIG_TEST: u32 = 1;
/// A compaction run began. Words: the tracepoint's first four arguments, see [`compaction_zone`].
pub const SIDE_COMPACTION_BEGIN: u32 = 2;
/// A compaction run ended. Words: as for its begin.
pub const SIDE_COMPACTION_END: u32 = 3;
/// A migration call ended. Words: succeeded, failed, reason.
pub const SIDE_MIGRATED: u32 = 4;
/// Who made a non-movable allocation. Words: pfn, order | gfp << 32, pid, cgroup id, stack id + 1
/// (0 for none), and the process name in two words.
pub const SIDE_CONTEXT: u32 = 5;
/// A free for which the free program was not run, because it was interrupted by what freed. Told
/// when it happens, or when the page is allocated again.
/// Words: pfn, order, whether the tracing process had allocated it.
pub const SIDE_NESTED_FREE: u32 = 6;
/// Migration moved a block. Words: old pfn, new pfn, order.
pub const SIDE_MOVED: u32 = 7;
/// A page that was allocated in bulk, for which there is no event. Words: pfn, gfp, whether by the
/// tracing process.
pub const SIDE_BULK_ALLOC: u32 = 8;
/// Kinds of rare events.
pub const SIDE_KINDS: usize = 9;

/// Pages of one bulk allocation that are looked at; the kernel's callers ask for at most 512.
pub const BULK_PAGES_MAX: u64 = 512;

/// Words of a rare event.
pub const SIDE_WORDS: usize = 7;
/// Bytes of the ring buffer.
pub const SIDE_RING_BYTES: usize = 1 << 20;
/// Frames kept of a kernel stack.
pub const STACK_DEPTH: usize = 32;
/// Different stacks kept.
pub const STACKS: usize = 4096;

/// One rare event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideRecord {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// One of the `SIDE_*` numbers.
    pub kind: u32,
    /// Where.
    pub cpu: u32,
    /// As the kind says.
    pub words: [u64; SIDE_WORDS],
}

const _: () = assert!(size_of::<SideRecord>() == 72);

/// Elements of the counters of rare events: for each kind the events seen, then those lost.
pub const SIDE_COUNTERS: u32 = 2 * SIDE_KINDS as u32;

/// The zone (start and end pfn) in the words of a compaction event. Newer kernels pass a pointer,
/// start and end; older ones start, two other pfns, and end.
#[must_use]
pub const fn compaction_zone(words: &[u64; SIDE_WORDS]) -> (u64, u64) {
    let is_pointer = words[0] >> 63 == 1;
    if is_pointer { (words[1], words[2]) } else { (words[0], words[3]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_of_compaction_are_told_apart() {
        let new = [0xffff_c900_0000_1000, 0x1000, 0x10_0000, 1, 0, 0, 0];
        let old = [0x1000, 0x2000, 0xf_0000, 0x10_0000, 0, 0, 0];
        assert_eq!(compaction_zone(&new), (0x1000, 0x10_0000));
        assert_eq!(compaction_zone(&old), (0x1000, 0x10_0000));
    }
}
