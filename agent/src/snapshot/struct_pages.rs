//! The richer source: all struct pages, copied through a BPF program.
//!
//! A chunk is copied and classified before the next one is read, so that memory stays small; what
//! is kept are runs, and the links of free pages. When all is read, the links give the lists.

use std::time::{Duration, Instant};

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId, Pfn, PfnRange};
use fragscope_trace::snapshot::{ChunkTime, PageRun, Snapshot, SnapshotRole, SnapshotSource};

use super::classify::{Pages, Seen};
use super::grow::find_present;
use super::kernel::{KernelError, KernelMemory, ReadError, ReadKernel, mapped};
use super::layout::Layout;
use super::lists::Links;
use super::pageblocks::PageblockTypes;
use super::resolve::{Resolved, resolve};
use super::runs::{self, Block, RunBuilder, State};
use super::scan::{Node, Scan};
use super::sections::Sections;
use super::zones::Places;
use super::{CHUNK_PAGES, Limits, SnapshotError, chunks, spans};
use crate::bpf::calibrate::{self, Vmemmap};
use crate::bpf::clock::{EventClock, now_ns};
use crate::btf::Btf;
use crate::machine::read_machine;

/// Tries to get a snapshot during which lists did not change.
const TRIES: u32 = 3;
/// A scan that took longer is not repeated.
const REPEATABLE: Duration = Duration::from_millis(300);
/// Unexplained pages that are no reason to try again.
const FEW_STRAYS: usize = 64;
/// The smallest piece of the array of struct pages that is mapped by itself: one page of 64 of
/// them.
const PIECE_PAGES: u64 = 64;

/// The loaded program, and what was learned about this kernel.
#[derive(Debug)]
pub struct StructPages {
    kernel: KernelMemory,
    layout: Layout,
    vmemmap: Vmemmap,
    places: Places,
    /// `Some(None)`: looked for and not found.
    sections: Option<Option<Sections>>,
}

/// What one walk gave.
struct Walk {
    snapshot: Snapshot,
    /// Pages and blocks whose list was not found.
    strays: usize,
    took: Duration,
}

impl StructPages {
    /// Loads the program and reads the kernel's types. Without `vmemmap` the array of struct
    /// pages is looked for, which attaches two programs for some milliseconds.
    ///
    /// # Errors
    /// If BPF cannot be used, or this kernel has no BTF.
    pub fn open(vmemmap: Option<Vmemmap>) -> Result<StructPages, SnapshotError> {
        let btf = Btf::of_kernel()?;
        let layout = Layout::of(&btf)?;
        let kernel = KernelMemory::open()?;
        let vmemmap = match vmemmap {
            Some(known) => known,
            None => calibrate::vmemmap()?,
        };
        if vmemmap.page_bytes != layout.page.bytes {
            let (calibrated, btf) = (vmemmap.page_bytes, layout.page.bytes);
            return Err(SnapshotError::PageSize { calibrated, btf });
        }
        Ok(StructPages { kernel, layout, vmemmap, places: Places::default(), sections: None })
    }

    /// Reads the state of all frames. A quick scan during which many pages moved between lists
    /// is repeated, and the best is taken.
    ///
    /// # Errors
    /// If the program cannot be run, or time was up before one scan was finished.
    pub fn take(&mut self, role: SnapshotRole, limits: &Limits) -> Result<Snapshot, SnapshotError> {
        let mut best = self.walk(role, limits)?;
        for _ in 1..TRIES {
            if best.strays <= FEW_STRAYS || best.took > REPEATABLE {
                break;
            }
            match self.walk(role, limits) {
                Ok(walk) if walk.strays < best.strays => best = walk,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Ok(best.snapshot)
    }

    fn walk(&mut self, role: SnapshotRole, limits: &Limits) -> Result<Walk, SnapshotError> {
        let begun = Instant::now();
        let begin_ns = limits.clock.moment();
        let mut machine = read_machine()?;
        let spans = spans(&machine.zones);
        let layout = self.layout.clone();
        let mut scan = Scan::new(&layout.page, self.vmemmap);
        let chunks = self.scan(&machine, &spans, &mut scan, limits)?;
        let Scan { runs, nodes, reclaimable, .. } = scan;
        let runs = runs::fill_spans(&runs.finish(), &spans);
        let links = self.links(&nodes, &machine);
        self.find_places(&machine, &links)?;
        let owners = self.places.owners(&layout, &machine);
        let table = self.pageblock_table(&machine, &spans)?;
        let type_of = |pfn| table.as_ref().and_then(|table| table.of(pfn));
        let resolved = resolve(&machine, &nodes, &links, &owners, &runs, type_of);
        self.places.complete(&layout, &mut machine, &mut self.kernel)?;

        let runs = runs::overlay(&runs, &merged(&resolved.blocks, reclaimable));
        let mut types =
            table.unwrap_or_else(|| PageblockTypes::of_blocks(&resolved.blocks, &machine));
        types.forget_absent(&runs);
        let runs = runs::with_types(&runs, machine.pageblock_order, |pfn| types.of(pfn));
        let strays = resolved.stray_count();
        let notes = notes(&runs, &resolved, &self.places, &machine, &types);
        let snapshot = Snapshot {
            source: SnapshotSource::StructPages,
            role,
            begin_ns,
            end_ns: now_ns(),
            pageblocks: types.runs(),
            machine,
            chunks,
            runs,
            lists: resolved.lists,
            notes,
        };
        Ok(Walk { snapshot, strays, took: begun.elapsed() })
    }

    fn links<'n>(&self, nodes: &'n [Node], machine: &Machine) -> Links<'n> {
        Links::new(nodes, self.vmemmap, self.layout.page.list, machine.end_pfn())
    }

    /// Frames among `candidates` whose struct pages are initialised now, without reserved ones.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub(crate) fn present_in(
        &mut self,
        candidates: &[PfnRange],
    ) -> Result<Vec<PfnRange>, SnapshotError> {
        let StructPages { kernel, layout, vmemmap, .. } = self;
        let page = layout.page;
        find_present(candidates, |range| {
            let bytes = (range.pages() * page.bytes) as usize;
            let words = mapped(kernel.read(vmemmap.page_address(range.start.0), bytes))?;
            let mut present = RunBuilder::default();
            for (index, words) in words.unwrap_or_default().chunks(page.words()).enumerate() {
                let seen = Pages::new(&page, words).see();
                if !matches!(seen, Seen::Block(Content::Absent | Content::Reserved, _)) {
                    let at = range.start.offset(index as u64);
                    present.push(at, 1, State::new(Content::Unknown, 0));
                }
            }
            Ok(present.finish().iter().map(PageRun::range).collect())
        })
    }

    /// Copies all chunks that hold RAM and hands them to the scan.
    fn scan(
        &mut self,
        machine: &Machine,
        spans: &[PfnRange],
        scan: &mut Scan<'_>,
        limits: &Limits,
    ) -> Result<Vec<ChunkTime>, SnapshotError> {
        let all_pages = spans.iter().map(|s| s.pages()).sum();
        let mut done_pages = 0;
        let mut times = Vec::new();
        for chunk in spans.iter().flat_map(|span| chunks(*span, CHUNK_PAGES)) {
            limits.between_chunks(done_pages, all_pages)?;
            let ram = ram_in(machine, chunk);
            if !ram.is_empty() {
                self.chunk(chunk, &ram, scan, &limits.clock, &mut times)?;
            }
            done_pages += chunk.pages();
        }
        Ok(times)
    }

    /// Copies one chunk; where it is not mapped as a whole, its halves.
    fn chunk(
        &mut self,
        chunk: PfnRange,
        ram: &[PfnRange],
        scan: &mut Scan<'_>,
        clock: &EventClock,
        times: &mut Vec<ChunkTime>,
    ) -> Result<(), SnapshotError> {
        let begin_ns = clock.moment();
        let bytes = (chunk.pages() * self.layout.page.bytes) as usize;
        match self.kernel.read(self.vmemmap.page_address(chunk.start.0), bytes) {
            Ok(words) => {
                times.push(ChunkTime { range: chunk, begin_ns, end_ns: now_ns() });
                for part in ram.iter().filter_map(|r| r.intersect(chunk)) {
                    let from = (part.start.0 - chunk.start.0) as usize * self.layout.page.words();
                    scan.chunk(part, &words[from..]);
                }
                self.sort_slabs(scan);
                Ok(())
            }
            Err(ReadError::Unmapped { .. }) => {
                if chunk.pages() <= PIECE_PAGES {
                    return Ok(());
                }
                let half = Pfn((chunk.start.0 / 2 + chunk.end.0 / 2) / PIECE_PAGES * PIECE_PAGES);
                let middle = half.max(chunk.start.offset(1)).min(chunk.end);
                self.chunk(PfnRange { start: chunk.start, end: middle }, ram, scan, clock, times)?;
                self.chunk(PfnRange { start: middle, end: chunk.end }, ram, scan, clock, times)
            }
            Err(ReadError::Kernel(error)) => Err(error.into()),
        }
    }

    fn sort_slabs(&mut self, scan: &mut Scan<'_>) {
        let Some(cache) = self.layout.cache else { return };
        scan.sort_slabs(|address| {
            let flags = self.kernel.read_struct(address + cache.flags.offset, cache.flags.bytes);
            flags.is_ok_and(|bytes| bytes.number(0, cache.flags.bytes) & cache.reclaimable != 0)
        });
    }

    /// The types of all pageblocks by the kernel's table, if it can be found.
    fn pageblock_table(
        &mut self,
        machine: &Machine,
        spans: &[PfnRange],
    ) -> Result<Option<PageblockTypes>, SnapshotError> {
        let Some(sections) = self.find_sections(machine)? else { return Ok(None) };
        let mut types = PageblockTypes::new(machine);
        let numbers = &self.layout.migratetypes;
        sections.read(machine, spans, numbers, &mut self.kernel, |start, migratetype| {
            types.enter(start, migratetype);
        })?;
        Ok(Some(types))
    }

    /// Looks for the table once; it never moves.
    fn find_sections(&mut self, machine: &Machine) -> Result<Option<Sections>, SnapshotError> {
        if self.sections.is_none() {
            let found = match self.layout.section {
                Some(layout) => Sections::find(layout, machine, self.vmemmap, &mut self.kernel)?,
                None => None,
            };
            self.sections = Some(found);
        }
        Ok(self.sections.flatten())
    }

    /// Completes what is known of zones and per-CPU areas.
    fn find_places(&mut self, machine: &Machine, links: &Links<'_>) -> Result<(), SnapshotError> {
        let StructPages { kernel, layout, places, .. } = self;
        if !places.has_zones(machine) {
            places.find_zones(layout, machine, links, kernel)?;
        }
        if !places.has_cpus(machine) {
            let online = machine.cpus.iter().filter(|cpu| cpu.online);
            let slots = online.map(|cpu| Ok((cpu.id, kernel.per_cpu_address(cpu.id)?)));
            let slots: Vec<(CpuId, u64)> = slots.collect::<Result<_, KernelError>>()?;
            places.find_cpus(layout, machine, links, &slots, kernel)?;
        }
        Ok(())
    }
}

/// The parts of `chunk` that are RAM; all of it where the host does not show its RAM.
fn ram_in(machine: &Machine, chunk: PfnRange) -> Vec<PfnRange> {
    if machine.ram.is_empty() {
        return vec![chunk];
    }
    machine.ram.iter().filter_map(|ram| ram.intersect(chunk)).collect()
}

fn merged(blocks: &[Block], mut others: Vec<Block>) -> Vec<Block> {
    others.extend_from_slice(blocks);
    others.sort_unstable_by_key(|block| block.start);
    others
}

/// What a reader of the snapshot should know.
fn notes(
    runs: &[PageRun],
    resolved: &Resolved,
    places: &Places,
    machine: &Machine,
    types: &PageblockTypes,
) -> Vec<String> {
    let unknown = runs.iter().filter(|run| run.content == Content::Unknown);
    let unknown = unknown.map(|run| run.pages as usize).sum::<usize>();
    let mut notes = Vec::new();
    let mut note = |count: usize, text: &str| {
        if count > 0 {
            notes.push(format!("{count} {text}"));
        }
    };
    note(resolved.stray_pages, "pages moved between lists while they were read: `unknown`");
    note(
        resolved.cut_off_pages,
        "pages are on per-CPU lists that changed while they were read: whose is not known",
    );
    note(
        resolved.stray_blocks,
        "free blocks moved while they were read: they stand at the end of their list",
    );
    let unlisted = unknown.saturating_sub(resolved.stray_pages);
    note(unlisted, "pages have neither a reference nor a type and are on no list: `unknown`");
    note(resolved.torn_lists, "lists changed while they were read: their order is uncertain");
    note(resolved.private_pages, "free pages are held outside the lists (compaction, reporting)");
    if !places.has_cpus(machine) {
        notes.push("per-CPU lists were not found: their pages are `unknown`".to_owned());
    }
    notes.extend(types.note());
    notes
}
