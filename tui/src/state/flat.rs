//! Samples as lists of numbers: what changes from one to the next is told apart from what hardly
//! ever does, so that a sample can be kept as its differences from the one before.

use std::collections::BTreeMap;

use fragscope_replay::observe::{
    AgentCost, Divergence, EventTotals, Sample, StartState, TrackKind, TrackSample,
};
use fragscope_trace::event::LossCause;
use fragscope_trace::page::Content;
use fragscope_trace::region::{Bounds, RegionCensus, RegionTotals};
use fragscope_trace::varint::{self, Input};

/// What samples have in common that follow each other: tracks, regions, names.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    tracks: Vec<TrackShape>,
    lost: Vec<LossCause>,
}

#[derive(Clone, Debug, PartialEq)]
struct TrackShape {
    kind: TrackKind,
    start: StartState,
    /// Without their pages.
    regions: Vec<RegionCensus>,
    free_orders: usize,
    counters: Vec<String>,
}

impl Shape {
    /// The shape of a sample.
    #[must_use]
    pub fn of(sample: &Sample) -> Shape {
        let bare = |r: &RegionCensus| RegionCensus { pages: [0; Content::COUNT], ..r.clone() };
        let track = |t: &TrackSample| TrackShape {
            kind: t.kind,
            start: t.start,
            regions: t.regions.iter().map(bare).collect(),
            free_orders: t.free_blocks.len(),
            counters: t.counters.keys().cloned().collect(),
        };
        Shape {
            tracks: sample.tracks.iter().map(track).collect(),
            lost: sample.events.lost.keys().copied().collect(),
        }
    }

    /// Whether a sample has this shape.
    #[must_use]
    pub fn fits(&self, sample: &Sample) -> bool {
        let place = |r: &RegionCensus| (r.zone, r.start, r.span_pages, r.obtainable);
        let same = |(shape, track): (&TrackShape, &TrackSample)| {
            (shape.kind, shape.start) == (track.kind, track.start)
                && shape.free_orders == track.free_blocks.len()
                && shape.regions.iter().map(place).eq(track.regions.iter().map(place))
                && shape.counters.iter().eq(track.counters.keys())
        };
        self.tracks.len() == sample.tracks.len()
            && self.tracks.iter().zip(&sample.tracks).all(same)
            && self.lost.iter().eq(sample.events.lost.keys())
    }

    /// The sample of this shape with these numbers; `None` if they are too few.
    #[must_use]
    pub fn sample(&self, numbers: &[u64]) -> Option<Sample> {
        let mut numbers = numbers.iter().copied();
        let mut sample = take_head(&mut numbers, &self.lost)?;
        for shape in &self.tracks {
            sample.tracks.push(shape.take(&mut numbers)?);
        }
        Some(sample)
    }
}

/// Appends the numbers of a sample.
pub fn numbers(sample: &Sample, out: &mut Vec<u64>) {
    let EventTotals {
        allocs,
        frees,
        failed_allocs,
        side_events,
        own_events,
        late_events,
        unmatched_frees,
        unmatched_allocs,
        lost,
        repaired_pages,
    } = &sample.events;
    out.extend([sample.time_ns, sample.peak_unmovable_pages, sample.floor_1g]);
    out.extend([allocs, frees, failed_allocs, side_events, own_events, late_events]);
    out.extend([unmatched_frees, unmatched_allocs, repaired_pages]);
    out.extend(lost.values());
    for divergence in [sample.kernel_divergence, sample.stock_divergence] {
        let found = divergence.unwrap_or_default();
        let ratio = found.ratio.to_bits();
        let known = u64::from(divergence.is_some());
        out.extend([known, found.track_free_pages, found.kernel_free_pages, ratio]);
    }
    let cost = sample.cost.unwrap_or_default();
    let known = u64::from(sample.cost.is_some());
    out.extend([known, cost.cpu_share.to_bits(), cost.rss_bytes, cost.ring_peak.to_bits()]);
    sample.tracks.iter().for_each(|track| track_numbers(track, out));
}

fn take_head(numbers: &mut impl Iterator<Item = u64>, lost: &[LossCause]) -> Option<Sample> {
    let mut next = || numbers.next();
    let (time_ns, peak_unmovable_pages, floor_1g) = (next()?, next()?, next()?);
    let mut events = EventTotals {
        allocs: next()?,
        frees: next()?,
        failed_allocs: next()?,
        side_events: next()?,
        own_events: next()?,
        late_events: next()?,
        unmatched_frees: next()?,
        unmatched_allocs: next()?,
        repaired_pages: next()?,
        lost: BTreeMap::new(),
    };
    for cause in lost {
        events.lost.insert(*cause, next()?);
    }
    let mut divergence = || {
        let known = next()? != 0;
        let (track_free_pages, kernel_free_pages) = (next()?, next()?);
        let ratio = f64::from_bits(next()?);
        Some(known.then_some(Divergence { track_free_pages, kernel_free_pages, ratio }))
    };
    let (kernel_divergence, stock_divergence) = (divergence()?, divergence()?);
    let known = next()? != 0;
    let cpu_share = f64::from_bits(next()?);
    let rss_bytes = next()?;
    let cost = AgentCost { cpu_share, rss_bytes, ring_peak: f64::from_bits(next()?) };
    Some(Sample {
        time_ns,
        tracks: Vec::new(),
        events,
        kernel_divergence,
        stock_divergence,
        peak_unmovable_pages,
        floor_1g,
        cost: known.then_some(cost),
    })
}

/// Of the totals only what the regions do not tell: how much room there is outside.
fn track_numbers(track: &TrackSample, out: &mut Vec<u64>) {
    let Bounds { min, max } = track.totals.obtainable_1g;
    let coded = |figure: Option<u64>| figure.map_or(0, |n| n + 1);
    out.extend([min, max]);
    out.extend([coded(track.has_bit_tainted_1g), coded(track.block_type_tainted_1g)]);
    out.extend(&track.free_blocks);
    out.extend(track.counters.values());
    out.extend(track.regions.iter().flat_map(|r| r.pages).map(u64::from));
}

impl TrackShape {
    fn take(&self, numbers: &mut impl Iterator<Item = u64>) -> Option<TrackSample> {
        let mut next = || numbers.next();
        let obtainable_1g = Bounds { min: next()?, max: next()? };
        let (has_bit_tainted_1g, block_type_tainted_1g) =
            (next()?.checked_sub(1), next()?.checked_sub(1));
        let free_blocks = (0..self.free_orders).map(|_| next()).collect::<Option<Vec<u64>>>()?;
        let mut counters = BTreeMap::new();
        for name in &self.counters {
            counters.insert(name.clone(), next()?);
        }
        let mut regions = self.regions.clone();
        for pages in regions.iter_mut().flat_map(|r| &mut r.pages) {
            *pages = next()? as u32;
        }
        Some(TrackSample {
            kind: self.kind,
            start: self.start,
            totals: totals(&regions, obtainable_1g),
            regions,
            has_bit_tainted_1g,
            block_type_tainted_1g,
            free_blocks,
            counters,
        })
    }
}

/// Totals from the regions and from what depends on the watermarks as well: with none kept free,
/// at least as many regions would be obtainable, and the cheapest are the same.
fn totals(regions: &[RegionCensus], obtainable_1g: Bounds) -> RegionTotals {
    let mut totals = RegionTotals::with_reserve(0, regions);
    totals.obtainable_1g = obtainable_1g;
    totals.cost_pages.truncate(obtainable_1g.min as usize);
    totals
}

/// Appends what differs: for each number that does, how many did not since the last, and the
/// difference. Numbers beyond the end of `before` count from 0.
pub fn put_differences(before: &[u64], now: &[u64], out: &mut Vec<u8>) {
    let mut same = 0;
    for (i, number) in now.iter().enumerate() {
        let last = before.get(i).copied().unwrap_or(0);
        if last == *number {
            same += 1;
        } else {
            varint::put(out, same);
            varint::put(out, varint::zigzag(last, *number));
            same = 0;
        }
    }
}

/// Applies differences to the numbers they were taken from.
pub fn apply_differences(bytes: &[u8], numbers: &mut [u64]) {
    #[cfg(test)]
    super::work::sample_decoded();
    let mut input = Input::new(bytes);
    let mut at = 0;
    while input.left() > 0 {
        let read = |input: &mut Input<'_>| {
            Some((input.varint("gap").ok()?, input.varint("difference").ok()?))
        };
        let Some((same, coded)) = read(&mut input) else { return };
        at += same as usize;
        let Some(number) = numbers.get_mut(at) else { return };
        *number = varint::unzigzag(*number, coded);
        at += 1;
    }
}

/// How many numbers samples of a shape have.
#[must_use]
pub fn length(shape: &Shape) -> usize {
    let head = 3 + 9 + shape.lost.len() + 2 * 4 + 4;
    let track =
        |t: &TrackShape| 4 + t.free_orders + t.counters.len() + t.regions.len() * Content::COUNT;
    head + shape.tracks.iter().map(track).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use fragscope_trace::page::{Pfn, REGION_PAGES};
    use proptest::prelude::*;

    use super::*;

    fn region(zone: u16, contents: [u8; 4]) -> RegionCensus {
        let mut pages = [0; Content::COUNT];
        let kinds = [Content::Anon, Content::Slab, Content::Unknown, Content::File];
        for (content, share) in kinds.into_iter().zip(contents) {
            pages[content.index()] = u32::from(share) * 257;
        }
        pages[Content::Free.index()] = REGION_PAGES as u32 - pages.iter().sum::<u32>();
        let start = Pfn(u64::from(zone) << 18);
        RegionCensus { zone, start, span_pages: REGION_PAGES, obtainable: zone != 1, pages }
    }

    prop_compose! {
        fn track()(
            kind in prop::sample::select(TrackKind::ALL.as_slice()),
            contents in prop::collection::vec(any::<[u8; 4]>(), 0..6),
            reserve in 0..3 * REGION_PAGES,
            bits in any::<Option<u32>>(),
            free_blocks in prop::collection::vec(any::<u64>(), 0..12),
            counters in prop::collection::btree_map("[a-c]", any::<u64>(), 0..3),
        ) -> TrackSample {
            let regions: Vec<_> = (0..).zip(contents).map(|(z, c)| region(z, c)).collect();
            TrackSample {
                kind,
                start: StartState::FromBoot,
                totals: RegionTotals::with_reserve(reserve, &regions),
                regions,
                has_bit_tainted_1g: bits.map(u64::from),
                block_type_tainted_1g: None,
                free_blocks,
                counters,
            }
        }
    }

    prop_compose! {
        fn sample()(
            (time_ns, allocs, repaired_pages) in any::<(u64, u64, u64)>(),
            tracks in prop::collection::vec(track(), 0..4),
            lost in any::<Option<u64>>(),
            ratio in any::<Option<u32>>(),
        ) -> Sample {
            let off = |r: u32| Divergence {
                track_free_pages: 7,
                kernel_free_pages: u64::from(r),
                ratio: f64::from(r) / 3.0,
            };
            let cost = |r: u32| AgentCost { cpu_share: 0.25, rss_bytes: r.into(), ring_peak: 1.0 };
            let lost = lost.map(|n| (LossCause::RingFull, n)).into_iter().collect();
            Sample {
                time_ns,
                tracks,
                events: EventTotals { allocs, repaired_pages, lost, ..EventTotals::default() },
                kernel_divergence: ratio.map(off),
                stock_divergence: None,
                peak_unmovable_pages: 3,
                floor_1g: 1,
                cost: ratio.map(cost),
            }
        }
    }

    proptest! {
        #[test]
        fn a_sample_is_its_shape_and_its_numbers(sample in sample(), other in sample()) {
            let shape = Shape::of(&sample);
            prop_assert!(shape.fits(&sample));
            prop_assert_eq!(shape.fits(&other), shape == Shape::of(&other));
            let mut found = Vec::new();
            numbers(&sample, &mut found);
            prop_assert_eq!(found.len(), length(&shape));
            prop_assert_eq!(shape.sample(&found[1..]), None);
            prop_assert_eq!(shape.sample(&found), Some(sample));
        }

        #[test]
        fn differences_lead_from_one_to_the_other(
            pairs in prop::collection::vec((any::<u64>(), prop::option::of(any::<u64>())), 0..50),
        ) {
            let before: Vec<u64> = pairs.iter().map(|(n, _)| *n).collect();
            let now: Vec<u64> = pairs.iter().map(|(n, change)| change.unwrap_or(*n)).collect();
            let (mut bytes, mut found) = (Vec::new(), before.clone());
            put_differences(&before, &now, &mut bytes);
            apply_differences(&bytes, &mut found);
            prop_assert_eq!(&found, &now);
            let mut anew = vec![0; now.len()];
            bytes.clear();
            put_differences(&[], &now, &mut bytes);
            apply_differences(&bytes, &mut anew);
            prop_assert_eq!(anew, now);
        }
    }
}
