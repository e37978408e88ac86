//! The poorer source: `/proc/kpageflags`, one word of flags per frame.
//!
//! What it cannot tell is said in the notes: pages cached on a per-CPU list look like kernel
//! pages without flags, orders of free blocks are rebuilt, and no list or pageblock type shows.
//! Flag numbers are those of the kernel's `include/uapi/linux/kernel-page-flags.h`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, MAX_PAGE_ORDER, Pfn, PfnRange, REGION_ORDER, REGION_PAGES};
use fragscope_trace::snapshot::{ChunkTime, PageRun, Snapshot, SnapshotRole, SnapshotSource};

use super::grow::find_present;
use super::runs::{self, Block, RunBuilder, State};
use super::{CHUNK_PAGES, Limits, SnapshotError, chunks, spans};
use crate::bpf::clock::now_ns;
use crate::privileges::held;

const PATH: &str = "/proc/kpageflags";

const UPTODATE: u64 = 1 << 3;
const LRU: u64 = 1 << 5;
const SLAB: u64 = 1 << 7;
const BUDDY: u64 = 1 << 10;
const ANON: u64 = 1 << 12;
const SWAPBACKED: u64 = 1 << 14;
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;
const HUGE: u64 = 1 << 17;
const HWPOISON: u64 = 1 << 19;
const NOPAGE: u64 = 1 << 20;
const OFFLINE: u64 = 1 << 23;
const PGTABLE: u64 = 1 << 26;
const RESERVED: u64 = 1 << 32;
/// `KPF_UPTODATE`, `KPF_MMAP` and the other flags that say nothing about what a page is for.
const NO_MEANING: u64 = 1 << 0 | 1 << 2 | UPTODATE | 1 << 25;

/// Reads the state of all frames.
///
/// # Errors
/// If the file cannot be read, or time was up.
pub fn take(
    machine: Machine,
    role: SnapshotRole,
    limits: &Limits,
) -> Result<Snapshot, SnapshotError> {
    let file = held::open(PATH).map_err(SnapshotError::KpageFlags)?;
    let begin_ns = limits.clock.moment();
    let spans = spans(&machine.zones);
    let all_pages = spans.iter().map(|s| s.pages()).sum();
    let mut scan = Scan::new(&machine, free_bits(&file, &spans)?);
    let mut times = Vec::new();
    let mut buffer = vec![0; CHUNK_PAGES as usize * 8];
    for chunk in spans.iter().flat_map(|span| chunks(*span, CHUNK_PAGES)) {
        limits.between_chunks(scan.pages, all_pages)?;
        let begin_ns = limits.clock.moment();
        let flags = read_chunk(&file, chunk, &mut buffer)?;
        times.push(ChunkTime { range: chunk, begin_ns, end_ns: now_ns() });
        scan.chunk(chunk, &flags);
    }
    let mut notes = scan.notes();
    let found = runs::overlay(&scan.runs.finish(), &scan.gigantic);
    let runs = absent_sections(&machine, runs::fill_spans(&found, &spans), &mut notes);
    Ok(Snapshot {
        source: SnapshotSource::KpageFlags,
        role,
        begin_ns,
        end_ns: now_ns(),
        machine,
        chunks: times,
        runs,
        pageblocks: Vec::new(),
        lists: Vec::new(),
        notes,
    })
}

/// Frames among `candidates` that show flags now, without reserved ones.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn present_in(candidates: &[PfnRange]) -> Result<Vec<PfnRange>, SnapshotError> {
    let file = held::open(PATH).map_err(SnapshotError::KpageFlags)?;
    find_present(candidates, |range| {
        let mut buffer = vec![0; range.pages() as usize * 8];
        let flags = read_chunk(&file, range, &mut buffer)?;
        let mut present = RunBuilder::default();
        for (index, flags) in flags.into_iter().enumerate() {
            if flags & !NO_MEANING != 0 && flags & RESERVED == 0 {
                let at = range.start.offset(index as u64);
                present.push(at, 1, State::new(Content::Unknown, 0));
            }
        }
        Ok(present.finish().iter().map(PageRun::range).collect())
    })
}

/// Reads the flags of one chunk; frames beyond the end of the file have none.
fn read_chunk(file: &File, chunk: PfnRange, buffer: &mut [u8]) -> Result<Vec<u64>, SnapshotError> {
    let want = chunk.pages() as usize * 8;
    let mut have = 0;
    while have < want {
        let at = chunk.start.0 * 8 + have as u64;
        match file.read_at(&mut buffer[have..want], at).map_err(SnapshotError::KpageFlags)? {
            0 => break,
            n => have += n,
        }
    }
    buffer[have..want].fill(0);
    let words = buffer[..want].chunks_exact(8);
    Ok(words.map(|w| u64::from_le_bytes(w.try_into().unwrap_or_default())).collect())
}

/// On which frames of a free block the kernel shows `BUDDY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FreeBits {
    /// On all: 2.6.36 and later.
    AllPages,
    /// Only on the first.
    Heads,
}

/// Looks at chunks, from the top, until one has enough free pages to tell.
fn free_bits(file: &File, spans: &[PfnRange]) -> Result<FreeBits, SnapshotError> {
    const ENOUGH: usize = 256;
    let mut buffer = vec![0; CHUNK_PAGES as usize * 8];
    let all: Vec<PfnRange> = spans.iter().flat_map(|s| chunks(*s, CHUNK_PAGES)).collect();
    for chunk in all.into_iter().rev() {
        let flags = read_chunk(file, chunk, &mut buffer)?;
        let odd = usize::from(!chunk.start.0.is_multiple_of(2));
        let pairs = || flags[odd.min(flags.len())..].chunks_exact(2);
        let heads = pairs().filter(|p| p[0] & BUDDY != 0).count();
        if heads >= ENOUGH {
            let both = pairs().filter(|p| p[0] & p[1] & BUDDY != 0).count();
            return Ok(if both * 8 > heads { FreeBits::AllPages } else { FreeBits::Heads });
        }
    }
    Ok(FreeBits::AllPages)
}

/// What one frame's flags say, in the order of decision: the first that applies.
fn content(flags: u64) -> Content {
    let has = |bits| flags & bits != 0;
    match () {
        () if has(NOPAGE) => Content::Absent,
        () if has(RESERVED) => Content::Reserved,
        () if has(HUGE) => Content::Hugetlb,
        // Bits that come from the map count are artefacts on slab and free pages.
        () if has(SLAB) => Content::Slab,
        () if has(BUDDY) => Content::Free,
        () if has(PGTABLE) => Content::PageTable,
        () if has(OFFLINE | HWPOISON) => Content::Offline,
        // Anonymous pages that wait for the LRU carry no LRU bit yet.
        () if has(ANON) || flags & (LRU | SWAPBACKED) == LRU | SWAPBACKED => Content::Anon,
        () if has(LRU) => Content::File,
        () if flags & !NO_MEANING == 0 => Content::Unknown,
        () => Content::Kernel,
    }
}

fn count_tails(flags: &[u64]) -> usize {
    flags.iter().take_while(|f| *f & COMPOUND_TAIL != 0).count()
}

/// Progress of one scan.
struct Scan<'a> {
    machine: &'a Machine,
    free_bits: FreeBits,
    runs: RunBuilder,
    /// The last hugetlb page, while it reaches up to the last frame seen.
    open: Option<PfnRange>,
    gigantic: Vec<Block>,
    pages: u64,
}

impl Scan<'_> {
    fn new(machine: &Machine, free_bits: FreeBits) -> Scan<'_> {
        let runs = RunBuilder::default();
        Scan { machine, free_bits, runs, open: None, gigantic: Vec::new(), pages: 0 }
    }

    /// Adds the pages of one chunk that are RAM.
    fn chunk(&mut self, chunk: PfnRange, flags: &[u64]) {
        self.pages += chunk.pages();
        let whole = [chunk];
        let ram = if self.machine.ram.is_empty() { &whole[..] } else { &self.machine.ram };
        for part in ram.iter().filter_map(|r| r.intersect(chunk)) {
            let from = (part.start.0 - chunk.start.0) as usize;
            let flags = &flags[from..from + part.pages() as usize];
            let mut at = 0;
            while at < flags.len() {
                at += self.block(part.start.offset(at as u64), &flags[at..]);
            }
        }
    }

    /// Adds what starts at `start`; gives its pages.
    fn block(&mut self, start: Pfn, flags: &[u64]) -> usize {
        let content = content(flags[0]);
        if content == Content::Free {
            return self.free(start, flags);
        }
        if flags[0] & COMPOUND_HEAD != 0 {
            return self.compound(start, content, flags);
        }
        if content == Content::Hugetlb && flags[0] & COMPOUND_TAIL != 0 {
            return self.tails(start, content, flags);
        }
        self.runs.push(start, 1, State::new(content, 0));
        1
    }

    /// A compound page: its head and the tails that follow in this chunk.
    fn compound(&mut self, start: Pfn, content: Content, flags: &[u64]) -> usize {
        let pages = 1 + count_tails(&flags[1..]);
        let order = pages.ilog2() as u8;
        let whole = pages.is_power_of_two() && start.is_aligned(order);
        self.runs.push(start, pages as u64, State::new(content, if whole { order } else { 0 }));
        self.open = (content == Content::Hugetlb).then(|| PfnRange::new(start, pages as u64));
        pages
    }

    /// Tails of a hugetlb page that began in an earlier chunk: only a gigantic one is so large.
    fn tails(&mut self, start: Pfn, content: Content, flags: &[u64]) -> usize {
        let pages = count_tails(flags);
        self.runs.push(start, pages as u64, State::new(content, 0));
        let open = self.open.filter(|open| open.end == start);
        self.open = open.map(|open| PfnRange { end: start.offset(pages as u64), ..open });
        if let Some(open) = self.open.filter(|o| o.pages() == REGION_PAGES) {
            let state = State::new(Content::Gigantic, REGION_ORDER);
            self.gigantic.push(Block { start: open.start, state });
        }
        pages
    }

    /// A free block: the largest aligned one that fits into the stretch of free pages. It differs
    /// from the truth only where the kernel keeps buddies unmerged.
    fn free(&mut self, start: Pfn, flags: &[u64]) -> usize {
        let member = |f: &u64| match self.free_bits {
            FreeBits::AllPages => content(*f) == Content::Free,
            FreeBits::Heads => *f == 0,
        };
        let aligned = start.0.trailing_zeros().min(u32::from(MAX_PAGE_ORDER));
        let stretch =
            1 + flags[1..].iter().take((1 << aligned) - 1).take_while(|f| member(f)).count();
        let order = stretch.ilog2() as u8;
        self.runs.push(start, 1 << order, State::new(Content::Free, order));
        1 << order
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "pages on per-CPU lists, kernel stacks, vmalloc and driver memory show no flags: they \
             are `unknown`"
                .to_owned(),
            "orders of free blocks are rebuilt, list order and pageblock types are not known"
                .to_owned(),
        ];
        if self.free_bits == FreeBits::Heads {
            notes.push("this kernel marks only the first page of a free block".to_owned());
        }
        if self.machine.ram.is_empty() {
            notes.push("/proc/iomem shows no addresses: holes look like unknown pages".to_owned());
        }
        notes
    }
}

/// Pages in a section of x86-64.
const SECTION_PAGES: u64 = 1 << 15;

/// Memory that the allocator was not given yet (`managed` far below `present`) has no flags
/// either. Whole sections without any flag become absent, as far as the zone lacks pages.
fn absent_sections(machine: &Machine, runs: Vec<PageRun>, notes: &mut Vec<String>) -> Vec<PageRun> {
    let mut blocks = Vec::new();
    for zone in &machine.zones {
        let mut lacking = zone.present_pages.saturating_sub(zone.managed_pages);
        for part in runs.iter().rev().filter(|r| r.content == Content::Unknown) {
            let Some(part) = part.range().intersect(zone.span()) else { continue };
            let first = part.start.0.div_ceil(SECTION_PAGES);
            for section in (first..part.end.0 / SECTION_PAGES).rev() {
                if lacking < SECTION_PAGES {
                    break;
                }
                lacking -= SECTION_PAGES;
                blocks.push(section);
            }
        }
    }
    if blocks.is_empty() {
        return runs;
    }
    blocks.sort_unstable();
    notes.push(format!(
        "{} sections of {SECTION_PAGES} pages without any flag are taken for memory that the \
         allocator was not given yet",
        blocks.len()
    ));
    // A section is smaller than a region, so its order is a valid one for a block.
    const { assert!(SECTION_PAGES < 1 << REGION_ORDER) };
    let order = SECTION_PAGES.ilog2() as u8;
    let absent =
        |n: u64| Block { start: Pfn(n * SECTION_PAGES), state: State::new(Content::Absent, order) };
    let blocks: Vec<Block> = blocks.into_iter().map(absent).collect();
    flatten_absent(runs::overlay(&runs, &blocks))
}

/// Absent memory has no blocks: order 0, so that neighbouring runs become one.
fn flatten_absent(runs: Vec<PageRun>) -> Vec<PageRun> {
    let mut out = RunBuilder::default();
    for run in runs {
        let state = runs::state_of(&run);
        let order = if run.content == Content::Absent { 0 } else { run.order };
        out.push(run.start, run.pages, State { order, ..state });
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::synthetic;

    #[test]
    fn the_first_flag_that_applies_decides() {
        let table = [
            (0, Content::Unknown),
            (UPTODATE, Content::Unknown),
            (RESERVED | BUDDY, Content::Reserved),
            (SLAB | ANON | LRU, Content::Slab),
            (BUDDY | ANON, Content::Free),
            (LRU | ANON | SWAPBACKED, Content::Anon),
            (LRU | SWAPBACKED, Content::Anon),
            (ANON | SWAPBACKED, Content::Anon),
            (LRU | UPTODATE, Content::File),
            (PGTABLE, Content::PageTable),
            (COMPOUND_TAIL, Content::Kernel),
            (HUGE | COMPOUND_HEAD, Content::Hugetlb),
            (NOPAGE, Content::Absent),
        ];
        for (flags, expected) in table {
            assert_eq!(content(flags), expected, "{flags:#x}");
        }
    }

    fn scan(machine: &Machine, bits: FreeBits, flags: &[u64], chunk: usize) -> Vec<PageRun> {
        let mut scan = Scan::new(machine, bits);
        for (n, part) in flags.chunks(chunk).enumerate() {
            let range = PfnRange::new(Pfn((n * chunk) as u64), part.len() as u64);
            scan.chunk(range, part);
        }
        runs::overlay(&scan.runs.finish(), &scan.gigantic)
    }

    #[test]
    fn a_gigantic_page_spans_chunks() {
        let machine = synthetic::machine(REGION_PAGES * 2);
        let mut flags = vec![HUGE | COMPOUND_TAIL; REGION_PAGES as usize * 2];
        flags[REGION_PAGES as usize] = HUGE | COMPOUND_HEAD;
        flags[..REGION_PAGES as usize].fill(LRU);
        let runs = scan(&machine, FreeBits::AllPages, &flags, CHUNK_PAGES as usize);
        let last = runs.last().unwrap();
        assert_eq!((last.content, last.order), (Content::Gigantic, REGION_ORDER));
        assert_eq!(last.range(), PfnRange::new(Pfn(REGION_PAGES), REGION_PAGES));
    }

    proptest! {
        /// Every frame appears once, with the content that its own flags say; free blocks are
        /// the same whether the kernel marks all pages or only heads.
        #[test]
        fn each_frame_keeps_its_content(
            kinds in prop::collection::vec((0usize..6, 0u8..6), 1..40),
        ) {
            let words = [0, BUDDY, LRU, SLAB, PGTABLE, ANON | SWAPBACKED];
            let (mut flags, mut heads) = (Vec::new(), Vec::new());
            for (kind, order) in kinds {
                let order = if kind == 0 { 0 } else { order.min(flags.len().trailing_zeros() as u8) };
                for page in 0..1 << order {
                    flags.push(words[kind]);
                    heads.push(if kind == 1 && page > 0 { 0 } else { words[kind] });
                }
            }
            let machine = synthetic::machine(flags.len() as u64);
            let runs = scan(&machine, FreeBits::AllPages, &flags, 1 << 16);
            let mut at = 0;
            for run in &runs {
                prop_assert_eq!(run.start.0, at);
                prop_assert!(run.start.is_aligned(run.order) && run.pages % (1 << run.order) == 0);
                for pfn in run.range().raw() {
                    prop_assert_eq!(run.content, content(flags[pfn as usize]));
                }
                at += run.pages;
            }
            prop_assert_eq!(at, flags.len() as u64);
            // With heads only, a block cannot be larger than without: tails of another may follow.
            let free = |runs: &[PageRun]| -> u64 {
                runs.iter().filter(|r| r.content == Content::Free).map(|r| r.pages).sum()
            };
            let by_heads = scan(&machine, FreeBits::Heads, &heads, 1 << 16);
            prop_assert!(free(&by_heads) >= free(&runs));
        }
    }
}
