//! What is written is read: every field of every part, whatever the pieces it arrives in.

use std::io::{self, Read};

use crate::arbitrary::{batch, end, header, small_end, small_header, snapshot};
use fragscope_trace::event::{EventBatch, PageEvent, SideEvent, SideKind};
use fragscope_trace::frame::Frame;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::{End, Header};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::{
    ChunkTime, FreeList, PageRun, Snapshot, SnapshotRole, SnapshotSource,
};
use fragscope_trace::writer::TraceWriter;
use proptest::prelude::*;

fn write(header: &Header, batch: &EventBatch, snapshot: &Snapshot, end: &End) -> Vec<u8> {
    let mut writer = TraceWriter::new(Vec::new(), header).unwrap();
    writer.snapshot(snapshot).unwrap();
    writer.events(batch).unwrap();
    writer.end(end).unwrap();
    assert_eq!(writer.bytes_written(), writer.get_mut().len() as u64);
    writer.into_inner()
}

/// Joins the batches that a large one was split into.
fn join(batches: impl IntoIterator<Item = EventBatch>) -> EventBatch {
    let mut whole = EventBatch::default();
    for batch in batches {
        let before = whole.pages.len() as u32;
        whole.pages.extend(batch.pages);
        whole.sides.extend(batch.sides.into_iter().map(|(at, side)| (at + before, side)));
    }
    whole
}

fn read_all(input: impl Read) -> (Header, Vec<Frame>) {
    let mut reader = TraceReader::new(input).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    assert_eq!(reader.truncated(), None);
    assert!(reader.skipped().is_empty());
    (reader.header().clone(), frames)
}

fn read_batch(bytes: &[u8]) -> EventBatch {
    join(read_all(bytes).1.into_iter().filter_map(|frame| match frame {
        Frame::Events(batch) => Some(batch),
        _ => None,
    }))
}

/// Gives bytes in pieces of the given sizes, with interruptions between.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    interrupt: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupt = !self.interrupt;
        if self.interrupt {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = self.sizes.next().copied().unwrap_or(1).min(buffer.len());
        self.bytes.read(&mut buffer[..size])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_part_comes_back(
        header in header(),
        batch in batch(700),
        snapshot in snapshot(60),
        end in end(),
        sizes in prop::collection::vec(1usize..5000, 1..5),
    ) {
        let bytes = write(&header, &batch, &snapshot, &end);
        let pieces = Pieces { bytes: &bytes, sizes: sizes.iter().cycle(), interrupt: false };
        let (header_back, mut frames) = read_all(pieces);
        prop_assert_eq!(header_back, header);
        prop_assert_eq!(frames.remove(0), Frame::Snapshot(Box::new(snapshot)));
        prop_assert_eq!(frames.pop(), Some(Frame::End(Box::new(end))));
        let batches = frames.into_iter().map(|frame| match frame {
            Frame::Events(batch) => batch,
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(join(batches), batch);
    }
}

/// More page events than a frame holds, with side events at the seams.
#[test]
fn large_batches_are_split_without_a_seam() {
    let page = |i: u64| match i % 3 {
        0 => PageEvent::free(i * 7, CpuId((i % 300) as u16), Pfn(i ^ 0x55), 0),
        _ => PageEvent::alloc(i * 7, CpuId((i % 300) as u16), Pfn(i), 2, Gfp::KERNEL),
    };
    let mut batch = EventBatch { pages: (0..200_000).map(page).collect(), sides: Vec::new() };
    for at in [0, 1, 65_535, 65_536, 65_536, 65_537, 131_072, 199_999, 200_000] {
        let kind = SideKind::Mark { text: format!("before {at}") };
        batch.sides.push((at, SideEvent { time_ns: at.into(), cpu: None, kind }));
    }
    let mut writer = TraceWriter::new(Vec::new(), &small_header()).unwrap();
    writer.events(&batch).unwrap();
    writer.end(&small_end()).unwrap();
    assert!(read_batch(&writer.into_inner()) == batch);
}

/// Side events that fill frames by their bytes and by their number.
#[test]
fn side_events_are_split_as_well() {
    let mark = |text: String, at| {
        (at, SideEvent { time_ns: 3, cpu: Some(CpuId(9)), kind: SideKind::Mark { text } })
    };
    let pages: Vec<_> = (0..10).map(|i| PageEvent::free(i, CpuId(0), Pfn(i), 0)).collect();
    let mut sides: Vec<_> = (0..9).map(|i| mark("x".repeat(500_000 + i), i as u32)).collect();
    sides.extend((0..70_000).map(|i| mark(i.to_string(), 9)));
    let batch = EventBatch { pages, sides };
    let mut writer = TraceWriter::new(Vec::new(), &small_header()).unwrap();
    writer.events(&batch).unwrap();
    writer.end(&small_end()).unwrap();
    assert!(read_batch(&writer.into_inner()) == batch);
}

/// More items of each sort than one frame holds, and a list that goes on in the next frame.
#[test]
fn large_snapshots_are_split_without_a_seam() {
    let items = 600_000u64;
    let types = [Migratetype::Movable, Migratetype::Unmovable];
    let range = |i: u64| PfnRange::new(Pfn(i * 4), 1 + i % 4);
    let run = |i: u64| PageRun {
        start: range(i).start,
        pages: range(i).pages(),
        content: Content::ALL[(i % 18) as usize],
        order: 0,
        migratetype: types[(i % 2) as usize],
    };
    let list = |length: u64| FreeList {
        zone: 0,
        cpu: Some(CpuId(length as u16)),
        order: 1,
        migratetype: Migratetype::Reclaimable,
        blocks: (0..length).map(|i| Pfn(i * i)).collect(),
    };
    let snapshot = Snapshot {
        source: SnapshotSource::Synthetic,
        role: SnapshotRole::Interval,
        begin_ns: 0,
        end_ns: 1,
        machine: small_header().machine,
        chunks: (0..items)
            .map(|i| ChunkTime { range: range(i), begin_ns: i * 3, end_ns: i * 3 + 2 })
            .collect(),
        runs: (0..items).map(run).collect(),
        pageblocks: (0..items).map(|i| (range(i), types[(i / 3 % 2) as usize])).collect(),
        lists: [0, 5, items, 0, 1 << 18, 7, 0].map(list).into(),
        notes: Vec::new(),
    };
    let mut writer = TraceWriter::new(Vec::new(), &small_header()).unwrap();
    writer.snapshot(&snapshot).unwrap();
    writer.end(&small_end()).unwrap();
    let bytes = writer.into_inner();
    let longest = crate::raw::split(&bytes).iter().map(|frame| frame.payload.len()).max();
    assert!(longest.is_some_and(|bytes| bytes < 16 << 20), "{longest:?}");
    assert!(read_all(&bytes[..]).1[0] == Frame::Snapshot(Box::new(snapshot)));
}

/// What a reader would refuse is not written.
#[test]
fn what_breaks_a_rule_is_not_written() {
    let mut header = small_header();
    header.machine.zones[0].spanned_pages = 1 << 39;
    assert!(TraceWriter::new(Vec::new(), &header).is_err());

    let mut writer = TraceWriter::new(Vec::new(), &small_header()).unwrap();
    let before = writer.bytes_written();
    let mark = |at| {
        let kind = SideKind::Mark { text: String::new() };
        (at, SideEvent { time_ns: 0, cpu: None, kind })
    };
    let pages = vec![PageEvent::free(0, CpuId(0), Pfn(0), 0)];
    for sides in [vec![mark(2)], vec![mark(1), mark(0)]] {
        assert!(writer.events(&EventBatch { pages: pages.clone(), sides }).is_err());
    }
    let long = SideKind::Mark { text: "x".repeat(2 << 20) };
    let sides = vec![(0, SideEvent { time_ns: 0, cpu: None, kind: long })];
    let error = writer.events(&EventBatch { pages: Vec::new(), sides }).unwrap_err();
    assert!(error.to_string().starts_with("a mark event takes 2097"), "{error}");
    let order = PageEvent::free(0, CpuId(0), Pfn(0), 31);
    assert!(writer.events(&EventBatch { pages: vec![order], sides: Vec::new() }).is_err());
    assert_eq!(writer.bytes_written(), before);
    writer.end(&small_end()).unwrap();
    assert!(writer.events(&EventBatch { pages, sides: Vec::new() }).is_err());
}
