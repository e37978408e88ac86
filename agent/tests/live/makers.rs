//! Who made allocations: as a recording says it, and as ftrace does with stack traces.

use std::collections::HashMap;

use fragscope_trace::event::{SideEvent, SideKind};

/// Who made an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    pub(crate) time_ns: u64,
    pub(crate) comm: String,
    pub(crate) pid: u32,
    /// Names of functions, innermost first.
    pub(crate) stack: Vec<String>,
}

/// Pfn and order of a block.
pub(crate) type Block = (u64, u8);

/// What ftrace printed of `mm_page_alloc` with stacks. The trigger prints the stack of an event behind it. Before the event is enabled the trigger prints
/// stacks alone.
pub(crate) fn parse(text: &str) -> HashMap<Block, Vec<Maker>> {
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

/// What a recording tells of the makers that are wanted.
pub(crate) fn told(sides: &[SideEvent], wanted: impl Fn(&Maker) -> bool) -> Vec<(Block, Maker)> {
    let mut stacks = HashMap::new();
    let mut found = Vec::new();
    for side in sides {
        match &side.kind {
            SideKind::Stack { id, frames } => drop(stacks.insert(*id, frames.clone())),
            SideKind::Context { pfn, order, pid, comm, stack, .. } => {
                let frames = stacks.get(stack).into_iter().flatten();
                let name = |frame: &String| frame.split('+').next().unwrap().to_owned();
                let maker = Maker {
                    time_ns: side.time_ns,
                    comm: comm.clone(),
                    pid: *pid,
                    stack: frames.map(name).collect(),
                };
                found.extend(wanted(&maker).then_some(((pfn.0, *order), maker)));
            }
            _ => {}
        }
    }
    found
}

/// Fails unless ftrace saw each of them, with the same process and the same functions, and the same
/// time but for this many nanoseconds: both read the clock within one tracepoint, between which an
/// interrupt may fall, and ftrace prints microseconds.
pub(crate) fn assert_seen(
    told: &[(Block, Maker)],
    seen: &HashMap<Block, Vec<Maker>>,
    apart_ns: u64,
) {
    for (block, ours) in told {
        // The page may have been allocated many times.
        let apart = |maker: &&Maker| maker.time_ns.abs_diff(ours.time_ns);
        let theirs = seen.get(block).into_iter().flatten().min_by_key(apart);
        let theirs = theirs.filter(|maker| apart(maker) < apart_ns);
        let theirs = theirs.unwrap_or_else(|| panic!("{block:?} {ours:?}: not seen by ftrace"));
        assert_eq!((&ours.comm, ours.pid), (&theirs.comm, theirs.pid));
        // Each sees other functions of its own before the tracepoint's.
        let own = |name: &&String| !name.starts_with("__traceiter_");
        let ours: Vec<&String> = ours.stack.iter().skip_while(own).collect();
        let theirs: Vec<&String> = theirs.stack.iter().skip_while(own).take(ours.len()).collect();
        assert!(ours.len() >= 5, "{ours:?}");
        assert_eq!(ours, theirs);
    }
}
