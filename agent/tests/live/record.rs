//! `record` as a program: what it writes, how it ends, what it prints.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Guarded, Trace, agent, storm, storm_command, trace_path, turn};
use fragscope_trace::event::PageEventKind;
use fragscope_trace::header::EndReason;
use fragscope_trace::snapshot::SnapshotRole;
use rustix::process::Signal;
use serde_json::Value;

const STORM_PAGES: u64 = 12 * (256 << 8);

#[test]
fn storm_for_another_process() {
    crate::common::storm_if_asked();
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

fn lost_other_than_reentry(summary: &Value) -> u64 {
    let reentry = summary["lost_by_cause"]["reentry"].as_u64().unwrap_or(0);
    summary["lost_events"].as_u64().unwrap() - reentry
}

#[test]
fn a_recorded_storm_is_complete() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    // Rings that hold the whole storm: what is lost does not depend on when the reader gets a CPU.
    command.args(["record", "--json", "--ring-bytes", "16MiB", "--output"]).arg(&path);
    storm_command(&mut command, "record::storm_for_another_process", 12, 256);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let summary = summary(&output);
    assert_eq!(lost_other_than_reentry(&summary), 0, "{summary}");
    let missed = summary["lost_events"].as_u64().unwrap();

    let trace = Trace::read(&path);
    let mut held = HashSet::new();
    let (mut allocs, mut matched) = (0, 0);
    for event in trace.pages.iter().filter(|e| e.order() == 0) {
        match event.kind() {
            PageEventKind::Alloc => {
                allocs += 1;
                held.insert(event.pfn);
            }
            PageEventKind::Free => matched += u64::from(held.remove(&event.pfn)),
            _ => {}
        }
    }
    assert!(allocs + missed >= STORM_PAGES, "{allocs}, {summary}");
    assert!(matched + missed >= STORM_PAGES, "{matched}, {summary}");
    assert_eq!(trace.snapshots.first(), Some(&SnapshotRole::Opening));
    assert_eq!(trace.snapshots.last(), Some(&SnapshotRole::Closing));
    let end = trace.end.unwrap();
    assert_eq!(end.reason, EndReason::CommandExited { status: 0 });
    assert!(end.closing_snapshot);
    assert_eq!(summary["events"], end.totals.events);
    assert_eq!(summary["allocs"], end.totals.allocs);
    assert_eq!(summary["trace_bytes"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(end.totals.events as usize, trace.pages.len() + trace.sides.len());
    assert!(summary["bytes_per_event"].as_f64().unwrap() < 5.0, "{summary}");
}

#[test]
fn snapshots_at_an_interval_and_movements_between_lists_are_recorded_on_request() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--json", "--snapshot-every", "100ms", "--close-timeout", "60s"]);
    command.arg("--buddy-events").arg("--output").arg(&path);
    let child = Guarded::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    await_beginning(&path);
    // Per-CPU lists may hold all that a storm frees; each second that follows they hold less.
    const MOVEMENTS: [PageEventKind; 2] = [PageEventKind::ZoneLocked, PageEventKind::PcpuDrain];
    let begun = Instant::now();
    loop {
        storm(4, 64);
        let (so_far, _cut) = Trace::up_to_cut(File::open(&path).unwrap());
        let seen = |kind| so_far.pages.iter().any(|event| event.kind() == kind);
        if MOVEMENTS.into_iter().all(seen) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no {MOVEMENTS:?} after 60 s");
        std::thread::sleep(Duration::from_secs(1));
    }
    child.signal(Signal::INT);
    let output = child.finish();
    assert_eq!(output.status.code(), Some(0));
    let trace = Trace::read(&path);
    assert_eq!(summary(&output)["snapshots"], trace.snapshots.len());
    let roles = |role| trace.snapshots.iter().filter(|r| **r == role).count();
    assert_eq!((roles(SnapshotRole::Opening), roles(SnapshotRole::Closing)), (1, 1));
    assert!(roles(SnapshotRole::Interval) >= 1, "{:?}", trace.snapshots);
}

#[test]
fn the_commands_status_is_passed_on() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    for (script, status) in [("exit 7", 7), ("kill -TERM $$", 143)] {
        let mut command = agent();
        command.args(["record", "--json", "--no-snapshot", "--output"]).arg(&path);
        let output = command.args(["--", "sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{script}");
        assert_eq!(summary(&output)["command_status"], status);
        let reason = Trace::read(&path).end.unwrap().reason;
        assert_eq!(reason, EndReason::CommandExited { status });
    }
}

#[test]
fn a_command_that_cannot_run_is_one_clear_error() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--no-snapshot", "--output"]).arg(&path);
    let output = command.args(["--", "/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cannot run /no/such/program: No such file"), "{text}");
}

/// Records for ever, and is given time to begin.
fn endless(path: &Path, more: &[&str]) -> Guarded {
    let mut command = agent();
    command.args(["record", "--json", "--output"]).arg(path).args(more);
    let child = Guarded::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    await_beginning(path);
    child
}

/// Waits for the header, and the opening snapshot if there is one.
fn await_beginning(path: &Path) {
    let begun = Instant::now();
    // They are more than this.
    while std::fs::metadata(path).map_or(0, |m| m.len()) < 20_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no trace after 60 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupt_ends_in_order() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let child = endless(&path, &["--close-timeout", "60s"]);
    child.signal(Signal::INT);
    let output = child.finish();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(summary(&output)["closing_snapshot"], true);
    let trace = Trace::read(&path);
    assert_eq!(trace.snapshots.last(), Some(&SnapshotRole::Closing));
    assert_eq!(trace.end.unwrap().reason, EndReason::Interrupted);
}

/// The promise is 100 ms; the test leaves room for a busy machine.
#[test]
fn a_termination_ends_at_once() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let child = endless(&path, &[]);
    let asked = Instant::now();
    child.signal(Signal::TERM);
    let output = child.finish();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    eprintln!("out {took:?} after SIGTERM");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(summary(&output)["closing_snapshot"], false);
    let end = Trace::read(&path).end.unwrap();
    assert_eq!((end.reason, end.closing_snapshot), (EndReason::Terminated, false));
}

/// Whoever holds the link of a classic tracepoint waits for grace periods at its end, so an agent
/// that is to be out at once must hold none.
#[test]
fn nothing_is_held_that_ends_slowly() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let child = endless(&path, &["--buddy-events"]);
    let infos = std::fs::read_dir(format!("/proc/{}/fdinfo", child.id())).unwrap();
    let read = |info: std::fs::DirEntry| std::fs::read_to_string(info.path()).unwrap_or_default();
    let infos: Vec<String> = infos.map(|info| read(info.unwrap())).collect();
    child.signal(Signal::TERM);
    child.finish();
    let links = |kind: &str| {
        let line = format!("link_type:\t{kind}");
        infos.iter().filter(|info| info.contains(&line)).count()
    };
    assert!(links("raw_tracepoint") >= 4, "{infos:?}");
    assert_eq!(links("perf"), 0, "{infos:?}");
    let capabilities = Trace::read(&path).header.capabilities;
    assert!(capabilities.iter().any(|c| c.name == "extfrag" && c.available), "{capabilities:?}");
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    // The command does not end by itself, so the first interrupt alone would leave it running.
    let script = "trap '' INT; exec sleep 20 >/dev/null 2>&1";
    let child = endless(&path, &["--", "sh", "-c", script]);
    std::thread::sleep(Duration::from_millis(200));
    child.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(20));
    let asked = Instant::now();
    child.signal(Signal::INT);
    let output = child.finish();
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(output.status.code(), Some(130));
    let end = Trace::read(&path).end.unwrap();
    assert_eq!((end.reason, end.closing_snapshot), (EndReason::Terminated, false));
}

#[test]
fn a_pipe_gets_the_same_frames() {
    let Some(_turn) = turn() else { return };
    let mut command = agent();
    command.args(["record", "--json", "--output", "-", "--duration", "300ms", "--", "echo", "x"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let trace = Trace::from_reader(output.stdout.as_slice());
    assert!(trace.end.unwrap().closing_snapshot);
    assert_eq!(
        trace.header.command.as_deref(),
        Some(["echo".to_owned(), "x".to_owned()].as_slice())
    );
    // The command's output and the summary went elsewhere.
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("x\n{"), "{text}");
}

#[test]
fn a_reader_that_leaves_ends_the_recording_quietly() {
    let Some(_turn) = turn() else { return };
    let mut command = agent();
    command.args(["record", "--no-snapshot", "--output", "-"]);
    let mut child = Guarded::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut some = [0; 100];
    let mut pipe = child.stdout();
    pipe.read_exact(&mut some).unwrap();
    drop(pipe);
    let output = child.finish();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn without_rights_one_line_says_what_to_do() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become someone without rights");
        return;
    }
    // The program may lie where others can't reach it.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("fragscope-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_fragscope-agent"), &copy).unwrap();
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    mode(dir.path());
    mode(&copy);
    let mut command = std::process::Command::new(&copy);
    command.args(["record", "--output", "/dev/null", "--duration", "1s"]).current_dir("/");
    let output = command.uid(65534).gid(65534).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("CAP_BPF") && text.contains("Run as root, or: setcap"), "{text}");
}
