//! The tracer's programs: where each attaches, and what is lost without it.

use std::os::fd::AsFd as _;
use std::path::Path;

use aya::Ebpf;
use aya::programs::fentry::FEntryLink;
use aya::programs::fexit::FExitLink;
use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::trace_point::TracePointLink;
use aya::programs::{Program, ProgramError, RawTracePoint, TracePoint};
use fragscope_ebpf::record;
use fragscope_trace::header::Capability;

use super::late_close::LateLink;

/// How a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Raw tracepoint of this name.
    Raw(&'static str),
    /// Classic tracepoint: category and name.
    Classic(&'static str, &'static str),
    /// The same for a program that is seldom run: detaching it never waits, but takes a while.
    ClassicLate(&'static str, &'static str),
}

/// One program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramSpec {
    /// Its name in the object.
    pub(crate) name: &'static str,
    /// Where it attaches.
    pub(crate) hook: Hook,
    /// Its ring, if it has one.
    pub(crate) kind: Option<u32>,
    /// Name of the capability it gives.
    pub(crate) capability: &'static str,
    /// What is lost without it.
    pub(crate) lost_without: &'static str,
}

const fn spec(
    name: &'static str,
    hook: Hook,
    kind: Option<u32>,
    capability: &'static str,
    lost_without: &'static str,
) -> ProgramSpec {
    ProgramSpec { name, hook, kind, capability, lost_without }
}

/// The two that tracing is about, as raw tracepoints.
pub(crate) const RAW_PAGE_PROGRAMS: [ProgramSpec; 2] = [
    spec(
        "page_alloc",
        Hook::Raw("mm_page_alloc"),
        Some(record::KIND_ALLOC),
        "raw_page_alloc",
        "allocations cost about twice as much to trace (classic tracepoint)",
    ),
    spec(
        "page_free",
        Hook::Raw("mm_page_free"),
        Some(record::KIND_FREE),
        "raw_page_free",
        "frees cost about twice as much to trace (classic tracepoint)",
    ),
];

/// The same as classic tracepoints.
pub(crate) const CLASSIC_PAGE_PROGRAMS: [ProgramSpec; 2] = [
    spec(
        "page_alloc_classic",
        Hook::Classic("kmem", "mm_page_alloc"),
        Some(record::KIND_ALLOC),
        "classic_page_alloc",
        "nothing can be recorded",
    ),
    spec(
        "page_free_classic",
        Hook::Classic("kmem", "mm_page_free"),
        Some(record::KIND_FREE),
        "classic_page_free",
        "nothing can be recorded",
    ),
];

/// The two that do nothing.
pub(crate) const EMPTY_PROGRAMS: [ProgramSpec; 2] = [
    spec(
        "empty_alloc",
        Hook::Raw("mm_page_alloc"),
        None,
        "empty_alloc",
        "what any program costs is not known",
    ),
    spec(
        "empty_free",
        Hook::Raw("mm_page_free"),
        None,
        "empty_free",
        "what any program costs is not known",
    ),
];

/// The two that only count, as raw tracepoints.
pub(crate) const RAW_COUNT_PROGRAMS: [ProgramSpec; 2] = [
    spec(
        "count_alloc",
        Hook::Raw("mm_page_alloc"),
        Some(record::KIND_ALLOC),
        "raw_count_alloc",
        "counting an allocation costs about three times as much (classic tracepoint)",
    ),
    spec(
        "count_free",
        Hook::Raw("mm_page_free"),
        Some(record::KIND_FREE),
        "raw_count_free",
        "counting a free costs about three times as much (classic tracepoint)",
    ),
];

/// The same as classic tracepoints.
pub(crate) const CLASSIC_COUNT_PROGRAMS: [ProgramSpec; 2] = [
    spec(
        "count_alloc_classic",
        Hook::Classic("kmem", "mm_page_alloc"),
        Some(record::KIND_ALLOC),
        "classic_count_alloc",
        "nothing can be counted",
    ),
    spec(
        "count_free_classic",
        Hook::Classic("kmem", "mm_page_free"),
        Some(record::KIND_FREE),
        "classic_count_free",
        "nothing can be counted",
    ),
];

/// Needs the address of struct pages.
pub(crate) const LRU_PROGRAM: ProgramSpec = spec(
    "lru_insertion",
    Hook::Raw("mm_lru_insertion"),
    Some(record::KIND_LRU),
    "lru_insertion",
    "pages that compaction or bulk allocation took stay unseen until the next snapshot",
);

/// Catches at once the frees that the free program misses because one of its runs is interrupted.
/// Needs the raw free program, and to be attached after it.
pub(crate) const CATCH_PROGRAM: ProgramSpec = spec(
    "page_free_catch",
    Hook::Raw("mm_page_free"),
    None,
    "reentry_catch",
    "about one free in 10,000 to 100,000 is told late on a busy machine, when its page is \
     allocated again",
);

/// Programs for rare events.
pub(crate) const SIDE_PROGRAMS: [ProgramSpec; 4] = [
    spec(
        "extfrag",
        Hook::ClassicLate("kmem", "mm_page_alloc_extfrag"),
        None,
        "extfrag",
        "the kernel's own fallbacks are not in the trace",
    ),
    spec(
        "contig_test",
        Hook::Raw("test_pages_isolated"),
        None,
        "contig_test",
        "contiguous allocations are seen at the next snapshot only",
    ),
    spec(
        "compact_begin",
        Hook::Raw("mm_compaction_begin"),
        None,
        "compaction_begin",
        "compaction runs are not in the trace",
    ),
    spec(
        "compact_end",
        Hook::Raw("mm_compaction_end"),
        None,
        "compaction_end",
        "compaction runs are not in the trace",
    ),
];

/// The program for migration totals, by the place of the reason among the event's arguments.
pub(crate) fn migrate_program(reason: Option<u32>) -> Option<ProgramSpec> {
    let name = match reason? {
        3 => "migrate_pages_3",
        6 => "migrate_pages_6",
        7 => "migrate_pages_7",
        _ => return None,
    };
    let hook = Hook::Raw("mm_migrate_pages");
    Some(spec(name, hook, None, "migrate_pages", "how often migration fails is not known"))
}

/// Programs for movements between the buddy and the per-CPU lists.
pub(crate) const BUDDY_PROGRAMS: [ProgramSpec; 2] = [
    spec(
        "zone_locked",
        Hook::Raw("mm_page_alloc_zone_locked"),
        Some(record::KIND_ZONE_LOCKED),
        "zone_locked",
        "blocks taken from buddy lists are not in the trace",
    ),
    spec(
        "pcpu_drain",
        Hook::Raw("mm_page_pcpu_drain"),
        Some(record::KIND_PCPU_DRAIN),
        "pcpu_drain",
        "blocks given back to buddy lists are not in the trace",
    ),
];

/// An attached program. Dropping it detaches.
#[derive(Debug)]
#[expect(dead_code, reason = "the links are held for their drop only")]
pub(crate) enum Link {
    Raw(RawTracePointLink),
    Classic(TracePointLink),
    Late(LateLink),
    Entry(FEntryLink),
    Exit(FExitLink),
}

impl ProgramSpec {
    /// Loads and attaches. What cannot be attached for late detaching is in the usual way.
    pub(crate) fn attach(&self, tracefs: &Path, ebpf: &mut Ebpf) -> Result<Link, ProgramError> {
        let program = ebpf.program_mut(self.name).ok_or(ProgramError::UnexpectedProgramType)?;
        match self.hook {
            Hook::Raw(tracepoint) => {
                let program: &mut RawTracePoint = program.try_into()?;
                program.load()?;
                let id = program.attach(tracepoint)?;
                Ok(Link::Raw(program.take_link(id)?))
            }
            Hook::Classic(category, tracepoint) => {
                let program: &mut TracePoint = program.try_into()?;
                program.load()?;
                let id = program.attach(category, tracepoint)?;
                Ok(Link::Classic(program.take_link(id)?))
            }
            Hook::ClassicLate(category, tracepoint) => {
                let program: &mut TracePoint = program.try_into()?;
                program.load()?;
                let event = format!("{category}/{tracepoint}");
                match LateLink::attach(program.fd()?.as_fd(), tracefs, &event) {
                    Ok(link) => return Ok(Link::Late(link)),
                    Err(error) => log::info!("detaching from {event} will take time: {error}"),
                }
                let id = program.attach(category, tracepoint)?;
                Ok(Link::Classic(program.take_link(id)?))
            }
        }
    }

    /// What became of it, for the trace header.
    pub(crate) fn capability(&self, result: Result<(), String>) -> Capability {
        let hook = match self.hook {
            Hook::Raw(name) => format!("raw tracepoint {name}"),
            Hook::Classic(category, name) | Hook::ClassicLate(category, name) => {
                format!("tracepoint {category}:{name}")
            }
        };
        let available = result.is_ok();
        Capability {
            name: self.capability.to_owned(),
            required: false,
            available,
            found: match result {
                Ok(()) => hook,
                Err(error) => format!("{hook}: {error}"),
            },
            lost_without: self.lost_without.to_owned(),
            remedy: "a kernel with this tracepoint, and the right to attach to it".to_owned(),
        }
    }
}

/// Times that a loaded program was not run because it was running already, as its file descriptor's
/// info shows it. `None` on kernels that do not count it.
pub(crate) fn recursion_misses(program: &Program) -> Option<u64> {
    use std::os::fd::AsRawFd as _;
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(fd.to_string())).ok()?;
    parse_misses(&info)
}

fn parse_misses(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_found_in_the_info() {
        assert_eq!(parse_misses("prog_type:\t17\nrecursion_misses:\t142\n"), Some(142));
        assert_eq!(parse_misses("prog_type:\t17\n"), None);
    }
}
