use fragscope_trace::event::PageEvent;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange, REGION_PAGES};
use fragscope_trace::reader::TraceReader;
use fragscope_trace::region::regions_of;
use fragscope_trace::snapshot::{PageRun, Snapshot, SnapshotRole};
use fragscope_trace::writer::TraceWriter;
use proptest::prelude::*;

use super::measure::{TypeChanges, order_distance, tainted_regions};
use super::study::{StudyError, study};
use crate::mm::settings::Settings;
use crate::synth;
use crate::testing::{batch, header, machine, snapshot};

fn run(start: u64, pages: u64, order: u8, content: Content) -> PageRun {
    let migratetype = Migratetype::Movable;
    PageRun { start: Pfn(start), pages, content, order, migratetype }
}

/// 4096 pages in one zone, all free: four blocks of order 10, movable.
fn opening() -> Snapshot {
    let mut opening = snapshot(&machine(&[4096]), SnapshotRole::Opening, 0, |_| Content::Free);
    opening.runs = vec![run(0, 4096, 10, Content::Free)];
    opening
}

/// The kernel claimed the second block of order 10 for 16 pages, and split it.
fn closing() -> Snapshot {
    let mut closing =
        snapshot(&machine(&[4096]), SnapshotRole::Closing, 100_000_000, |_| Content::Free);
    closing.runs = vec![run(0, 1024, 10, Content::Free), run(1024, 16, 4, Content::Kernel)];
    let halves = (4..10).map(|order| run(1024 + (1 << order), 1 << order, order, Content::Free));
    closing.runs.extend(halves);
    closing.runs.push(run(2048, 2048, 10, Content::Free));
    let typed = |start, pages, migratetype| (PfnRange::new(Pfn(start), pages), migratetype);
    closing.pageblocks = vec![
        typed(0, 1024, Migratetype::Movable),
        typed(1024, 1024, Migratetype::Unmovable),
        typed(2048, 2048, Migratetype::Movable),
    ];
    closing
}

fn recording(later: &[Snapshot]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = TraceWriter::new(&mut bytes, &header(&machine(&[4096]))).unwrap();
    writer.snapshot(&opening()).unwrap();
    let event = PageEvent::alloc(10_000_000, CpuId(0), Pfn(1024), 4, Gfp::KERNEL);
    writer.events(&batch(vec![event])).unwrap();
    later.iter().for_each(|snapshot| writer.snapshot(snapshot).unwrap());
    bytes
}

fn measured(bytes: &[u8]) -> Result<super::FidelityReport, StudyError> {
    study(|| TraceReader::new(bytes), &Settings::default(), None)
}

/// An unmovable block of order 4 claims the head of the only list, the block at 0; the kernel
/// claimed the one at 1024. Both turn two pageblocks and leave one block of each order from 4 to
/// 9 and three of order 10. At the start there were four of order 10: of the kernel's 4080 free
/// pages 3072 are in order 10 and 1008 below, so the null model is (1024 + 1008) / 4080 apart.
#[test]
fn a_small_recording_computed_by_hand() {
    let report = measured(&recording(&[closing()])).unwrap();
    let last = &report.last;
    assert_eq!((last.kernel_free_pages, last.stock_free_pages), (4080, 4080));
    assert_eq!(last.stock_free_blocks, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 3]);
    assert_eq!(last.order_distance, Some(0.0));
    assert_eq!(last.null_order_distance, Some(2032.0 / 4080.0));
    assert_eq!(last.free_pages_error_ratio, 0.0);
    assert_eq!(last.null_free_pages_error_ratio, 16.0 / 4096.0);
    let types = &last.types;
    assert_eq!((types.type_changes_kernel, types.type_changes_stock), (2, 2));
    assert_eq!((types.type_changes_both, types.type_error), (0, 4));
    assert_eq!((types.type_change_precision, types.type_change_recall), (Some(0.0), Some(0.0)));
    assert_eq!((types.type_error_by_region, types.null_type_error_by_region), (0, 2));
    assert_eq!(
        (last.fallbacks.stock_claims, last.fallbacks.kernel_claims),
        (1, 0),
        "no extfrag event was recorded"
    );
    assert_eq!((report.unmatched_frees, report.lost_events, last.uncertain_pages), (0, 0, 0));
    assert!(report.holds, "{:?}", report.criteria);
}

#[test]
fn every_later_snapshot_is_a_checkpoint() {
    let mut interval = closing();
    (interval.begin_ns, interval.end_ns) = (50_000_000, 50_000_000);
    interval.role = SnapshotRole::Interval;
    let report = measured(&recording(&[interval, closing()])).unwrap();
    let after: Vec<u64> = report.checkpoints.iter().map(|m| m.after_ns).collect();
    assert_eq!(after, [50_000_000, 100_000_000]);
    assert_eq!(report.last, report.checkpoints[1]);
}

#[test]
fn without_a_later_snapshot_there_is_nothing_to_compare() {
    let error = measured(&recording(&[])).unwrap_err();
    assert!(error.to_string().contains("--snapshot-every"), "{error}");
}

/// The synthetic kernel is the model itself, so nothing may differ, however often it is measured.
#[test]
fn a_synthetic_kernel_is_met_exactly() {
    let mut workload = synth::presets::preset("small", None).unwrap();
    workload.duration_s = 0.5;
    let mut bytes = Vec::new();
    synth::generate(&workload, 11, &mut bytes, |_| {}).unwrap();
    let report = measured(&bytes).unwrap();
    assert_eq!(report.last.free_pages_error_ratio, 0.0);
    assert_eq!(report, measured(&bytes).unwrap());
}

#[test]
fn tainted_regions_are_named_by_their_start() {
    let machine = machine(&[2 * REGION_PAGES]);
    let mut regions = regions_of(&machine);
    for region in &mut regions {
        region.pages[Content::Absent.index()] = 0;
        region.pages[Content::Free.index()] = REGION_PAGES as u32;
    }
    regions[1].pages[Content::Free.index()] -= 1;
    regions[1].pages[Content::Slab.index()] = 1;
    assert_eq!(tainted_regions(&regions).into_iter().collect::<Vec<_>>(), [Pfn(REGION_PAGES)]);
}

const BLOCKS: usize = 64;

fn any_types() -> impl Strategy<Value = Vec<Option<Migratetype>>> {
    let kinds = [Migratetype::Unmovable, Migratetype::Movable, Migratetype::Reclaimable];
    let one = proptest::option::weighted(0.9, prop::sample::select(kinds.to_vec()));
    prop::collection::vec(one, BLOCKS)
}

proptest! {
    /// Moving along a coarser grouping can only hide errors, and a model that is the kernel has
    /// none; the numbers are those of a count without any bookkeeping.
    #[test]
    fn type_errors_nest(start in any_types(), kernel in any_types(), stock in any_types()) {
        let regions = regions_of(&machine(&[8192, BLOCKS as u64 * 512 - 8192]));
        let changes = TypeChanges::new(&start, &kernel, &stock, &regions);
        let movable = |types: &[Option<Migratetype>], b: usize| {
            types[b].unwrap_or(Migratetype::Movable)
        };
        let there: Vec<usize> = (0..BLOCKS).filter(|b| kernel[*b].is_some()).collect();
        let count = |holds: &dyn Fn(usize) -> bool| {
            there.iter().filter(|b| holds(**b)).count() as u64
        };
        let (k, s, m) = (
            |b: usize| movable(&kernel, b),
            |b: usize| movable(&start, b),
            |b: usize| movable(&stock, b),
        );
        prop_assert_eq!(changes.type_changes_kernel, count(&|b| k(b) != s(b)));
        prop_assert_eq!(changes.type_changes_stock, count(&|b| m(b) != s(b)));
        prop_assert_eq!(changes.type_changes_both, count(&|b| m(b) != s(b) && m(b) == k(b)));
        prop_assert_eq!(changes.type_error, count(&|b| m(b) != k(b)));
        prop_assert!(changes.type_error_by_machine <= changes.type_error_by_region);
        prop_assert!(changes.type_error_by_region <= changes.type_error);
        prop_assert!(changes.null_type_error_by_region <= changes.type_changes_kernel);
        let same = TypeChanges::new(&start, &kernel, &kernel, &regions);
        prop_assert_eq!((same.type_error, same.type_error_by_region), (0, 0));
        prop_assert_eq!(same.type_changes_both, same.type_changes_kernel);
    }

    /// A distance: none to itself, at most all pages of both, and as if counted page by page.
    #[test]
    fn order_distances(kernel in prop::collection::vec(0u64..100, 11),
                       model in prop::collection::vec(0u64..100, 11)) {
        let pages = |blocks: &[u64]| (0..).zip(blocks).map(|(o, n)| n << o).sum::<u64>();
        let Some(distance) = order_distance(&kernel, &model) else {
            prop_assert_eq!(pages(&kernel), 0);
            return Ok(());
        };
        prop_assert_eq!(order_distance(&kernel, &kernel), Some(0.0));
        let most = (pages(&kernel) + pages(&model)) as f64 / pages(&kernel) as f64;
        let least = pages(&kernel).abs_diff(pages(&model)) as f64 / pages(&kernel) as f64;
        prop_assert!((least - 1e-9..=most + 1e-9).contains(&distance));
    }
}
