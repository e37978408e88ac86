//! The tables of a replay's results.

use std::path::Path;

use super::names::{Named, json_name};
use super::schema::{COSTS, COUNTERS, METRICS, ORDERS, REGIONS, TAINTS};
use super::table::TableWriter;
use super::{ExportError, Written};
use crate::callsite::call_site;
use crate::engine::observatory::Observatory;
use crate::mm::fragindex::ContigPages;
use crate::observe::{Sample, TaintEvent, TrackSample};

/// Writes samples and taint events.
pub(super) struct ResultTables {
    metrics: TableWriter,
    counters: TableWriter,
    regions: TableWriter,
    costs: TableWriter,
    taints: TableWriter,
    orders: TableWriter,
    samples: u64,
    taint_events: u64,
}

impl ResultTables {
    pub(super) fn create(dir: &Path) -> Result<ResultTables, ExportError> {
        Ok(ResultTables {
            metrics: TableWriter::create(dir, &METRICS)?,
            counters: TableWriter::create(dir, &COUNTERS)?,
            regions: TableWriter::create(dir, &REGIONS)?,
            costs: TableWriter::create(dir, &COSTS)?,
            taints: TableWriter::create(dir, &TAINTS)?,
            orders: TableWriter::create(dir, &ORDERS)?,
            samples: 0,
            taint_events: 0,
        })
    }

    /// Writes all tracks as they are now, and what turned tainted since the last time.
    pub(super) fn look(&mut self, observatory: &mut Observatory) -> Result<Sample, ExportError> {
        let sample = observatory.sample()?;
        for track in &sample.tracks {
            self.metrics(&sample, track)?;
            self.counters(&sample, track)?;
            self.regions(&sample, track)?;
            self.orders(&sample, track)?;
        }
        self.samples += u64::from(!sample.tracks.is_empty());
        self.taints(&observatory.take_taints())?;
        Ok(sample)
    }

    fn counters(&mut self, sample: &Sample, track: &TrackSample) -> Result<(), ExportError> {
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
        Ok(())
    }

    fn regions(&mut self, sample: &Sample, track: &TrackSample) -> Result<(), ExportError> {
        let (name, start) = (track.kind.name(), json_name(&track.start)?);
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
        Ok(())
    }

    fn orders(&mut self, sample: &Sample, track: &TrackSample) -> Result<(), ExportError> {
        let (name, start) = (track.kind.name(), json_name(&track.start)?);
        for (order, blocks) in track.free_blocks.iter().enumerate() {
            let order = order as u8;
            let seen = ContigPages::new(track.free_blocks.iter().copied(), order);
            self.orders.push(&[
                sample.time_ns.into(),
                name.into(),
                start.as_str().into(),
                u32::from(order).into(),
                (*blocks).into(),
                (seen.unusable_index(order) as u32).into(),
            ])?;
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

    fn taints(&mut self, taints: &[TaintEvent]) -> Result<(), ExportError> {
        self.taint_events += taints.len() as u64;
        for taint in taints {
            self.taints.push(&[
                taint.time_ns.into(),
                taint.track.name().into(),
                json_name(&taint.start)?.as_str().into(),
                taint.region_start.0.into(),
                taint.tainted.into(),
                taint.pfn.0.into(),
                u32::from(taint.order).into(),
                taint.gfp.bits().into(),
                Named::name(taint.migratetype).into(),
                taint.comm.as_deref().into(),
                taint.pid.into(),
                taint.cgroup.into(),
                call_site(&taint.stack).into(),
                taint.stack.join(";").as_str().into(),
            ])?;
        }
        Ok(())
    }

    /// Writes the ends of all files, and adds to what was written.
    pub(super) fn finish(self, written: &mut Written) -> Result<(), ExportError> {
        written.samples = self.samples;
        written.taints = self.taint_events;
        let tables =
            [self.metrics, self.counters, self.regions, self.costs, self.taints, self.orders];
        for table in tables {
            written.bytes += table.finish()?;
        }
        Ok(())
    }
}
