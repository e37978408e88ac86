//! The state of the synthetic machine as a snapshot.

use fragscope_trace::event::TimeNs;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, Migratetype, PAGEBLOCK_PAGES, Pfn, PfnRange};
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole, SnapshotSource};

use crate::mm::StockMm;
use crate::mm::allocator::PageAllocator;
use crate::mm::frames::{Frame, FrameState, Mark};

/// Reads all frames. Free blocks keep their order and type; the order within a list is not
/// written down.
pub(super) fn snapshot(
    allocator: &StockMm,
    booted: &Machine,
    role: SnapshotRole,
    now_ns: TimeNs,
) -> Snapshot {
    let mut machine = booted.clone();
    for (zone, state) in machine.zones.iter_mut().zip(&allocator.buddy.zones) {
        zone.free_pages = state.free_pages.get();
        zone.managed_pages = state.managed.get();
        zone.watermark_boost = state.boost.get();
        zone.reserved_highatomic = Some(state.reserved_highatomic.get());
        for (order, blocks) in zone.buddy_blocks.iter_mut().enumerate() {
            *blocks = state.nr_free(order as u8);
        }
    }
    let spans: Vec<PfnRange> =
        booted.zones.iter().map(fragscope_trace::machine::Zone::span).collect();
    Snapshot {
        source: SnapshotSource::Synthetic,
        role,
        begin_ns: now_ns,
        end_ns: now_ns,
        machine,
        chunks: Vec::new(),
        runs: spans.iter().flat_map(|span| runs(allocator, *span)).collect(),
        pageblocks: spans.iter().flat_map(|span| pageblocks(allocator, *span)).collect(),
        lists: Vec::new(),
        notes: Vec::new(),
    }
}

fn runs(allocator: &StockMm, span: PfnRange) -> Vec<PageRun> {
    let mut runs: Vec<PageRun> = Vec::new();
    let mut at = span.start;
    while at < span.end {
        let run = block_at(allocator, at);
        at = run.range().end;
        match runs.last_mut() {
            Some(last) if continues(last, &run) => last.pages += run.pages,
            _ => runs.push(run),
        }
    }
    runs
}

fn continues(last: &PageRun, next: &PageRun) -> bool {
    let kind = |run: &PageRun| (run.content, run.order, run.migratetype);
    last.range().end == next.start && kind(last) == kind(next)
}

/// The block that begins at a frame.
fn block_at(allocator: &StockMm, start: Pfn) -> PageRun {
    let frames = PageAllocator::frames(allocator);
    let frame = start.0 as Frame;
    let word = frames.word(frame);
    let (content, order) = match word.state() {
        FrameState::Absent => (Content::Absent, 0),
        FrameState::Reserved => (Content::Reserved, 0),
        FrameState::Buddy => (Content::Free, word.order()),
        FrameState::Pcp => (Content::Pcp, word.order()),
        FrameState::Isolated => (Content::Isolated, word.order()),
        FrameState::Allocated if word.marks().contains(Mark::TAIL) => (word.content(), 0),
        FrameState::Allocated => (word.content(), word.order()),
        FrameState::FreeTail => (Content::Free, 0),
    };
    let migratetype = allocator.pageblock_type(frame);
    PageRun { start, pages: 1 << order, content, order, migratetype }
}

fn pageblocks(allocator: &StockMm, span: PfnRange) -> Vec<(PfnRange, Migratetype)> {
    let mut blocks: Vec<(PfnRange, Migratetype)> = Vec::new();
    let mut at = span.start;
    while at < span.end {
        let end = Pfn((at.0 / PAGEBLOCK_PAGES + 1) * PAGEBLOCK_PAGES).min(span.end);
        let of_type = allocator.pageblock_type(at.0 as Frame);
        match blocks.last_mut() {
            Some((range, last)) if *last == of_type && range.end == at => range.end = end,
            _ => blocks.push((PfnRange { start: at, end }, of_type)),
        }
        at = end;
    }
    blocks
}
