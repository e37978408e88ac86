//! The tables from which a trace is made again.

use std::path::Path;

use fragscope_trace::event::{EventBatch, SideEvent, SideKind};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{End, Header};
use fragscope_trace::snapshot::Snapshot;
use serde_json::Value;

use super::events::EventWriter;
use super::names::Named;
use super::schema::{
    LOSSES, SIDES, SNAPSHOT_LISTS, SNAPSHOT_PAGEBLOCKS, SNAPSHOT_RUNS, SNAPSHOTS, TRACE, ZONES,
};
use super::table::{Cell, TableWriter};
use super::{ExportError, Written};

/// Writes a trace as tables, frame by frame.
pub(super) struct TraceTables {
    header: Header,
    trace: TableWriter,
    events: EventWriter,
    sides: TableWriter,
    side_count: u64,
    losses: TableWriter,
    zones: TableWriter,
    snapshots: TableWriter,
    snapshot_count: u32,
    runs: TableWriter,
    pageblocks: TableWriter,
    lists: TableWriter,
}

impl TraceTables {
    pub(super) fn create(dir: &Path, header: &Header) -> Result<TraceTables, ExportError> {
        let mut zones = TableWriter::create(dir, &ZONES)?;
        for (index, zone) in header.machine.zones.iter().enumerate() {
            zones.push(&[
                (index as u32).into(),
                u32::from(zone.node).into(),
                zone.kind.name().into(),
                zone.start_pfn.0.into(),
                zone.spanned_pages.into(),
                zone.present_pages.into(),
                zone.managed_pages.into(),
                zone.watermarks.min.into(),
                zone.watermarks.low.into(),
                zone.watermarks.high.into(),
            ])?;
        }
        Ok(TraceTables {
            header: header.clone(),
            trace: TableWriter::create(dir, &TRACE)?,
            events: EventWriter::create(dir, header.started_ns)?,
            sides: TableWriter::create(dir, &SIDES)?,
            side_count: 0,
            losses: TableWriter::create(dir, &LOSSES)?,
            zones,
            snapshots: TableWriter::create(dir, &SNAPSHOTS)?,
            snapshot_count: 0,
            runs: TableWriter::create(dir, &SNAPSHOT_RUNS)?,
            pageblocks: TableWriter::create(dir, &SNAPSHOT_PAGEBLOCKS)?,
            lists: TableWriter::create(dir, &SNAPSHOT_LISTS)?,
        })
    }

    /// What a frame holds; its header and end are told at the beginning and the end.
    pub(super) fn frame(&mut self, frame: &Frame) -> Result<(), ExportError> {
        match frame {
            Frame::Events(batch) => self.batch(batch),
            Frame::Snapshot(snapshot) => self.snapshot(snapshot),
            Frame::Header(_) | Frame::End(_) => Ok(()),
        }
    }

    fn batch(&mut self, batch: &EventBatch) -> Result<(), ExportError> {
        for (pages, side) in batch.stretches() {
            self.events.push(pages)?;
            if let Some(side) = side {
                self.side(side)?;
            }
        }
        Ok(())
    }

    fn side(&mut self, event: &SideEvent) -> Result<(), ExportError> {
        let detail = serde_json::to_value(&event.kind)?;
        let cpu = event.cpu.map(|cpu| u32::from(cpu.0));
        self.sides.push(&[
            self.events.written.into(),
            event.time_ns.into(),
            cpu.into(),
            variant(&detail).into(),
            detail.to_string().as_str().into(),
        ])?;
        self.side_count += 1;
        if let SideKind::Lost { cpu, cause, count, since_ns } = &event.kind {
            let cause = serde_json::to_value(cause)?;
            self.losses.push(&[
                (*since_ns).into(),
                event.time_ns.into(),
                cpu.map(|cpu| u32::from(cpu.0)).into(),
                cause.as_str().unwrap_or("").into(),
                (*count).into(),
            ])?;
        }
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), ExportError> {
        let number = self.snapshot_count;
        self.snapshot_count += 1;
        self.snapshots.push(&[
            number.into(),
            self.events.written.into(),
            self.side_count.into(),
            snapshot.source.name().into(),
            snapshot.role.name().into(),
            snapshot.begin_ns.into(),
            snapshot.end_ns.into(),
            serde_json::to_string(&snapshot.machine)?.as_str().into(),
            serde_json::to_string(&snapshot.chunks)?.as_str().into(),
            serde_json::to_string(&snapshot.notes)?.as_str().into(),
        ])?;
        for run in &snapshot.runs {
            self.runs.push(&[
                number.into(),
                run.start.0.into(),
                run.pages.into(),
                run.content.name().into(),
                u32::from(run.order).into(),
                Named::name(run.migratetype).into(),
            ])?;
        }
        for (range, migratetype) in &snapshot.pageblocks {
            let of_type = Named::name(*migratetype);
            let (start, end) = (range.start.0, range.end.0);
            self.pageblocks.push(&[number.into(), start.into(), end.into(), of_type.into()])?;
        }
        self.free_lists(number, snapshot)
    }

    fn free_lists(&mut self, number: u32, snapshot: &Snapshot) -> Result<(), ExportError> {
        for (index, list) in snapshot.lists.iter().enumerate() {
            let mut row = |pfn: Cell<'_>| {
                self.lists.push(&[
                    number.into(),
                    (index as u32).into(),
                    u32::from(list.zone).into(),
                    list.cpu.map(|cpu| u32::from(cpu.0)).into(),
                    u32::from(list.order).into(),
                    Named::name(list.migratetype).into(),
                    pfn,
                ])
            };
            if list.blocks.is_empty() {
                row(Cell::Null)?;
            }
            list.blocks.iter().try_for_each(|block| row(block.0.into()))?;
        }
        Ok(())
    }

    /// Writes the ends of all files.
    pub(super) fn finish(
        mut self,
        end: Option<&End>,
        truncated: Option<&str>,
    ) -> Result<Written, ExportError> {
        let header = serde_json::to_string(&self.header)?;
        let end = end.map(serde_json::to_string).transpose()?;
        self.trace.push(&[header.as_str().into(), end.as_deref().into(), truncated.into()])?;
        let mut written = Written {
            events: self.events.written,
            event_bytes: self.events.finish()?,
            ..Written::default()
        };
        written.bytes = written.event_bytes;
        let rest = [
            self.trace,
            self.sides,
            self.losses,
            self.zones,
            self.snapshots,
            self.runs,
            self.pageblocks,
            self.lists,
        ];
        for table in rest {
            written.bytes += table.finish()?;
        }
        Ok(written)
    }
}

/// The name of an enumeration's variant in its JSON.
fn variant(detail: &Value) -> &str {
    match detail {
        Value::Object(fields) => fields.keys().next().map_or("", String::as_str),
        Value::String(name) => name,
        _ => "",
    }
}
