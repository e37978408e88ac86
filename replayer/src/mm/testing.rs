//! One test suite for every allocator: random work, checked after each step against a naive
//! oracle that only knows which logical page should live somewhere.
//!
//! An implementation runs it with `allocator_suite!(Type)`.

use std::collections::BTreeMap;

use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::{Cpu, Machine, Zone, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole, SnapshotSource};
use proptest::prelude::*;

use super::allocator::PageAllocator;
use super::frames::{Frame, FrameState, NOWHERE};
use super::request::{Entry, FreeEntry, Refusal, Request};
use super::settings::Settings;

/// Zones of a test machine: node, kind, first frame, frames.
pub(crate) type ZoneShape = (u16, ZoneKind, u64, u64);

/// A run of pages of a test snapshot: first frame, frames, content.
pub(crate) type RunShape = (u64, u64, Content);

/// A machine with pageblocks of `block_order` pages, two CPUs on each node.
pub(crate) fn machine(block_order: u8, zones: &[ZoneShape]) -> Machine {
    let nodes = zones.iter().map(|z| z.0).max().unwrap_or(0) + 1;
    let cpu = |id: u16| Cpu { id: CpuId(id), node: id / 2, online: true };
    let zone =
        |shape: &ZoneShape| Zone::new(shape.0, shape.1, PfnRange::new(Pfn(shape.2), shape.3));
    Machine {
        hostname: "test".into(),
        kernel_release: "6.18.0".into(),
        arch: "x86_64".into(),
        page_size: 4096,
        pageblock_order: block_order,
        max_page_order: block_order + 1,
        cpus: (0..2 * nodes).map(cpu).collect(),
        zones: zones.iter().map(zone).collect(),
        ram: zones.iter().map(|z| PfnRange::new(Pfn(z.2), z.3)).collect(),
        sysctls: BTreeMap::from([("min_free_kbytes".to_owned(), 128)]),
        facts: BTreeMap::new(),
    }
}

/// A snapshot of a machine whose pages are all free but for `runs`.
pub(crate) fn snapshot(machine: &Machine, runs: &[RunShape]) -> Snapshot {
    let mut all = Vec::new();
    for zone in &machine.zones {
        let span = zone.span();
        let mut at = span.start;
        let inside = |r: &&RunShape| span.contains(Pfn(r.0));
        for (start, pages, content) in runs.iter().filter(inside) {
            push_run(&mut all, at, Pfn(*start), Content::Free);
            push_run(&mut all, Pfn(*start), Pfn(start + pages), *content);
            at = Pfn(start + pages);
        }
        push_run(&mut all, at, span.end, Content::Free);
    }
    Snapshot {
        source: SnapshotSource::Synthetic,
        role: SnapshotRole::Opening,
        begin_ns: 0,
        end_ns: 0,
        machine: machine.clone(),
        chunks: Vec::new(),
        runs: all,
        pageblocks: machine.zones.iter().filter_map(cma_area).collect(),
        lists: Vec::new(),
        notes: Vec::new(),
    }
}

/// The second eighth of a MOVABLE zone is a CMA area.
fn cma_area(zone: &Zone) -> Option<(PfnRange, Migratetype)> {
    let eighth = zone.spanned_pages / 8;
    let area = PfnRange::new(zone.start_pfn.offset(eighth), eighth);
    (zone.kind == ZoneKind::Movable).then_some((area, Migratetype::Cma))
}

fn push_run(runs: &mut Vec<PageRun>, start: Pfn, end: Pfn, content: Content) {
    let migratetype = match content {
        Content::Kernel => Migratetype::Unmovable,
        Content::Reclaimable => Migratetype::Reclaimable,
        _ => Migratetype::Movable,
    };
    if start < end {
        runs.push(PageRun { start, pages: end.0 - start.0, content, order: 0, migratetype });
    }
}

/// Settings for machines of a few hundred pages: regions of eight pageblocks.
pub(crate) fn small_settings(block_order: u8) -> Settings {
    Settings { region_order: u64::from(block_order) + 3, ..Settings::default() }
}

/// One random step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Alloc { order: u8, shape: usize, cpu: u16, entry: u8 },
    Free { which: usize, piece: u8, cpu: u16, nolock: bool },
    FreeNeighbours { which: usize, cpu: u16 },
    SetContent { which: usize, content: usize },
    Advance { ms: u64 },
    Cpu { cpu: u16, online: bool },
    Take { frame: u32, order: u8 },
    Contig { order: u8, cpu: u16 },
    Fill { shape: usize, order: u8, blocks: u32, cpu: u16 },
    Thin { keep_one_in: usize, order: u8, cpu: u16 },
    Reclass { content: usize, one_in: usize },
    Shrink { frame: u64, pages: u64 },
    Grow { frame: u64, pages: u64 },
}

/// Shapes of requests: the common callers of a kernel.
pub(crate) fn shapes() -> Vec<Gfp> {
    let thp = Gfp::HIGHUSER_MOVABLE | Gfp::COMP | Gfp::NOMEMALLOC | Gfp::NOWARN;
    vec![
        Gfp::HIGHUSER_MOVABLE,
        Gfp::KERNEL,
        Gfp::KERNEL | Gfp::RECLAIMABLE,
        Gfp::ATOMIC,
        Gfp::NOWAIT,
        Gfp::NOWAIT | Gfp::MOVABLE,
        Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN,
        Gfp::KERNEL | Gfp::RETRY_MAYFAIL,
        Gfp::KERNEL | Gfp::DMA32,
        Gfp::KERNEL | Gfp::NOFAIL,
        Gfp::KERNEL | Gfp::THISNODE,
        Gfp::ATOMIC | Gfp::MEMALLOC,
        thp - Gfp::DIRECT_RECLAIM - Gfp::KSWAPD_RECLAIM,
        thp,
    ]
}

/// Random steps; `max_order` is one more than the machine serves.
pub(crate) fn steps(max_order: u8, frames: u32) -> impl Strategy<Value = Vec<Step>> {
    let wide = u64::from(frames);
    let alloc = (0..=max_order, 0..shapes().len(), 0..5u16, 0..8u8)
        .prop_map(|(order, shape, cpu, entry)| Step::Alloc { order, shape, cpu, entry });
    // Most requests are small, as in a kernel.
    let small = (0..3u8, 0..shapes().len(), 0..5u16, 0..8u8)
        .prop_map(|(order, shape, cpu, entry)| Step::Alloc { order, shape, cpu, entry });
    let free = (any::<usize>(), 0..4u8, 0..5u16, any::<bool>())
        .prop_map(|(which, piece, cpu, nolock)| Step::Free { which, piece, cpu, nolock });
    let step = prop_oneof![
        6 => alloc,
        10 => small,
        12 => free,
        2 => (any::<usize>(), 0..5u16).prop_map(|(which, cpu)| Step::FreeNeighbours { which, cpu }),
        3 => (any::<usize>(), 0..Content::COUNT)
            .prop_map(|(which, content)| Step::SetContent { which, content }),
        2 => (1..3000u64).prop_map(|ms| Step::Advance { ms }),
        1 => (0..5u16, any::<bool>()).prop_map(|(cpu, online)| Step::Cpu { cpu, online }),
        1 => (0..frames, 0..=max_order).prop_map(|(frame, order)| Step::Take { frame, order }),
        1 => (3..8u8, 0..5u16).prop_map(|(order, cpu)| Step::Contig { order, cpu }),
        1 => (0..wide, 1..64u64).prop_map(|(frame, pages)| Step::Shrink { frame, pages }),
        1 => (0..wide, 1..64u64).prop_map(|(frame, pages)| Step::Grow { frame, pages }),
    ];
    let press = prop_oneof![
        6 => (0..shapes().len(), 0..4u8, 1..frames, 0..5u16)
            .prop_map(|(shape, order, blocks, cpu)| Step::Fill { shape, order, blocks, cpu }),
        4 => (1..6usize, 0..5u8, 0..5u16)
            .prop_map(|(keep_one_in, order, cpu)| Step::Thin { keep_one_in, order, cpu }),
        1 => (0..Content::COUNT, 1..4usize)
            .prop_map(|(content, one_in)| Step::Reclass { content, one_in }),
    ];
    let step = prop_oneof![20 => step, 1 => press];
    prop::collection::vec(step, 1..250)
}

/// What an allocated logical page must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    content: Content,
}

/// An allocator and what must be true of it.
pub(crate) struct Oracle<A> {
    pub(crate) mm: A,
    /// Logical pages that live somewhere, by kernel pfn.
    pages: BTreeMap<u32, Page>,
    managed: u64,
    block_order: u8,
    now: u64,
}

impl<A: PageAllocator> Oracle<A> {
    pub(crate) fn new(snapshot: &Snapshot, settings: &Settings, boot: bool) -> Oracle<A> {
        let mm = A::build(&snapshot.machine, settings).expect("the test machine is sound");
        if boot {
            mm.boot(snapshot);
        } else {
            mm.load(snapshot);
        }
        let mut pages = BTreeMap::new();
        for frame in 0..mm.frames().len() {
            let word = mm.frames().word(frame);
            if word.state() == FrameState::Allocated {
                pages.insert(frame, Page { content: word.content() });
            }
        }
        let managed = total(&mm) - reserved(&mm);
        let block_order = snapshot.machine.pageblock_order;
        let oracle = Oracle { mm, pages, managed, block_order, now: 0 };
        oracle.check();
        oracle
    }

    /// The smallest kernel pfn without a logical page.
    fn unused(&self, count: usize) -> Vec<u32> {
        (0..self.mm.frames().len())
            .filter(|pfn| !self.pages.contains_key(pfn))
            .take(count)
            .collect()
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Alloc { order, shape, cpu, entry } => {
                let entry = match entry {
                    0 => Entry::NoLock,
                    1 => Entry::Bulk,
                    _ => Entry::Normal,
                };
                let gfp = shapes()[*shape];
                let request = Request { entry, ..Request::new(*order, gfp, CpuId(*cpu)) };
                self.alloc(&request).ok();
            }
            Step::Free { which, piece, cpu, nolock } => self.free(*which, *piece, *cpu, *nolock),
            Step::FreeNeighbours { which, cpu } => self.free_neighbours(*which, *cpu),
            Step::SetContent { which, content } => self.set_content(*which, *content),
            Step::Advance { ms } => {
                self.now += ms * 1_000_000;
                self.mm.advance(self.now);
            }
            Step::Cpu { cpu, online: true } => self.mm.cpu_online(CpuId(*cpu)),
            Step::Cpu { cpu, online: false } => self.mm.cpu_offline(CpuId(*cpu)),
            Step::Take { frame, order } => self.take(*frame, *order),
            Step::Contig { order, cpu } => {
                // Gigantic pages are at least a pageblock.
                let order = (*order).max(self.block_order);
                if let Some(frame) = self.mm.alloc_contig(order, CpuId(*cpu), Content::Gigantic) {
                    assert_eq!(frame & ((1 << order) - 1), 0, "contig {frame:#x}");
                    self.own(frame, order, Content::Gigantic);
                }
            }
            Step::Fill { shape, order, blocks, cpu } => {
                let request = Request::new(*order, shapes()[*shape], CpuId(*cpu));
                let blocks = (*blocks).min((self.managed >> order) as u32);
                let _served = (0..blocks).take_while(|_| self.alloc(&request).is_ok()).count();
            }
            Step::Thin { keep_one_in, order, cpu } => self.thin(*keep_one_in, *order, *cpu),
            Step::Reclass { content, one_in } => {
                for which in (0..self.pages.len()).step_by(*one_in) {
                    self.set_content(which, *content);
                }
            }
            Step::Shrink { frame, pages } => {
                self.managed -= self.mm.shrink(PfnRange::new(Pfn(*frame), *pages));
            }
            Step::Grow { frame, pages } => {
                let had = total(&self.mm) - reserved(&self.mm);
                self.mm.grow(PfnRange::new(Pfn(*frame), *pages));
                self.managed += total(&self.mm) - reserved(&self.mm) - had;
            }
        }
        self.forget_evicted();
        self.check();
    }

    pub(crate) fn alloc(&mut self, request: &Request) -> Result<Frame, Refusal> {
        let frame = self.mm.alloc(request)?;
        assert_eq!(frame & ((1 << request.order) - 1), 0, "{request:?} got {frame:#x}");
        self.own(frame, request.order, request.content);
        Ok(frame)
    }

    /// Settles new logical pages in a block just handed out.
    fn own(&mut self, frame: Frame, order: u8, content: Content) {
        let mut pfns = self.unused(1 << order);
        if pfns.len() < 1 << order {
            // Pages that the allocator dropped to make room still hold their numbers.
            self.forget_evicted();
            pfns = self.unused(1 << order);
        }
        assert_eq!(pfns.len(), 1 << order, "more pages than frames");
        for (pfn, frame) in pfns.into_iter().zip(frame..) {
            let owner = self.mm.frames().owner(frame);
            assert_eq!(owner, NOWHERE, "frame {frame:#x} is handed out with an owner");
            self.mm.frames().settle(pfn, frame);
            self.pages.insert(pfn, Page { content });
        }
    }

    fn pick(&self, which: usize) -> Option<(u32, Frame)> {
        let index = which.checked_rem(self.pages.len())?;
        let pfn = *self.pages.keys().nth(index)?;
        Some((pfn, self.mm.frames().place(pfn)?))
    }

    /// Frees the whole allocation that holds a page, or an aligned piece of it.
    fn free(&mut self, which: usize, piece: u8, cpu: u16, nolock: bool) {
        let Some((_, frame)) = self.pick(which) else { return };
        let (head, whole) = self.block_of(frame);
        let order = if piece == 0 { whole } else { whole.min(piece - 1) };
        let start = if piece == 0 { head } else { frame >> order << order };
        let entry = if nolock { FreeEntry::NoLock } else { FreeEntry::Normal };
        self.free_at(start, order, cpu, entry);
    }

    pub(crate) fn free_at(&mut self, start: Frame, order: u8, cpu: u16, entry: FreeEntry) {
        for frame in start..start + (1 << order) {
            let pfn = self.mm.frames().owner(frame);
            assert!(self.pages.remove(&pfn).is_some(), "frame {frame:#x} is owned by {pfn:#x}");
            self.mm.frames().unsettle(pfn);
        }
        self.mm.free(start, order, CpuId(cpu), entry).expect("all pages are allocated");
    }

    /// Frees an aligned block whose pages are all allocated, whoever allocated them.
    fn free_neighbours(&mut self, which: usize, cpu: u16) {
        let Some((_, frame)) = self.pick(which) else { return };
        let allocated = |f: Frame| {
            f < self.mm.frames().len() && self.mm.frames().word(f).state() == FrameState::Allocated
        };
        let whole = |order: &u8| {
            let start = frame >> order << order;
            (start..start + (1 << order)).all(allocated)
        };
        let order = (0..=6).take_while(whole).last().unwrap_or(0);
        self.free_at(frame >> order << order, order, cpu, FreeEntry::Normal);
    }

    /// Frees most of the blocks that have at least `order`, or their pieces of that order.
    fn thin(&mut self, keep_one_in: usize, order: u8, cpu: u16) {
        let frames = (0..self.mm.frames().len()).step_by(1 << order);
        let allocated = |frame: &Frame| {
            (*frame..*frame + (1 << order))
                .all(|f| self.mm.frames().word(f).state() == FrameState::Allocated)
        };
        let blocks: Vec<Frame> = frames.filter(allocated).collect();
        for (i, start) in blocks.into_iter().enumerate() {
            if i % keep_one_in != 0 || keep_one_in == 1 {
                self.free_at(start, order, cpu, FreeEntry::Normal);
            }
        }
    }

    fn block_of(&self, frame: Frame) -> (Frame, u8) {
        let tail = super::frames::Mark::TAIL;
        (0..32)
            .map(|order| (frame >> order << order, self.mm.frames().word(frame >> order << order)))
            .find(|(_, word)| !word.marks().contains(tail))
            .map(|(head, word)| (head, word.order()))
            .expect("every allocated page has a head")
    }

    fn set_content(&mut self, which: usize, content: usize) {
        let Some((pfn, frame)) = self.pick(which) else { return };
        let content = Content::ALL[content];
        self.mm.set_content(frame, content);
        if content.is_allocated() {
            self.pages.insert(pfn, Page { content });
        }
    }

    fn take(&mut self, frame: u32, order: u8) {
        let frame = frame >> order << order;
        let free = |f: Frame| {
            f < self.mm.frames().len()
                && !matches!(
                    self.mm.frames().word(f).state(),
                    FrameState::Allocated | FrameState::Absent | FrameState::Reserved
                )
        };
        let expected = (frame..frame + (1 << order)).find(|f| !free(*f));
        let taken = self.mm.take(frame, order, Content::Kernel, Migratetype::Unmovable);
        assert_eq!(taken.is_err(), expected.is_some(), "take {frame:#x} {order}: {taken:?}");
        if taken.is_ok() {
            self.own(frame, order, Content::Kernel);
        }
    }

    fn forget_evicted(&mut self) {
        let frames = self.mm.frames();
        self.pages.retain(|pfn, _| !frames.is_evicted(*pfn));
    }

    /// Every logical page lives in a frame of its own that holds what it should, no other frame
    /// is allocated, and free and allocated pages are all there is.
    pub(crate) fn check(&self) {
        self.mm.check_invariants();
        let frames = self.mm.frames();
        for (pfn, page) in &self.pages {
            let frame = frames.place(*pfn).expect("a logical page is lost");
            assert_eq!(frames.owner(frame), *pfn, "owner of frame {frame:#x}");
            let word = frames.word(frame);
            assert_eq!(word.state(), FrameState::Allocated, "frame {frame:#x} of {pfn:#x}");
            assert_eq!(word.content(), page.content, "content of {frame:#x}");
        }
        let allocated = (0..frames.len())
            .filter(|frame| frames.word(*frame).state() == FrameState::Allocated)
            .count();
        assert_eq!(allocated, self.pages.len(), "allocated frames");
        let (buddy, cached) = self.mm.free_pages();
        let parked: u64 =
            self.mm.census().iter().map(|r| u64::from(r.pages[Content::Isolated.index()])).sum();
        assert_eq!(buddy + cached + parked + allocated as u64, self.managed, "pages in all");
    }
}

/// Pages that exist by the census.
fn total<A: PageAllocator>(mm: &A) -> u64 {
    mm.census().iter().map(|r| r.count(|c| c != Content::Absent)).sum()
}

fn reserved<A: PageAllocator>(mm: &A) -> u64 {
    mm.census().iter().map(|r| r.count(|c| c == Content::Reserved)).sum()
}

/// Test machines: one node with two zones, two nodes, and one with ragged edges and holes.
pub(crate) fn machines() -> Vec<(Machine, Vec<RunShape>)> {
    use ZoneKind::{Dma32, Movable, Normal};
    let (reserved, absent) = (Content::Reserved, Content::Absent);
    vec![
        (machine(4, &[(0, Dma32, 0, 256), (0, Normal, 256, 2048)]), vec![(0, 5, reserved)]),
        (
            machine(4, &[(0, Dma32, 0, 256), (0, Normal, 256, 256), (1, Normal, 512, 512)]),
            vec![(300, 40, Content::Kernel), (700, 33, Content::Anon), (800, 64, Content::File)],
        ),
        (
            machine(3, &[(0, Dma32, 1, 254), (0, Normal, 256, 300), (0, Movable, 640, 200)]),
            vec![(9, 30, reserved), (40, 50, absent), (300, 100, absent), (410, 7, Content::Slab)],
        ),
    ]
}

/// Runs random steps on one of the test machines.
pub(crate) fn random_work<A: PageAllocator>(which: usize, boot: bool, pcp: bool, steps: &[Step]) {
    let (machine, runs) = machines().swap_remove(which);
    let settings = Settings { pcp, ..small_settings(machine.pageblock_order) };
    let mut oracle = Oracle::<A>::new(&snapshot(&machine, &runs), &settings, boot);
    for step in steps {
        oracle.step(step);
    }
}

/// Runs the same random steps every time and adds the counters of all runs up, to see which
/// paths the suite takes.
pub(crate) fn counters_of_suite<A: PageAllocator>(runs: usize) -> BTreeMap<String, u64> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut sums = BTreeMap::new();
    for run in 0..runs {
        let which = run % machines().len();
        let (machine, runs) = machines().swap_remove(which);
        let frames = machine.end_pfn().0 as u32;
        let tree = steps(machine.max_page_order + 1, frames).new_tree(&mut runner);
        let settings = Settings {
            swap: true,
            kswapd_reclaim: run % 2 == 0,
            direct_reclaim: run % 4 != 1,
            ..small_settings(machine.pageblock_order)
        };
        let mut oracle = Oracle::<A>::new(&snapshot(&machine, &runs), &settings, false);
        for step in tree.expect("steps are generated").current() {
            oracle.step(&step);
        }
        for (name, count) in oracle.mm.counters() {
            *sums.entry(name).or_insert(0) += count;
        }
    }
    sums
}

/// The tests that every allocator must pass.
macro_rules! allocator_suite {
    ($($name:ident: $allocator:ty;)*) => {$(
        mod $name {
            use super::*;
            use $crate::mm::testing;

            proptest::proptest! {
                #![proptest_config(proptest::prelude::ProptestConfig::with_cases(96))]

                #[test]
                fn one_node(work in testing::steps(6, 2304), boot: bool, pcp: bool) {
                    testing::random_work::<$allocator>(0, boot, pcp, &work);
                }

                #[test]
                fn two_nodes(work in testing::steps(6, 1024), boot: bool, pcp: bool) {
                    testing::random_work::<$allocator>(1, boot, pcp, &work);
                }

                #[test]
                fn ragged_zones(work in testing::steps(5, 860), boot: bool, pcp: bool) {
                    testing::random_work::<$allocator>(2, boot, pcp, &work);
                }
            }
        }
    )*};
}
pub(crate) use allocator_suite;
