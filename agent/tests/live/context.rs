//! Who made an allocation, as the trace says it, against the kernel's own word: ftrace with stack
//! traces beside the recording.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use fragscope_trace::event::{PageEvent, PageEventKind, SideKind, TimeNs};
use fragscope_trace::page::{Migratetype, Pfn, REGION_PAGES};

use crate::common::{Trace, agent, trace_path, turn};

/// The load: pipes are filled with unmovable pages, and emptied.
const LOAD: [&str; 3] =
    ["sh", "-c", "dd if=/dev/zero bs=64k count=1000 2>/dev/null | cat >/dev/null"];
/// The process of it that allocates.
const COMM: &str = "dd";
/// Both tracers read the clock within one tracepoint, between which an interrupt may fall, and
/// ftrace prints microseconds.
const APART_NS: u64 = 1_000_000;

/// Who made an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Maker {
    time_ns: u64,
    comm: String,
    pid: u32,
    /// Names of functions, innermost first.
    stack: Vec<String>,
}

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
        parse(&fs::read_to_string(self.path.join("trace")).unwrap())
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

/// The trigger prints the stack of an event behind it. Before the event is enabled the trigger prints
/// stacks alone.
fn parse(text: &str) -> HashMap<(u64, u8), Vec<Maker>> {
    let mut makers: HashMap<_, Vec<Maker>> = HashMap::new();
    // Lines of several CPUs are merged by time: the last event of each CPU, and whose stack follows.
    let (mut last, mut growing) = (HashMap::new(), None);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix(" => ") {
            let maker = growing.and_then(|key| makers.get_mut(&key)?.last_mut());
            maker.into_iter().for_each(|maker| maker.stack.push(function.to_owned()));
            continue;
        }
        let Some((task, cpu, rest)) = head(line) else { continue };
        growing = rest.contains("<stack trace>").then(|| last.remove(cpu)).flatten();
        let Some((time, fields)) = rest.split_once(": mm_page_alloc: ") else { continue };
        let field = |name: &str| {
            fields.split(' ').find_map(|f| f.strip_prefix(name)?.strip_prefix('=')).unwrap()
        };
        let pfn = u64::from_str_radix(field("pfn").trim_start_matches("0x"), 16);
        let key = (pfn.unwrap(), field("order").parse().unwrap());
        let (comm, pid) = task.trim().rsplit_once('-').unwrap();
        let maker = Maker {
            time_ns: nanoseconds(time.rsplit(' ').next().unwrap()),
            comm: comm.to_owned(),
            pid: pid.parse().unwrap(),
            stack: Vec::new(),
        };
        makers.entry(key).or_default().push(maker);
        last.insert(cpu, key);
    }
    makers
}

/// `comm-pid`, the CPU and what follows it.
fn head(line: &str) -> Option<(&str, &str, &str)> {
    let at = line.find(" [").filter(|_| !line.starts_with('#'))?;
    let (cpu, rest) = line[at + 2..].split_once(']')?;
    Some((&line[..at], cpu, rest))
}

/// Seconds with six decimals.
fn nanoseconds(seconds: &str) -> u64 {
    let (whole, micros) = seconds.split_once('.').unwrap();
    whole.parse::<u64>().unwrap() * 1_000_000_000 + micros.parse::<u64>().unwrap() * 1000
}

/// Contexts of the trace for allocations of the load, by pfn and order.
fn contexts(trace: &Trace) -> Vec<((u64, u8), Maker)> {
    let mut stacks = HashMap::new();
    let mut found = Vec::new();
    for side in &trace.sides {
        match &side.kind {
            SideKind::Stack { id, frames } => drop(stacks.insert(*id, frames.clone())),
            SideKind::Context { pfn, order, pid, comm, stack, .. } if comm == COMM => {
                let frames = stacks.get(stack).into_iter().flatten();
                let name = |frame: &String| frame.split('+').next().unwrap().to_owned();
                let maker = Maker {
                    time_ns: side.time_ns,
                    comm: comm.clone(),
                    pid: *pid,
                    stack: frames.map(name).collect(),
                };
                found.push(((pfn.0, *order), maker));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn makers_of_allocations_are_those_that_ftrace_sees() {
    let Some(_turn) = turn() else { return };
    let Some(ftrace) = Ftrace::start() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--no-snapshot", "--output"]).arg(&path).arg("--").args(LOAD);
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    let (makers, trace) = (ftrace.makers(), Trace::read(&path));
    let contexts = contexts(&trace);
    assert!(contexts.len() >= 40, "{} contexts of {COMM}", contexts.len());
    for (key, ours) in &contexts {
        // The page may have been allocated many times.
        let apart = |maker: &&Maker| maker.time_ns.abs_diff(ours.time_ns);
        let theirs = makers.get(key).into_iter().flatten().min_by_key(apart);
        let theirs = theirs.filter(|maker| apart(maker) < APART_NS);
        let theirs = theirs.unwrap_or_else(|| panic!("{key:?} {ours:?}: not seen by ftrace"));
        assert_eq!((&ours.comm, ours.pid), (&theirs.comm, theirs.pid));
        // Each sees other functions of its own before the tracepoint's.
        let own = |name: &&String| !name.starts_with("__traceiter_");
        let ours: Vec<&String> = ours.stack.iter().skip_while(own).collect();
        let theirs: Vec<&String> = theirs.stack.iter().skip_while(own).take(ours.len()).collect();
        assert!(ours.len() >= 5, "{ours:?}");
        assert_eq!(ours, theirs);
    }
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
