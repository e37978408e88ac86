//! Rare events: one layout for all, in one BPF ring buffer.

/// A fallback to another type's block. Words: pfn, alloc order, fallback order, alloc type,
/// fallback type, whether the pageblock changed its type.
pub const SIDE_EXTFRAG: u32 = 0;
/// A range tested for isolation. Words: start, end, first pfn that was not free.
pub const SIDE_CONTIG_TEST: u32 = 1;
/// A compaction run began. Words: zone start, zone end.
pub const SIDE_COMPACTION_BEGIN: u32 = 2;
/// A compaction run ended. Words: zone start, zone end.
pub const SIDE_COMPACTION_END: u32 = 3;
/// A migration call ended. Words: succeeded, failed, reason.
pub const SIDE_MIGRATED: u32 = 4;
/// Who made a non-movable allocation. Words: pfn, order | gfp << 32, pid, cgroup id, stack id + 1
/// (0 for none), and the process name in two words.
pub const SIDE_CONTEXT: u32 = 5;
/// Kinds of rare events.
pub const SIDE_KINDS: usize = 6;

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
