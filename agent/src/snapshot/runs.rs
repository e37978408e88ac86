//! Run-length coding of page states, and corrections of runs by blocks found later.

use fragscope_trace::page::{Content, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::PageRun;

/// Everything about a page but where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) content: Content,
    /// Order of the block, 0 where unknown.
    pub(crate) order: u8,
    pub(crate) migratetype: Migratetype,
}

impl State {
    /// A state whose type is what the content suggests.
    pub(crate) fn new(content: Content, order: u8) -> State {
        State { content, order, migratetype: suggested_type(content) }
    }
}

/// The type of pageblock in which the kernel would put such pages. At boot every pageblock is
/// movable, so pages that never were allocated keep that.
pub(crate) fn suggested_type(content: Content) -> Migratetype {
    match content {
        Content::Slab | Content::PageTable | Content::Kernel => Migratetype::Unmovable,
        Content::Reclaimable => Migratetype::Reclaimable,
        _ => Migratetype::Movable,
    }
}

/// Builds runs from ascending pieces.
#[derive(Debug, Default)]
pub(crate) struct RunBuilder {
    runs: Vec<PageRun>,
}

impl RunBuilder {
    /// Appends `pages` pages in one state. They are whole blocks and follow what was appended
    /// before.
    pub(crate) fn push(&mut self, start: Pfn, pages: u64, state: State) {
        if pages == 0 {
            return;
        }
        let State { content, order, migratetype } = state;
        debug_assert!(start.is_aligned(order), "{start} holds no block of order {order}");
        debug_assert!(pages.is_multiple_of(1 << order), "{pages} pages of order {order}");
        match self.runs.last_mut() {
            Some(run) if run.range().end == start && state_of(run) == state => run.pages += pages,
            last => {
                debug_assert!(last.is_none_or(|run| run.range().end <= start));
                self.runs.push(PageRun { start, pages, content, order, migratetype });
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<PageRun> {
        self.runs
    }
}

pub(crate) fn state_of(run: &PageRun) -> State {
    State { content: run.content, order: run.order, migratetype: run.migratetype }
}

/// A block whose state is known better than from the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) start: Pfn,
    pub(crate) state: State,
}

impl Block {
    fn range(&self) -> PfnRange {
        PfnRange::new(self.start, 1 << self.state.order)
    }
}

/// Puts `blocks` (ascending, without overlaps) over `runs`. A block that cuts through a block of
/// its run leaves the rest of that one as single pages.
pub(crate) fn overlay(runs: &[PageRun], blocks: &[Block]) -> Vec<PageRun> {
    let mut out = RunBuilder::default();
    let mut blocks = blocks.iter().peekable();
    let mut covered = Pfn(0);
    for run in runs {
        let mut at = run.start.max(covered);
        let end = run.range().end;
        while let Some(block) = blocks.next_if(|b| b.start < end) {
            push_part(&mut out, run, PfnRange { start: at, end: block.start });
            if block.start >= at {
                out.push(block.start, block.range().pages(), block.state);
                at = block.range().end;
            }
        }
        push_part(&mut out, run, PfnRange { start: at, end });
        covered = at.max(covered);
    }
    out.finish()
}

/// Appends the part of a run inside `part`.
fn push_part(out: &mut RunBuilder, run: &PageRun, part: PfnRange) {
    let (start, end) = (part.start, part.end);
    if start >= end {
        return;
    }
    let order = run.order;
    let first = Pfn(start.0.next_multiple_of(1 << order)).min(end);
    let last = end.align_down(order).max(first);
    let single = State { order: 0, ..state_of(run) };
    out.push(start, first.0 - start.0, single);
    out.push(first, last.0 - first.0, state_of(run));
    out.push(last, end.0 - last.0, single);
}

/// Splits `runs` so that each of their pageblocks has the type that `type_of` gives for it;
/// `None` keeps the run's. Free blocks keep the type of their list.
pub(crate) fn with_types(
    runs: &[PageRun],
    pageblock_order: u8,
    type_of: impl Fn(Pfn) -> Option<Migratetype>,
) -> Vec<PageRun> {
    let mut out = RunBuilder::default();
    for run in runs {
        if matches!(run.content, Content::Free | Content::Pcp) {
            out.push(run.start, run.pages, state_of(run));
            continue;
        }
        let step = 1u64 << pageblock_order.max(run.order);
        let mut start = run.start;
        let end = run.range().end;
        while start < end {
            let next = Pfn((start.0 / step + 1) * step).min(end);
            let migratetype = type_of(start).unwrap_or(run.migratetype);
            out.push(start, next.0 - start.0, State { migratetype, ..state_of(run) });
            start = next;
        }
    }
    out.finish()
}

/// Fills the frames of `spans` (ascending) that `runs` leave out with absent pages, and drops
/// what lies outside.
pub(crate) fn fill_spans(runs: &[PageRun], spans: &[PfnRange]) -> Vec<PageRun> {
    let mut out = RunBuilder::default();
    let absent = State::new(Content::Absent, 0);
    let mut runs = runs.iter().peekable();
    for span in spans {
        let mut at = span.start;
        while let Some(run) = runs.peek() {
            if run.start >= span.end {
                break;
            }
            if let Some(part) = run.range().intersect(PfnRange { start: at, end: span.end }) {
                out.push(at, part.start.0 - at.0, absent);
                push_part(&mut out, run, part);
                at = part.end;
            }
            if run.range().end > span.end {
                break;
            }
            runs.next();
        }
        out.push(at, span.end.0 - at.0, absent);
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: usize = 64;

    fn paint(runs: &[PageRun]) -> Vec<Option<State>> {
        let mut pages = vec![None; PAGES];
        for run in runs {
            assert!(run.start.is_aligned(run.order) && run.pages % (1 << run.order) == 0);
            for pfn in run.range().raw() {
                assert_eq!(pages[pfn as usize].replace(state_of(run)), None, "pfn {pfn} twice");
            }
        }
        pages
    }

    /// Whole blocks one after the other, with gaps where the content is `Absent`.
    fn any_runs() -> impl Strategy<Value = Vec<PageRun>> {
        let contents = [Content::Kernel, Content::Anon, Content::Free, Content::Unknown];
        prop::collection::vec((0u8..5, prop::sample::select(contents.to_vec()), any::<bool>()), 64)
            .prop_map(|pieces| {
                let mut builder = RunBuilder::default();
                let mut at = 0u64;
                for (order, content, keep) in pieces {
                    let order = order.min(at.trailing_zeros() as u8);
                    let pages = 1u64 << order;
                    if at + pages > PAGES as u64 {
                        break;
                    }
                    if keep {
                        builder.push(Pfn(at), pages, State::new(content, order));
                    }
                    at += pages;
                }
                builder.finish()
            })
    }

    fn any_blocks() -> impl Strategy<Value = Vec<Block>> {
        prop::collection::vec((0u64..PAGES as u64, 0u8..4), 0..8).prop_map(|raw| {
            let mut blocks: Vec<Block> = Vec::new();
            let mut raw: Vec<_> = raw.into_iter().map(|(p, o)| (Pfn(p).align_down(o), o)).collect();
            raw.sort();
            for (start, order) in raw {
                if blocks.last().is_none_or(|b| b.range().end <= start) {
                    blocks.push(Block { start, state: State::new(Content::Pcp, order) });
                }
            }
            blocks
        })
    }

    proptest! {
        #[test]
        fn overlay_equals_painting(runs in any_runs(), blocks in any_blocks()) {
            // Blocks lie on pages that the scan saw.
            let seen = paint(&runs);
            let blocks: Vec<Block> = blocks
                .into_iter()
                .filter(|b| b.range().raw().all(|p| seen[p as usize].is_some()))
                .collect();
            let mut expected: Vec<_> = seen.iter().map(|s| s.map(|s| s.content)).collect();
            for block in &blocks {
                for pfn in block.range().raw() {
                    expected[pfn as usize] = Some(Content::Pcp);
                }
            }
            let got = paint(&overlay(&runs, &blocks));
            prop_assert_eq!(got.iter().map(|s| s.map(|s| s.content)).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn spans_are_filled_and_nothing_else(
            runs in any_runs(),
            cuts in prop::collection::btree_set(0u64..=PAGES as u64, 0..8),
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let pairs = cuts.chunks_exact(2);
            let spans: Vec<PfnRange> =
                pairs.map(|c| PfnRange { start: Pfn(c[0]), end: Pfn(c[1]) }).collect();
            let before = paint(&runs);
            let after = paint(&fill_spans(&runs, &spans));
            for pfn in 0..PAGES {
                let inside = spans.iter().any(|s| s.contains(Pfn(pfn as u64)));
                let content = before[pfn].map_or(Content::Absent, |s| s.content);
                prop_assert_eq!(after[pfn].map(|s| s.content), inside.then_some(content));
            }
        }

        #[test]
        fn types_follow_the_pageblocks(runs in any_runs(), types in prop::collection::vec(0usize..3, 16)) {
            let type_of = |pfn: Pfn| Migratetype::from_index(types[pfn.0 as usize / 4]);
            let before = paint(&runs);
            let after = paint(&with_types(&runs, 2, type_of));
            for pfn in 0..PAGES {
                let (Some(before), Some(after)) = (before[pfn], after[pfn]) else {
                    prop_assert_eq!(before[pfn], after[pfn]);
                    continue;
                };
                let first = Pfn(pfn as u64).align_down(before.order.max(2));
                let expected = match before.content {
                    Content::Free => before.migratetype,
                    _ => type_of(first).unwrap(),
                };
                prop_assert_eq!((after.content, after.migratetype), (before.content, expected));
            }
        }
    }
}
