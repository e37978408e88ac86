//! What the tests that load BPF programs share.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output};

use fragscope_agent::bpf::memory::touch_fresh_pages;
use fragscope_agent::bpf::rights::missing_capabilities;
use fragscope_trace::event::{PageEvent, SideEvent};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{End, Header};
use fragscope_trace::reader::{TraceReader, Truncation};
use fragscope_trace::snapshot::{SnapshotRole, SnapshotSource};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Set for a test that runs itself again as a load: rounds and MiB of the storm.
const STORM: &str = "FRAGSCOPE_TEST_STORM";

/// The right to load programs, one test at a time in all processes of this host: several tracers
/// at once would slow each other down and fill each other's traces.
pub(crate) struct Turn {
    _lock: File,
}

/// Waits for the turn; `None`, with the reason printed, where programs can't be loaded.
pub(crate) fn turn() -> Option<Turn> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        eprintln!("skipped: loading BPF programs takes {}", missing.join(" and "));
        return None;
    }
    let path = std::env::temp_dir().join("fragscope-test.lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    Some(Turn { _lock: lock })
}

/// The program under test.
pub(crate) fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fragscope-agent"))
}

/// Names of what this host does not offer to a program with the rights of this one.
pub(crate) fn lacks() -> BTreeSet<String> {
    let doctor = agent().args(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let all = report["capabilities"].as_array().unwrap().iter();
    let lacking = all.filter(|capability| capability["available"] == false);
    lacking.map(|capability| capability["name"].as_str().unwrap().to_owned()).collect()
}

/// A command line that storms: this very test binary, which comes to [`storm_if_asked`] by the
/// test `name`.
pub(crate) fn storm_command(command: &mut Command, name: &str, rounds: usize, mib: usize) {
    command.env(STORM, format!("{rounds} {mib}")).arg("--");
    command.arg(std::env::current_exe().unwrap()).args([name, "--exact"]);
}

/// Storms if this process was started by [`storm_command`].
pub(crate) fn storm_if_asked() {
    let Ok(size) = std::env::var(STORM) else { return };
    let (rounds, mib) = size.split_once(' ').unwrap();
    storm(rounds.parse().unwrap(), mib.parse().unwrap());
}

/// Maps, touches page by page, and unmaps.
pub(crate) fn storm(rounds: usize, mib: usize) {
    for _ in 0..rounds {
        touch_fresh_pages(mib << 20).unwrap();
    }
}

/// A program under test that is killed if its test fails.
pub(crate) struct Guarded(Option<Child>);

impl Guarded {
    pub(crate) fn start(command: &mut Command) -> Guarded {
        Guarded(Some(command.spawn().unwrap()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Its standard output, which is a pipe.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.0.as_mut().unwrap().stdout.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// A whole trace in memory.
pub(crate) struct Trace {
    pub(crate) header: Header,
    pub(crate) pages: Vec<PageEvent>,
    pub(crate) sides: Vec<SideEvent>,
    pub(crate) snapshots: Vec<SnapshotRole>,
    pub(crate) sources: Vec<SnapshotSource>,
    pub(crate) end: Option<End>,
}

impl Trace {
    pub(crate) fn read(path: &Path) -> Trace {
        Trace::from_reader(File::open(path).unwrap())
    }

    /// Everything must be readable to the last byte.
    pub(crate) fn from_reader(input: impl std::io::Read) -> Trace {
        let (trace, cut) = Trace::up_to_cut(input);
        assert!(cut.is_none(), "{cut:?}");
        trace
    }

    /// What is there of a trace that may still grow, and where it is cut off.
    pub(crate) fn up_to_cut(input: impl std::io::Read) -> (Trace, Option<Truncation>) {
        let mut reader = TraceReader::new(input).unwrap();
        let mut trace = Trace {
            header: reader.header().clone(),
            pages: Vec::new(),
            sides: Vec::new(),
            snapshots: Vec::new(),
            sources: Vec::new(),
            end: None,
        };
        while let Some(frame) = reader.next_frame().unwrap() {
            match frame {
                Frame::Header(_) => panic!("a second header"),
                Frame::Snapshot(snapshot) => {
                    trace.snapshots.push(snapshot.role);
                    trace.sources.push(snapshot.source);
                }
                Frame::Events(batch) => {
                    trace.pages.extend(batch.pages);
                    trace.sides.extend(batch.sides.into_iter().map(|(_, side)| side));
                }
                Frame::End(end) => trace.end = Some(*end),
            }
        }
        let cut = reader.truncated().cloned();
        (trace, cut)
    }
}

/// A fresh folder and a path for a trace in it.
pub(crate) fn trace_path() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.fst");
    (dir, path)
}
