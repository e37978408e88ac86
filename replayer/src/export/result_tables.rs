//! The tables of a replay's results.

use std::path::Path;

use serde::Serialize;

use super::ExportError;
use super::names::Named;
use super::schema::{COSTS, COUNTERS, METRICS, REGIONS, TAINTS};
use super::table::TableWriter;
use crate::observe::{Sample, TaintEvent, TrackSample};

/// Writes samples and taint events.
pub(super) struct ResultTables {
    metrics: TableWriter,
    counters: TableWriter,
    regions: TableWriter,
    costs: TableWriter,
    taints: TableWriter,
}

impl ResultTables {
    pub(super) fn create(dir: &Path) -> Result<ResultTables, ExportError> {
        Ok(ResultTables {
            metrics: TableWriter::create(dir, &METRICS)?,
            counters: TableWriter::create(dir, &COUNTERS)?,
            regions: TableWriter::create(dir, &REGIONS)?,
            costs: TableWriter::create(dir, &COSTS)?,
            taints: TableWriter::create(dir, &TAINTS)?,
        })
    }

    /// All tracks at one time.
    pub(super) fn sample(&mut self, sample: &Sample) -> Result<(), ExportError> {
        for track in &sample.tracks {
            self.metrics(sample, track)?;
            let (name, start) = (track.kind.name(), json_name(&track.start)?);
            for (counter, value) in track.counters.iter().filter(|(_, value)| **value > 0) {
                self.counters.push(&[
                    sample.time_ns.into(),
                    name.into(),
                    start.as_str().into(),
                    counter.as_str().into(),
                    (*value).into(),
                ])?;
            }
            for region in &track.regions {
                self.regions.push(&[
                    sample.time_ns.into(),
                    name.into(),
                    start.as_str().into(),
                    u32::from(region.zone).into(),
                    region.start.0.into(),
                    region.state().name().into(),
                    (region.free_pages() as u32).into(),
                    (region.movable_pages() as u32).into(),
                    (region.tainting_pages() as u32).into(),
                ])?;
            }
        }
        Ok(())
    }

    fn metrics(&mut self, sample: &Sample, track: &TrackSample) -> Result<(), ExportError> {
        let totals = &track.totals;
        self.metrics.push(&[
            sample.time_ns.into(),
            track.kind.name().into(),
            json_name(&track.start)?.as_str().into(),
            totals.free_1g.min.into(),
            totals.free_1g.max.into(),
            totals.evacuable_1g.min.into(),
            totals.evacuable_1g.max.into(),
            totals.obtainable_1g.min.into(),
            totals.obtainable_1g.max.into(),
            totals.tainted_1g.min.into(),
            totals.tainted_1g.max.into(),
            totals.nearly_clean_1g.into(),
            totals.whole_1g.into(),
            sample.floor_1g.into(),
            track.has_bit_tainted_1g.into(),
            track.block_type_tainted_1g.into(),
            totals.free_pages.into(),
            totals.unmovable_pages.into(),
            totals.cost_pages.first().map_or(-1, |pages| *pages as i64).into(),
            sample.events.allocs.into(),
            sample.events.frees.into(),
            sample.events.lost_events().into(),
        ])
    }

    /// What regions cost at the end.
    pub(super) fn costs(&mut self, sample: &Sample) -> Result<(), ExportError> {
        for track in &sample.tracks {
            let (name, start) = (track.kind.name(), json_name(&track.start)?);
            for (index, pages) in track.totals.cost_pages.iter().enumerate() {
                let regions = index as u32 + 1;
                let row = [name.into(), start.as_str().into(), regions.into(), (*pages).into()];
                self.costs.push(&row)?;
            }
        }
        Ok(())
    }

    pub(super) fn taints(&mut self, taints: &[TaintEvent]) -> Result<(), ExportError> {
        for taint in taints {
            self.taints.push(&[
                taint.time_ns.into(),
                taint.track.name().into(),
                taint.region_start.0.into(),
                taint.tainted.into(),
                taint.pfn.0.into(),
                u32::from(taint.order).into(),
                taint.gfp.bits().into(),
                Named::name(taint.migratetype).into(),
                taint.comm.as_deref().into(),
                taint.stack.join(";").as_str().into(),
            ])?;
        }
        Ok(())
    }

    /// Writes the ends of all files. Returns their size in bytes.
    pub(super) fn finish(self) -> Result<u64, ExportError> {
        let tables = [self.metrics, self.counters, self.regions, self.costs, self.taints];
        tables.into_iter().try_fold(0, |bytes, table| Ok(bytes + table.finish()?))
    }
}

/// A value that its JSON spells as one word.
fn json_name(value: &impl Serialize) -> Result<String, ExportError> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}
