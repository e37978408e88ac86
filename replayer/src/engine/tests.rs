//! Policy tracks and the observatory against what must hold for any trace.

use std::collections::BTreeMap;

use fragscope_trace::event::{EventBatch, SideEvent};
use fragscope_trace::frame::Frame;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::Header;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId};
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::SnapshotRole;
use proptest::prelude::*;

use super::backfill::Backfill;
use super::observatory::{Observatory, ReplayError, Stage};
use super::op::{Op, Step};
use super::policy::{Identity, PolicyTrack};
use super::sampled::Sampled;
use crate::kernel_track::UnmatchedFree;
use crate::mm::allocator::PageAllocator;
use crate::mm::frames::FrameState;
use crate::mm::settings::Settings;
use crate::mm::{SpbMm, StockMm};
use crate::observe::{BlockCensus, BlockChanges, Sample, StartState, TrackKind, TrackSample};
use crate::start::TrackSpec;
use crate::synth;
use crate::testing::{batch, header, machine, snapshot};

const PAGES: u64 = 8192;

fn small() -> Machine {
    machine(&[PAGES])
}

fn track<A: PageAllocator>(machine: &Machine) -> PolicyTrack<A> {
    let allocator = A::build(machine, &Settings::default()).unwrap();
    allocator.load(&snapshot(machine, SnapshotRole::Opening, 0, |_| Content::Free));
    let identity = Identity { kind: TrackKind::Stock, start: StartState::AsFound };
    PolicyTrack::new(identity, allocator, machine)
}

fn any_step() -> impl Strategy<Value = Step> {
    let block = || {
        (0u8..=10).prop_flat_map(|order| {
            (0..PAGES as u32 >> order).prop_map(move |b| (b << order, order))
        })
    };
    let gfp = prop::sample::select(vec![
        Gfp::KERNEL,
        Gfp::HIGHUSER_MOVABLE,
        Gfp::KERNEL | Gfp::RECLAIMABLE,
        Gfp::ATOMIC,
        Gfp::HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN | Gfp::COMP,
    ]);
    let cpu = || (0u16..2).prop_map(CpuId);
    prop_oneof![
        8 => (block(), gfp, cpu(), any::<bool>()).prop_map(|((pfn, order), gfp, cpu, inferred)| {
            let content = Content::of_allocation(gfp);
            Step::Alloc { pfn, gfp, cpu, order, content, inferred }
        }),
        6 => (block(), cpu()).prop_map(|((pfn, order), cpu)| Step::Free { pfn, cpu, order }),
        1 => (block(), any::<bool>()).prop_map(|((pfn, order), anon)| Step::SetContent {
            pfn,
            pages: 1 << order,
            content: if anon { Content::Anon } else { Content::Slab },
        }),
        1 => (block(), 0..PAGES as u32).prop_map(|((from, order), to)| {
            Step::Rename { from, to: to >> order << order, order }
        }),
    ]
}

/// Who is where, from the frame table alone: places and owners must be each other's inverse, and
/// what the tally says was placed and freed must be what lives.
fn check_track<A: PageAllocator>(track: &PolicyTrack<A>) {
    let frames = track.allocator().frames();
    let mut owners = BTreeMap::new();
    for pfn in 0..PAGES as u32 {
        let Some(frame) = frames.place(pfn) else { continue };
        assert_eq!(owners.insert(frame, pfn), None, "two pages in frame {frame}");
        assert_eq!(frames.owner(frame), pfn, "frame {frame} has another owner");
        assert_eq!(frames.word(frame).state(), FrameState::Allocated);
    }
    let allocated = (0..PAGES as u32)
        .filter(|frame| frames.word(*frame).state() == FrameState::Allocated)
        .count();
    assert_eq!(allocated, owners.len(), "frames are allocated that nobody owns");
    let (tally, counters) = (track.tally(), track.allocator().counters());
    let reclaimed: u64 = ["reclaimed_file", "reclaimed_movable", "reclaimed_anon"]
        .iter()
        .map(|name| counters[*name])
        .sum();
    assert_eq!(tally.placed_pages, tally.freed_pages + reclaimed + owners.len() as u64);
    assert_eq!(tally.rejected_frees, 0);
    let census: u64 = track.sample().regions.iter().map(|r| r.count(Content::is_allocated)).sum();
    assert_eq!(census, owners.len() as u64);
    track.allocator().check_invariants();
}

fn conserves_pages<A: PageAllocator>(steps: &[Step]) {
    let machine = small();
    let mut track = track::<A>(&machine);
    for (i, chunk) in steps.chunks(16).enumerate() {
        let time_ns = 3_000_000 * (i as u64 + 1);
        let ops: Vec<Op> = chunk.iter().map(|step| Op { time_ns, step: *step }).collect();
        track.replay(&ops);
        check_track(&track);
    }
    let requests = steps.iter().filter(|s| matches!(s, Step::Alloc { .. })).count() as u64;
    let orders = &track.tally().orders;
    assert_eq!(orders.iter().map(|(_, o)| o.requests).sum::<u64>(), requests);
    for (_, tally) in orders.iter() {
        let refused = tally.refused_policy + tally.refused_no_memory;
        assert_eq!(tally.requests, tally.served + refused);
        assert_eq!(refused, tally.in_pieces + tally.dropped);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stock_conserves_pages(steps in prop::collection::vec(any_step(), 1..200)) {
        conserves_pages::<StockMm>(&steps);
    }

    #[test]
    fn spb_conserves_pages(steps in prop::collection::vec(any_step(), 1..200)) {
        conserves_pages::<SpbMm>(&steps);
    }
}

fn alloc(pfn: u32, order: u8, gfp: Gfp) -> Op {
    let content = Content::of_allocation(gfp);
    let cpu = CpuId(0);
    Op { time_ns: 1, step: Step::Alloc { pfn, gfp, cpu, order, content, inferred: false } }
}

fn free(pfn: u32, order: u8) -> Op {
    Op { time_ns: 2, step: Step::Free { pfn, cpu: CpuId(0), order } }
}

#[test]
fn a_block_may_be_freed_in_parts_and_parts_as_a_block() {
    let machine = small();
    let mut track = track::<StockMm>(&machine);
    track.replay(&[alloc(512, 9, Gfp::HIGHUSER_MOVABLE), free(512, 0), free(514, 1), free(768, 8)]);
    assert_eq!(track.tally().freed_pages, 1 + 2 + 256);
    track.replay(&[alloc(0, 0, Gfp::KERNEL), alloc(1, 0, Gfp::KERNEL), free(0, 1), free(0, 0)]);
    assert_eq!((track.tally().freed_pages, track.tally().unplaced_free_pages), (261, 1));
    check_track(&track);
}

#[test]
fn a_refused_block_comes_in_pieces_where_the_caller_has_a_fallback() {
    let machine = small();
    let mut track = track::<StockMm>(&machine);
    // Fill the machine with unmovable pages, then free every second one: nothing merges.
    let fill: Vec<Op> = (0..PAGES as u32).map(|pfn| alloc(pfn, 0, Gfp::KERNEL)).collect();
    track.replay(&fill);
    let holes: Vec<Op> = (0..PAGES as u32).step_by(2).map(|pfn| free(pfn, 0)).collect();
    track.replay(&holes);
    let (served, dropped) = (track.tally().served(), track.tally().dropped_pages);
    track.replay(&[alloc(1024, 10, Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN)]);
    let tally = track.tally();
    assert_eq!((tally.orders[10].in_pieces, tally.piece_pages), (1, 1024));
    assert_eq!((tally.served(), tally.dropped_pages), (served, dropped));
    let (freed, unplaced) = (tally.freed_pages, tally.unplaced_free_pages);
    track.replay(&[free(1024, 10)]);
    let tally = track.tally();
    assert_eq!((tally.freed_pages, tally.unplaced_free_pages), (freed + 1024, unplaced));
    check_track(&track);
}

#[test]
fn a_move_of_the_kernel_moves_nothing_here() {
    let machine = small();
    let mut track = track::<StockMm>(&machine);
    track.replay(&[alloc(8, 2, Gfp::HIGHUSER_MOVABLE)]);
    let home = track.allocator().frames().place(8);
    let step = Step::Rename { from: 8, to: 4096, order: 2 };
    track.replay(&[Op { time_ns: 2, step }, free(8, 2)]);
    assert_eq!(track.allocator().frames().place(4096), home);
    assert_eq!(track.tally().freed_pages, 0);
    track.replay(&[free(4096, 2)]);
    assert_eq!(track.tally().freed_pages, 4);
}

#[test]
fn a_failed_request_is_tried_without_placing() {
    let machine = small();
    let mut track = track::<StockMm>(&machine);
    let step = Step::Failed { gfp: Gfp::KERNEL, cpu: CpuId(0), order: 3 };
    track.replay(&[Op { time_ns: 1, step }]);
    let tally = track.tally().orders[3];
    assert_eq!((tally.kernel_failed, tally.would_succeed, tally.requests), (1, 1, 0));
    check_track(&track);
}

/// One second of a synthetic machine, as frames.
fn trace() -> (Header, Vec<Frame>) {
    let mut workload = synth::presets::preset("small", None).unwrap();
    workload.duration_s = 1.0;
    let mut bytes = Vec::new();
    synth::generate(&workload, 7, &mut bytes, |_| {}).unwrap();
    let mut reader = TraceReader::new(bytes.as_slice()).unwrap();
    let header = reader.header().clone();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    (header, frames)
}

fn specs() -> Vec<TrackSpec> {
    [TrackKind::Stock, TrackKind::Spb].map(TrackSpec::as_found).into()
}

fn replay(header: &Header, frames: &[Frame]) -> (Sample, Observatory) {
    let mut tracks = Observatory::new(header, specs()).unwrap();
    frames.iter().for_each(|frame| tracks.feed(frame).unwrap());
    (tracks.sample().unwrap(), tracks)
}

/// A batch in pieces of `size` page events.
fn cut(batch: &EventBatch, size: usize) -> Vec<Frame> {
    let mut pieces = vec![EventBatch::default()];
    let mut add = |page: Option<_>, side: Option<&SideEvent>| {
        if pieces.last().is_none_or(|piece| piece.len() >= size) {
            pieces.push(EventBatch::default());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.pages.extend(page);
            side.cloned().into_iter().for_each(|side| piece.push_side(side));
        }
    };
    for (pages, side) in batch.stretches() {
        pages.iter().for_each(|page| add(Some(*page), None));
        add(None, side);
    }
    pieces.into_iter().map(Frame::Events).collect()
}

#[test]
fn a_synthetic_trace_replays_without_a_difference() {
    let (header, frames) = trace();
    let (sample, mut tracks) = replay(&header, &frames);
    assert_eq!(tracks.stage(), Stage::Ended);
    let [fidelity] = tracks.fidelity() else { panic!("one later snapshot") };
    assert_eq!(fidelity.raw_difference_pages, 0, "{fidelity:?}");
    assert_eq!((sample.events.unmatched_frees, sample.events.unmatched_allocs), (0, 0));
    let kinds: Vec<TrackKind> = sample.tracks.iter().map(|track| track.kind).collect();
    assert_eq!(kinds, TrackKind::ALL);
    let unmovable: Vec<u64> =
        sample.tracks.iter().map(|track| track.totals.unmovable_pages).collect();
    assert_eq!(unmovable, [unmovable[0]; 3], "all tracks hold the same workload");
    assert!(tracks.take_taints().is_sorted_by_key(|taint| taint.time_ns));
}

#[test]
fn the_cut_of_frames_does_not_matter() {
    let (header, frames) = trace();
    let whole = replay(&header, &frames).0;
    let pieces: Vec<Frame> = frames
        .iter()
        .flat_map(|frame| match frame {
            Frame::Events(batch) => cut(batch, 777),
            other => vec![other.clone()],
        })
        .collect();
    assert_eq!(replay(&header, &pieces).0, whole);
}

#[test]
fn events_before_the_snapshot_arrives_are_not_lost() {
    let (header, frames) = trace();
    let expected = replay(&header, &frames).0;
    let mut late = frames;
    let opening = late.iter().position(|f| matches!(f, Frame::Snapshot(_))).unwrap();
    let snapshot = late.remove(opening);
    let first_events = late.iter().position(|f| matches!(f, Frame::Events(_))).unwrap();
    late.insert(first_events + 1, snapshot);
    assert_eq!(replay(&header, &late).0, expected);
}

#[test]
fn a_sample_in_between_changes_nothing() {
    let (header, frames) = trace();
    let expected = replay(&header, &frames).0;
    let mut tracks = Observatory::new(&header, specs()).unwrap();
    assert!(tracks.sample().unwrap().tracks.is_empty(), "there is nothing to show yet");
    for frame in &frames {
        tracks.feed(frame).unwrap();
        tracks.sample().unwrap();
    }
    assert_eq!(tracks.sample().unwrap(), expected);
}

/// What a track's pageblocks hold adds up to its regions and its free lists.
fn check_blocks(track: &TrackSample, blocks: &BTreeMap<(TrackKind, u32), BlockCensus>) {
    for region in &track.regions {
        let (first, end) =
            (region.start.0 >> 9, (region.start.0 + region.span_pages).div_ceil(512));
        let held = blocks.range((track.kind, first as u32)..(track.kind, end as u32));
        let sum =
            |of: fn(&BlockCensus) -> u16| held.clone().map(|(_, c)| u64::from(of(c))).sum::<u64>();
        let sums = [sum(|c| c.free_pages), sum(|c| c.movable_pages), sum(|c| c.tainting_pages)];
        let wanted = [region.free_pages(), region.movable_pages(), region.tainting_pages()];
        assert_eq!(sums, wanted, "{} at {}", track.kind.name(), region.start);
    }
    let of_track = || blocks.iter().filter(|((kind, _), _)| *kind == track.kind);
    let listed = |order| of_track().map(|(_, c)| c.free_blocks.of_order(order)).sum::<u64>();
    let mut wanted = track.free_blocks.clone();
    // Told as pageblocks.
    wanted[9] += 2 * wanted.pop().expect("order 10");
    assert_eq!((0..=9).map(listed).collect::<Vec<u64>>(), wanted, "{}", track.kind.name());
}

#[test]
fn changes_of_pageblocks_add_up_to_every_sample() {
    let (header, frames) = trace();
    let mut tracks = Observatory::new(&header, specs()).unwrap();
    tracks.watch_blocks();
    let (mut blocks, mut checked) = (BTreeMap::new(), 0);
    let mut sampled = Sampled::new(header.started_ns, 50_000_000);
    for frame in frames {
        let look = |tracks: &mut Observatory, _| -> Result<(), ReplayError> {
            let sample = tracks.sample()?;
            for BlockChanges { kind, blocks: changed, .. } in tracks.take_block_changes() {
                blocks.extend(changed.into_iter().map(|(block, census)| ((kind, block), census)));
            }
            sample.tracks.iter().for_each(|track| check_blocks(track, &blocks));
            checked += sample.tracks.len();
            Ok(())
        };
        sampled.feed(frame, &mut tracks, look).unwrap();
    }
    assert!(checked >= 45, "{checked} samples of tracks");
}

#[test]
fn without_a_snapshot_every_page_is_unknown_until_its_first_event() {
    let machine = small();
    let header = header(&machine);
    let mut tracks = Observatory::new(&header, specs()).unwrap();
    let event = |pfn| {
        use fragscope_trace::event::PageEvent;
        use fragscope_trace::page::Pfn;
        PageEvent::alloc(1_000, CpuId(0), Pfn(pfn), 0, Gfp::KERNEL)
    };
    tracks.feed(&Frame::Events(batch(vec![event(1), event(2)]))).unwrap();
    assert_eq!(tracks.stage(), Stage::WaitingForSnapshot);
    tracks.finish().unwrap();
    let sample = tracks.sample().unwrap();
    let [kernel] = sample.tracks.as_slice() else { panic!("the kernel track alone") };
    assert_eq!(kernel.totals.unmovable_pages, 2);
    assert_eq!(kernel.regions[0].pages[Content::Unknown.index()], PAGES as u32 - 2);
}

#[test]
fn a_second_pass_puts_untraced_allocations_back() {
    let (header, frames) = trace();
    let (expected, _) = replay(&header, &frames);
    let first = frames.iter().find_map(|frame| match frame {
        Frame::Events(batch) => batch.pages.first().map(|event| event.time_ns),
        _ => None,
    });
    // A free page that is allocated unseen at the start and never freed in the trace.
    let unseen = expected.tracks[0].regions.last().unwrap();
    assert!(unseen.free_pages() > 0);
    let mut tracks = Observatory::new(&header, Vec::new()).unwrap();
    let after_ns = first.unwrap();
    let pfn = free_throughout(&frames);
    let free = UnmatchedFree { pfn, order: 0, time_ns: u64::MAX, after_ns };
    tracks.set_backfill(Backfill::new(&[free]));
    frames.iter().for_each(|frame| tracks.feed(frame).unwrap());
    assert_eq!(tracks.kernel().anomalies().backfilled_pages, 1);
    assert_eq!(tracks.kernel().anomalies().unmatched_allocs.len(), 0);
}

/// A page that is free in the opening snapshot and has no event.
fn free_throughout(frames: &[Frame]) -> u32 {
    let mut free = Vec::new();
    for frame in frames {
        match frame {
            Frame::Snapshot(snapshot) if snapshot.role == SnapshotRole::Opening => {
                free = crate::start::survivors::free_names(snapshot);
            }
            Frame::Events(batch) => {
                let touched: std::collections::BTreeSet<u32> = batch
                    .pages
                    .iter()
                    .flat_map(|event| event.range().raw())
                    .map(|pfn| pfn as u32)
                    .collect();
                free.retain(|pfn| !touched.contains(pfn));
            }
            _ => {}
        }
    }
    *free.last().unwrap()
}
