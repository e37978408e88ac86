//! Real 1 GiB pages: what is granted, and that nothing of it stays.

use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fragscope_agent::probe_1g::{Host as _, ProbeError, ThisHost, probe};
use fragscope_trace::event::{ProbeStop, SideKind};
use fragscope_trace::page::REGION_PAGES;
use fragscope_trace::snapshot::SnapshotRole;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::{Trace, agent, trace_path, turn};

/// The pools of this host, unless it has none; the reason is printed.
fn host() -> Option<ThisHost> {
    match ThisHost::open() {
        Ok(host) => Some(host),
        Err(ProbeError::NoSuchSize { found }) => {
            eprintln!("skipped: no 1 GiB pages here, only {found}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn pools(host: &ThisHost) -> Vec<u64> {
    (0..host.nodes().len()).map(|pool| host.pool_pages(pool).unwrap()).collect()
}

#[test]
fn a_granted_page_is_located_and_given_back() {
    let (Some(_turn), Some(host)) = (turn(), host()) else { return };
    let before = (pools(&host), host.pages_1g().unwrap());
    let found = probe(&host, Some(1), &AtomicBool::new(false)).unwrap();
    assert_eq!((pools(&host), host.pages_1g().unwrap()), before);
    assert_eq!(found.start_pfns.len() as u64, found.granted_1g);
    assert!(found.start_pfns.iter().all(|pfn| pfn.0 % REGION_PAGES == 0));
    assert_eq!(found.stopped == ProbeStop::Limit, found.granted_1g == 1, "{found:?}");
}

#[test]
fn a_signal_leaves_no_page_behind() {
    let (Some(_turn), Some(host)) = (turn(), host()) else { return };
    let before = pools(&host);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let mut child = agent().args(["probe-1g"]).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while pools(&host) == before
            && child.try_wait().unwrap().is_none()
            && begun.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&child), signal);
        assert!(child.wait().unwrap().code().is_some(), "killed by {signal:?}");
        assert_eq!(pools(&host), before, "{signal:?}");
    }
}

#[test]
fn a_recording_ends_with_what_was_granted() {
    let (Some(_turn), Some(host)) = (turn(), host()) else { return };
    let before = pools(&host);
    let (_dir, path) = trace_path();
    let mut command = agent();
    command.args(["record", "--json", "--probe-1g", "--output"]).arg(&path);
    let output = command.args(["--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(pools(&host), before);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let trace = Trace::read(&path);
    assert_eq!(trace.snapshots.last(), Some(&SnapshotRole::Closing));
    let SideKind::Probe1g { granted, pages, .. } = &trace.sides.last().unwrap().kind else {
        panic!("another event is the last: {:?}", trace.sides.last())
    };
    assert_eq!(summary["probe_1g"]["granted_1g"], *granted);
    assert_eq!(pages.len() as u64, *granted);
}
