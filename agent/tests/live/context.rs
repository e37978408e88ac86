//! Who made an allocation, as the trace says it, against the kernel's own word: ftrace with stack
//! traces beside the recording.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use fragscope_trace::event::{PageEvent, PageEventKind, SideKind, TimeNs};
use fragscope_trace::page::{Migratetype, Pfn, REGION_PAGES};

use crate::common::{Trace, agent, trace_path, turn};
use crate::makers::{self, Maker};

/// The load: pipes are filled with unmovable pages, and emptied.
const LOAD: [&str; 3] =
    ["sh", "-c", "dd if=/dev/zero bs=64k count=1000 2>/dev/null | cat >/dev/null"];
/// How far the clocks of two tracers of one event, or of two CPUs in one region, may be apart.
const APART_NS: u64 = 1_000_000;
/// The process of it that allocates.
const COMM: &str = "dd";
/// An instance of ftrace that keeps a stack of each non-movable allocation of the load. Dropping it
/// removes it.
struct Ftrace {
    path: PathBuf,
}

impl Ftrace {
    /// `None`, with the reason printed, where tracefs is not mounted.
    fn start() -> Option<Ftrace> {
        let path = PathBuf::from("/sys/kernel/tracing/instances")
            .join(format!("fragscope-test-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&path) {
            eprintln!("skipped: no instance of ftrace: {error}");
            return None;
        }
        let ftrace = Ftrace { path };
        ftrace.write("trace_clock", "mono");
        ftrace.write("buffer_size_kb", "32768");
        let wanted = format!("migratetype != 1 && comm == \"{COMM}\"");
        ftrace.event("filter", &wanted);
        ftrace.event("trigger", &format!("stacktrace if {wanted}"));
        ftrace.event("enable", "1");
        Some(ftrace)
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).unwrap_or_else(|e| panic!("{file}: {value}: {e}"));
    }

    fn event(&self, file: &str, value: &str) {
        self.write(&format!("events/kmem/mm_page_alloc/{file}"), value);
    }

    /// Everything that was traced, by pfn and order; fails if the buffer was too small.
    fn makers(&self) -> HashMap<(u64, u8), Vec<Maker>> {
        self.event("enable", "0");
        for cpu in fs::read_dir(self.path.join("per_cpu")).unwrap() {
            let stats = fs::read_to_string(cpu.unwrap().path().join("stats")).unwrap();
            let overrun = stats.lines().find_map(|line| line.strip_prefix("overrun: "));
            assert_eq!(overrun.map(str::trim), Some("0"), "{stats}");
        }
        makers::parse(&fs::read_to_string(self.path.join("trace")).unwrap())
    }
}

impl Drop for Ftrace {
    fn drop(&mut self) {
        self.event("enable", "0");
        self.event("trigger", "!stacktrace");
        // What stays is named after this test, and harmless.
        let _ = fs::remove_dir(&self.path);
    }
}

#[test]
fn makers_of_allocations_are_those_that_ftrace_sees() {
    let Some(_turn) = turn() else { return };
    let Some(ftrace) = Ftrace::start() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    // By their times the makers are found that ftrace tells of.
    command.args(["record", "--no-snapshot", "--exact-times", "--output"]).arg(&path);
    command.arg("--").args(LOAD);
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    let (makers, trace) = (ftrace.makers(), Trace::read(&path));
    let told = makers::told(&trace.sides, |maker| maker.comm == COMM);
    assert!(told.len() >= 40, "{} contexts of {COMM}", told.len());
    makers::assert_seen(&told, &makers, APART_NS);
}

/// Of every region, whatever the budget: it is the one that taints.
#[test]
fn the_first_non_movable_allocation_in_each_region_has_a_maker() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--no-snapshot", "--contexts-per-second", "1", "--output"]).arg(&path);
    assert_eq!(command.arg("--").args(LOAD).output().unwrap().status.code(), Some(0));
    let trace = Trace::read(&path);
    let region = |pfn: Pfn| pfn.0 / REGION_PAGES;
    let mut told: HashMap<u64, Vec<TimeNs>> = HashMap::new();
    for side in &trace.sides {
        if let SideKind::Context { pfn, .. } = side.kind {
            told.entry(region(pfn)).or_default().push(side.time_ns);
        }
    }
    let mut first = HashMap::new();
    let taints = |e: &&PageEvent| {
        e.kind() == PageEventKind::Alloc && e.migratetype() != Migratetype::Movable
    };
    for event in trace.pages.iter().filter(taints) {
        first.entry(region(event.pfn)).or_insert(event.time_ns);
    }
    assert!(!first.is_empty());
    for (region, time_ns) in first {
        // Of two CPUs at once the other may have been told.
        let is_it = |told: &&TimeNs| told.abs_diff(time_ns) < APART_NS;
        assert!(told.get(&region).is_some_and(|told| told.iter().any(|t| is_it(&t))), "{region}");
    }
    let budget_holds = told.values().map(Vec::len).sum::<usize>() * 10 < trace.pages.len();
    assert!(budget_holds, "{told:?}");
}
