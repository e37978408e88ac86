//! What a recorder may do while it is at work, with what rights it can begin, and what the recorded
//! command keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fragscope_trace::event::SideKind;
use fragscope_trace::frame::Frame;
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::{SnapshotRole, SnapshotSource};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Trace, agent, lacks, trace_path, turn};

/// Who is nobody in particular.
const SOMEBODY: u32 = 65_534;
/// What the documentation names as enough.
const ENOUGH: [&str; 4] = ["bpf", "perfmon", "dac_read_search", "syslog"];

/// A line of a thread's status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

/// The states of all threads of a process.
fn threads(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).collect()
}

fn is_confined(status: &str) -> bool {
    let none = |name| u64::from_str_radix(field(status, name), 16) == Ok(0);
    none("CapEff")
        && none("CapPrm")
        && none("CapInh")
        && none("CapAmb")
        && field(status, "NoNewPrivs") == "1"
        && field(status, "Seccomp") == "2"
}

/// How many of them a growing file has so far.
fn interval_snapshots(path: &Path) -> usize {
    let Ok(mut reader) =
        fs::File::open(path).map_err(drop).and_then(|file| TraceReader::new(file).map_err(drop))
    else {
        return 0;
    };
    let frames = std::iter::from_fn(|| reader.next_frame().unwrap());
    let is_interval = |frame: &Frame| match frame {
        Frame::Snapshot(snapshot) => snapshot.role == SnapshotRole::Interval,
        _ => false,
    };
    frames.filter(is_interval).count()
}

#[test]
fn a_recorder_at_work_has_given_up_everything_and_still_takes_snapshots() {
    let Some(_turn) = turn() else { return };
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--snapshot-every", "300ms", "-o"]).arg(&path);
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    loop {
        let threads = threads(child.id());
        let named = |name| threads.iter().any(|thread| field(thread, "Name") == name);
        let at_work =
            ["collector", "director", "scanner", "signals", "writer"].into_iter().all(named);
        if at_work && threads.iter().all(|thread| is_confined(thread)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{threads:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Those that begin after that.
    let before = interval_snapshots(&path);
    while interval_snapshots(&path) < before + 2 {
        assert!(begun.elapsed() < Duration::from_secs(240), "no more snapshots");
        std::thread::sleep(Duration::from_millis(200));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let trace = Trace::read(&path);
    assert_eq!(trace.snapshots.last(), Some(&SnapshotRole::Closing));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_recorded_command_runs_as_it_was_asked_for() {
    let Some(_turn) = turn() else { return };
    let (dir, path) = trace_path();
    let told = dir.path().join("status");
    let script = "cat /proc/self/status /proc/self/limits";
    let here = Command::new("sh").args(["-c", script]).output().unwrap();
    let here = String::from_utf8(here.stdout).unwrap();
    let mut command = agent();
    command.args(["record", "-o"]).arg(&path).args(["--", "sh", "-c"]);
    command.arg(format!("{{ {script}; }} > {}", told.display()));
    assert!(command.status().unwrap().success());
    let there = fs::read_to_string(told).unwrap();
    for name in ["Uid", "Gid", "CapEff", "CapPrm", "CapInh", "CapBnd", "NoNewPrivs", "Seccomp"] {
        assert_eq!(field(&here, name), field(&there, name), "{name}");
    }
    let limits = |text: &str| {
        let at = text.find("Max cpu time").unwrap();
        text[at..].to_owned()
    };
    assert_eq!(limits(&here), limits(&there));
}

/// As a user without rights but for those of [`ENOUGH`], on a host with tracefs.
#[test]
fn few_capabilities_are_enough() {
    let Some(_turn) = turn() else { return };
    let (dir, path) = trace_path();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let enough = ENOUGH.map(|name| format!("+{name}")).join(",");
    let user = format!("--reuid={SOMEBODY} --regid={SOMEBODY} --clear-groups");
    let caps = format!(
        "--inh-caps=-all,{enough} --ambient-caps=-all,{enough} --bounding-set=-all,{enough}"
    );
    let tracing = "/sys/kernel/tracing";
    let script = format!(
        "{{ test -d {tracing}/events || mount -t tracefs none {tracing}; }} && \
         setpriv {user} {caps} true || exit 99; \
         exec setpriv {user} {caps} {} record -d 1s -o {}",
        env!("CARGO_BIN_EXE_fragscope-agent"),
        path.display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    if output.status.code() == Some(99) {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let trace = Trace::read(&path);
    assert_eq!(trace.snapshots, [SnapshotRole::Opening, SnapshotRole::Closing], "{said}");
    assert_eq!(trace.sources, [SnapshotSource::StructPages; 2], "{said}");
    // No more than with all rights.
    let lacks = lacks();
    for missing in trace.header.capabilities.iter().filter(|c| !c.available) {
        assert!(lacks.contains(&missing.name), "{missing:?}");
    }
    let stacks = trace.sides.iter().filter_map(|side| match &side.kind {
        SideKind::Stack { frames, .. } => Some(frames),
        _ => None,
    });
    let frames: Vec<&String> = stacks.flatten().collect();
    assert!(!frames.is_empty() && frames.iter().all(|frame| !frame.starts_with("0x")));
}

#[test]
fn names_are_hashed_or_left_out_if_wanted() {
    let Some(_turn) = turn() else { return };
    let record = |names: &str| {
        let (_dir, path) = trace_path();
        let mut command = agent();
        command.args(["record", "--no-snapshot", "--names", names, "-o"]).arg(&path);
        // Starting programs takes page tables and kernel stacks: contexts.
        command.args(["--", "sh", "-c", "for i in $(seq 50); do ls / >/dev/null; done"]);
        assert!(command.status().unwrap().success());
        Trace::read(&path)
    };
    let comms = |trace: &Trace| -> Vec<String> {
        let comm = |kind: &SideKind| match kind {
            SideKind::Context { comm, .. } => Some(comm.clone()),
            _ => None,
        };
        trace.sides.iter().filter_map(|side| comm(&side.kind)).collect()
    };
    let kept = record("keep");
    assert!(comms(&kept).iter().any(|comm| comm == "ls" || comm == "sh"));
    assert!(kept.header.command.is_some());
    let hashed = record("hash");
    assert!(!comms(&hashed).is_empty());
    assert!(comms(&hashed).iter().all(|comm| comm.len() == 17 && comm.starts_with('#')));
    assert_eq!(hashed.header.command, None);
    let none = record("none");
    assert!(!comms(&none).is_empty() && comms(&none).iter().all(String::is_empty));
    assert!(!none.sides.iter().any(|side| matches!(side.kind, SideKind::Cgroup { .. })));
    assert_eq!(none.header.command, None);
}
