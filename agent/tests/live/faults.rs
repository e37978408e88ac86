//! What goes wrong on real hosts, injected: everything that was promised is still kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fragscope_trace::frame::Frame;
use fragscope_trace::reader::{TraceReader, Truncation};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use serde_json::Value;

use crate::common::{Trace, agent, lacks, storm_command, trace_path, turn};

const STORM_TEST: &str = "record::storm_for_another_process";

/// A file system of its own for a command, gone when the command has ended; `None`, with the reason
/// printed, where this process may not mount.
fn with_file_system(options: &str, at: &Path, script: &str) -> Option<Output> {
    let at = at.display();
    let mount = format!("mount -t tmpfs -o {options} none {at}");
    let may = Command::new("unshare").args(["-m", "sh", "-c", &mount]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return None;
    }
    let script = format!("{mount} && {{ {script}; }}");
    Some(Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap())
}

fn agent_path() -> &'static str {
    env!("CARGO_BIN_EXE_fragscope-agent")
}

/// Events up to the end, wherever that is, and how it was cut off.
fn events_of(path: &Path) -> (u64, Option<Truncation>) {
    let mut reader = TraceReader::new(fs::File::open(path).unwrap()).unwrap();
    let mut events = 0;
    while let Some(frame) = reader.next_frame().unwrap() {
        if let Frame::Events(batch) = frame {
            events += batch.len() as u64;
        }
    }
    (events, reader.truncated().cloned())
}

#[test]
fn a_full_disk_ends_the_recording_and_every_event_is_accounted_for() {
    let Some(_turn) = turn() else { return };
    let (dir, kept) = trace_path();
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    // The first batch fits, whatever happens on this host meanwhile; then work goes on until nothing
    // does.
    let script = format!(
        "{} record --no-snapshot -o {1}/t.fst -- sh -c \
         'while test $(stat -f -c %a {1}) -gt 0; do ls /proc/self/fd; done; echo done >&2' \
         >/dev/null; status=$?; cp {1}/t.fst {2}; exit $status",
        agent_path(),
        full.display(),
        kept.display()
    );
    let Some(output) = with_file_system("size=2m", &full, &script) else { return };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("No space left on device").count(), 1, "{text}");
    let (events, cut) = events_of(&kept);
    assert!(cut.is_some() && events > 0);
    assert!(text.contains(&format!("which holds {events} events")), "{text}");
    assert!(text.lines().any(|line| line == "done"), "the command was not let go on: {text}");
}

#[test]
fn a_file_system_that_takes_no_file_is_one_clear_error() {
    let Some(_turn) = turn() else { return };
    let (dir, _) = trace_path();
    let script = format!("{} record -o {}/t.fst -d 1s", agent_path(), dir.path().display());
    let Some(output) = with_file_system("ro", dir.path(), &script) else { return };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
}

/// Ids of the BPF programs that a process holds.
fn programs_of(process: u32) -> BTreeSet<u32> {
    let infos = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let id =
        |info: String| info.lines().find_map(|l| l.strip_prefix("prog_id:")?.trim().parse().ok());
    infos.filter_map(|info| id(fs::read_to_string(info.path()).ok()?)).collect()
}

fn loaded_programs() -> BTreeSet<u32> {
    aya::programs::loaded_programs().map(|info| info.unwrap().id()).collect()
}

/// Waits until a file has grown so many times; to begin to exist is the first.
fn await_growths(path: &Path, growths: u32) {
    let begun = Instant::now();
    let mut known = None;
    for _ in 0..growths {
        loop {
            let len = fs::metadata(path).ok().map(|file| file.len());
            if len > known {
                known = len;
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "the trace does not grow");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_recorder_killed_at_any_moment_leaves_a_readable_file_and_no_program() {
    let Some(_turn) = turn() else { return };
    let mut with_events = 0;
    // As soon as it runs, when the file is there, and after ever more of it was written.
    for growths in [0, 1, 2, 3, 5] {
        let (_dir, path) = trace_path();
        let mut command = agent();
        command.args(["record", "--no-snapshot", "-o"]).arg(&path);
        let mut child = command.spawn().unwrap();
        await_growths(&path, growths);
        let held = programs_of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = Instant::now();
        while !loaded_programs().is_disjoint(&held) {
            assert!(killed.elapsed() < Duration::from_secs(10), "programs of a dead process stay");
            std::thread::sleep(Duration::from_millis(20));
        }
        if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            let (events, cut) = events_of(&path);
            assert!(cut.is_some(), "it was given time for a last frame");
            with_events += u64::from(events > 0);
        }
    }
    assert!(with_events > 0, "no kill met a recording at work");
}

#[test]
fn two_recorders_at_once_both_count_everything() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut first = agent();
    first.args(["record", "--json", "--no-snapshot", "--ring-bytes", "16MiB", "-o"]).arg(&path);
    storm_command(&mut first, STORM_TEST, 4, 64);
    let (_other_dir, other_path) = trace_path();
    let mut second = agent();
    second.args(["record", "--json", "--no-snapshot", "--ring-bytes", "16MiB", "-o"]);
    second.arg(&other_path);
    storm_command(&mut second, STORM_TEST, 4, 64);
    let outputs = std::thread::scope(|scope| {
        let runs =
            [first, second].map(|mut command| scope.spawn(move || command.output().unwrap()));
        runs.map(|run| run.join().unwrap())
    });
    let lacks = lacks();
    for output in outputs {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary");
        let count = |of: &str, kind: &str| summary[of][kind].as_u64().unwrap();
        for kind in ["alloc", "free"] {
            assert!(count("delivered", kind) > 4 * 64 * 256, "{summary}");
        }
        let delivered = ["alloc", "free", "alloc_failed"].map(|kind| count("delivered", kind));
        let emitted = count("emitted", "alloc") + count("emitted", "free");
        let lost = summary["lost_events"].as_u64().unwrap();
        assert!(delivered.iter().sum::<u64>() + lost >= emitted, "{summary}");
        for lacking in summary["unavailable"].as_array().unwrap() {
            assert!(lacks.contains(lacking.as_str().unwrap()), "{summary}");
        }
    }
}

/// Classic programs of all processes hang on one probe: ours then runs before our raw one.
#[test]
fn a_host_with_another_classic_tracer_is_calibrated_all_the_same() {
    let Some(_turn) = turn() else { return };
    let mut other = agent();
    other.args(["record", "--no-snapshot", "--channel", "classic", "-o", "/dev/null", "--"]);
    other.args(["sh", "-c", "echo begun; read line"]);
    other.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut other = other.spawn().unwrap();
    let mut begun = [0];
    other.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    let lacks = lacks();
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(!lacks.contains("vmemmap_calibration"), "{lacks:?}");
}

/// Runs a command under a kernel that refuses one command of `bpf`.
fn where_bpf_refuses(refused: u64, command: &mut Command) -> Output {
    let is_refused =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, refused).unwrap();
    let rules = vec![SeccompRule::new(vec![is_refused]).unwrap()];
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_bpf, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let filter: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    // What a thread may not do, neither may the programs that it starts.
    std::thread::scope(|scope| {
        let confined = scope.spawn(|| {
            apply_filter(&filter).unwrap();
            command.output().unwrap()
        });
        confined.join().unwrap()
    })
}

/// `BPF_RAW_TRACEPOINT_OPEN`: raw programs load, but none can be attached.
const ATTACH_RAW: u64 = 17;

#[test]
fn programs_that_the_kernel_refuses_are_done_without_and_named() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--json", "--ring-bytes", "16MiB", "-o"]).arg(&path);
    storm_command(&mut command, STORM_TEST, 2, 64);
    let output = where_bpf_refuses(ATTACH_RAW, &mut command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    let count = |of: &str, kind: &str| summary[of][kind].as_u64().unwrap();
    let delivered = ["alloc", "free", "alloc_failed"].map(|kind| count("delivered", kind));
    assert!(delivered[0] > 2 * 64 * 256, "{summary}");
    let emitted = count("emitted", "alloc") + count("emitted", "free");
    let lost = summary["lost_events"].as_u64().unwrap();
    assert!(delivered.iter().sum::<u64>() + lost >= emitted, "{summary}");
    assert!(!summary["unavailable"].as_array().unwrap().is_empty(), "{summary}");
    let trace = Trace::read(&path);
    let missing: Vec<_> = trace.header.capabilities.iter().filter(|c| !c.available).collect();
    assert!(missing.iter().all(|c| !c.found.is_empty() && !c.lost_without.is_empty()));
    assert!(missing.iter().any(|c| c.name == "vmemmap_calibration"), "{missing:?}");
}

/// Events have the kernel's own clock, which nobody can step; a process with another is refused
/// rather than given an order of events that is none.
#[test]
fn a_process_with_another_clock_than_the_kernel_does_not_record() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = Command::new("unshare");
    command.args(["-T", "--monotonic", "1000", agent_path(), "record", "-d", "1s", "-o"]);
    let output = command.arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.starts_with("unshare:") {
        eprintln!("skipped: {text}");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("differs from the kernel's by 1000.000000000 s"), "{text}");
}

#[test]
fn events_have_times_of_the_clock_that_is_never_stepped() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let monotonic = fragscope_agent::bpf::clock::now_ns;
    let before = monotonic();
    let mut command = agent();
    command.args(["record", "--no-snapshot", "-o"]).arg(&path).args(["--", "ls", "/"]);
    assert!(command.output().unwrap().status.success());
    let after = monotonic();
    let trace = Trace::read(&path);
    assert!(!trace.pages.is_empty());
    assert!(trace.pages.iter().all(|event| (before..after).contains(&event.time_ns)));
    let sides = trace.sides.iter().all(|event| (before..=after).contains(&event.time_ns));
    assert!(sides, "a rare event has another clock");
}
