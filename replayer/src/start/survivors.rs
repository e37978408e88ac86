//! The pages of a snapshot that somebody allocated, in the units in which they were.

use fragscope_trace::page::{Content, MAX_PAGE_ORDER};
use fragscope_trace::snapshot::Snapshot;

use crate::engine::op::usual_gfp;
use crate::mm::frames::Frame;
use crate::mm::request::Request;
use fragscope_trace::page::CpuId;

/// One block that was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// First kernel pfn.
    pub pfn: Frame,
    /// log2 of its pages.
    pub order: u8,
    /// What it holds.
    pub content: Content,
}

impl Survivor {
    /// The request that it is made of, as far as that can be told from its content.
    #[must_use]
    pub fn request(&self, cpu: CpuId) -> Request {
        let gfp = usual_gfp(self.content);
        Request { order: self.order, content: self.content, ..Request::new(self.order, gfp, cpu) }
    }
}

/// Whether an allocator placed a page with this content, and could have placed it elsewhere.
#[must_use]
pub fn is_placed(content: Content) -> bool {
    let fixed = matches!(content, Content::Hugetlb | Content::Gigantic | Content::Offline);
    content.is_allocated() && !fixed
}

/// All survivors, by address.
#[must_use]
pub fn survivors(snapshot: &Snapshot) -> Vec<Survivor> {
    let mut survivors = Vec::new();
    for run in snapshot.runs.iter().filter(|run| is_placed(run.content)) {
        let order = run.order.min(MAX_PAGE_ORDER);
        let blocks = run.range().raw().step_by(1 << order);
        let content = run.content;
        survivors.extend(blocks.map(|pfn| Survivor { pfn: pfn as Frame, order, content }));
    }
    survivors
}

/// Kernel pfns that are free in the snapshot, by address: names for pages that do not survive.
#[must_use]
pub fn free_names(snapshot: &Snapshot) -> Vec<Frame> {
    let free = snapshot.runs.iter().filter(|run| run.content.is_free());
    free.flat_map(|run| run.range().raw()).map(|pfn| pfn as Frame).collect()
}
