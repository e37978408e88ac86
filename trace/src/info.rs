//! Statistics of a whole trace, gathered while it streams by.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::Serialize;

use crate::event::{
    EventBatch, LossCause, PageEvent, PageEventKind, SideEvent, SideKind, Tags, TimeNs,
};
use crate::frame::Frame;
use crate::header::{End, Header};
use crate::page::{Content, Migratetype};
use crate::reader::{Limits, ReadError, Skipped, TraceReader, Truncation};
use crate::snapshot::{Snapshot, SnapshotRole, SnapshotSource};

/// What a trace contains.
#[derive(Clone, Debug, Serialize)]
pub struct TraceInfo {
    /// Its header.
    pub header: Header,
    /// Bytes of whole frames.
    pub trace_bytes: u64,
    /// Bytes of the frames that hold events.
    pub event_bytes: u64,
    /// Page events and side events.
    pub events: u64,
    /// `event_bytes / events`; `None` without events.
    pub bytes_per_event: Option<f64>,
    /// Earliest time of any event.
    pub first_event_ns: Option<TimeNs>,
    /// Latest time of any event.
    pub last_event_ns: Option<TimeNs>,
    /// Between these two.
    pub span_ns: TimeNs,
    /// CPUs that page events name.
    pub cpus: BTreeSet<u16>,
    /// Page events by kind.
    pub page_events: BTreeMap<PageEventKind, u64>,
    /// Side events by name of their kind.
    pub side_events: BTreeMap<&'static str, u64>,
    /// Allocations and frees by order.
    pub orders: BTreeMap<u8, OrderInfo>,
    /// Page events tagged as the recorder's own.
    pub own_events: u64,
    /// Page events tagged as part of a migration.
    pub migration_events: u64,
    /// Page events tagged late.
    pub late_events: u64,
    /// Page events tagged as inferred.
    pub inferred_events: u64,
    /// Allocations that were counted by region and not recorded.
    pub counted_allocs: u64,
    /// Frees that were counted by region and not recorded.
    pub counted_frees: u64,
    /// Spans in which the recorder counted instead of recording, to keep a budget.
    pub sheds: u64,
    /// Events that never reached the trace, by cause.
    pub lost: BTreeMap<LossCause, u64>,
    /// The sum of these.
    pub lost_events: u64,
    /// Snapshots, in order.
    pub snapshots: Vec<SnapshotInfo>,
    /// Frames and side events that this program does not know.
    pub skipped: Skipped,
    /// How it ends; `None` if it was cut off.
    pub end: Option<End>,
    /// Where it was cut off.
    pub truncated: Option<Truncation>,
}

/// Allocations and frees of one order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OrderInfo {
    /// Allocations by the type requested.
    pub allocs: BTreeMap<Migratetype, u64>,
    /// Frees.
    pub frees: u64,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// How it was read.
    pub source: SnapshotSource,
    /// Why it was taken.
    pub role: SnapshotRole,
    /// Clock at its start.
    pub begin_ns: TimeNs,
    /// Clock at its end.
    pub end_ns: TimeNs,
    /// Bytes of its frames.
    pub bytes: u64,
    /// Page runs.
    pub runs: u64,
    /// Free lists, and the blocks on them.
    pub lists: u64,
    /// Blocks on free lists.
    pub list_blocks: u64,
    /// Pages by content, without those of which there are none.
    pub pages: BTreeMap<Content, u64>,
}

impl TraceInfo {
    /// Reads the rest of a trace.
    pub fn read<R: Read>(reader: &mut TraceReader<R>) -> Result<TraceInfo, ReadError> {
        let mut tally = Tally::new();
        let mut before = reader.position();
        while let Some(frame) = reader.next_frame()? {
            let bytes = reader.position() - before;
            before = reader.position();
            if let Some(batch) = tally.add(frame, bytes) {
                reader.recycle(batch);
            }
        }
        Ok(tally.finish(reader))
    }
}

/// Counts while the trace streams by.
struct Tally {
    /// Page events by kind and by order with type, packed as [`PageEvent::packed`] has them.
    shapes: Box<[[u64; 256]; 8]>,
    /// Page events by tags.
    tags: [u64; 32],
    cpus: Box<[bool; 1 << 16]>,
    first_ns: TimeNs,
    last_ns: TimeNs,
    event_bytes: u64,
    side_events: BTreeMap<&'static str, u64>,
    counted_allocs: u64,
    counted_frees: u64,
    sheds: u64,
    lost: BTreeMap<LossCause, u64>,
    snapshots: Vec<SnapshotInfo>,
    end: Option<End>,
}

impl Tally {
    fn new() -> Tally {
        Tally {
            shapes: Box::new([[0; 256]; 8]),
            tags: [0; 32],
            cpus: Box::new([false; 1 << 16]),
            first_ns: TimeNs::MAX,
            last_ns: 0,
            event_bytes: 0,
            side_events: BTreeMap::new(),
            counted_allocs: 0,
            counted_frees: 0,
            sheds: 0,
            lost: BTreeMap::new(),
            snapshots: Vec::new(),
            end: None,
        }
    }

    /// Counts a frame that took `bytes`; gives a batch back.
    fn add(&mut self, frame: Frame, bytes: u64) -> Option<EventBatch> {
        match frame {
            Frame::Events(batch) => {
                self.event_bytes += bytes;
                batch.pages.iter().for_each(|event| self.page(event));
                batch.sides.iter().for_each(|(_, event)| self.side(event));
                return Some(batch);
            }
            Frame::Snapshot(snapshot) => self.snapshots.push(SnapshotInfo::new(&snapshot, bytes)),
            Frame::End(end) => self.end = Some(*end),
            Frame::Header(_) => {}
        }
        None
    }

    fn time(&mut self, time_ns: TimeNs) {
        self.first_ns = self.first_ns.min(time_ns);
        self.last_ns = self.last_ns.max(time_ns);
    }

    fn page(&mut self, event: &PageEvent) {
        let (kind_tags, order_type) = event.packed();
        self.shapes[usize::from(kind_tags & 7)][usize::from(order_type)] += 1;
        self.tags[usize::from(kind_tags >> 3)] += 1;
        self.cpus[usize::from(event.cpu.0)] = true;
        self.time(event.time_ns);
    }

    fn side(&mut self, event: &SideEvent) {
        *self.side_events.entry(event.kind.name()).or_default() += 1;
        match &event.kind {
            SideKind::Lost { cause, count, .. } => {
                let lost = self.lost.entry(*cause).or_default();
                *lost = lost.saturating_add(*count);
            }
            SideKind::RegionCounts { regions, .. } => {
                for region in regions {
                    self.counted_allocs = self.counted_allocs.saturating_add(region.alloc_events());
                    self.counted_frees = self.counted_frees.saturating_add(region.free_events());
                }
            }
            SideKind::Shed { begin: true, .. } => self.sheds += 1,
            _ => {}
        }
        self.time(event.time_ns);
    }

    fn tagged(&self, tag: Tags) -> u64 {
        let tagged = |(tags, _): &(usize, &u64)| tags & usize::from(tag.bits()) != 0;
        self.tags.iter().enumerate().filter(tagged).map(|(_, count)| count).sum()
    }

    fn page_events(&self) -> BTreeMap<PageEventKind, u64> {
        let count = |kind: PageEventKind| (kind, self.shapes[kind as usize].iter().sum());
        PageEventKind::ALL.into_iter().map(count).collect()
    }

    fn orders(&self) -> BTreeMap<u8, OrderInfo> {
        let mut orders: BTreeMap<u8, OrderInfo> = BTreeMap::new();
        for packed in 0..=u8::MAX {
            let count = |kind: PageEventKind| self.shapes[kind as usize][usize::from(packed)];
            let (allocs, frees) = (count(PageEventKind::Alloc), count(PageEventKind::Free));
            if allocs + frees == 0 {
                continue;
            }
            let order = orders.entry(packed & 31).or_default();
            order.frees += frees;
            if let (Some(migratetype), 1..) =
                (Migratetype::from_index(usize::from(packed >> 5)), allocs)
            {
                order.allocs.insert(migratetype, allocs);
            }
        }
        orders
    }

    fn finish<R: Read>(self, reader: &TraceReader<R>) -> TraceInfo {
        let page_events = self.page_events();
        let events = page_events.values().sum::<u64>() + self.side_events.values().sum::<u64>();
        let any = |time| (events > 0).then_some(time);
        let cpus = self.cpus.iter().enumerate().filter(|(_, seen)| **seen);
        TraceInfo {
            header: reader.header().clone(),
            trace_bytes: reader.position(),
            event_bytes: self.event_bytes,
            events,
            bytes_per_event: (events > 0).then(|| self.event_bytes as f64 / events as f64),
            first_event_ns: any(self.first_ns),
            last_event_ns: any(self.last_ns),
            span_ns: self.last_ns.saturating_sub(self.first_ns),
            cpus: cpus.map(|(cpu, _)| cpu as u16).collect(),
            orders: self.orders(),
            own_events: self.tagged(Tags::OWN),
            migration_events: self.tagged(Tags::MIGRATION),
            late_events: self.tagged(Tags::LATE),
            inferred_events: self.tagged(Tags::INFERRED),
            lost_events: self.lost.values().fold(0, |sum, count| sum.saturating_add(*count)),
            page_events,
            side_events: self.side_events,
            counted_allocs: self.counted_allocs,
            counted_frees: self.counted_frees,
            sheds: self.sheds,
            lost: self.lost,
            snapshots: self.snapshots,
            skipped: reader.skipped().clone(),
            end: self.end,
            truncated: reader.truncated().cloned(),
        }
    }
}

impl SnapshotInfo {
    fn new(snapshot: &Snapshot, bytes: u64) -> SnapshotInfo {
        let pages = Content::ALL.into_iter().zip(snapshot.totals()).filter(|(_, n)| *n > 0);
        SnapshotInfo {
            source: snapshot.source,
            role: snapshot.role,
            begin_ns: snapshot.begin_ns,
            end_ns: snapshot.end_ns,
            bytes,
            runs: snapshot.runs.len() as u64,
            lists: snapshot.lists.len() as u64,
            list_blocks: snapshot.lists.iter().map(|list| list.blocks.len() as u64).sum(),
            pages: pages.collect(),
        }
    }
}

/// Decodes all of `bytes` as a trace, within `limits`, and counts what it holds: the entry point
/// for tests with hostile input.
pub fn decode_any(bytes: &[u8], limits: Limits) -> Result<TraceInfo, ReadError> {
    TraceInfo::read(&mut TraceReader::with_limits(bytes, limits)?)
}
