//! `serve` as a program: several clients, slow ones, and its end.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{Guarded, agent, turn};
use fragscope_trace::frame::Frame;
use fragscope_trace::reader::TraceReader;
use rustix::process::Signal;

fn serve(path: &Path) -> Guarded {
    let mut command = agent();
    command.arg("serve").arg("--listen").arg(format!("unix:{}", path.display()));
    Guarded::start(command.stderr(Stdio::piped()))
}

pub(crate) fn connect(path: &Path) -> UnixStream {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                return stream;
            }
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads header, snapshot, and events until there were `until_events` of them.
pub(crate) fn follow<S: Read>(stream: S, until_events: usize) -> TraceReader<S> {
    let mut reader = TraceReader::new(stream).unwrap();
    assert!(matches!(reader.next_frame().unwrap(), Some(Frame::Snapshot(_))));
    let mut events = 0;
    while events < until_events {
        match reader.next_frame().unwrap() {
            Some(Frame::Events(batch)) => events += batch.pages.len(),
            Some(_) => {}
            None => panic!("the stream ended after {events} events"),
        }
    }
    reader
}

#[test]
fn clients_follow_and_slow_ones_are_dropped() {
    let Some(_turn) = turn() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let server = serve(&path);
    let first = follow(connect(&path), 10);
    // One that never reads, and one that comes later and gets a snapshot of its own.
    let idle = connect(&path);
    let second = follow(connect(&path), 10);
    let readers: Vec<_> = [first, second]
        .into_iter()
        .map(|mut reader| {
            std::thread::spawn(move || {
                let mut events = 0;
                loop {
                    match reader.next_frame().unwrap() {
                        Some(Frame::Events(batch)) => events += batch.pages.len(),
                        Some(Frame::End(end)) => return (events, end),
                        Some(_) => {}
                        None => panic!("the stream ended without its last frame"),
                    }
                }
            })
        })
        .collect();
    // More than a socket and the queue of a client hold: 32 MiB are some 8 million events.
    let begun = Instant::now();
    let mut gone = false;
    while !gone && begun.elapsed() < Duration::from_secs(240) {
        crate::common::storm(4, 256);
        gone = is_hung_up(&idle);
    }
    assert!(gone, "the idle client is still connected");
    server.signal(Signal::TERM);
    let output = server.finish();
    assert_eq!(output.status.code(), Some(0));
    assert!(!path.exists());
    for reader in readers {
        let (events, end) = reader.join().unwrap();
        assert!(events > 100_000, "{events}");
        assert!(!end.closing_snapshot);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("of 3 clients 1 were dropped"), "{text}");
}

/// Whether the other end has closed, without reading what is queued.
fn is_hung_up(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(stream, PollFlags::HUP)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    fds[0].revents().contains(PollFlags::HUP)
}

#[test]
fn a_wrong_address_is_wrong_usage() {
    let output = agent().args(["serve", "--listen", "tcp:1.2.3.4:5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("expected unix:PATH"), "{text}");
}
