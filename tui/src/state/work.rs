//! How much is decoded to show a moment, counted in tests: bounded, however long the recording.

use std::cell::Cell;
use std::sync::Arc;

use fragscope_replay::observe::{
    BlockCensus, BlockChanges, EventTotals, FreeBlocks, Sample, StartState, TrackKind,
};
use fragscope_trace::page::Content;

use super::blocks::STRETCH_BYTES;
use super::history::CHUNK_SAMPLES;
use super::host::{Host, Update};
use crate::conn::phase::{Origin, Phase};

thread_local! {
    static SAMPLES: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The differences of a sample are applied.
pub(super) fn sample_decoded() {
    SAMPLES.set(SAMPLES.get() + 1);
}

/// Changes of pageblocks are decoded.
pub(super) fn bytes_decoded(bytes: usize) {
    BYTES.set(BYTES.get() + bytes);
}

const TRACK: (TrackKind, StartState) = (TrackKind::Spb, StartState::AsFound);
/// Pageblocks of the region looked at, and how many of them change every second.
const BLOCKS: u32 = 24;
const CHANGING: u32 = 3;
/// No pageblock takes more bytes than this.
const BLOCK_BYTES: usize = 20;

/// A recording of so many seconds, read to its end.
fn recording(seconds: u64) -> Host {
    let mut host = Host::new("long.fst", Origin::File);
    host.update(Update::Phase(Phase::Streaming));
    for second in 0..seconds {
        let changed = if second == 0 { 0..BLOCKS } else { changing(second) };
        let blocks = changed.map(|block| (block, census(second, block))).collect();
        let change = BlockChanges { kind: TRACK.0, start: TRACK.1, blocks };
        host.update(Update::Blocks(second, vec![change]));
        host.update(Update::Sample(Arc::new(sample(second))));
    }
    host.update(Update::Phase(Phase::Ended { note: None }));
    host
}

/// The pageblocks that change in a second.
fn changing(second: u64) -> std::ops::Range<u32> {
    let first = second as u32 * 7 % (BLOCKS - CHANGING);
    first..first + CHANGING
}

fn census(second: u64, block: u32) -> BlockCensus {
    let free = (second * 31 + u64::from(block)) as u16 % 512;
    let pages = [(Content::Free, free), (Content::Slab, 512 - free)];
    BlockCensus::new(None, pages, FreeBlocks::default())
}

fn sample(second: u64) -> Sample {
    Sample {
        time_ns: second,
        tracks: Vec::new(),
        events: EventTotals { allocs: second * second, ..EventTotals::default() },
        kernel_divergence: None,
        stock_divergence: None,
        peak_unmovable_pages: 0,
        floor_1g: 0,
        cost: None,
    }
}

/// The state of all pageblocks at a time, second by second from the beginning.
fn by_hand(until: u64) -> Vec<(u32, BlockCensus)> {
    let mut blocks: Vec<_> = (0..BLOCKS).map(|block| (block, census(0, block))).collect();
    for second in 1..=until {
        changing(second).for_each(|block| blocks[block as usize].1 = census(second, block));
    }
    blocks
}

#[test]
fn going_to_a_second_costs_the_same_however_long_the_recording() {
    for seconds in [400, 4_000, 16_000] {
        let mut host = recording(seconds);
        let (mut samples_max, mut bytes_max) = (0, 0);
        for i in 0..200 {
            let second = i * 7919 % seconds;
            SAMPLES.set(0);
            BYTES.set(0);
            host.seek(second);
            host.refresh();
            let blocks = host.blocks.at(TRACK, second, 0..BLOCKS).blocks;
            assert_eq!(host.shown().map(|s| s.events.allocs), Some(second * second));
            assert!(i % 10 > 0 || blocks == by_hand(second), "pageblocks in second {second}");
            samples_max = samples_max.max(SAMPLES.get());
            bytes_max = bytes_max.max(BYTES.get());
        }
        // The moment shown, and the one that rates are taken from.
        assert!(samples_max <= 2 * CHUNK_SAMPLES, "{samples_max} samples of {seconds} s");
        let limit = STRETCH_BYTES + BLOCKS as usize * BLOCK_BYTES;
        assert!((1..=limit).contains(&bytes_max), "{bytes_max} bytes of {seconds} s");
    }
}
