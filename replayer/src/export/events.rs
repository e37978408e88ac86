//! The table of page events: collected column by column, since there are very many.

use std::path::Path;

use fragscope_trace::event::{PageEvent, TimeNs};
use polars::prelude::{Column as Values, DataFrame};

use super::ExportError;
use super::names::{Named, tags_text};
use super::schema::EVENTS;
use super::table::TableWriter;

/// Rows of a row group. Larger ones compress no better and take more memory.
const GROUP_ROWS: usize = 1 << 20;

/// Writes page events.
pub(super) struct EventWriter {
    writer: TableWriter,
    previous_ns: TimeNs,
    dt_ns: Vec<i64>,
    kind: Vec<&'static str>,
    pfn: Vec<u64>,
    order: Vec<u32>,
    cpu: Vec<u32>,
    gfp: Vec<u32>,
    migratetype: Vec<&'static str>,
    tags: Vec<String>,
    pub(super) written: u64,
}

impl EventWriter {
    pub(super) fn create(dir: &Path, started_ns: TimeNs) -> Result<EventWriter, ExportError> {
        Ok(EventWriter {
            writer: TableWriter::create(dir, &EVENTS)?,
            previous_ns: started_ns,
            dt_ns: Vec::new(),
            kind: Vec::new(),
            pfn: Vec::new(),
            order: Vec::new(),
            cpu: Vec::new(),
            gfp: Vec::new(),
            migratetype: Vec::new(),
            tags: Vec::new(),
            written: 0,
        })
    }

    pub(super) fn push(&mut self, events: &[PageEvent]) -> Result<(), ExportError> {
        for event in events {
            self.dt_ns.push(event.time_ns.wrapping_sub(self.previous_ns) as i64);
            self.previous_ns = event.time_ns;
            self.kind.push(event.kind().name());
            self.pfn.push(event.pfn.0);
            self.order.push(event.order().into());
            self.cpu.push(event.cpu.0.into());
            self.gfp.push(event.gfp.bits());
            self.migratetype.push(Named::name(event.migratetype()));
            self.tags.push(tags_text(event.tags()));
            if self.dt_ns.len() == GROUP_ROWS {
                self.flush()?;
            }
        }
        self.written += events.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let rows = DataFrame::new_infer_height(vec![
            Values::new("dt_ns".into(), &self.dt_ns),
            Values::new("kind".into(), &self.kind),
            Values::new("pfn".into(), &self.pfn),
            Values::new("order".into(), &self.order),
            Values::new("cpu".into(), &self.cpu),
            Values::new("gfp".into(), &self.gfp),
            Values::new("migratetype".into(), &self.migratetype),
            Values::new("tags".into(), &self.tags),
        ])?;
        self.writer.write(&rows)?;
        self.dt_ns.clear();
        self.kind.clear();
        self.pfn.clear();
        self.order.clear();
        self.cpu.clear();
        self.gfp.clear();
        self.migratetype.clear();
        self.tags.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<u64, ExportError> {
        if !self.dt_ns.is_empty() {
            self.flush()?;
        }
        self.writer.finish()
    }
}
