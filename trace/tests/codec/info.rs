//! Statistics of a trace agree with a count made beside it.

use std::collections::BTreeMap;

use fragscope_trace::event::{EventRef, PageEventKind, SideKind, Tags};
use fragscope_trace::info::{TraceInfo, decode_any};
use fragscope_trace::reader::{Limits, TraceReader};
use fragscope_trace::writer::TraceWriter;
use proptest::prelude::*;

use crate::arbitrary::{batch, small_end, small_header, snapshot};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn counts_are_right(batch in batch(300), snapshot in snapshot(20)) {
        let mut writer = TraceWriter::new(Vec::new(), &small_header()).unwrap();
        writer.events(&batch).unwrap();
        writer.snapshot(&snapshot).unwrap();
        writer.end(&small_end()).unwrap();
        let bytes = writer.into_inner();
        let info = decode_any(&bytes, Limits::default()).unwrap();

        let count = |wanted: &dyn Fn(EventRef<'_>) -> bool| {
            batch.iter().filter(|event| wanted(*event)).count() as u64
        };
        let pages = |kind, order| {
            count(&|e| matches!(e, EventRef::Page(p) if p.kind() == kind && p.order() == order))
        };
        prop_assert_eq!(info.events, batch.len() as u64);
        prop_assert_eq!(info.trace_bytes, bytes.len() as u64);
        for order in 0..=30 {
            let found = info.orders.get(&order).cloned().unwrap_or_default();
            prop_assert_eq!(found.frees, pages(PageEventKind::Free, order));
            prop_assert_eq!(found.allocs.values().sum::<u64>(), pages(PageEventKind::Alloc, order));
        }
        let late = |e: EventRef<'_>| {
            matches!(e, EventRef::Page(p) if p.tags().contains(Tags::LATE))
        };
        prop_assert_eq!(info.late_events, count(&late));
        let mut lost = 0u64;
        for (_, side) in &batch.sides {
            if let SideKind::Lost { count, .. } = side.kind {
                lost = lost.saturating_add(count);
            }
        }
        prop_assert_eq!(info.lost_events, lost);
        prop_assert_eq!(info.first_event_ns, batch.iter().map(EventRef::time_ns).min());
        prop_assert_eq!(info.last_event_ns, batch.iter().map(EventRef::time_ns).max());
        let held: BTreeMap<_, _> = info.snapshots[0].pages.clone();
        let runs: u64 = snapshot.runs.iter().map(|run| run.pages).sum();
        prop_assert_eq!(held.values().sum::<u64>(), runs);
        prop_assert!(serde_json::to_string(&info).is_ok());
    }
}

#[test]
fn a_cut_trace_says_so() {
    let bytes = crate::golden::trace();
    let cut = &bytes[..bytes.len() - 1];
    let info = TraceInfo::read(&mut TraceReader::new(cut).unwrap()).unwrap();
    assert!(info.end.is_none() && info.events == 31);
    assert!(info.truncated.is_some_and(|cut| cut.what.starts_with("end frame with ")));
}
