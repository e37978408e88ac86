//! Files of limited size: what they hold, and that each is a trace.

use std::fs::File;
use std::path::Path;

use fragscope_agent::machine::read_machine;
use fragscope_trace::event::PageEvent;
use fragscope_trace::header::{Totals, TraceMode};
use fragscope_trace::page::{CpuId, Pfn};
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::SnapshotSource;

use super::super::parts::Retention;
use super::*;

const LIMIT: u64 = 400_000;
const BATCH: u64 = 2000;

fn header() -> Header {
    Header {
        recorder: "test".into(),
        started_unix_ns: 1_000_000,
        started_ns: 500,
        machine: read_machine().unwrap(),
        capabilities: Vec::new(),
        command: None,
        mode: TraceMode::Full,
    }
}

fn snapshot(role: SnapshotRole, begin_ns: TimeNs) -> Frame {
    Frame::Snapshot(Box::new(Snapshot {
        source: SnapshotSource::StructPages,
        role,
        begin_ns,
        end_ns: begin_ns + 1,
        machine: header().machine,
        chunks: Vec::new(),
        runs: Vec::new(),
        pageblocks: Vec::new(),
        lists: Vec::new(),
        notes: Vec::new(),
    }))
}

/// Events that don't compress, and a stack of their own.
fn batch(number: u64) -> EventBatch {
    let mut batch = EventBatch::default();
    let frames = vec![format!("function_{number}")];
    let kind = SideKind::Stack { id: number as u32 + 1, frames };
    batch.push_side(SideEvent { time_ns: number * BATCH, cpu: None, kind });
    for i in number * BATCH..(number + 1) * BATCH {
        let mixed = (i ^ 0x5851_f42d).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let pfn = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        batch.pages.push(PageEvent::free(i, CpuId(0), Pfn(pfn), 0));
    }
    batch
}

fn end(time_ns: TimeNs) -> Frame {
    let totals = Totals::default();
    let reason = EndReason::Duration;
    Frame::End(Box::new(End { reason, time_ns, closing_snapshot: false, totals }))
}

/// What a file has: times of its page events, stacks, snapshots, lost events, and its end.
#[derive(Default)]
struct Found {
    times: Vec<TimeNs>,
    stacks: Vec<u32>,
    roles: Vec<SnapshotRole>,
    lost: u64,
    end: Option<End>,
}

fn read(path: &Path) -> Found {
    assert!(std::fs::metadata(path).unwrap().len() <= LIMIT, "{}", path.display());
    let mut reader = TraceReader::new(File::open(path).unwrap()).unwrap();
    let mut found = Found::default();
    while let Some(frame) = reader.next_frame().unwrap() {
        match frame {
            Frame::Header(_) => panic!("a second header"),
            Frame::Snapshot(snapshot) => found.roles.push(snapshot.role),
            Frame::Events(batch) => {
                found.times.extend(batch.pages.iter().map(|event| event.time_ns));
                for (_, side) in batch.sides {
                    match side.kind {
                        SideKind::Stack { id, .. } => found.stacks.push(id),
                        SideKind::Lost { count, .. } => found.lost += count,
                        other => panic!("{other:?}"),
                    }
                }
            }
            Frame::End(end) => found.end = Some(*end),
        }
    }
    found
}

fn begin(target: Target, rotate: bool) -> Sink {
    let mut sink = Sink::new(target, Some(Limit { bytes: LIMIT, rotate }), true);
    assert_eq!(sink.write(&Frame::Header(Box::new(header()))).unwrap(), Wish::None);
    assert!(!sink.has_begun());
    assert_eq!(sink.write(&snapshot(SnapshotRole::Opening, 500)).unwrap(), Wish::None);
    assert!(sink.has_begun());
    sink
}

#[test]
fn files_follow_each_other_and_each_is_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.fst");
    let mut sink = begin(Target::rotating(&path, Retention::default()), true);
    for number in 0..300 {
        if sink.write(&Frame::Events(batch(number))).unwrap() == Wish::Snapshot {
            // It takes a while.
            let taken = snapshot(SnapshotRole::Interval, (number + 1) * BATCH);
            assert_eq!(sink.write(&taken).unwrap(), Wish::None);
        }
    }
    sink.write(&end(300 * BATCH)).unwrap();
    let written = sink.written(Ok(()));
    assert!(written.files > 3 && written.left_out == 0, "{written:?}");
    let mut times = Vec::new();
    for number in 1..=written.files {
        let found = read(&dir.path().join(format!("a.{number:04}.fst")));
        let told = found.times.last().unwrap() / BATCH + 1;
        assert_eq!(found.stacks, (1..=told as u32).collect::<Vec<_>>(), "file {number}");
        assert_eq!(found.roles.first(), Some(&SnapshotRole::Opening));
        let end = found.end.unwrap();
        let next = format!("a.{:04}.fst", number + 1);
        let last = number == written.files;
        let reason = if last { EndReason::Duration } else { EndReason::Continued { next } };
        assert_eq!((end.reason, end.closing_snapshot), (reason, !last));
        assert_eq!(end.totals.events as usize, found.times.len() + found.stacks.len());
        times.extend(found.times);
    }
    assert_eq!(times, (0..300 * BATCH).collect::<Vec<_>>());
    assert!(!dir.path().join(format!("a.{:04}.fst", written.files + 1)).exists());
}

#[test]
fn what_has_no_room_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.fst");
    let mut sink = begin(Target::single(&path), false);
    let wishes: Vec<Wish> =
        (0..300).map(|n| sink.write(&Frame::Events(batch(n))).unwrap()).collect();
    assert_eq!(wishes.iter().filter(|wish| **wish == Wish::Stop).count(), 1);
    sink.write(&end(300 * BATCH)).unwrap();
    let written = sink.written(Ok(()));
    let found = read(&path);
    assert!(written.left_out > 0);
    assert_eq!(written.left_out + written.events, 300 * (BATCH + 1) + 1);
    assert_eq!(found.lost, written.left_out);
    let totals = found.end.unwrap().totals;
    assert_eq!(totals.lost[&LossCause::RateLimit], written.left_out);
    assert_eq!(totals.events, written.events);
}
