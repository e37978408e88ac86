//! What policy tracks replay: the workload of the traced kernel, cleaned of what only its own
//! allocator did.
//!
//! The kernel track turns events into operations once, for all tracks: it knows what each page
//! held, so it can tell a free that was not traced from one that was, and a correction from a
//! request. Frames are named by kernel pfn throughout; a policy track keeps its own map from
//! there to where it placed them.

use fragscope_trace::event::TimeNs;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId};

use crate::mm::frames::Frame;

/// One step of the workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Op {
    /// Virtual time.
    pub time_ns: TimeNs,
    /// What is asked.
    pub step: Step,
}

const _: () = assert!(size_of::<Op>() <= 24, "an operation is as small as an event");

impl Op {
    /// The first kernel pfn of an allocation or a free, which most operations are; 0 of others.
    #[must_use]
    #[inline]
    pub fn first_page(&self) -> Frame {
        match self.step {
            Step::Alloc { pfn, .. } | Step::Free { pfn, .. } => pfn,
            _ => 0,
        }
    }
}

/// What is asked of a policy. Allocations and frees begin with the same fields, so that these are
/// read without looking which of the two it is: that cannot be foreseen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub enum Step {
    /// The workload got a block.
    Alloc {
        /// log2 of its pages.
        order: u8,
        /// Where it ran.
        cpu: CpuId,
        /// Its first kernel pfn.
        pfn: Frame,
        /// Flags of the request.
        gfp: Gfp,
        /// What it holds.
        content: Content,
        /// Deduced, not observed: an order-0 request of a path without tracepoints.
        inferred: bool,
    },
    /// The workload gave pages back, of one block, of several or of part of one.
    Free {
        /// log2 of its pages; up to 30.
        order: u8,
        /// Where it ran.
        cpu: CpuId,
        /// First kernel pfn.
        pfn: Frame,
    },
    /// The kernel refused a request.
    Failed {
        /// Flags of the request.
        gfp: Gfp,
        /// Where it ran.
        cpu: CpuId,
        /// log2 of its pages.
        order: u8,
    },
    /// What allocated pages hold became known better.
    SetContent {
        /// First kernel pfn.
        pfn: Frame,
        /// How many.
        pages: u32,
        /// What they hold.
        content: Content,
    },
    /// Migration gave pages of the workload new kernel pfns.
    Rename {
        /// First old pfn.
        from: Frame,
        /// First new pfn.
        to: Frame,
        /// log2 of their number.
        order: u8,
    },
    /// The block just allocated turned a region of the kernel tainted: where is it here?
    Locate {
        /// Its first kernel pfn.
        pfn: Frame,
        /// log2 of its pages.
        order: u8,
    },
    /// Memory arrived.
    Grow {
        /// First pfn.
        start: Frame,
        /// How many pages.
        pages: u32,
    },
    /// Memory was taken away.
    Shrink {
        /// First pfn.
        start: Frame,
        /// How many pages.
        pages: u32,
    },
    /// A CPU went online or offline.
    Cpu {
        /// Which.
        cpu: CpuId,
        /// Its new state.
        online: bool,
    },
    /// The kernel's own count of free pages, per-CPU lists included.
    Check {
        /// Pages.
        kernel_free_pages: u64,
    },
}

/// The request that usually makes pages of this content, for pages whose request was not seen.
#[must_use]
pub fn usual_gfp(content: Content) -> Gfp {
    match content {
        Content::Movable
        | Content::Anon
        | Content::File
        | Content::MovableOps
        | Content::Pinned
        | Content::Hugetlb => Gfp::HIGHUSER_MOVABLE,
        Content::Reclaimable => Gfp::KERNEL | Gfp::RECLAIMABLE,
        _ => Gfp::KERNEL,
    }
}
