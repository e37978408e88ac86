//! What a recording came to.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use anyhow::Result;
use fragscope_agent::live::director::LiveReport;
use fragscope_agent::live::tick::{own_cpu_ns, own_rss_bytes};
use fragscope_agent::probe_1g::{Probe, ProbeError};
use fragscope_trace::event::{LossCause, PageEventKind};
use fragscope_trace::header::{EndReason, Header, TraceMode};
use serde::Serialize;

use super::output::Written;

/// The summary; field names are stable.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// What is told of page events.
    mode: TraceMode,
    /// Events in the trace, frequent and rare.
    events: u64,
    allocs: u64,
    frees: u64,
    lost_events: u64,
    late_events: u64,
    own_events: u64,
    duration_ns: u64,
    /// Allocations and frees that were counted by region and not recorded.
    counted_allocs: u64,
    counted_frees: u64,
    trace_bytes: u64,
    /// Files that the trace went to; old ones may be removed already.
    files: u64,
    /// Online CPUs.
    cpus: usize,
    closing_snapshot: bool,
    end_reason: EndReason,
    /// Bytes of the whole trace by its events; snapshots included.
    bytes_per_event: Option<f64>,
    snapshots: u64,
    snapshot_errors: Vec<String>,
    lost_by_cause: BTreeMap<LossCause, u64>,
    lost_by_cpu: Vec<LostOnCpu>,
    /// Page events that the kernel offered, by kind, counted by the programs themselves.
    emitted: BTreeMap<PageEventKindName, u64>,
    /// Page events in the trace, by kind.
    delivered: BTreeMap<PageEventKindName, u64>,
    /// Status of the command, if one was run and has ended.
    command_status: Option<i32>,
    /// With `--probe-1g`: what the kernel gave, or why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_1g: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_1g_error: Option<String>,
    agent_cpu_ns: u64,
    agent_rss_bytes: u64,
    /// Capabilities that were not there.
    unavailable: Vec<String>,
}

type PageEventKindName = &'static str;

/// Losses of one cause on one CPU.
#[derive(Debug, Serialize)]
struct LostOnCpu {
    /// `null` where the cause does not tell.
    cpu: Option<u16>,
    cause: LossCause,
    count: u64,
}

const EMITTED_NAMES: [PageEventKindName; 5] =
    ["alloc", "free", "lru_insertion", "zone_locked", "pcpu_drain"];

impl Summary {
    pub(super) fn new(
        header: &Header,
        report: &LiveReport,
        written: &Written,
        command_status: Option<i32>,
        probed: Option<&Result<Probe, ProbeError>>,
    ) -> Summary {
        let end = &report.end;
        let totals = &end.totals;
        let by_cpu = |((cause, cpu), count): (&(LossCause, Option<_>), &u64)| LostOnCpu {
            cpu: cpu.map(|c: fragscope_trace::page::CpuId| c.0),
            cause: *cause,
            count: *count,
        };
        let bytes_per_event =
            (written.events > 0).then(|| written.bytes as f64 / written.events as f64);
        let mut lost_by_cause = totals.lost.clone();
        if written.left_out > 0 {
            *lost_by_cause.entry(LossCause::RateLimit).or_default() += written.left_out;
        }
        Summary {
            mode: header.mode,
            events: written.events,
            allocs: totals.allocs,
            frees: totals.frees,
            lost_events: lost_by_cause.values().sum(),
            late_events: totals.late_events,
            own_events: totals.own_events,
            duration_ns: end.time_ns.saturating_sub(header.started_ns),
            counted_allocs: totals.counted_allocs,
            counted_frees: totals.counted_frees,
            trace_bytes: written.bytes,
            files: written.files,
            cpus: header.machine.cpus.iter().filter(|c| c.online).count(),
            closing_snapshot: end.closing_snapshot,
            end_reason: end.reason.clone(),
            bytes_per_event,
            snapshots: report.snapshots,
            snapshot_errors: report.snapshot_errors.clone(),
            lost_by_cause,
            lost_by_cpu: report.collector.lost.iter().map(by_cpu).collect(),
            emitted: EMITTED_NAMES.into_iter().zip(report.collector.emitted.clone()).collect(),
            delivered: PageEventKind::ALL
                .into_iter()
                .map(|kind| (kind.name(), report.delivered[kind as usize]))
                .collect(),
            command_status,
            probe_1g: probed.and_then(|result| result.as_ref().ok()).cloned(),
            probe_1g_error: probed.and_then(|r| r.as_ref().err()).map(ToString::to_string),
            agent_cpu_ns: own_cpu_ns(),
            agent_rss_bytes: own_rss_bytes(),
            unavailable: header
                .capabilities
                .iter()
                .filter(|c| !c.available)
                .map(|c| c.name.clone())
                .collect(),
        }
    }

    /// To standard output, or to standard error where the trace goes there.
    pub(super) fn print(&self, json: bool, stdout_taken: bool) -> Result<()> {
        let mut text = if json { serde_json::to_string_pretty(self)? } else { self.to_text() };
        text.push('\n');
        let written = if stdout_taken {
            io::stderr().write_all(text.as_bytes())
        } else {
            io::stdout().write_all(text.as_bytes())
        };
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn to_text(&self) -> String {
        let seconds = self.duration_ns as f64 / 1e9;
        let mut lines = vec![
            format!(
                "{} events in {seconds:.1} s: {} allocations, {} frees",
                self.events, self.allocs, self.frees
            ),
            format!(
                "{} lost, {} late, {} of the agent itself",
                self.lost_events, self.late_events, self.own_events
            ),
            format!(
                "{} bytes{}{}, {} snapshots{}",
                self.trace_bytes,
                if self.files > 1 { format!(" in {} files", self.files) } else { String::new() },
                self.bytes_per_event.map_or(String::new(), |b| format!(" ({b:.1} per event)")),
                self.snapshots,
                if self.closing_snapshot { "" } else { ", none at the end" }
            ),
        ];
        if self.counted_allocs + self.counted_frees > 0 {
            lines.push(format!(
                "{} allocations and {} frees counted by GiB, not recorded",
                self.counted_allocs, self.counted_frees
            ));
        }
        lines.extend(self.lost_by_cpu.iter().map(|l| {
            let place = l.cpu.map_or(String::new(), |cpu| format!(" on cpu {cpu}"));
            format!("lost {}{place}: {:?}", l.count, l.cause)
        }));
        lines.extend(self.snapshot_errors.iter().cloned());
        lines.extend(self.probe_1g.as_ref().map(|p| {
            format!("the kernel gave {} pages of 1 GiB, and has them back", p.granted_1g)
        }));
        lines.join("\n")
    }
}
