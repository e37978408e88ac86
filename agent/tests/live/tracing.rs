//! The tracer inside this process: every event delivered or counted, by each channel.

use std::collections::HashSet;
use std::time::Duration;

use aya::sys::{Stats, enable_stats};
use fragscope_agent::bpf::tracer::{Tracer, TracerOptions};
use fragscope_agent::live::director::LiveReport;
use fragscope_agent::live::{LiveAgent, LiveOptions};
use fragscope_ebpf::record;
use fragscope_trace::event::{EventBatch, LossCause, PageEvent, PageEventKind, SideKind, Tags};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::EndReason;

/// Pages of 64 MiB.
const STORM_PAGES: u64 = 64 << 8;

/// Runs a session without snapshots while `work` runs.
fn session(tracer: TracerOptions, work: impl FnOnce(&LiveAgent)) -> (EventBatch, LiveReport) {
    let options = LiveOptions { tracer, ..LiveOptions::default() };
    let agent = LiveAgent::start(options, None).unwrap();
    let frames = agent.frames().clone();
    let reader = std::thread::spawn(move || {
        let mut all = EventBatch::default();
        for frame in frames {
            if let Frame::Events(batch) = frame {
                let before = all.pages.len() as u32;
                all.pages.extend(batch.pages);
                all.sides.extend(batch.sides.into_iter().map(|(at, side)| (at + before, side)));
            }
        }
        all
    });
    work(&agent);
    agent.control().stop(EndReason::Duration, None);
    let report = agent.join().unwrap();
    (reader.join().unwrap(), report)
}

/// Allocations of order 0 that a later free of the same page matches.
fn matched_pages(pages: &[PageEvent]) -> u64 {
    let mut held = HashSet::new();
    let mut matched = 0;
    for event in pages.iter().filter(|e| e.order() == 0) {
        match event.kind() {
            PageEventKind::Alloc => {
                held.insert(event.pfn);
            }
            PageEventKind::Free => matched += u64::from(held.remove(&event.pfn)),
            _ => {}
        }
    }
    matched
}

/// Emitted = delivered + lost, the loss being by causes of page events.
fn assert_accounts(report: &LiveReport) {
    let emitted: u64 = report.collector.emitted.iter().sum();
    let delivered: u64 = report.delivered.iter().sum();
    let lost = report.end.totals.lost_events();
    assert_eq!(emitted, delivered + lost, "{report:?}");
}

fn lost(report: &LiveReport, cause: LossCause) -> u64 {
    report.end.totals.lost.get(&cause).copied().unwrap_or(0)
}

fn a_storm_arrives_whole(tracer: TracerOptions) {
    let Some(_turn) = crate::common::turn() else { return };
    let (events, report) = session(tracer, |_| crate::common::storm(2, 64));
    assert_accounts(&report);
    assert_eq!(report.end.totals.lost_events(), lost(&report, LossCause::Reentry));
    let missed = lost(&report, LossCause::Reentry);
    let matched = matched_pages(&events.pages);
    assert!(matched + missed >= 2 * STORM_PAGES, "{matched} pages matched, {missed} missed");
    // The storm ran in this process, so it is own: allocations and frees.
    let own = events.pages.iter().filter(|e| e.tags().contains(Tags::OWN));
    assert!(own.count() as u64 + missed >= 4 * STORM_PAGES);
    assert_eq!(report.end.totals.events as usize, events.len());
}

#[test]
fn a_storm_arrives_whole_through_shared_rings() {
    a_storm_arrives_whole(TracerOptions::default());
}

#[test]
fn a_storm_arrives_whole_through_ring_buffers() {
    a_storm_arrives_whole(TracerOptions { force_ring_buffers: true, ..TracerOptions::default() });
}

#[test]
fn a_storm_arrives_whole_through_classic_tracepoints() {
    a_storm_arrives_whole(TracerOptions { force_classic: true, ..TracerOptions::default() });
}

/// Whatever arrives late says so, and all the rest is in order.
#[test]
fn events_come_in_order() {
    let Some(_turn) = crate::common::turn() else { return };
    let tracer = TracerOptions { buddy_events: true, ..TracerOptions::default() };
    let (events, report) = session(tracer, |_| {
        std::thread::scope(|scope| {
            scope.spawn(|| crate::common::storm(2, 32));
            scope.spawn(|| crate::common::storm(2, 32));
        });
    });
    assert_accounts(&report);
    let mut youngest = 0;
    for event in &events.pages {
        assert_eq!(event.tags().contains(Tags::LATE), event.time_ns < youngest, "{event:?}");
        youngest = youngest.max(event.time_ns);
    }
    // Whether blocks moved between lists depends on what the per-CPU lists held; each that did is
    // in the trace.
    let emitted = &report.collector.emitted;
    for (kind, number) in [
        (PageEventKind::ZoneLocked, record::KIND_ZONE_LOCKED),
        (PageEventKind::PcpuDrain, record::KIND_PCPU_DRAIN),
    ] {
        assert_eq!(report.delivered[kind as usize], emitted[number as usize], "{kind:?}");
    }
}

/// One page of 256 records per ring and a reader that sleeps: most events are lost, and every one
/// of them is counted.
fn a_forced_overflow_is_counted(force_ring_buffers: bool) {
    let Some(_turn) = crate::common::turn() else { return };
    let tracer =
        TracerOptions { ring_bytes: Some(4096), force_ring_buffers, ..TracerOptions::default() };
    let (events, report) = session(tracer, |agent| {
        agent.control().stall(Duration::from_millis(300));
        crate::common::storm(1, 64);
    });
    assert_accounts(&report);
    assert!(lost(&report, LossCause::RingFull) > STORM_PAGES, "{report:?}");
    let told: u64 = events
        .sides
        .iter()
        .filter_map(|(_, side)| match side.kind {
            SideKind::Lost { count, .. } => Some(count),
            _ => None,
        })
        .sum();
    assert_eq!(told, report.end.totals.lost_events());
}

#[test]
fn an_overflow_of_shared_rings_is_counted() {
    a_forced_overflow_is_counted(false);
}

#[test]
fn an_overflow_of_ring_buffers_is_counted() {
    a_forced_overflow_is_counted(true);
}

/// The programs' own count of events against the kernel's count of their runs.
#[test]
fn emitted_events_are_the_runs_that_the_kernel_counts() {
    let Some(_turn) = crate::common::turn() else { return };
    let stats = enable_stats(Stats::RunTime).unwrap();
    let options = TracerOptions { ring_bytes: Some(4096), ..TracerOptions::default() };
    let mut tracer = Tracer::attach(&options).unwrap();
    crate::common::storm(1, 16);
    tracer.detach();
    // Programs that were running when they were detached.
    std::thread::sleep(Duration::from_millis(100));
    let shape = tracer.channel.shape();
    for (kind, runs) in tracer.kernel_runs() {
        let rings: Vec<_> = (0..shape.cpus).map(|c| tracer.channel.counters(c, kind)).collect();
        let emitted: u64 = rings.iter().map(|r| r.emitted).sum();
        // The LRU program runs for many events that it does not mean to deliver.
        if kind < record::KIND_LRU {
            assert_eq!(emitted, runs, "kind {kind}");
            assert!(runs >= 16 << 8, "kind {kind}: {runs}");
        }
    }
    drop(stats);
}

/// A consumer that takes nothing costs events, not memory or time.
#[test]
fn a_slow_consumer_is_not_waited_for() {
    let Some(_turn) = crate::common::turn() else { return };
    let options = LiveOptions { queue_events: 1000, ..LiveOptions::default() };
    let agent = LiveAgent::start(options, None).unwrap();
    crate::common::storm(1, 64);
    std::thread::sleep(Duration::from_millis(300));
    let control = agent.control();
    let frames = agent.frames().clone();
    control.stop(EndReason::Duration, None);
    let end = frames.iter().find_map(|frame| match frame {
        Frame::End(end) => Some(end),
        _ => None,
    });
    let report = agent.join().unwrap();
    assert_eq!(end.as_deref(), Some(&report.end));
    assert!(lost(&report, LossCause::SlowConsumer) > STORM_PAGES, "{report:?}");
}

#[test]
fn a_note_and_the_counters_of_each_second_are_in_the_trace() {
    let Some(_turn) = crate::common::turn() else { return };
    let tracer = TracerOptions { contexts_per_second: 1000, ..TracerOptions::default() };
    let (events, _) = session(tracer, |agent| {
        agent.control().mark("here".to_owned());
        std::thread::sleep(Duration::from_millis(1200));
    });
    let has = |wanted: fn(&SideKind) -> bool| events.sides.iter().any(|(_, s)| wanted(&s.kind));
    assert!(has(|k| matches!(k, SideKind::Mark { text } if text == "here")));
    assert!(has(
        |k| matches!(k, SideKind::Check { free_pages, .. } if free_pages.iter().sum::<u64>() > 0)
    ));
    assert!(has(
        |k| matches!(k, SideKind::Cost { cpu_ns, rss_bytes, .. } if *cpu_ns > 0 && *rss_bytes > 0)
    ));
    // Every context names a stack that was told before it, or none.
    let mut told = HashSet::from([0]);
    let mut contexts = 0;
    for (_, side) in &events.sides {
        match &side.kind {
            SideKind::Stack { id, frames } => {
                assert!(!frames.is_empty());
                assert!(told.insert(*id));
            }
            SideKind::Context { stack, .. } => {
                assert!(told.contains(stack));
                contexts += 1;
            }
            _ => {}
        }
    }
    assert!(contexts > 0);
}
