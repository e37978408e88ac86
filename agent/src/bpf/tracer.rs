//! The loaded and attached tracer: programs, rings, maps.

use std::io;
use std::path::Path;
use std::sync::Arc;

use aya::maps::{Array, Map, MapData, MapError, RingBuf, StackTraceMap};
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfError};
use aya_log::EbpfLogger;
use fragscope_ebpf::record::{ALL_KINDS, BASE_KINDS, KIND_LRU, NO_PFN};
use fragscope_ebpf::side::{SIDE_BULK_ALLOC, SIDE_KINDS, SIDE_NESTED_FREE, SideRecord};
use fragscope_trace::header::{Capability, TraceMode};
use fragscope_trace::page::Pfn;
use thiserror::Error;

use super::clock::EventClock;
use super::counts::RegionCounters;
use super::format::{Format, FormatError};
use super::functions;
use super::host::{self, Host};
use super::pagemap::PageMap;
use super::plan::Plan;
use super::programs::{
    BUDDY_PROGRAMS, CATCH_PROGRAM, CLASSIC_COUNT_PROGRAMS, CLASSIC_PAGE_PROGRAMS, EMPTY_PROGRAMS,
    LRU_PROGRAM, Link, ProgramSpec, RAW_COUNT_PROGRAMS, RAW_PAGE_PROGRAMS, SIDE_PROGRAMS,
    migrate_program, recursion_misses,
};
use super::taint::TaintMap;
use super::tracefs::{TracefsError, with_tracefs};
use super::{raise_memlock_limit, rights};
use crate::ring::Channel;
use crate::ring::buffers::side_of;
use crate::ring::decode::Dialect;

/// The oldest kernel that is tested. It is also the first that never runs a raw tracepoint program
/// inside itself, on which the rings in shared memory rely.
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// What the user may choose.
#[derive(Clone, Debug, Default)]
pub struct TracerOptions {
    /// Whether events are recorded, or counted by region only.
    pub mode: TraceMode,
    /// Whether recording may be turned to counting for a while: see [`Tracer::shed`].
    pub may_shed: bool,
    /// Bytes of each ring, rounded up to a power of two of pages. `None` chooses.
    pub ring_bytes: Option<u64>,
    /// Trace movements between buddy and per-CPU lists.
    pub buddy_events: bool,
    /// Contexts of non-movable allocations per second and CPU, not counting those of the first in a
    /// region; 0 turns all of them off.
    pub contexts_per_second: u32,
    /// Run a second program at each free, which catches those in interrupts of the first at once.
    pub reentry_catch: bool,
    /// Do not listen to LRU insertions, also where programs can't attach to functions.
    pub no_lru_insertions: bool,
    /// Read the clock for each event, and not once for a burst of them: see
    /// [`fragscope_ebpf::clock`].
    pub exact_times: bool,
    /// In count mode, do nothing instead of counting: to measure what any program costs.
    pub empty: bool,
    /// Do without the rings in shared memory.
    pub force_ring_buffers: bool,
    /// Do without raw tracepoints for page events.
    pub force_classic: bool,
}

impl TracerOptions {
    /// Rings that hold records on a host with so many CPUs.
    #[must_use]
    pub fn rings(&self, cpus: u32) -> u32 {
        cpus * if self.buddy_events { ALL_KINDS } else { BASE_KINDS }
    }
}

/// Why tracing is impossible.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The process lacks rights.
    #[error("cannot load BPF programs: {} missing. {}", .missing.join(" and "), rights::remedy())]
    NotPermitted {
        /// Names of capabilities.
        missing: Vec<&'static str>,
    },
    /// The kernel is too old.
    #[error(
        "cannot trace Linux {}.{}: at least {}.{} is needed, the oldest that is tested",
        .found.0, .found.1, OLDEST_KERNEL.0, OLDEST_KERNEL.1
    )]
    Kernel {
        /// Major and minor version.
        found: (u32, u32),
    },
    /// The machine is too large for a record's pfn.
    #[error("cannot trace memory up to pfn {0}: records hold pfns below 2^32 - 1 (16 TiB)")]
    TooLarge(Pfn),
    /// No tracefs.
    #[error(transparent)]
    Tracefs(#[from] TracefsError),
    /// The page tracepoints are not as expected.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The object can't be loaded.
    #[error("the tracer's programs can't be loaded: {0}")]
    Load(#[from] EbpfError),
    /// A program that tracing needs was refused.
    #[error("the program {name} was refused: {source}{}", rights::suspicion())]
    Program {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: ProgramError,
    },
    /// A map can't be used.
    #[error("a map of the tracer can't be used: {0}")]
    Map(#[from] MapError),
    /// A map's memory can't be shared.
    #[error("the memory of a map can't be shared: {0}")]
    Memory(#[from] io::Error),
}

/// A kind's program and how often the kernel skipped it because it was running.
#[derive(Clone, Copy, Debug)]
pub struct Misses {
    /// `fragscope_ebpf::record::KIND_*`.
    pub kind: u32,
    /// Skipped runs so far.
    pub count: u64,
}

/// Programs at work. Dropping it detaches and unloads them.
pub struct Tracer {
    ebpf: Ebpf,
    links: Vec<Link>,
    /// Page programs in use, by kind.
    page_programs: Vec<(u32, &'static str)>,
    /// Where page records come from.
    pub channel: Channel,
    /// Page events by region, where they are or may be counted.
    pub counters: Option<RegionCounters>,
    sides: RingBuf<MapData>,
    /// Kernel stacks by id.
    pub stacks: StackTraceMap<MapData>,
    /// Where events have their times from.
    pub clock: EventClock,
    /// What is known of each page.
    pub page_map: Arc<PageMap>,
    /// Which regions are known to be tainted.
    pub taint_map: Arc<TaintMap>,
    /// How this host numbers things.
    pub dialect: Dialect,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// What is in use and what is not.
    pub capabilities: Vec<Capability>,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tracer({:?}, {} programs)", self.channel.shape(), self.links.len())
    }
}

impl Tracer {
    /// Loads and attaches everything that this kernel admits. Events flow when this returns.
    ///
    /// # Errors
    /// [`AttachError`] if allocations and frees can't be traced.
    pub fn attach(options: &TracerOptions) -> Result<Tracer, AttachError> {
        let missing = rights::missing_capabilities();
        if !missing.is_empty() {
            return Err(AttachError::NotPermitted { missing });
        }
        admit(host::kernel_version())?;
        raise_memlock_limit();
        with_tracefs(|tracefs| Tracer::attach_in(tracefs, options))?
    }

    fn attach_in(tracefs: &Path, options: &TracerOptions) -> Result<Tracer, AttachError> {
        let host = Host::read(tracefs)?;
        if host.end_pfn.0 >= u64::from(NO_PFN) {
            return Err(AttachError::TooLarge(host.end_pfn));
        }
        let plan = Plan::new(&host, options);
        let mut ebpf = plan.load(tracefs, &host)?;
        let channel = plan.channel(&mut ebpf)?;
        let clock = EventClock::new(map_data(&mut ebpf, "EPOCH")?.fd())?;
        let page_map = plan.page_map(&mut ebpf)?;
        let taint_map = plan.taint_map(&mut ebpf)?;
        let counters = plan.counters(&mut ebpf)?;
        let mut tracer = Tracer {
            links: Vec::new(),
            page_programs: Vec::new(),
            channel,
            counters,
            sides: RingBuf::try_from(take_map(&mut ebpf, "SIDES")?)?,
            stacks: StackTraceMap::try_from(take_map(&mut ebpf, "STACK_TRACES")?)?,
            clock,
            page_map: Arc::new(page_map),
            taint_map: Arc::new(taint_map),
            dialect: host.dialect(),
            log: EbpfLogger::init(&mut ebpf).map_err(|e| log::debug!("no BPF log: {e}")).ok(),
            capabilities: plan.capabilities(&host),
            ebpf,
        };
        match options.mode {
            TraceMode::Count if options.empty => tracer.attach_each(tracefs, &EMPTY_PROGRAMS)?,
            TraceMode::Full => tracer.attach_all(tracefs, &host, options)?,
            TraceMode::Count => tracer.attach_counting(tracefs, &host, options)?,
        }
        Ok(tracer)
    }

    fn attach_all(
        &mut self,
        tracefs: &Path,
        host: &Host,
        options: &TracerOptions,
    ) -> Result<(), AttachError> {
        let raw = host.vmemmap.is_ok();
        let wanted = raw && !options.force_classic;
        let raw_pages = wanted && self.attach_both(tracefs, &RAW_PAGE_PROGRAMS);
        if !raw_pages {
            self.attach_each(tracefs, &CLASSIC_PAGE_PROGRAMS)?;
        }
        let buddy = BUDDY_PROGRAMS.iter().filter(|_| raw && options.buddy_events);
        let mut functions = raw;
        if raw {
            let (links, capabilities) = functions::attach(&mut self.ebpf);
            functions = capabilities.iter().all(|capability| capability.available);
            self.links.extend(links);
            self.capabilities.extend(capabilities);
        }
        // For what functions would tell. After allocations, or every page on its way to the LRU
        // would look unseen.
        let wants_lru = raw && !functions && !options.no_lru_insertions;
        let lru = Some(&LRU_PROGRAM).filter(|_| wants_lru);
        let migrate = migrate_program(migrate_reason(tracefs));
        let catch = Some(&CATCH_PROGRAM).filter(|_| raw_pages && options.reentry_catch);
        for spec in catch.into_iter().chain(lru).chain(buddy).chain(&SIDE_PROGRAMS).chain(&migrate)
        {
            if let Err(error) = self.try_attach(tracefs, spec) {
                log::info!("{} is not traced: {error}", spec.capability);
            }
        }
        Ok(())
    }

    /// Attaches what only counts, and nothing else: the host is to pay no more than that.
    fn attach_counting(
        &mut self,
        tracefs: &Path,
        host: &Host,
        options: &TracerOptions,
    ) -> Result<(), AttachError> {
        let raw = host.vmemmap.is_ok() && !options.force_classic;
        if raw && self.attach_both(tracefs, &RAW_COUNT_PROGRAMS) {
            return Ok(());
        }
        self.attach_each(tracefs, &CLASSIC_COUNT_PROGRAMS)
    }

    /// Attaches programs without which there is nothing to trace.
    fn attach_each(&mut self, tracefs: &Path, specs: &[ProgramSpec]) -> Result<(), AttachError> {
        for spec in specs {
            self.try_attach(tracefs, spec)
                .map_err(|source| AttachError::Program { name: spec.name, source })?;
        }
        Ok(())
    }

    /// Attaches both of a pair of programs, or none.
    fn attach_both(&mut self, tracefs: &Path, pair: &[ProgramSpec; 2]) -> bool {
        let both = pair.iter().all(|spec| self.try_attach(tracefs, spec).is_ok());
        if !both {
            self.links.clear();
            self.page_programs.clear();
        }
        both
    }

    fn try_attach(&mut self, tracefs: &Path, spec: &ProgramSpec) -> Result<(), ProgramError> {
        let result = spec.attach(tracefs, &mut self.ebpf);
        let outcome = result.as_ref().map(|_| ()).map_err(ToString::to_string);
        self.capabilities.push(spec.capability(outcome));
        self.links.push(result?);
        if let Some(kind) = spec.kind {
            self.page_programs.push((kind, spec.name));
        }
        Ok(())
    }

    /// Whether LRU insertions are listened to.
    #[must_use]
    pub fn hears_lru(&self) -> bool {
        self.page_programs.iter().any(|(kind, _)| *kind == KIND_LRU)
    }

    /// Has page events counted by region instead of recorded, or recorded again. Does nothing
    /// without [`TracerOptions::may_shed`].
    pub fn shed(&self, on: bool) {
        self.channel.shed(on);
    }

    /// Stops the flow of page events. What is in the rings stays readable, as do all counters.
    pub fn detach(&mut self) {
        detach_all(std::mem::take(&mut self.links));
    }

    /// The same on a thread of its own: detaching takes some time, which a program in a hurry can
    /// use otherwise.
    pub fn detach_in_background(&mut self) {
        let links = std::mem::take(&mut self.links);
        let detach = std::thread::Builder::new().name("detacher".to_owned());
        if let Err(error) = detach.spawn(move || detach_all(links)) {
            // The links went with the closure.
            log::debug!("detached without a thread: {error}");
        }
    }

    /// Passes the rare events that are complete to `take`.
    pub fn drain_sides(&mut self, mut take: impl FnMut(SideRecord)) {
        // A busy producer must not keep the reader for ever.
        for _ in 0..fragscope_ebpf::side::SIDE_RING_BYTES / size_of::<SideRecord>() {
            let Some(item) = self.sides.next() else { return };
            if let Some(record) = side_of(&item) {
                take(record);
            }
        }
    }

    /// Rare events that found no room. Frees that no program had seen are not among them: they
    /// were missed before.
    #[must_use]
    pub fn sides_lost(&self) -> u64 {
        let kinds = (0..SIDE_KINDS as u32).filter(|kind| *kind != SIDE_NESTED_FREE);
        kinds.map(|kind| self.side_count(SIDE_KINDS as u32 + kind)).sum()
    }

    /// Pages whose allocation in bulk was seen, delivered or lost.
    #[must_use]
    pub fn bulk_allocated(&self) -> u64 {
        self.side_count(SIDE_BULK_ALLOC)
    }

    fn side_count(&self, counter: u32) -> u64 {
        let Some(map) = self.ebpf.map("SIDE_COUNTS") else { return 0 };
        let Ok(counts) = Array::<_, u64>::try_from(map) else { return 0 };
        counts.get(&counter, 0).unwrap_or(0)
    }

    /// Runs that the kernel skipped, of each page program; none on kernels that don't count them.
    #[must_use]
    pub fn misses(&self) -> Vec<Misses> {
        let of = |(kind, name): &(u32, &str)| {
            let count = recursion_misses(self.ebpf.program(name)?)?;
            Some(Misses { kind: *kind, count })
        };
        self.page_programs.iter().filter_map(of).collect()
    }

    /// How often the kernel ran each page program, by kind. It counts only while somebody has
    /// statistics enabled.
    #[must_use]
    pub fn kernel_runs(&self) -> Vec<(u32, u64)> {
        let of = |(kind, name): &(u32, &str)| {
            Some((*kind, self.ebpf.program(name)?.info().ok()?.run_count()))
        };
        self.page_programs.iter().filter_map(of).collect()
    }

    /// Passes on what the programs have to say of themselves.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }
}

/// Refuses kernels that are older than any that is tested.
fn admit(found: (u32, u32)) -> Result<(), AttachError> {
    if found < OLDEST_KERNEL { Err(AttachError::Kernel { found }) } else { Ok(()) }
}

/// The last attached first: the program that catches what the free program misses must not see
/// frees without it.
fn detach_all(mut links: Vec<Link>) {
    while let Some(link) = links.pop() {
        drop(link);
    }
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

/// The data of an array whose descriptor is needed to map it.
pub(super) fn map_data<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a MapData, MapError> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(MapError::InvalidName { name: name.to_owned() }),
    }
}

/// Which argument of `migrate:mm_migrate_pages` is the reason. The event's record has its
/// arguments in their order.
fn migrate_reason(tracefs: &Path) -> Option<u32> {
    Format::read(tracefs, "migrate/mm_migrate_pages").and_then(|f| f.position("reason")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_refused_by_name() {
        let error = admit((5, 15)).unwrap_err().to_string();
        let expected = "cannot trace Linux 5.15: at least 6.1 is needed, the oldest that is tested";
        assert_eq!(error, expected);
        assert!(admit(OLDEST_KERNEL).is_ok() && admit((6, 18)).is_ok());
    }
}
